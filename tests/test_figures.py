"""Figures: bounded, honest about NaN and Inf, and only drawn where there is something to draw."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadygrad.figures import draw, forward_order, read_series
from steadygrad.figures.maps import MAX_ROWS
from steadygrad.figures.series import MAX_COLUMNS, MAX_MARKS, MAX_POINTS, Envelope, Field
from steadygrad.figures.style import BROKEN
from steadygrad.records import (
    NO_GRADIENT,
    Amp,
    Clip,
    Detail,
    Diagnosis,
    ParameterInfo,
    SiteInfo,
    StepRecord,
    Symptom,
)
from steadygrad.store import Recorder, Run


def vector(*values):
    return np.array(values, dtype=np.float32)


def parameter(index, name=None, role="weight"):
    return ParameterInfo(
        index, name or f"layer{index}.weight", (4, 4), "float32", role, f"layer{index}", "Linear", True, 0
    )


def site(index, params=(), kind="linear"):
    return SiteInfo(index, f"layer{index}", "Linear", kind, params=params)


def charts(folder, records, *, parameters=(), sites=(), diagnosis=None):
    with Recorder(folder, {"script": "train.py"}) as recorder:
        recorder.parameters(parameters)
        recorder.sites(sites)
        for record in records:
            recorder.step(record)
        if diagnosis:
            recorder.diagnosis(diagnosis)
    with Run(folder) as run:
        return {chart.name: chart for chart in draw(run)}


def trace(chart, name):
    return next(t for t in chart.figure.data if t.name == name)


@settings(deadline=None)
@given(st.lists(st.floats(width=32), max_size=300), st.integers(2, 6).map(lambda half: 2 * half))
def test_an_envelope_keeps_the_extremes_and_the_ends_in_order(values, limit):
    curve = Envelope(limit=limit)
    for step, value in enumerate(values):
        curve.add(step, value)
    finite = {step: value for step, value in enumerate(values) if math.isfinite(value)}
    points = curve.points()
    assert len(points) <= limit
    assert points == sorted(points, key=lambda point: point[0])
    assert all(finite[step] == value for step, value in points)
    if finite:
        assert min(value for _, value in points) == min(finite.values())
        assert max(value for _, value in points) == max(finite.values())
    assert len(curve.marks) <= MAX_MARKS
    assert bool(curve.marks) == (len(finite) < len(values))


def test_marks_stay_spread_over_a_long_stretch_of_nan():
    curve = Envelope()
    for step in range(100_000):
        curve.add(step, math.nan)
    steps = [step for step, _ in curve.marks]
    assert len(steps) <= MAX_MARKS
    assert steps[0] == 0
    assert steps[-1] > 98_000
    assert max(np.diff(steps)) < 3000


def test_a_field_keeps_the_largest_value_and_every_broken_cell():
    field = Field(columns=8)
    for step in range(1, 1001):
        field.add(step, vector(9.0 if step == 500 else 1.0, math.inf if step == 700 else NO_GRADIENT))
    field.add(1001, vector(2.0, 3.0, 4.0))
    steps, values, broken = field.table()
    assert len(steps) <= 8
    assert steps == sorted(steps)
    assert values.shape == broken.shape == (3, len(steps))
    assert np.nanmax(values[0]) == 9.0
    assert broken.sum() == 1
    assert broken[1].any()
    assert np.isnan(values[1, 0])  # NO_GRADIENT is nothing, not a small number
    assert np.nanmax(values[2]) == 4.0


def test_forward_order_follows_the_sites():
    parameters = [parameter(i) for i in range(4)]
    assert forward_order(parameters, [site(0, (2,)), site(1, (0, 1)), site(2, (2,))]) == [2, 0, 1, 3]
    assert forward_order(parameters, []) == [0, 1, 2, 3]


def test_only_what_there_is_data_for_is_drawn(tmp_path):
    assert charts(tmp_path / "empty", []) == {}
    assert list(charts(tmp_path / "loss", [StepRecord(1, loss=1.0)])) == ["loss"]


def test_a_full_run_has_every_chart(tmp_path):
    detail = Detail(
        {"weight_norm": vector(1, 1), "update_norm": vector(1e-3, 1e-3)},
        {
            "out_rms": vector(1, 1), "in_rms": vector(1, 1), "signal": vector(0.1, 0.1), "calls": vector(1, 1),
            "dead_units": vector(0.1, math.nan), "saturated": vector(math.nan, 0.2),
        },
        {"input_mean": 0.0},
    )  # fmt: skip
    records = [
        StepRecord(step, 0, 1 / step, 0.1, 2.0, Clip("norm", 1.0, 2.0, 0.5), Amp(2.0**16, False), vector(1, 1), detail)
        for step in range(1, 6)
    ]
    drawn = charts(tmp_path, records, parameters=[parameter(0), parameter(1)], sites=[site(0, (0,)), site(1, (1,))])
    assert list(drawn) == [
        "loss", "gradient-norm", "gradient-map", "signal-flow", "gain", "update-ratio", "learning-rate", "dead-units",
        "saturated-units", "loss-scale", "batches",
    ]  # fmt: skip
    assert list(trace(drawn["gradient-norm"], "after clipping").y) == [1.0] * 5
    assert list(trace(drawn["gradient-norm"], "before clipping").y) == [2.0] * 5
    assert list(trace(drawn["gradient-norm"], "threshold").y) == [1.0] * 5
    assert drawn["gradient-norm"].figure.layout.yaxis.type == "log"
    guides = [shape.y0 for shape in drawn["update-ratio"].figure.layout.shapes]
    assert guides == [1e-3]
    assert all(chart.caption and chart.title for chart in drawn.values())


def test_values_no_axis_can_hold_are_marked_not_dropped(tmp_path):
    records = [StepRecord(1, loss=1.0, grad_norm=1.0), StepRecord(2, loss=math.nan, grad_norm=math.inf)]
    records += [StepRecord(3, loss=-math.inf, grad_norm=0.0)]
    drawn = charts(tmp_path, records)
    marks = trace(drawn["loss"], "loss: NaN, Inf")
    assert list(marks.x) == [2, 3]
    assert marks.marker.color == BROKEN
    assert list(marks.text) == ["step 2: nan", "step 3: -inf"]
    assert list(trace(drawn["gradient-norm"], "norm: NaN, Inf").x) == [2, 3]
    assert all(math.isfinite(y) for chart in drawn.values() for t in chart.figure.data for y in t.y)


def test_a_run_that_is_nan_from_the_start_still_has_figures(tmp_path):
    nan = vector(math.nan)
    detail = Detail({"weight_norm": nan, "update_norm": nan}, {"out_rms": nan, "signal": nan, "calls": vector(1)})
    records = [StepRecord(s, loss=math.nan, grad_norm=math.nan, norms=nan, detail=detail) for s in (1, 2)]
    drawn = charts(tmp_path, records, parameters=[parameter(0)], sites=[site(0, (0,))])
    assert {"loss", "gradient-norm", "gradient-map"} <= set(drawn)
    overlay = drawn["gradient-map"].figure.data[-1]
    assert overlay.colorscale[0][1] == BROKEN
    assert np.asarray(overlay.z).tolist() == [[1.0, 1.0]]


def test_the_map_tells_zero_broken_and_absent_apart(tmp_path):
    records = [StepRecord(1, norms=vector(1, 0, math.nan, NO_GRADIENT)), StepRecord(2, norms=vector(10, 1, 1, 1))]
    figure = charts(tmp_path, records, parameters=[parameter(i) for i in range(4)])["gradient-map"].figure
    levels, zero, broken = (np.asarray(t.z) for t in figure.data)
    np.testing.assert_array_equal(levels, [[0, 1], [math.nan, 0], [math.nan, 0], [math.nan, 0]])
    np.testing.assert_array_equal(np.isnan(zero), [[True, True], [False, True], [True, True], [True, True]])
    np.testing.assert_array_equal(np.isnan(broken), [[True, True], [True, True], [False, True], [True, True]])


def test_two_streams_are_never_mixed(tmp_path):
    records = [StepRecord(s, stream, loss=float(stream)) for s in (1, 2, 3) for stream in (0, 1)]
    figure = charts(tmp_path, records)["loss"].figure
    assert [(t.name, list(t.y)) for t in figure.data] == [
        ("loss, optimizer 0", [0.0] * 3),
        ("loss, optimizer 1", [1.0] * 3),
    ]


def test_findings_are_flagged_by_their_number_and_share_a_flag(tmp_path):
    symptoms = tuple(Symptom(c, "warning", "", step, step, {}, "") for c, step in (("a", 2), ("b", 5), ("c", 2)))
    drawn = charts(tmp_path, [StepRecord(s, loss=1.0) for s in range(1, 7)], diagnosis=Diagnosis("unhealthy", symptoms))
    figure = drawn["loss"].figure
    assert [(a.x, a.text) for a in figure.layout.annotations] == [(2, "1, 3"), (5, "2")]
    assert [shape.x0 for shape in figure.layout.shapes] == [2, 5]


def test_names_from_the_script_are_text_not_markup(tmp_path):
    evil = '<b>x</b><a href="javascript:alert(1)">%{x}'
    drawn = charts(tmp_path, [StepRecord(1, norms=vector(1))], parameters=[parameter(0, evil)])
    assert "<" not in "".join(drawn["gradient-map"].figure.layout.yaxis.ticktext)


def test_size_does_not_grow_with_the_run(tmp_path):
    rows = 200
    rng = np.random.default_rng(0)
    with Recorder(tmp_path, {}) as recorder:
        recorder.parameters([parameter(i) for i in range(rows)])
        for step in range(1, 5001):
            norms = rng.random(rows, dtype=np.float32)
            detail = Detail({"weight_norm": norms + 1, "update_norm": norms}) if step % 5 == 0 else None
            recorder.step(StepRecord(step, loss=float(norms[0]), grad_norm=1.0, norms=norms, detail=detail))
    with Run(tmp_path) as run:
        drawn = {chart.name: chart for chart in draw(run, series=read_series(run))}
    assert all(len(t.x) <= MAX_POINTS for chart in drawn.values() for t in chart.figure.data)
    heat = np.asarray(drawn["gradient-map"].figure.data[0].z)
    assert heat.shape[0] <= MAX_ROWS
    assert heat.shape[1] <= MAX_COLUMNS
    assert len(drawn["gradient-map"].figure.to_json()) < 300_000
    assert "+2" in drawn["gradient-map"].figure.layout.yaxis.ticktext[0]


def test_each_streams_sites_are_shown_though_they_are_sampled_in_turn(tmp_path):
    nan = math.nan
    first = Detail(sites={"out_rms": vector(1, nan), "calls": vector(1, nan), "signal": vector(1, nan)})
    second = Detail(sites={"out_rms": vector(nan, 2), "calls": vector(nan, 1), "signal": vector(nan, 2)})
    records = [StepRecord(1, 0, detail=first), StepRecord(1, 1, detail=second)]
    figure = charts(tmp_path, records, sites=[site(0), site(1)])["signal-flow"].figure
    assert list(figure.data[0].y) == [1.0, 2.0]


@pytest.mark.parametrize("count", [1, 3])
def test_flow_shows_the_last_step_that_had_anything_finite(tmp_path, count):
    good = Detail(sites={"out_rms": vector(1, 1), "signal": vector(1, 0), "calls": vector(1, 1)})
    bad = Detail(
        sites={"out_rms": vector(math.nan, math.nan), "signal": vector(math.inf, math.nan), "calls": vector(1, 1)}
    )
    records = [StepRecord(s, detail=good) for s in range(1, count + 1)] + [StepRecord(9, detail=bad)]
    chart = charts(tmp_path, records, sites=[site(0), site(1)])["signal-flow"]
    assert "At step 9 nothing was finite any more." in chart.caption
    names = [t.name for t in chart.figure.data]
    assert f"output, step {count}" in names
    assert "backward signal, step 1: 0 or Inf" in names
