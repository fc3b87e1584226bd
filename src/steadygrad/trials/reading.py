"""The result of a search read back from the run folder, for reports drawn later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steadygrad.errors import StoreError
from steadygrad.records import Candidate, RemedySpec, TrialResult
from steadygrad.store.schema import diagnosis_from
from steadygrad.trials.judge import Standing
from steadygrad.trials.result import FIX_SCHEMA, FixResult, Patch

#: The result as JSON, in the run folder.
FIX_FILE = "fix.json"


def read_fix(folder: Path) -> FixResult | None:
    """The result that ``steadygrad fix`` left in a run folder; None where there is none.

    Raises:
        StoreError: there is one, but it is damaged or of another version.

    >>> read_fix(Path("no-such-folder")) is None
    True
    """
    path = folder / FIX_FILE
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text())
        if data["schema"] != FIX_SCHEMA:
            raise ValueError(f"its schema is {data['schema']!r}, not {FIX_SCHEMA!r}")
        return _result(data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"The result of a fix is read as it was written, but {path} cannot be: {error}. "
            f"Run `steadygrad fix` again, or remove the file to see the run alone."
        ) from error


def _result(data: dict[str, Any]) -> FixResult:
    standings = tuple(_standing(item) for item in data["candidates"])
    chosen = (data["recommended"] or {}).get("remedies")
    best = [s for s, item in zip(standings, data["candidates"], strict=True) if item["remedies"] == chosen]
    control = Candidate((), "", "the script as it is", "control")
    return FixResult(
        script=data["script"],
        verdict=data["verdict"],
        steps=data["steps"],
        seeds=data["seeds"],
        control=tuple(_trial(control, item) for item in data["control_seeds"]),
        standings=standings,
        recommended=best[0] if best and chosen else None,
        diagnosis=diagnosis_from(json.dumps(data["diagnosis"])),
        scale=data["scale"],
        noise=data["noise"],
        seconds=data["seconds"],
        plain_seconds=data["plain_seconds"],
        remarks=tuple(data["remarks"]),
        patch=_patch(data["recommended"] or {}),
        interrupted=data["interrupted"],
    )


def _patch(item: dict[str, Any]) -> Patch:
    return Patch(
        source=item.get("patch", ""),
        diff=item.get("diff", ""),
        lines=tuple(item.get("by_hand", ())),
        verified=item.get("patch_verified"),
        loss=item.get("patched_loss"),
    )


def _standing(item: dict[str, Any]) -> Standing:
    specs = tuple(RemedySpec(**spec) for spec in item["specs"])
    candidate = Candidate(specs, item["cause"], item["why"], item["kind"], item["changes_loss_scale"])
    bounds = item["interval"]
    return Standing(
        candidate,
        tuple(_trial(candidate, trial) for trial in item["trials"]),
        item["improvement"],
        (bounds[0], bounds[1]) if bounds else None,
        item["works"],
    )


def _trial(candidate: Candidate, item: dict[str, Any]) -> TrialResult:
    curve = tuple((int(step), float(loss)) for step, loss in item["curve"])
    return TrialResult(candidate, **{**item, "curve": curve, "symptoms": tuple(item["symptoms"])})
