"""The end of a run: verdict, findings, causes with evidence, and what to change."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from steadygrad.records import Advice, Cause, Diagnosis, Json, NotRun, Symptom
from steadygrad.terminal.text import encodes, one_line, print_parts
from steadygrad.wording import count

MAX_FINDINGS = 8
MAX_CAUSES = 3
#: The check that stands for all of them: whether the training could be observed.
OBSERVATION = "observation"

_STYLES = {"healthy": "bold green", "unhealthy": "bold red", "unknown": "bold yellow"}


def print_diagnosis(diagnosis: Diagnosis, meta: Json, report_path: Path | str | None = None) -> None:
    """Print the end of a run on stderr: verdict, findings, causes with evidence, and what to change.

    A healthy run takes two quiet lines. Code to paste is never wrapped.

    Args:
        diagnosis: the answer.
        meta: ``script``, ``steps`` and ``overhead`` are used, each if there.
        report_path: where the full report is.

    Example:
        >>> print_diagnosis(Diagnosis("healthy"), {"script": "train.py", "steps": 500})
    """
    report = [Text(f"Report: {report_path}", no_wrap=True)] if report_path is not None else []
    print_parts([*_diagnosis(diagnosis, meta, fancy=encodes(sys.stderr, "─█░")), *report])


def _diagnosis(diagnosis: Diagnosis, meta: Json, *, fancy: bool) -> Iterable[RenderableType]:
    quiet = not diagnosis.symptoms and not diagnosis.causes
    if not quiet:
        yield Text("\n" + ("─" if fancy else "-") * 3 + " steadygrad", style="dim")
    yield _headline(diagnosis, meta, quiet=quiet)
    if diagnosis.symptoms:
        yield Text("\nFindings", style="bold")
        yield from (_finding(symptom) for symptom in diagnosis.symptoms[:MAX_FINDINGS])
        if len(diagnosis.symptoms) > MAX_FINDINGS:
            yield Text(f"  and {len(diagnosis.symptoms) - MAX_FINDINGS} more in the report", style="dim")
    if diagnosis.causes:
        yield Text("\nCauses, most likely first", style="bold")
    for rank, cause in enumerate(diagnosis.causes[:MAX_CAUSES], start=1):
        yield from _cause(rank, cause, [a for a in diagnosis.advice if a.cause == cause.code], fancy=fancy)
    named = {cause.code for cause in diagnosis.causes}
    yield from (part for a in diagnosis.advice if a.cause not in named for part in _advice(a))
    not_checked = [c for c in diagnosis.checks_not_run if not (quiet and c.check == OBSERVATION)]
    if not_checked and (not quiet or diagnosis.verdict == "unknown"):
        yield Text("")
        yield Text(f"Not checked: {_not_checked(not_checked)}.", style="dim")
    if not quiet:
        yield Text(_cost(meta), style="dim")


def _headline(diagnosis: Diagnosis, meta: Json, *, quiet: bool) -> Text:
    watched = f"{one_line(str(meta.get('script') or 'run'))}, {count(meta.get('steps', 0), 'step')}"
    if not quiet:
        text = Text.assemble((diagnosis.verdict.upper(), _STYLES.get(diagnosis.verdict, "bold")), f"  {watched}")
        causes = count(len(diagnosis.causes), "possible cause") if diagnosis.causes else "no cause named"
        return text.append(f": {count(len(diagnosis.symptoms), 'finding')}, {causes}")
    text = Text.assemble("steadygrad: ", (diagnosis.verdict, _STYLES.get(diagnosis.verdict, "bold")))
    text.append(f". {watched}, {_in_short(diagnosis, meta)}.")
    return text.append(f" {_cost(meta)}".rstrip())


def _in_short(diagnosis: Diagnosis, meta: Json) -> str:
    """A verdict without findings in a few words."""
    if diagnosis.verdict != "healthy":
        unseen = (one_line(c.why) for c in diagnosis.checks_not_run if c.check == OBSERVATION)
        return next(unseen, "too little to judge by")
    ended = f" before it ended with exit code {meta['exit_code']}" if meta.get("exit_code") else ""
    skipped = count(len(diagnosis.checks_not_run), "check")
    return f"nothing wrong found{ended}" + (f", {skipped} did not apply" if diagnosis.checks_not_run else "")


def _not_checked(checks: Iterable[NotRun]) -> str:
    """The checks that were not made, those with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for check in checks:
        by_reason.setdefault(one_line(check.why), []).append(check.check)
    return "; ".join(f"{', '.join(codes)} ({why})" for why, codes in by_reason.items())


def _cost(meta: Json) -> str:
    overhead = meta.get("overhead") or {}
    if "share" not in overhead or not meta.get("steps"):
        return ""
    return f"Watching took {overhead.get('seconds', 0.0):.2g} s ({overhead['share']:.1%})."


def _finding(symptom: Symptom) -> RenderableType:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=10, no_wrap=True)
    table.add_column(ratio=1)
    style = "bold red" if symptom.severity == "critical" else "bold yellow"
    steps = f"step {symptom.first_step}"
    if symptom.last_step > symptom.first_step:
        steps = f"steps {symptom.first_step} to {symptom.last_step}"
    where = f" at {one_line(symptom.location)}" if symptom.location else ""
    head = Text.assemble((symptom.code, "bold"), where, (f", {steps}", "dim"))
    table.add_row(Text(f"  {symptom.severity}", style=style), Group(head, Text(one_line(symptom.message))))
    return table


def _cause(rank: int, cause: Cause, advice: list[Advice], *, fancy: bool) -> Iterable[RenderableType]:
    filled = max(0, min(10, round(cause.confidence * 10))) if math.isfinite(cause.confidence) else 0
    full, empty = ("█", "░") if fancy else ("#", ".")
    where = f" at {one_line(cause.location)}" if cause.location else ""
    yield Text.assemble(
        f"  {rank}. ", (cause.code, "bold"), where, "  ", (full * filled + empty * (10 - filled), "blue"),
        f" {cause.confidence:.0%}",
    )  # fmt: skip
    yield from (_point("+", "green", line) for line in cause.evidence)
    yield from (_point("-", "red", line) for line in cause.against)
    for item in advice:
        yield from _advice(item)
    if cause.remedies and not advice:
        yield Padding(Text(f"try: {', '.join(cause.remedies)}"), (0, 0, 0, 5))


def _point(sign: str, color: str, line: str) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_row(Text(f"     {sign}", style=color), Text(one_line(line)))
    return table


def _advice(advice: Advice) -> Iterable[RenderableType]:
    text = Text.assemble((advice.remedy, "bold cyan"), f": {one_line(advice.why)}")
    if advice.risk:
        text.append(f" Risk: {one_line(advice.risk)}", style="dim")
    yield Padding(text, (0, 0, 0, 5))
    for line in advice.patch.splitlines():
        code = "".join(c if c.isprintable() else " " for c in line.expandtabs(4))
        yield Text(f"         {code}", style="cyan", no_wrap=True, overflow="ignore")
