"""Commands with subcommands of their own, each in its file; :mod:`steadygrad.cli` puts them together."""
