"""How commands take a script and its arguments: what follows the script's name is the script's own."""

from __future__ import annotations

import typer
from typer.core import TyperCommand

from steadygrad.launch import Target, resolve

#: Context settings of such a command.
PASS_ON = {"allow_extra_args": True, "allow_interspersed_args": False}


class ScriptCommand(TyperCommand):
    """Stops reading options at ``-m MODULE``, as Python does: what follows is the module's."""

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
