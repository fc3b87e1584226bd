"""One-pass estimators: exact where they promise it, bounded everywhere, and never upset by NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steadygrad.online import Series, Spread

finite = st.floats(min_value=-1e30, max_value=1e30, allow_nan=False)
anything = st.one_of(finite, st.sampled_from([math.nan, math.inf, -math.inf]))


def spread_of(values, **options):
    spread = Spread(**options)
    for value in values:
        spread.add(value)
    return spread


def series_of(values, **sizes):
    series = Series(**sizes)
    for step, value in enumerate(values, start=1):
        series.add(step, value)
    return series


# -- Spread -------------------------------------------------------------------------------------------------------


def test_spread_knows_the_usual_from_the_unusual():
    spread = spread_of([1.0, 1.1, 0.9] * 10)
    assert not spread.unusual(1.3)
    assert spread.unusual(5.0)
    assert not spread.unusual(-100.0), "one-sided: a falling loss is no spike"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_is_always_unusual_and_never_taken_in(value):
    spread = Spread()
    assert spread.unusual(value)
    spread = spread_of([1.0, 2.0, 3.0])
    before = (spread.count, spread.centre, spread.deviation)
    spread.add(value)
    assert (spread.count, spread.centre, spread.deviation) == before


def test_nothing_finite_is_unusual_before_the_warmup():
    spread = spread_of([1.0] * 7)
    assert not spread.unusual(1e9)
    spread.add(1.0)
    assert spread.unusual(1e9)


def test_one_spike_does_not_hide_the_next():
    quiet = [1.0, 1.1, 0.9, 1.05] * 10
    spread = spread_of([*quiet, 50.0])
    assert spread.unusual(50.0)
    assert spread.count == len(quiet)
    assert spread.centre == spread_of(quiet).centre


def test_it_follows_a_slow_change_of_level():
    spread = spread_of(np.linspace(10.0, 1.0, 300).tolist())
    assert spread.centre == pytest.approx(1.0, abs=0.5)
    assert spread.unusual(10.0)


@given(st.lists(finite, min_size=1, max_size=60))
def test_centre_and_deviation_stay_inside_the_range_of_what_came_in(values):
    spread = spread_of(values)
    low, high = min(values), max(values)
    slack = 1e-9 * max(abs(low), abs(high), 1e-300)
    assert low - slack <= spread.centre <= high + slack
    assert 0.0 <= spread.deviation <= (high - low) + 4 * slack


@given(st.lists(anything, max_size=60), finite, st.floats(0, 1e30))
def test_above_an_unusual_value_everything_is_unusual(values, value, more):
    spread = spread_of(values)
    assert not spread.unusual(value) or spread.unusual(value + more)


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=60), st.floats(0.1, 50.0), st.integers(-20, 20))
def test_the_unit_of_measurement_does_not_matter(values, probe, power):
    factor = 2.0**power  # a power of two scales floats exactly
    scaled = spread_of([v * factor for v in values])
    assert scaled.unusual(probe * factor) == spread_of(values).unusual(probe)


# -- Series -------------------------------------------------------------------------------------------------------

sizes = st.fixed_dictionaries({"first": st.integers(1, 9), "last": st.integers(1, 9), "bins": st.integers(1, 9)})


@given(st.lists(anything, max_size=200), sizes)
def test_head_and_tail_are_exact(values, size):
    series = series_of(values, **size)
    steps = list(enumerate(values, start=1))
    assert repr(series.head) == repr(steps[: size["first"]])
    kept = min(len(values), size["last"])
    assert len(series.tail) >= kept
    assert repr(series.tail) == repr(steps[len(steps) - len(series.tail) :])


@given(st.lists(anything, max_size=400), sizes)
def test_memory_is_bounded_whatever_comes(values, size):
    series = series_of(values, **size)
    assert len(series.head) <= size["first"]
    assert len(series.tail) < 2 * size["last"]
    assert len(series.values()) <= 2 * size["bins"]


@given(st.lists(anything, min_size=1, max_size=400), sizes)
def test_bins_are_what_numpy_says(values, size):
    series = series_of(values, **size)
    starts = [int(row[0]) for row in series._bins]
    width = series._width
    assert starts == list(range(1, len(values) + 1, width)), "the bins tile the run, all of one width"
    data = np.array(values)
    rows = {start: (mean, low, high) for start, mean, low, high in series.rows()}
    for start in starts:
        chunk = data[start - 1 : start - 1 + width]
        chunk = chunk[np.isfinite(chunk)]
        assert (start in rows) == bool(len(chunk)), "a bin with nothing finite in it is left out"
        if len(chunk):
            mean, low, high = rows[start]
            assert (low, high) == (chunk.min(), chunk.max())
            assert mean == pytest.approx(chunk.mean(), rel=1e-9, abs=1e-9 * float(np.abs(chunk).max()))


def test_short_runs_are_kept_whole():
    values = [0.5, math.nan, 2.0, -1.0]
    series = series_of(values)
    assert series.values().tolist() == [0.5, 2.0, -1.0]
    assert series.steps().tolist() == [1, 3, 4]
    assert series.opening(2).tolist() == [0.5, 2.0]
    assert series.recent(2).tolist() == [2.0, -1.0]


def test_an_empty_series_has_empty_answers():
    series = Series()
    for answer in (series.values(), series.steps(), series.opening(5), series.recent(5)):
        assert len(answer) == 0


@given(st.lists(anything, max_size=100))
def test_non_finite_values_are_counted_and_the_first_is_remembered(values):
    series = series_of(values)
    bad = [step for step, value in enumerate(values, start=1) if not math.isfinite(value)]
    assert series.count == len(values)
    assert series.nonfinite == len(bad)
    assert series.first_nonfinite == (bad[0] if bad else None)
    assert np.isfinite(series.values()).all()


@settings(max_examples=5)
@given(st.integers(0, 2**32 - 1))
def test_a_long_run_keeps_its_mean_and_extremes(seed):
    values = np.random.default_rng(seed).normal(size=20_000)
    series = series_of(values.tolist())
    rows = list(series.rows())
    assert len(rows) <= 2 * series.bins
    assert min(low for _, _, low, _ in rows) == values.min()
    assert max(high for _, _, _, high in rows) == values.max()
    total = sum(row[2] for row in series._bins)
    assert total == pytest.approx(values.sum(), rel=1e-9, abs=1e-6)
