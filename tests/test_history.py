"""A history holds a run of any length in bounded memory, and nothing is mixed up in it."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.history import History, Samples, StreamHistory, parameter_matrix, site_matrix
from steadygrad.records import NO_GRADIENT, Amp, Clip, Detail, Fact, StepRecord


def norms(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def detail(mark: float = 0.0, size: int = 2) -> Detail:
    vector = np.full(size, mark, dtype=np.float32)
    return Detail({"update_norm": vector}, {"out_rms": vector}, {"input_mean": mark})


def stream_of(*records: StepRecord) -> StreamHistory:
    stream = StreamHistory(0)
    for record in records:
        stream.add(record)
    return stream


# -- memory -------------------------------------------------------------------------------------------------------


def long_run(steps: int) -> History:
    """Every kind of thing a step can carry, in every step: spikes, skips, flags, facts, details."""
    history = History()
    for step in range(1, steps + 1):
        wild = step % 97 == 0
        history.add(
            StepRecord(
                step=step,
                loss=1e6 if wild else 1.0 + 0.1 * math.sin(step),
                lr=0.1,
                grad_norm=math.nan if step % 1009 == 0 else 1.0,
                clip=Clip("norm", 1.0, 2.0, 0.5),
                amp=Amp(1024.0, step % 3 == 0),
                norms=norms(1.0, NO_GRADIENT),
                detail=detail(step) if step % 10 == 0 else None,
                flags=("stale-gradient",) if step % 2 else (),
            )
        )
        if step % 50 == 0:
            history.add(Fact("graph", step, {"nodes": step}))
    return history


@pytest.fixture(scope="module")
def hundred_thousand() -> History:
    return long_run(100_000)


def test_memory_does_not_grow_with_the_run(hundred_thousand: History) -> None:
    sizes = {steps: len(pickle.dumps(run)) for steps, run in ((5_000, long_run(5_000)), (100_000, hundred_thousand))}
    assert sizes[100_000] < 1.6 * sizes[5_000] + 100_000


def test_every_list_of_a_long_run_is_bounded(hundred_thousand: History) -> None:
    (stream,) = hundred_thousand.streams.values()
    assert stream.steps == stream.last_step == hundred_thousand.steps == 100_000
    assert len(stream.spikes) == 64 < stream.spike_count
    assert len(stream.amp_skips) == 10_000
    assert stream.amp_steps == 100_000
    assert len(hundred_thousand.facts("graph")) == 64
    assert len(stream.samples.all()) <= 6 + 12 + 48
    assert stream.flags == {"stale-gradient": [50_000, 1, 99_999]}
    assert stream.clip.calls == stream.clip.active == 100_000
    assert stream.grad_norm.nonfinite == 100_000 // 1009
    assert stream.grad_norm.first_nonfinite == 1009


def test_kept_samples_span_the_whole_run_evenly(hundred_thousand: History) -> None:
    (stream,) = hundred_thousand.streams.values()
    steps = [step for step, _ in stream.samples.all()]
    assert steps == sorted(set(steps))
    assert steps[:6] == [10, 20, 30, 40, 50, 60]
    assert steps[-12:] == list(range(99_890, 100_001, 10))
    middle = [s for s in steps if 60 < s < 99_890]
    assert max(np.diff([60, *middle, 99_890])) <= 2 * 100_000 / 24, "no long stretch is left without a sample"
    assert all(d.batch["input_mean"] == step for step, d in stream.samples.all()), "a detail keeps its own step"


@given(st.integers(0, 400))
def test_samples_keep_the_first_and_the_last(count: int) -> None:
    samples = Samples()
    for step in range(1, count + 1):
        samples.add(step, detail(step))
    kept = [step for step, _ in samples.all()]
    assert kept == sorted(set(kept))
    assert set(range(1, min(6, count) + 1)) <= set(kept)
    assert set(range(max(1, count - 11), count + 1)) <= set(kept)
    assert len(kept) <= 6 + 12 + 48


# -- gradient norms by parameter ----------------------------------------------------------------------------------


def test_no_gradient_is_not_a_zero_gradient() -> None:
    stream = stream_of(*(StepRecord(step=s, norms=norms(1.0, 0.0, NO_GRADIENT)) for s in (1, 2, 3)))
    assert stream.missing.tolist() == [0, 0, 3]
    assert stream.zero.tolist() == [0, 3, 0]
    assert stream.first_bad.tolist() == [0, 0, 0]
    assert stream.last_norms.tolist() == [1.0, 0.0, NO_GRADIENT]
    assert math.isnan(stream.first_norms[2]), "nothing was measured, so there is no first norm"


def test_the_first_non_finite_step_is_kept_by_parameter() -> None:
    stream = stream_of(
        StepRecord(step=1, norms=norms(1, 2, 3)),
        StepRecord(step=2, norms=norms(1, math.inf, 3)),
        StepRecord(step=3, norms=norms(math.nan, math.nan, 3)),
    )
    assert stream.first_bad.tolist() == [3, 2, 0]
    assert stream.first_norms.tolist() == [1, 2, 3]
    assert stream.peak_norms.tolist() == [1, math.inf, 3], "a NaN does not wipe out the peak"


def test_the_table_can_grow_and_shrink_while_running() -> None:
    stream = stream_of(
        StepRecord(step=1, norms=norms(1.0)),
        StepRecord(step=2, norms=norms(1.0, 5.0)),
        StepRecord(step=3, norms=norms(2.0)),
    )
    assert stream.missing.tolist() == [0, 2], "a parameter that came later had no gradient before"
    assert stream.first_norms.tolist() == [1.0, 5.0]
    assert stream.last_norms.tolist() == [2.0, NO_GRADIENT]
    assert stream.peak_norms.tolist() == [2.0, 5.0]


lengths = st.lists(st.integers(0, 5), min_size=1, max_size=20)


@given(lengths, st.randoms(use_true_random=False))
def test_missing_counts_add_up_however_the_table_grows(sizes: list[int], random) -> None:
    stream, seen = StreamHistory(0), np.zeros(5, dtype=int)
    for step, size in enumerate(sizes, start=1):
        values = [random.choice([NO_GRADIENT, 0.0, 1.0]) for _ in range(size)]
        seen[: len(values)] += np.array(values, dtype=float) != NO_GRADIENT
        stream.add(StepRecord(step=step, norms=norms(*values)))
    size = max(sizes)
    assert len(stream.missing) == len(stream.zero) == len(stream.last_norms) == len(stream.peak_norms) == size
    assert (stream.missing + seen[:size]).tolist() == [len(sizes)] * size


# -- losses, spikes, clips, scalers -------------------------------------------------------------------------------


def test_a_spike_is_kept_with_its_batch_and_what_was_usual() -> None:
    quiet = [StepRecord(step=s, loss=1.0 + 0.01 * (s % 3)) for s in range(1, 31)]
    stream = stream_of(*quiet, StepRecord(step=31, loss=40.0, detail=detail(7.0)), StepRecord(step=32, loss=1.0))
    (spike,) = stream.spikes
    assert (spike.step, spike.loss, spike.batch) == (31, 40.0, {"input_mean": 7.0})
    assert spike.centre == pytest.approx(1.01, abs=0.02)


def test_a_nan_loss_is_no_spike() -> None:
    quiet = [StepRecord(step=s, loss=1.0 + 0.01 * (s % 3)) for s in range(1, 31)]
    stream = stream_of(*quiet, StepRecord(step=31, loss=math.nan))
    assert not stream.spikes
    assert (stream.loss.nonfinite, stream.loss.first_nonfinite) == (1, 31)


def test_a_clip_is_active_only_where_it_scales_down() -> None:
    clips = [1.0, 0.5, math.nan, 1.0, 0.25]
    stream = stream_of(*(StepRecord(step=s, clip=Clip("norm", 2.0, 1.0, c)) for s, c in enumerate(clips, 1)))
    assert (stream.clip.calls, stream.clip.active, stream.clip.threshold) == (5, 2, 2.0)
    assert stream.clip.coefficient.values().tolist() == [1.0, 0.5, 1.0, 0.25]


def test_skipped_steps_are_remembered() -> None:
    stream = stream_of(*(StepRecord(step=s, amp=Amp(2.0**s, s in (2, 4))) for s in range(1, 6)))
    assert (stream.amp_steps, stream.amp_skips) == (5, [2, 4])


def test_what_a_step_does_not_carry_is_not_invented() -> None:
    stream = stream_of(StepRecord(step=1), StepRecord(step=2))
    assert stream.steps == 2
    assert stream.loss.count == stream.grad_norm.count == stream.lr.count == stream.clip.calls == stream.amp_steps == 0
    assert len(stream.last_norms) == 0
    assert stream.samples.all() == []


def test_a_detail_of_data_only_is_no_sample() -> None:
    stream = stream_of(StepRecord(step=1, detail=Detail({}, {}, {"input_mean": 1.0})))
    assert stream.samples.all() == []


# -- the whole ----------------------------------------------------------------------------------------------------


def test_streams_are_kept_apart() -> None:
    history = History()
    for step in range(1, 31):
        history.add(StepRecord(step=step, stream=0, loss=1.0, norms=norms(1.0, NO_GRADIENT)))
        if step % 2:
            history.add(StepRecord(step=step, stream=1, loss=100.0, norms=norms(NO_GRADIENT, 2.0)))
    first, second = history.ordered_streams()
    assert (first.steps, second.steps) == (30, 15)
    assert set(first.loss.values()) == {1.0}
    assert set(second.loss.values()) == {100.0}
    assert first.missing.tolist() == [0, 30]
    assert second.missing.tolist() == [15, 0]
    assert not first.spikes
    assert not second.spikes
    assert history.main is first
    assert history.steps == 30


def test_of_two_equal_streams_the_first_is_the_main_one() -> None:
    history = History()
    for stream in (1, 0):
        history.add(StepRecord(step=1, stream=stream))
    assert history.main is history.streams[0]


def test_an_empty_history_answers() -> None:
    history = History()
    assert history.main is None
    assert history.ordered_streams() == []
    assert history.facts("graph") == []
    assert history.fact("graph") is None
    assert history.steps == 0


def test_facts_keep_their_order_and_kind() -> None:
    history = History()
    for step in range(100):
        history.add(Fact("a" if step % 2 else "b", step, {}))
    assert [f.step for f in history.facts("a")] == list(range(1, 100, 2))
    first = history.fact("b")
    assert first is not None
    assert first.step == 0


def test_matrices_are_nan_where_nothing_was_measured() -> None:
    one = Detail({"weight_norm": norms(1.0)}, {"out_rms": norms(1.0, 2.0, 3.0)})
    samples = [(1, one), (2, Detail({}, {}))]
    got = parameter_matrix(samples, "weight_norm", 3)
    np.testing.assert_array_equal(got, [[1.0, np.nan, np.nan], [np.nan] * 3])
    got = site_matrix(samples, "out_rms", 2)
    np.testing.assert_array_equal(got, [[1.0, 2.0], [np.nan, np.nan]])
    assert site_matrix([], "out_rms", 4).shape == (0, 4)
