"""A run's result as plain JSON data, for files, scripts and continuous integration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from steadygrad.records import Diagnosis, Json, Symptom

JSON_SCHEMA = "steadygrad.run/1"


def to_json(run_meta: Json, diagnosis: Diagnosis) -> dict[str, Any]:
    """The result as a dictionary that any JSON parser reads.

    Args:
        run_meta: ``Run.meta`` or the recorder's; ``script``, ``exit_code``, ``steps`` and ``overhead`` are used.
        diagnosis: the run's diagnosis.

    Returns:
        The keys of schema ``steadygrad.run/1``, causes best first, and ``advice``. ``exit_code`` is None for a run that
        has not ended. NaN and infinities are the strings "nan", "inf" and "-inf", which plain JSON cannot hold.

    Example:
        >>> result = to_json({"script": "train.py", "exit_code": 0, "steps": 500}, Diagnosis("healthy"))
        >>> result["verdict"], result["steps"], result["overhead"]
        ('healthy', 500, {'seconds': 0.0, 'share': 0.0})
    """
    overhead = run_meta.get("overhead") or {}
    result: dict[str, Any] = plain(
        {
            "schema": JSON_SCHEMA,
            "script": run_meta.get("script", ""),
            "exit_code": run_meta.get("exit_code"),
            "steps": run_meta.get("steps", 0),
            "verdict": diagnosis.verdict,
            "symptoms": [_symptom(symptom) for symptom in diagnosis.symptoms],
            "causes": [asdict(cause) for cause in diagnosis.causes],
            "checks_not_run": [asdict(check) for check in diagnosis.checks_not_run],
            "overhead": {"seconds": overhead.get("seconds", 0.0), "share": overhead.get("share", 0.0)},
            "advice": [asdict(advice) for advice in diagnosis.advice],
        }
    )
    return result


def _symptom(symptom: Symptom) -> dict[str, Any]:
    data = asdict(symptom)
    del data["count"]  # not part of the published schema
    return data


def plain(value: Any) -> Any:
    """``value`` with tuples as lists, numpy numbers as Python's, and non-finite numbers as strings.

    Example:
        >>> plain({"loss": float("nan"), "shape": (2, 3)})
        {'loss': 'nan', 'shape': [2, 3]}
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
