"""The recommended remedy written into the script, and the changed script run to see that it does the same."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile

from steadygrad.errors import InputError
from steadygrad.history import History
from steadygrad.records import TrialResult
from steadygrad.remedies import format_spec
from steadygrad.rewrite import Rewrite, hints_of, propose
from steadygrad.trials.job import Script, title
from steadygrad.trials.judge import Scale, Standing
from steadygrad.trials.result import FixResult, Patch, confirmed
from steadygrad.trials.search import Search

#: The changed script must keep at least this share of the improvement.
SAME = 0.8
#: ... or end at a hundredth of the loss of the script as it is: below that, random numbers make the difference.
CURED = math.log(100.0)


def source_of(script: Script) -> Path | None:
    """The file that a command line runs; None where it is no plain source file."""
    if script.words[0] != "-m":
        path = Path(script.cwd, script.words[0])
        return path if path.is_file() and path.suffix == ".py" else None
    base = Path(script.cwd, *script.words[1].split("."))
    found = [base.with_suffix(".py"), base / "__main__.py"]
    return next((path for path in found if path.is_file()), None)


def with_change(result: FixResult, search: Search) -> FixResult:
    """The result with its remedy written into the script; with the next best one where the changed script is no better.

    What was measured from outside is worth little if the lines that we write do not do the same. If none of the changes
    that there is time for can be verified, the best remedy stays, and its change is shown as not verified.
    """
    tried: list[tuple[Standing, Patch]] = []
    for best in search.recommendable():
        tried.append((best, patch_for(search, best, search.history)))
        if tried[-1][1].verified is not False or search.clock.left <= 0:
            break
    best, patch = next((pair for pair in tried if pair[1].verified), tried[0])
    failed = [title(s.candidate) for s, p in tried if s is not best and p.verified is False] if patch.verified else []
    remarks = (f"the change written for {name} did not do what its trial did" for name in failed)
    return replace(
        result,
        recommended=best,
        patch=patch,
        remarks=(*result.remarks, *remarks),
        diagnosis=confirmed(search.diagnosis, result.standings, best),
    )


def patch_for(search: Search, best: Standing, history: History) -> Patch:
    """Write the remedies of the best candidate into the script, and run it with them, without any instrumentation.

    Nothing of the user's is changed: the changed script is run from a file of its own beside the original, and removed.
    """
    path = source_of(search.script)
    if path is None:
        return Patch(lines=tuple(f"the script: {format_spec(spec)}" for spec in best.candidate.specs))
    shown = os.path.relpath(path, search.script.cwd)
    shown = path.name if shown.startswith("..") else shown
    try:
        source = path.read_bytes().decode()  # line ends as they are
        written = propose(source, shown, best.candidate.specs, hints_of(history, argv=_arguments(search.script)))
    except (OSError, UnicodeDecodeError, InputError) as error:
        return Patch(lines=(f"{shown}: it cannot be changed by us: {error}",))
    by_hand = _by_hand(written, shown)
    if not written.complete:
        return Patch(written.source if written.diff else "", written.diff, by_hand)
    result = _run(search, path, written.source)
    verified = None if result is None else _same(result, best, search.control[0], search.scale())
    return Patch(written.source, written.diff, by_hand, verified, result.loss if result is not None else None)


def write_patch(script: Script, patch: Patch) -> str:
    """Put a verified patch into the user's file; returns what was done, in words."""
    path = source_of(script)
    if path is None or not patch.source or not patch.verified:
        return "the script was left as it is: there is no verified change to write"
    try:
        path.write_bytes(patch.source.encode())
    except OSError as error:
        return f"the change could not be written to {path}: {error.strerror}"
    return f"the change was written to {path}"


def _arguments(script: Script) -> tuple[str, ...]:
    return script.words[2:] if script.words[0] == "-m" else script.words[1:]


def _by_hand(written: Rewrite, shown: str) -> tuple[str, ...]:
    return tuple(f"{u.place or shown}: {format_spec(u.spec)}, because {u.reason}" for u in written.unsupported)


def _run(search: Search, path: Path, source: str) -> TrialResult | None:
    """Run a changed script from a file beside the original, where its imports and data are."""
    with suppress(OSError):
        with NamedTemporaryFile(prefix=f".{path.stem}-", suffix=".py", dir=path.parent, delete=False) as file:
            file.write(source.encode())  # as the user's file will be written, whatever the locale
        try:
            words = (file.name, *_arguments(search.script))
            return search.plain(replace(search.script, words=words))
        finally:
            os.unlink(file.name)
    return None


def _same(result: TrialResult, best: Standing, control: TrialResult, scale: Scale) -> bool:
    """Whether the changed script improves on the control as the trial did."""
    changed = replace(result, candidate=best.candidate)
    before, trial, after = scale.of(control), scale.of(best.first), scale.of(changed)
    if before is None or trial is None or after is None or result.status != "finished":
        return False
    gain = before - after
    return gain >= SAME * (before - trial) - 1e-9 or (scale.kind == "log" and gain >= CURED)
