"""Candidates: what is tried on a script, in which order, with which values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from histories import Net, flat
from rich.console import Console
from typer.testing import CliRunner

from steadygrad.cli import app
from steadygrad.diagnosis import CAUSES
from steadygrad.history import History
from steadygrad.interventions import install
from steadygrad.records import Candidate, Cause, Clip, Diagnosis
from steadygrad.remedies import CODES, FAMILIES, REMEDIES, advise, alike, candidates, format_spec, nearby, parse_spec
from steadygrad.view import View

RULES = {rule.code: rule for rule in CAUSES}


def diagnosis(*causes: tuple[str, float], evidence: tuple[str, ...] = ("reason",), place: str = "") -> Diagnosis:
    made = [Cause(code, confidence, place, evidence, (), RULES[code].remedies) for code, confidence in causes]
    return Diagnosis("unhealthy", (), tuple(made))


def plain(**options: Any) -> History:
    return Net(**options).train(200, loss=flat).history()


def texts(found: list[Candidate]) -> list[str]:
    return ["+".join(format_spec(s) for s in c.specs) for c in found if c.kind == "remedy"]


def proposed(code: str, history: History | None = None, **options: Any) -> list[str]:
    return texts(candidates(history or plain(), diagnosis((code, 0.9), **options)))


def test_families_hold_every_remedy_once() -> None:
    listed = [remedy.code for family in FAMILIES.values() for remedy in family]
    assert sorted(listed) == sorted(CODES)
    assert all(parse_spec(remedy.example).code == code for code, remedy in REMEDIES.items())


@pytest.mark.parametrize("code", RULES)
def test_every_cause_has_something_to_try_that_can_be_installed(code: str) -> None:
    run = Net().site("norm", "BatchNorm1d", "norm").train(200, loss=flat).history()
    found = candidates(run, diagnosis((code, 0.9), place="layers.0"))
    remedies = [c for c in found if c.kind == "remedy"]
    assert remedies
    assert remedies[0].cause == code or code in ("excessive-weight-decay", "clip-threshold-too-low")  # it has neither
    for candidate in found:
        assert candidate.why
        assert [parse_spec(format_spec(s)) for s in candidate.specs] == list(candidate.specs)
        install(candidate.specs)()  # a value it does not take would be an error


@pytest.mark.parametrize("limit", [3, 8, 14])
def test_the_limit_holds_and_the_controls_come_last(limit: int) -> None:
    found = candidates(plain(), diagnosis(("learning-rate-too-high", 0.9), ("long-recurrence", 0.6)), limit=limit)
    assert len(found) <= limit
    assert [c.kind for c in found[-2:]] == ["no-op", "random"]
    assert len({c.specs for c in found}) == len(found), "nothing twice"


def test_the_same_run_gives_the_same_candidates() -> None:
    asked = diagnosis(("long-recurrence", 0.7))
    assert candidates(plain(), asked) == candidates(plain(), asked)


def test_breadth_comes_before_refinement_and_strong_causes_before_weak_ones() -> None:
    found = candidates(plain(), diagnosis(("missing-warmup", 0.9), ("missing-zero-grad", 0.6)))
    assert found[0].specs[0].code == "warmup"
    assert "zero-grad" in texts(found)[:4]
    weak = candidates(plain(), diagnosis(("missing-warmup", 0.9), ("missing-zero-grad", 0.25)))
    assert texts(weak).index("zero-grad") > texts(found).index("zero-grad")


def test_a_run_without_findings_has_controls_only() -> None:
    assert [c.kind for c in candidates(plain(), Diagnosis("healthy"))] == ["no-op", "random"]


def test_the_random_remedy_is_none_of_the_chosen() -> None:
    found = candidates(plain(), diagnosis(("excessive-weight-decay", 0.9)))
    assert found[-1].specs[0].code not in {s.code for c in found[:-2] for s in c.specs}


def test_leading_causes_are_treated_together() -> None:
    odd = Net().train(200, loss=flat, batch=lambda _: {"batch_size": 32.0, "input_mean": 40.0, "input_std": 7.0})
    found = texts(candidates(odd.history(), diagnosis(("missing-zero-grad", 0.9), ("unnormalized-input", 0.8))))
    assert "zero-grad+standardize-input" in found
    assert "swap-activation:relu+reinit-kaiming" in proposed("saturating-activation")[:4]


def test_a_remedy_counts_for_the_cause_that_it_belongs_to() -> None:
    found = candidates(plain(), diagnosis(("long-recurrence", 0.8), ("learning-rate-too-high", 0.5)))
    credited = {c.specs[0].code: c.cause for c in found if c.kind == "remedy"}
    assert credited["lower-lr"] == "learning-rate-too-high"
    assert credited["clip-norm"] == credited["reinit-orthogonal"] == "long-recurrence"
    alone = candidates(plain(), diagnosis(("long-recurrence", 0.8)))
    assert {c.cause for c in alone if c.specs[0].code == "lower-lr"} == {"long-recurrence"}


# -- variants -----------------------------------------------------------------------------------------------------


def candidate(*specs: str) -> Candidate:
    return Candidate(tuple(map(parse_spec, specs)), "depth-without-shortcut", "why")


@pytest.mark.parametrize(
    ("specs", "variants"),
    [
        (["lower-lr:0.01"], ["lower-lr:0.0033", "lower-lr:0.03"]),
        (["lower-lr:0.05"], ["lower-lr:0.017"]),  # three times it is more than the script's own rate
        (["raise-lr:0.15"], ["raise-lr:0.45"]),
        (["lower-lr:/3"], ["lower-lr:/9"]),
        (["raise-lr:x10"], ["raise-lr:x3.3", "raise-lr:x30"]),
        (["warmup:60"], ["warmup:20"]),
        (["decay-schedule:200"], []),
        (["clip-norm:1", "lower-lr:/10"], [
            "clip-norm:0.33+lower-lr:/10", "clip-norm:3+lower-lr:/10", "clip-norm:1+lower-lr:/3.3",
            "clip-norm:1+lower-lr:/30",
        ]),
        (["zero-grad"], ["zero-grad+lower-lr:/3"]),
        (["loosen-clip:off"], ["loosen-clip:off+lower-lr:/3"]),
    ],
)  # fmt: skip
def test_variants_change_one_number_or_the_rate(specs: list[str], variants: list[str]) -> None:
    found = nearby(candidate(*specs), rate=0.1, steps=150)
    assert texts(found) == variants
    assert {c.cause for c in found} <= {"depth-without-shortcut"}
    for each in found:
        install(each.specs)()


def test_what_is_hardly_another_number_is_alike() -> None:
    base = candidate("lower-lr:0.01", "reinit-kaiming")
    assert alike(base, candidate("reinit-kaiming", "lower-lr:0.012"))
    assert not alike(base, candidate("lower-lr:0.03", "reinit-kaiming"))
    assert not alike(base, candidate("lower-lr:0.01", "reinit-xavier"))
    assert not alike(base, candidate("lower-lr:0.01"))
    assert not alike(candidate("swap-activation:relu"), candidate("swap-activation:elu"))
    assert not alike(candidate("lower-lr:/10"), candidate("lower-lr:10"))


# -- values from the run ------------------------------------------------------------------------------------------


def test_rates_are_a_grid_around_what_the_updates_ask_for() -> None:
    history = Net().train(60, rate=0.1, ratio=0.04, loss=flat).history()
    lower = [float(t.partition(":")[2]) for t in proposed("learning-rate-too-high", history) if t.startswith("lower")]
    assert lower[0] == pytest.approx(0.1 * 2e-3 / 0.04, rel=0.3)
    assert all(rate < 0.1 for rate in lower)
    assert all(not 0.5 < a / b < 2 for i, a in enumerate(lower) for b in lower[:i]), "no two alike"
    higher = [t for t in proposed("learning-rate-too-low", history) if t.startswith("raise-lr")]
    assert all(float(t.partition(":")[2]) > 0.1 for t in higher)


def test_an_update_by_hand_gets_factors() -> None:
    history = Net(optimizer="manual update").train(60, loss=flat).history()
    assert all(t.startswith("lower-lr:/") for t in proposed("learning-rate-too-high", history) if "lower-lr" in t)


def test_a_rate_that_climbs_from_less_gets_factors() -> None:
    ramp = Net(lr=1e-3).train(60, loss=flat, rate=lambda step: 1e-3 * min(100, step)).history()
    assert all(t.startswith("lower-lr:/") for t in proposed("learning-rate-too-high", ramp) if "lower-lr" in t)
    peak = Net(lr=1e-3, max_lr=0.05).train(60, loss=flat, rate=lambda step: 1e-3 * min(50, step)).history()
    assert not any(t.startswith("lower-lr:/") for t in proposed("learning-rate-too-high", peak))


def test_no_batchnorm_over_the_steps_of_a_sequence() -> None:
    for kind, batch in (("recurrent", False), ("embedding", False), ("linear", True)):
        net = Net(12).site("layer", "Layer", kind).train(60, loss=flat)
        assert ("add-normalization:batch" in proposed("depth-without-shortcut", net.history())) is batch


def test_vectors_are_normalised_whole() -> None:
    for type, first in (("BatchNorm1d", "replace-batchnorm:layer"), ("BatchNorm2d", "replace-batchnorm")):
        assert proposed("tiny-batch-batchnorm", normed(1, type).history())[0] == first


def test_a_schedule_that_ran_out_is_left_out_first() -> None:
    history = Net().train(120, loss=flat, rate=lambda step: 0.1 * 0.8**step).history()
    assert proposed("learning-rate-too-low", history)[0] == "constant-lr"
    assert "constant-lr" not in proposed("learning-rate-too-low")
    held = Net(lr=1e-6, initial_lr=1e-3).train(120, loss=flat, rate=1e-6).history()  # a factor that is a rate
    assert "constant-lr" in proposed("learning-rate-too-low", held)[:2]


def test_a_clip_is_loosened_to_the_runs_own_norms() -> None:
    clipped = Net().train(100, loss=flat, gradient=3.0, clip=lambda _: Clip("norm", 1e-4, 3.0, 3e-5)).history()
    assert proposed("clip-threshold-too-low", clipped)[0] == "loosen-clip:9.5"  # ten gradients of norm 3
    hidden = Net().train(100, loss=flat, clip=lambda _: Clip("norm", 10.0, math.nan, math.nan)).history()
    assert proposed("clip-threshold-too-low", hidden)[0] == "loosen-clip:off", "nothing to set a threshold by"


def test_the_misuse_decides_on_the_remedy() -> None:
    assert proposed("loss-misuse")[0] == "loss-on-logits"
    assert proposed("loss-misuse", evidence=("mse_loss broadcasts [8, 1] against [8]",))[0] == "match-shapes"
    assert "loss-on-logits" not in proposed("loss-misuse", evidence=("the loss is broadcast",))
    for evidence, rates in (("softmax twice", False), ("the loss is summed over 64 values", True)):
        (cause,) = diagnosis(("loss-misuse", 0.9), evidence=(evidence,)).causes
        assert bool(REMEDIES["lower-lr"].candidates(View(plain()), cause)) is rates


def test_a_line_is_guarded_and_overflow_gets_a_wider_format() -> None:
    found = proposed("unstable-operation", place="train.py:12", evidence=("overflow of exp in `y` gave the first inf",))
    assert found[0] == "guard-operation:float64"
    assert "guard-operation@train.py:12" in found


def test_an_output_that_reaches_zero_is_made_by_softplus() -> None:
    assert "swap-activation:softplus" in proposed("unstable-operation")
    assert "swap-activation:softplus" not in proposed("dying-relu")


def test_a_recurrence_that_forgets_carries_its_state_on_first() -> None:
    fading = ("the gradient shrinks by 1e9 over 150 time steps and the loss hardly moves",)
    assert proposed("long-recurrence", evidence=fading)[:1] == ["add-residual"]
    assert proposed("long-recurrence", evidence=("the gradient grows",))[0] != "add-residual"


def test_weight_decay_falls_to_what_it_usually_is() -> None:
    net = Net().train(60, loss=flat)
    net.change(0, weight_decay=1.0)
    found = proposed("excessive-weight-decay", net.history())
    assert found[:2] == ["reduce-weight-decay:0.0001", "reduce-weight-decay:0"]


def test_losses_of_another_scale_are_marked() -> None:
    found = candidates(plain(), diagnosis(("loss-misuse", 0.9), ("missing-warmup", 0.5)))
    marked = {s.code for c in found if c.changes_loss_scale for s in c.specs}
    assert "loss-on-logits" in marked
    assert not any(c.changes_loss_scale for c in found if {s.code for s in c.specs} == {"warmup"})


def test_lbfgs_is_given_a_line_search_and_no_other_optimizer_is() -> None:
    found = proposed("unstable-operation", plain(optimizer="LBFGS"))
    assert {"line-search", "guard-operation+line-search"} < set(found)
    assert "line-search" in proposed("learning-rate-too-high", plain(optimizer="LBFGS"))[:3]
    assert not any("line-search" in text for text in proposed("unstable-operation"))


def test_what_a_cause_cannot_use_is_not_proposed() -> None:
    view, cause = View(plain(optimizer="Adam")), Cause("", 0.0, "", ())
    assert REMEDIES["adaptive-optimizer"].candidates(view, cause) == []
    assert REMEDIES["reduce-weight-decay"].candidates(view, cause) == []
    assert REMEDIES["mean-reduction"].candidates(view, cause) == []


# -- what applies to a run ----------------------------------------------------------------------------------------


def usual(**options: Any) -> Net:
    return Net(**options).train(120, loss=flat)


def with_input(**statistics: float) -> Net:
    return Net().train(60, loss=flat, batch=lambda _: {"batch_size": 32.0, **statistics})


def clipped_at(threshold: float, norm: float = 10.0) -> Net:
    """Ten parameters: a global norm of sqrt(10) times ``gradient``."""
    coefficient = min(1.0, threshold / norm)
    return Net().train(
        120, loss=flat, gradient=norm / math.sqrt(10), clip=lambda _: Clip("norm", threshold, norm, coefficient)
    )


def at_rate(rate: Callable[[int], float]) -> Net:
    return Net().train(120, loss=flat, rate=rate)


def in_half() -> Net:
    return usual().fact("half-precision", dtype="float16")


def normed(count: int, type: str = "LayerNorm") -> Net:
    net = Net(12)
    for index in range(count):
        net.site(f"norm.{index}", type, "norm")
    return net.train(60, loss=flat)


def shortcut(longest: int, shortest: int) -> Net:
    depths = {"parameters": [0], "shortest": [shortest], "longest": [longest], "nodes": 9}
    return usual().fact("graph", **depths, uses=[1], readers=[""])


def recurrent(type: str) -> Net:
    return Net(2).site("rnn", type, "recurrent").train(60, loss=flat)


def searching() -> Net:
    net = usual(optimizer="LBFGS")
    net.optimizers[0].hyper["line_search_fn"] = "strong_wolfe"  # type: ignore[index]
    return net


def vector() -> Net:
    net = Net()
    net.parameter("decay", (64,), "weight")
    return net.train(60, loss=flat)


#: remedy, a run it applies to, one it does not apply to
APPLIES: list[tuple[str, Net, Net]] = [
    ("line-search", usual(optimizer="LBFGS"), usual()),
    ("line-search", usual(optimizer="LBFGS"), searching()),
    ("clip-norm", usual(), usual(optimizer="LBFGS")),
    ("clip-norm", clipped_at(100.0), clipped_at(10.0)),
    ("clip-norm", clipped_at(100.0), clipped_at(1.0)),
    ("clip-norm", usual(), Net().train(60, gradient=math.inf)),
    ("clip-norm", usual(), Net().train(60, gradient=0.0)),
    ("clip-adaptive", clipped_at(100.0), clipped_at(1.0)),
    ("skip-bad-step", usual(), usual(optimizer="LBFGS")),
    ("skip-bad-step", usual(), Net().train(60, gradient=math.inf)),
    ("loosen-clip", clipped_at(1.0), usual()),
    ("warmup", usual(), at_rate(lambda step: 0.1 * min(1.0, step / 20))),
    ("warmup", at_rate(lambda step: 0.01 if step < 60 else 0.1), at_rate(lambda step: 0.1 * min(1.0, step / 20))),
    ("decay-schedule", usual(), at_rate(lambda step: 0.1 * (1 - step / 130))),
    ("adaptive-optimizer", usual(), usual(optimizer="Adam")),
    ("full-precision", in_half(), usual()),
    ("replace-batchnorm", normed(1, "BatchNorm2d"), normed(1)),
    ("add-normalization", normed(1), normed(4)),
    ("add-normalization", normed(0), Net(1).train(60, loss=flat)),
    ("add-residual", shortcut(12, 12), shortcut(12, 2)),
    ("add-residual", recurrent("RNN"), recurrent("LSTM")),
    ("standardize-input", with_input(input_mean=0.0, input_std=40.0), with_input(input_mean=0.0, input_std=1.0)),
    ("standardize-input", with_input(input_mean=0.0, input_std=0.01), with_input()),
    ("standardize-input", with_input(input_mean=0.5, input_std=1.0, input_offset=9.0), with_input()),
    ("reinit-lsuv", usual(), Net(0).train(60, loss=flat)),
    ("reinit-kaiming", usual(), Net(0).train(60, loss=flat)),
]


@pytest.mark.parametrize(("code", "fitting", "other"), APPLIES)
def test_a_remedy_is_proposed_only_where_it_applies(code: str, fitting: Net, other: Net) -> None:
    cause = Cause("", 0.0, "", ())
    assert REMEDIES[code].candidates(View(fitting.history()), cause)
    assert REMEDIES[code].candidates(View(other.history()), cause) == []


def test_a_vector_is_not_made_orthogonal() -> None:
    view = View(vector().history())
    for place, expected in (("decay", 0), ("layers.0.weight", 1)):
        cause = Cause("long-recurrence", 0.9, place, ("reason",))
        assert len(REMEDIES["reinit-orthogonal"].candidates(view, cause)) == expected


@pytest.mark.parametrize("code", RULES)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "LBFGS", "manual update"])
def test_the_answer_names_what_would_be_tried(code: str, optimizer: str) -> None:
    """What is said at the end of a run and what ``fix`` tries follow one rule."""
    history = plain(optimizer=optimizer)
    (cause,) = advise(history, diagnosis((code, 0.9))).causes
    view, whole = View(history), diagnosis((code, 0.9)).causes[0]
    assert set(cause.remedies) == {c for c in whole.remedies if REMEDIES[c].candidates(view, whole)}
    tried = {s.code for c in candidates(history, diagnosis((code, 0.9)), limit=60) for s in c.specs}
    assert set(cause.remedies) <= tried


def test_the_command_lists_every_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadygrad.commands.remedies.Console", lambda: Console(width=160))
    result = CliRunner().invoke(app, ["remedies"])
    assert result.exit_code == 0
    for code in CODES:
        assert code in result.output
