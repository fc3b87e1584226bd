"""The layout of ``run.db`` and the translation between dataclasses and rows.

One row per step keeps its scalars in columns (so that ``sqlite3 run.db`` can query them) and its vectors in blobs of
little-endian float32. A sampled step's vectors share one blob; names and lengths live once in ``layouts``, because they
hardly ever change from step to step, so that a step costs no more than its numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from steadygrad.records import (
    Advice,
    Amp,
    Cause,
    Clip,
    Detail,
    Diagnosis,
    NotRun,
    OptimizerInfo,
    ParameterInfo,
    SiteInfo,
    StepRecord,
    Symptom,
    Vector,
)

APPLICATION_ID = 0x53477264  # "SGrd": how a SteadyGrad file is told from any other SQLite file
SCHEMA_VERSION = 1
DATABASE = "run.db"
FINDINGS = "findings.jsonl"

# Rows of a few kB waste up to half of a 4 kB page; 16 kB pages hold them side by side.
PAGE_SIZE = 16384

# ``seq`` runs over steps and facts together: it is the order of writing, which a replay has to repeat exactly.
TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE parameters (idx INTEGER PRIMARY KEY, info TEXT NOT NULL);
CREATE TABLE sites (idx INTEGER PRIMARY KEY, info TEXT NOT NULL);
CREATE TABLE optimizers (idx INTEGER PRIMARY KEY, info TEXT NOT NULL);
CREATE TABLE layouts (id INTEGER PRIMARY KEY, spec TEXT NOT NULL);
CREATE TABLE steps (
    seq INTEGER PRIMARY KEY, step INTEGER NOT NULL, stream INTEGER NOT NULL, loss REAL, lr REAL, grad_norm REAL,
    clip_kind TEXT, clip_threshold REAL, clip_norm REAL, clip_coefficient REAL, amp_scale REAL, amp_skipped INTEGER,
    flags TEXT, norms BLOB, layout INTEGER, detail BLOB);
CREATE TABLE facts (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, step INTEGER NOT NULL, data TEXT NOT NULL);
CREATE TABLE diagnosis (id INTEGER PRIMARY KEY CHECK (id = 1), body TEXT NOT NULL);
"""

STEP_COLUMNS = (
    "step, stream, loss, lr, grad_norm, clip_kind, clip_threshold, clip_norm, clip_coefficient, "
    "amp_scale, amp_skipped, flags, norms, layout, detail"
)

Row = tuple[Any, ...]
#: What a detail blob holds, in order: names of float64 scalars, then (name, length) of float32 vectors.
Layout = tuple[tuple[str, ...], tuple[tuple[str, int], ...], tuple[tuple[str, int], ...]]


def dumps(value: object) -> str:
    """JSON text of plain data; numpy scalars and arrays become numbers and lists, unknown objects their ``str``."""
    return json.dumps(value, default=_plain_object, separators=(",", ":"))


def _plain_object(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _real(value: float | None) -> float | str | None:
    """A number as SQLite keeps it: SQLite turns NaN into NULL, which already means "not known", so NaN is spelled."""
    if value is None:
        return None
    value = float(value)
    return "nan" if math.isnan(value) else value


def _number(stored: float | str | None) -> float | None:
    return None if stored is None else float(stored)


def _bytes(vector: Vector) -> bytes:
    if vector.dtype == np.float32:
        return vector.tobytes()
    with np.errstate(over="ignore"):  # a float64 beyond float32's range is Inf here, and Inf is what should be seen
        return bytes(np.asarray(vector, dtype="<f4").tobytes())


def layout_of(detail: Detail) -> Layout:
    """Names and lengths of everything in a detail, in the order of its blob."""
    return (
        tuple(detail.batch),
        tuple((name, len(vector)) for name, vector in detail.parameters.items()),
        tuple((name, len(vector)) for name, vector in detail.sites.items()),
    )


def pack_detail(detail: Detail) -> bytes:
    """The blob of a sampled step: batch scalars as float64, then all vectors as float32."""
    scalars = np.array([float(value) for value in detail.batch.values()], dtype="<f8")
    vectors = (*detail.parameters.values(), *detail.sites.values())
    return b"".join((scalars.tobytes(), *map(_bytes, vectors)))


def unpack_detail(blob: bytes, layout: Layout) -> Detail:
    """The inverse of :func:`pack_detail`; the vectors are read-only views of ``blob``."""
    names, parameters, sites = layout
    scalars = np.frombuffer(blob, dtype="<f8", count=len(names)).tolist()
    vectors = np.frombuffer(blob, dtype="<f4", offset=8 * len(names))
    ends = np.cumsum([length for _, length in (*parameters, *sites)]).tolist()
    pieces = [vectors[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return Detail(
        parameters={name: piece for (name, _), piece in zip(parameters, pieces, strict=False)},
        sites={name: piece for (name, _), piece in zip(sites, pieces[len(parameters) :], strict=True)},
        batch=dict(zip(names, scalars, strict=True)),
    )


def layout_from(text: str) -> Layout:
    """A layout from its stored JSON."""
    names, parameters, sites = json.loads(text)
    return tuple(names), tuple((n, k) for n, k in parameters), tuple((n, k) for n, k in sites)


def step_row(seq: int, record: StepRecord, layout: int | None) -> Row:
    """The row of a step, in the order of ``seq`` and :data:`STEP_COLUMNS`. Vectors are copied."""
    clip, amp = record.clip, record.amp
    clipped = (
        (None,) * 4 if clip is None else (clip.kind, _real(clip.threshold), _real(clip.norm), _real(clip.coefficient))
    )
    scaled = (None, None) if amp is None else (_real(amp.scale), int(amp.skipped))
    return (
        seq,
        int(record.step),
        int(record.stream),
        _real(record.loss),
        _real(record.lr),
        _real(record.grad_norm),
        *clipped,
        *scaled,
        dumps(record.flags) if record.flags else None,
        None if record.norms is None else _bytes(record.norms),
        layout,
        None if record.detail is None else pack_detail(record.detail),
    )


def step_record(row: Row, layout: Callable[[int], Layout]) -> StepRecord:
    """The inverse of :func:`step_row`, from the columns in :data:`STEP_COLUMNS`."""
    step, stream, loss, lr, grad_norm, kind, threshold, norm, coefficient, scale, skipped, flags, norms, lay, blob = row
    return StepRecord(
        step=step,
        stream=stream,
        loss=_number(loss),
        lr=_number(lr),
        grad_norm=_number(grad_norm),
        clip=None if kind is None else Clip(kind, float(threshold), float(norm), float(coefficient)),
        amp=None if skipped is None else Amp(float(scale), bool(skipped)),
        norms=None if norms is None else np.frombuffer(norms, dtype="<f4"),
        detail=None if lay is None else unpack_detail(blob, layout(lay)),
        flags=() if flags is None else tuple(json.loads(flags)),
    )


def info_rows(infos: Iterable[ParameterInfo | SiteInfo | OptimizerInfo]) -> list[Row]:
    """Rows of a table of parameters, sites or optimizers."""
    return [(info.index, dumps(asdict(info))) for info in infos]


def parameter_info(text: str) -> ParameterInfo:
    """A parameter from its stored JSON."""
    data = json.loads(text)
    return ParameterInfo(**{**data, "shape": tuple(data["shape"])})


def site_info(text: str) -> SiteInfo:
    """A site from its stored JSON."""
    data = json.loads(text)
    return SiteInfo(**{**data, "params": tuple(data["params"])})


def optimizer_info(text: str) -> OptimizerInfo:
    """An optimizer from its stored JSON."""
    return OptimizerInfo(**json.loads(text))


def diagnosis_from(text: str) -> Diagnosis:
    """A diagnosis from its stored JSON."""
    data = json.loads(text)
    return Diagnosis(
        verdict=data["verdict"],
        symptoms=tuple(Symptom(**item) for item in data["symptoms"]),
        causes=tuple(Cause(**_tuples(item, "evidence", "against", "remedies")) for item in data["causes"]),
        advice=tuple(Advice(**item) for item in data["advice"]),
        checks_not_run=tuple(NotRun(**item) for item in data["checks_not_run"]),
    )


def _tuples(item: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {**item, **{key: tuple(item[key]) for key in keys}}
