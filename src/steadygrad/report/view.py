"""What the report says, as plain values that the template only has to place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from steadygrad.figures import Chart, Series
from steadygrad.records import NO_GRADIENT, Advice, Cause, Diagnosis, Symptom, Vector
from steadygrad.store import Run
from steadygrad.wording import count

VERDICTS = {
    "healthy": "Healthy",
    "unhealthy": "Unhealthy",
    "unknown": "Not known",
}
MAX_PARAMETERS = 2000


@dataclass(frozen=True, slots=True)
class CauseCard:
    """A cause with the advice that belongs to it."""

    rank: int
    cause: Cause
    advice: tuple[Advice, ...]


def number(value: Any) -> str:
    """A number in at most four significant digits; NaN and Inf by name.

    Example:
        >>> number(0.000123456), number(1250), number(float("nan")), number(7.0)
        ('0.0001235', '1250', 'NaN', '7')
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Inf" if value > 0 else "−Inf")
    return f"{value:.4g}"


_SPELLED = {
    "lr": "learning rate", "relu": "ReLU", "batchnorm": "BatchNorm", "xavier": "Xavier", "kaiming": "Kaiming",
    "lsuv": "LSUV", "l1": "L1", "l2": "L2",
}  # fmt: skip


def words(code: str) -> str:
    """A code as a heading.

    Example:
        >>> words("learning-rate-too-high"), words("lower-lr"), words("non-finite")
        ('Learning rate too high', 'Lower learning rate', 'Non-finite')
    """
    if code in ("non-finite", "zero-grad"):
        return code.capitalize().replace("Zero-grad", "zero_grad()")
    text = " ".join(_SPELLED.get(word, word) for word in code.split("-"))
    return text[:1].upper() + text[1:]


def breakable(name: str) -> Markup:
    """A dotted name that wraps at its dots."""
    return Markup("<wbr>").join(re.split(r"(?<=[./_:])", name))


def headline(diagnosis: Diagnosis | None) -> str:
    """One sentence under the verdict."""
    if diagnosis is None:
        return "No diagnosis is stored: the run was stopped before there was one."
    if diagnosis.verdict == "healthy" and not diagnosis.symptoms:
        return "Nothing wrong was found."
    if diagnosis.verdict == "unknown" and not diagnosis.symptoms:
        return "There was too little to judge by. The checks that did not run are listed below."
    found = f"{count(len(diagnosis.symptoms), 'finding')}."
    if not diagnosis.causes:
        return f"{found} No cause could be named."
    best = diagnosis.causes[0]
    where = f" at {best.location}" if best.location else ""
    return f"{found} Most likely cause: {words(best.code)}{where} ({best.confidence:.0%})."


def cards(diagnosis: Diagnosis) -> list[CauseCard]:
    """Causes best first, each with its advice."""
    return [
        CauseCard(rank, cause, tuple(a for a in diagnosis.advice if a.cause == cause.code))
        for rank, cause in enumerate(diagnosis.causes, start=1)
    ]


def other_advice(diagnosis: Diagnosis) -> list[Advice]:
    """Advice that belongs to none of the named causes."""
    named = {cause.code for cause in diagnosis.causes}
    return [advice for advice in diagnosis.advice if advice.cause not in named]


def steps_of(symptom: Symptom) -> str:
    """The steps over which a symptom was seen."""
    if symptom.last_step == symptom.first_step:
        return str(symptom.first_step)
    return f"{symptom.first_step}–{symptom.last_step}"


def evidence(values: Mapping[str, Any]) -> str:
    """Evidence as one line."""
    return " · ".join(f"{key.replace('_', ' ')} {number(value)}" for key, value in values.items())


def duration(meta: Mapping[str, Any]) -> str:
    """How long the run took, "" where it is not known."""
    try:
        seconds = (datetime.fromisoformat(meta["ended"]) - datetime.fromisoformat(meta["started"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return ""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def facts(run: Run, meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The strip of numbers below the verdict."""
    sizes = [math.prod(parameter.shape) for parameter in run.parameters]
    overhead = meta.get("overhead") or {}
    code = meta.get("exit_code")
    shown = [
        ("Steps", f"{meta.get('steps', 0):,}"),
        ("Duration", duration(meta)),
        ("Exit code", "none: stopped from outside" if code is None else str(code)),
        ("Parameters", f"{sum(sizes):,} in {len(sizes)} tensors" if sizes else ""),
        ("Optimizer", ", ".join(optimizer.type for optimizer in run.optimizers)),
        ("Cost of watching", f"{overhead['share']:.1%}" if "share" in overhead else ""),
        ("Started", str(meta.get("started", ""))[:16].replace("T", " ") + " UTC" if meta.get("started") else ""),
    ]
    return [(name, value) for name, value in shown if value]


_SHOWN_ELSEWHERE = {
    "script", "argv", "environment", "started", "started_at", "ended", "steps", "position", "exit_code", "overhead",
}  # fmt: skip
_NAMED = {"cwd": "working folder", "every": "sampled every … steps", "pid": "process"}


def environment(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The script's command line and everything the recorder knew about its surroundings."""
    rows = [("script", str(meta.get("script", "")))]
    if meta.get("argv"):
        rows.append(("arguments", " ".join(map(str, meta["argv"]))))
    known = {key: value for key, value in meta.items() if key not in _SHOWN_ELSEWHERE}
    known.update(meta.get("environment") or {})
    rows += [(_NAMED.get(key, str(key).replace("_", " ")), _flat(value)) for key, value in sorted(known.items())]
    return [(key, value) for key, value in rows if value]


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_flat, value))
    return number(value)


def optimizers(run: Run) -> Iterator[tuple[str, str]]:
    """Every optimizer with its hyper-parameters as one line."""
    for optimizer in run.optimizers:
        hyper = ", ".join(f"{key}={_flat(value)}" for key, value in optimizer.hyper.items())
        yield f"{optimizer.index}: {optimizer.type}", hyper


PARAMETER_HEADS = (
    "Parameter", "Shape", "Role", "Optimizer", "RMS at start", "Gradient norm", "Mean", "Std", "Weight norm",
    "Update / weight",
)  # fmt: skip


def parameter_rows(run: Run, series: Series) -> Iterator[tuple[str, ...]]:
    """The parameter table, with the statistics of the last step that had them."""
    for p in run.parameters[:MAX_PARAMETERS]:
        latest = {name: _at(values, p.index) for name, values in series.latest.items()}
        weight, update = latest.get("weight_norm"), latest.get("update_norm")
        ratio = update / weight if weight and update is not None else None
        gradient = latest.get("grad_norm")
        holder = ("not trained", "none: nothing updates it")[p.trainable] if p.optimizer is None else str(p.optimizer)
        numbers = (latest.get("grad_mean"), latest.get("grad_std"), weight, ratio)
        yield (
            p.name,
            "×".join(map(str, p.shape)) or "scalar",
            p.role,
            holder,
            number(p.init_rms) if not math.isnan(p.init_rms) else "",
            "no gradient" if gradient == NO_GRADIENT else _known(gradient),
            *map(_known, numbers),
        )


def _at(values: Vector, index: int) -> float | None:
    return float(values[index]) if index < len(values) else None


def _known(value: float | None) -> str:
    return "" if value is None else number(value)


def chart_json(chart: Chart) -> Markup:
    """The figure as JSON that cannot end the script element it stands in."""
    text = json.dumps(json.loads(chart.figure.to_json()), separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # escaped just above
