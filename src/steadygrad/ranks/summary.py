"""What one rank saw, as a small file: losses, gradient norms, and the size of its weights at the sampled steps."""

from __future__ import annotations

import hashlib
import math
import os
import socket
import time
from typing import Any

from steadygrad.history import History, StreamHistory
from steadygrad.records import Diagnosis, Symptom

RANK_SCHEMA = "steadygrad.rank/1"
#: Rows of the parameter table and sampled steps that are compared, at most.
ROWS, SAMPLES = 2048, 40


def summarize(
    history: History, diagnosis: Diagnosis | None, *, rank: int, outcome: str, error: str = ""
) -> dict[str, Any]:
    """Put a rank's run into plain data.

    Args:
        history: what was observed.
        diagnosis: the rank's own answer; None while it is still at work.
        rank: whose.
        outcome: "running", or how the script ended: "finished", "exit", "interrupt" or "error".
        error: what escaped from the script, in one line.

    >>> summarize(History(), None, rank=1, outcome="running")["steps"]
    0
    """
    main = history.main
    return {
        "schema": RANK_SCHEMA,
        "rank": rank,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "written": time.time(),
        "outcome": outcome,
        "error": error,
        "steps": history.steps,
        "verdict": diagnosis.verdict if diagnosis is not None else "unknown",
        "symptoms": [_symptom(s) for s in (diagnosis.symptoms if diagnosis is not None else ())],
        "causes": [c.code for c in (diagnosis.causes if diagnosis is not None else ())],
        "nonfinite_loss": main.loss.first_nonfinite if main is not None else None,
        "nonfinite_gradient": main.grad_norm.first_nonfinite if main is not None else None,
        "losses": _points(main, "loss"),
        "norms": _points(main, "grad_norm"),
        "parameters": _fingerprint(history),
        "weights": _weights(history, main),
        "origins": [_plain({**f.data, "step": f.step}) for f in history.facts("origin") if f.data.get("found")],
        "bad_batches": [_plain({**f.data, "step": f.step}) for f in history.facts("bad-batch")],
    }


def _symptom(symptom: Symptom) -> dict[str, Any]:
    return {
        "code": symptom.code,
        "severity": symptom.severity,
        "location": symptom.location,
        "first_step": symptom.first_step,
        "message": symptom.message,
    }


def _points(main: StreamHistory | None, name: str) -> list[list[float | None]]:
    """The first and the last values exactly; None for a value that is not finite."""
    if main is None:
        return []
    series = getattr(main, name)
    pairs = dict([*series.head, *series.tail])
    return [[step, value if math.isfinite(value) else None] for step, value in sorted(pairs.items())]


def _fingerprint(history: History) -> str:
    """Equal for ranks that train the same parameters."""
    table = [(p.name, p.shape) for p in history.parameters]
    return hashlib.sha1(repr(table).encode(), usedforsecurity=False).hexdigest()


def _weights(history: History, main: StreamHistory | None) -> dict[str, Any]:
    """Norms of the first parameters' weights, by sampled step."""
    samples = main.samples.all() if main is not None else []
    sampled = [
        (step, detail.parameters["weight_norm"]) for step, detail in samples if "weight_norm" in detail.parameters
    ]
    stride = max(1, math.ceil(len(sampled) / SAMPLES))
    kept = sampled[::stride] + (sampled[-1:] if (len(sampled) - 1) % stride else [])
    return {
        "names": [p.name for p in history.parameters[:ROWS]],
        "steps": [step for step, _ in kept],
        "norms": [[_number(float(n)) for n in norms[:ROWS]] for _, norms in kept],
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """JSON without NaN."""
    if isinstance(value, dict):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
