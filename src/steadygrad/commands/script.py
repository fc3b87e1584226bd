"""How commands take a script and its arguments: what follows the script's name is the script's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from steadygrad.launch import Target, resolve

Module = Annotated[str | None, typer.Option("-m", help="Run a module, as `python -m` does.", metavar="MODULE")]
RunFolder = Annotated[
    Path | None, typer.Option(help="Run folder. Default: steadygrad-runs/<script>-<time>.", metavar="DIR")
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", help="Write the answer as JSON to FILE ('-': stdout).", metavar="FILE")
]
Report = Annotated[bool, typer.Option(help="Write report.html into the run folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing of ours but errors.")]

#: Context settings of such a command.
PASS_ON = {"allow_extra_args": True, "allow_interspersed_args": False}


class ScriptCommand(TyperCommand):
    """Stops reading options at ``-m MODULE``, as Python does: what follows is the module's."""

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override,unused-ignore]
        """Name the script, which is no parameter of the command: whatever is not ours is the script's."""
        return [*super().collect_usage_pieces(ctx), "{SCRIPT | -m MODULE}", "[ARGS]..."]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override,unused-ignore]
        """Put ``--`` before what is not ours."""
        valued = {name for p in self.params if not getattr(p, "is_flag", False) for name in p.opts}
        at = 0
        while at < len(args) and args[at].startswith("-") and args[at] not in ("-", "--"):
            word = args[at]
            if not word.startswith("--") and "m" in word:  # -m MODULE, -mMODULE, -qm MODULE
                end = at + (2 if word.index("m") == len(word) - 1 else 1)
                args = [*args[:end], "--", *args[end:]] if len(args) > end else args
                break
            at += 2 if word in valued else 1
        return super().parse_args(ctx, args)


def target_of(context: typer.Context, module: str | None, command: str) -> Target:
    """The script or module that the command line names, known to exist.

    Raises:
        BadParameter: none is named.
        InputError: it cannot be run.
    """
    arguments = list(context.args)
    script = None if module else (arguments.pop(0) if arguments else None)
    if script is None and module is None:
        raise typer.BadParameter(f"name the script to run, e.g. `steadygrad {command} train.py`", param_hint="SCRIPT")
    return resolve(Target(script, module, tuple(arguments)))
