"""Candidates: what is tried on a script, in which order, with which values."""

from __future__ import annotations

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
from steadygrad.remedies import CODES, FAMILIES, REMEDIES, alike, candidates, format_spec, nearby, parse_spec
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
    found = candidates(plain(), diagnosis((code, 0.9), place="layers.0"))
    remedies = [c for c in found if c.kind == "remedy"]
    assert remedies
    assert remedies[0].cause == code or code == "excessive-weight-decay"  # this run has none to reduce
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
    found = texts(candidates(plain(), diagnosis(("missing-zero-grad", 0.9), ("unnormalized-input", 0.8))))
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


def test_a_schedule_that_ran_out_is_left_out_first() -> None:
    history = Net().train(120, loss=flat, rate=lambda step: 0.1 * 0.8**step).history()
    assert proposed("learning-rate-too-low", history)[0] == "constant-lr"
    assert "constant-lr" not in proposed("learning-rate-too-low")


def test_a_clip_is_loosened_to_the_runs_own_norms() -> None:
    clipped = Net().train(100, loss=flat, gradient=3.0, clip=lambda _: Clip("norm", 1e-4, 3.0, 3e-5)).history()
    assert proposed("clip-threshold-too-low", clipped)[0] == "loosen-clip:9.5"  # ten gradients of norm 3
    assert proposed("clip-threshold-too-low")[0] == "loosen-clip:off", "nothing to set a threshold by"


def test_the_misuse_decides_on_the_remedy() -> None:
    assert proposed("loss-misuse")[0] == "loss-on-logits"
    assert proposed("loss-misuse", evidence=("mse_loss broadcasts [8, 1] against [8]",))[0] == "match-shapes"
    assert "loss-on-logits" not in proposed("loss-misuse", evidence=("the loss is broadcast",))


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


def test_the_command_lists_every_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadygrad.commands.remedies.Console", lambda: Console(width=160))
    result = CliRunner().invoke(app, ["remedies"])
    assert result.exit_code == 0
    for code in CODES:
        assert code in result.output
