"""Advice: every remedy has words, its lines are Python, and the numbers in them are this run's."""

from __future__ import annotations

import ast
import math
import re
import textwrap
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from histories import Net, falling, flat
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from steadygrad.detectors import detect
from steadygrad.diagnosis import CAUSES, diagnose
from steadygrad.history import History
from steadygrad.records import Cause, Clip, Diagnosis
from steadygrad.remedies import CAUSES_ADVISED, CODES, TEXTS, advise
from steadygrad.remedies import REMEDIES_ADVISED as REMEDIES
from steadygrad.remedies.numbers import first_layer, good_rate, good_threshold, round_to
from steadygrad.view import View


def scattered(step: int) -> float:
    """Gradient norms between 1 and 3."""
    return 2.0 + math.sin(37.0 * step)


def plain() -> Net:
    return Net().train(
        200, loss=flat, gradient=scattered, batch=lambda _: {"batch_size": 32.0, "input_mean": 41.5, "input_std": 7.25}
    )


def adam() -> Net:
    return Net(optimizer="AdamW", weight_decay=0.4).train(150, rate=3e-3, loss=flat, gradient=scattered)


def by_hand() -> Net:
    return Net(optimizer="manual update").train(60, loss=flat, rate=math.nan)


def broken() -> Net:
    return Net().train(
        60, loss=lambda s: falling(s) if s < 40 else math.nan, gradient=lambda s: 1.5**s if s < 40 else math.nan
    )


RUNS: dict[str, Callable[[], Net]] = {
    "plain": plain,
    "adam": adam,
    "by hand": by_hand,
    "broken": broken,
    "one step": lambda: Net().train(1),
    "nothing measured": lambda: Net().train(40, loss=None, gradient=-1.0, ratio=math.nan),
    "empty": Net,
}
every_run = pytest.mark.parametrize("name", RUNS)
every_code = pytest.mark.parametrize("code", CODES)


def text_of(code: str, history: History, cause: str = "learning-rate-too-high", *evidence: str):
    return TEXTS[code](View(history), Cause(code=cause, confidence=0.9, location="layers.0", evidence=evidence))


# -- all of them --------------------------------------------------------------------------------------------------


def test_every_remedy_of_the_vocabulary_has_a_text() -> None:
    assert sorted(TEXTS) == sorted(CODES)


def test_the_remedies_of_every_cause_have_a_text() -> None:
    for rule in CAUSES:
        assert rule.remedies, rule.code
        assert set(rule.remedies) <= set(TEXTS), rule.code
        assert len(set(rule.remedies)) == len(rule.remedies)


@every_run
@every_code
def test_the_words_and_the_lines_can_be_used(code: str, name: str) -> None:
    text = text_of(code, RUNS[name]().history(), "learning-rate-too-high", "log of 0 in `y` gave the first inf")
    ast.parse(textwrap.dedent(text.patch))
    for words in (text.why, text.risk):
        assert words == words.strip()
        assert words.endswith(".")
        assert re.match(r"[A-Z0-9]|\w+\(\)", words), "a sentence, or one that begins with a name of code"
    shown = f"{text.why} {text.risk} {text.patch}"
    assert not re.search(r"\b(nan|inf)\b", shown.replace("gave the first inf", "")), "no number that is none"
    assert "{" not in shown.replace("{row", "")


@every_code
def test_a_remedy_can_be_put_into_words_for_every_cause_that_offers_it(code: str) -> None:
    history = plain().history()
    for rule in CAUSES:
        if code in rule.remedies:
            ast.parse(textwrap.dedent(text_of(code, history, rule.code).patch))


# -- this run's numbers -------------------------------------------------------------------------------------------


def number(pattern: str, patch: str) -> float:
    found = re.search(pattern, patch)
    assert found, patch
    return float(found[1])


def test_the_clip_threshold_is_the_median_of_the_calm_norms() -> None:
    history = plain().history()
    threshold = number(r"max_norm=([\d.e+-]+)", text_of("clip-norm", history).patch)
    norms = history.streams[0].grad_norm.values()
    assert norms.min() < threshold < norms.max()
    assert np.mean(norms > threshold) == pytest.approx(0.5, abs=0.05)


def test_what_the_clip_would_have_done_is_told() -> None:
    assert re.search(r"clipped (\d+)% of this run's steps", text_of("clip-norm", plain().history()).patch)


def test_a_loosened_clip_passes_nine_gradients_in_ten() -> None:
    run = Net().train(100, loss=flat, gradient=scattered, clip=lambda _: Clip("norm", 1e-3, 3.0, 3e-4)).history()
    threshold = number(r"max_norm=([\d.e+-]+)", text_of("loosen-clip", run).patch)
    assert np.mean(run.streams[0].grad_norm.values() <= threshold) == pytest.approx(0.9, abs=0.05)
    by_value = Net().train(100, loss=flat, clip=lambda _: Clip("value", 1e-6, 3.0, 3e-4)).history()
    assert "clip_grad_value_(model.parameters(), clip_value=" in text_of("loosen-clip", by_value).patch
    assert "max_norm=1e9" in text_of("loosen-clip", plain().history()).patch, "nothing to set a threshold by"


def test_a_bad_step_is_told_by_the_runs_own_norms() -> None:
    history = plain().history()
    threshold = number(r"norm < ([\d.e+-]+)", text_of("skip-bad-step", history).patch)
    assert threshold == pytest.approx(10 * float(np.median(history.streams[0].grad_norm.values())), rel=0.1)


def test_a_new_start_names_the_weight_where_only_some_need_it() -> None:
    def patches(net: Net, place: str) -> list[str]:
        cause = Cause("init-too-large", 0.9, place, ("reason",))
        return [
            TEXTS[f"reinit-{rule}"](View(net.history()), cause).patch for rule in ("kaiming", "xavier", "orthogonal")
        ]

    loose = Net(2).train(60, loss=flat)
    for row in range(len(loose.parameters)):
        loose.change(row, module="", module_type="", name=f"w{row}")
    assert all("_(w2" in patch and "modules()" not in patch for patch in patches(loose, "w2 (train.py:3)"))
    assert "fan_out" in patches(loose, "w2")[0], "x @ w2 has its inputs in the rows"
    one = Net(4).train(60, loss=flat).change(4, init_rms=5.0)
    assert all(
        "_(model.layers[2].weight" in patch and "fan_out" not in patch for patch in patches(one, "layers.2.weight")
    )
    assert all("model.modules()" in patch for patch in patches(Net(4).train(60, loss=flat), "layers.2.weight"))


def test_gradients_are_cleared_where_lbfgs_evaluates() -> None:
    patch = text_of("zero-grad", Net(optimizer="LBFGS").train(60).history()).patch
    assert patch.index("zero_grad") < patch.index("backward") < patch.index("optimizer.step(closure)")


@pytest.mark.parametrize(("ratio", "told"), [(0.5, True), (2e-3, False)])
def test_what_a_lower_rate_would_do_is_told_where_it_is_known(ratio: float, told: bool) -> None:
    """Where the updates are of a usual size, a tenth of the rate is a first try and no more."""
    text = text_of("lower-lr", Net().train(60, loss=flat, ratio=ratio).history())
    assert ("by about 0.2%" in text.patch) is told
    assert ("lr=0.01)" in text.patch) is not told, text.patch
    assert "0.2%" not in text.why, "which is said of every rate that is tried"


def test_an_explosion_does_not_set_the_threshold() -> None:
    threshold, _ = good_threshold(View(broken().history())) or (math.inf, 0.0)
    assert threshold < 1e4, "the norms end at 1e7; those before it count"


def test_a_gradient_that_explodes_at_once_sets_no_threshold() -> None:
    run = Net().train(
        150, loss=lambda s: 3.7 if s == 1 else 5e3, gradient=lambda s: 1.6 if s == 1 else 8e3 * scattered(s)
    )
    view = View(run.history())
    assert good_threshold(view) is None, "one calm step is too few"
    patch = text_of("clip-norm", run.history()).patch
    assert "max_norm=1)  # the usual start" in patch and "before any trouble" not in patch


def test_a_gradient_that_collapses_does_not_set_the_threshold_where_it_ends() -> None:
    run = Net().train(150, loss=flat, gradient=lambda s: scattered(s) if s < 20 else 1e-9)
    threshold, _ = good_threshold(View(run.history())) or (0.0, 0.0)
    expected, _ = good_threshold(View(Net().train(19, loss=flat, gradient=scattered).history())) or (1.0, 0.0)
    assert threshold == expected


@given(st.floats(1e-6, 1e6))
def test_the_threshold_follows_the_unit_of_the_gradient(unit: float) -> None:
    net = Net(2).train(40, gradient=lambda s: unit * scattered(s))
    one = Net(2).train(40, gradient=scattered)
    threshold, share = good_threshold(View(net.history())) or (math.nan, math.nan)
    expected, usual = good_threshold(View(one.history())) or (math.nan, math.nan)
    assert threshold == pytest.approx(unit * expected, rel=0.11)
    assert share == pytest.approx(usual, abs=0.15)


rates = st.sampled_from([0.5, 0.1, 0.02, 3e-3, 1e-4])


@given(rates, st.sampled_from([1e-7, 1e-4, 1e-3, 1.5e-3, 2e-3, 2.5e-3, 4e-3, 0.1, 3.0]))
def test_lower_is_lower_and_raise_is_higher(rate: float, ratio: float) -> None:
    history = Net().train(60, rate=rate, ratio=ratio).history()
    for code, better in (("lower-lr", lambda new: new < rate), ("raise-lr", lambda new: new > rate)):
        patch = text_of(code, history).patch
        assert better(number(r"lr=([\d.e+-]+)", patch)), patch
        assert number(r"was ([\d.e+-]+)", patch) == pytest.approx(rate, rel=1e-4)


def test_the_proposed_rate_gives_a_usual_step() -> None:
    old, new = good_rate(View(Net().train(60, rate=0.1, ratio=0.4).history())) or (0.0, 0.0)
    assert (old, new) == (pytest.approx(0.1), pytest.approx(0.1 * 2e-3 / 0.4, rel=0.5))


def test_the_optimizer_is_the_scripts_own() -> None:
    assert "torch.optim.AdamW(" in text_of("lower-lr", adam().history()).patch
    assert "torch.optim.SGD(" in text_of("lower-lr", plain().history()).patch


def test_a_hand_made_update_gets_a_line_it_can_use() -> None:
    assert text_of("lower-lr", by_hand().history()).patch == "lr = lr / 10"
    assert text_of("raise-lr", by_hand().history()).patch == "lr = lr * 10"


def test_other_numbers_of_the_run() -> None:
    history = plain().history()
    assert "mean 41.5, std 7.25" in text_of("standardize-input", history).patch
    assert "T_max=200" in text_of("decay-schedule", history).patch
    assert "(t + 1) / 20)" in text_of("warmup", history).patch
    net = Net(optimizer="SGD").train(60)
    net.change(0, weight_decay=0.5)
    assert "weight_decay=0.005)  # was 0.5" in text_of("reduce-weight-decay", net.history()).patch


def test_the_lines_for_losses_suit_the_misuse() -> None:
    history = plain().history()
    assert 'reduction="mean"' in text_of("mean-reduction", history, "loss-misuse", "the loss is summed over 64").patch
    assert "view_as" in text_of("match-shapes", history, "loss-misuse", "mse_loss broadcasts [8, 1] to [8]").patch
    assert "no softmax" in text_of("loss-on-logits", history, "loss-misuse", "softmax twice").patch


def test_the_lines_for_lost_parameters_suit_the_loss() -> None:
    history = plain().history()
    assert (
        "ModuleList"
        in text_of("attach-parameters", history, "detached-parameters", "b take part but are in no optimizer").patch
    )
    assert "detach" in text_of("attach-parameters", history, "detached-parameters", "the graph is cut").patch


def test_the_swapped_activation_suits_the_cause() -> None:
    history = plain().history()
    assert "->  nn.ReLU()" in text_of("swap-activation", history, "saturating-activation").patch
    assert "->  nn.LeakyReLU" in text_of("swap-activation", history, "dying-relu").patch


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("", "model"),
        ("layers.0", "model.layers[0]"),
        ("a.b:relu#2", "model.a.b"),
        ("net.3.act (train.py:7)", "model.net[3].act"),
    ],
)
def test_a_name_becomes_a_path(name: str, path: str) -> None:
    assert first_layer(name) == path


def test_lines_name_the_model_that_is_meant() -> None:
    net = Net(2).train(60, loss=flat)
    for row, model in enumerate(["forger", "forger", "nets['judge']", "nets['judge']"]):
        name = net.parameters[row].name
        net.change(row, name=f"{model}.{name}", module=f"{model}.layers.{row // 2}", model=model, init_rms=9.0)
    cause = Cause("detached-parameters", 0.9, "nets['judge'].layers", ("b are in no optimizer",))
    view = View(net.history())
    assert "torch.optim.SGD(nets['judge'].parameters()" in TEXTS["attach-parameters"](view, cause).patch
    assert "in nets['judge'].modules():" in TEXTS["reinit-xavier"](view, cause).patch
    assert TEXTS["swap-activation"](view, cause).patch.endswith("e.g. at nets['judge'].layers")
    assert "(model.parameters()" in TEXTS["lower-lr"](view, replace(cause, location="train.py:3")).patch, "both"
    for row in (2, 3):
        net.change(row, optimizer=None)
    assert "(forger.parameters()" in TEXTS["lower-lr"](View(net.history()), replace(cause, location="")).patch


@pytest.mark.parametrize(
    ("value", "rounded"), [(0.0123456, 0.012), (987.0, 990.0), (0.0, 0.0), (-0.0456, -0.046), (math.inf, math.inf)]
)
def test_rounding_keeps_significant_digits(value: float, rounded: float) -> None:
    assert round_to(value, 2) == rounded


# -- the lines do what they say -----------------------------------------------------------------------------------

RUNNABLE = [
    "clip-norm", "clip-value", "lower-lr", "decay-schedule", "warmup", "reinit-xavier", "reinit-kaiming",
    "reinit-orthogonal", "reinit-lsuv", "skip-bad-step", "zero-grad", "adaptive-optimizer", "l2-regularization",
    "l1-regularization", "loosen-clip", "reduce-weight-decay", "standardize-input", "replace-batchnorm",
]  # fmt: skip


@pytest.mark.parametrize("code", RUNNABLE)
def test_the_lines_run_where_they_would_be_pasted(code: str) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x_train = torch.randn(16, 4)
    loss = model(x_train).square().mean()
    optimizer.zero_grad()
    if "loss.backward()" not in (patch := text_of(code, plain().history()).patch):
        loss.backward()
        optimizer.step()
    scope = {
        "torch": torch,
        "model": model,
        "optimizer": optimizer,
        "loss": loss,
        "x_train": x_train,
        "lr": 0.1,
        "channels": 8,
    }
    exec(compile(patch, "patch", "exec"), scope)
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


# -- which advice is given ----------------------------------------------------------------------------------------


def diagnosis_of(*causes: tuple[str, float, tuple[str, ...]]) -> Diagnosis:
    made = tuple(
        Cause(code, confidence, "layers.0", ("reason",), (), remedies) for code, confidence, remedies in causes
    )
    return Diagnosis("unhealthy", (), made)


def advised(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return [(a.cause, a.remedy) for a in advise(plain().history(), diagnosis).advice]


def test_advice_is_for_the_leading_causes_and_their_best_remedies() -> None:
    diagnosis = diagnosis_of(
        ("a", 0.9, ("clip-norm", "lower-lr", "warmup")), ("b", 0.7, ("zero-grad",)), ("c", 0.6, ("add-residual",))
    )
    assert (CAUSES_ADVISED, REMEDIES) == (2, 2)
    assert advised(diagnosis) == [("a", "clip-norm"), ("a", "lower-lr"), ("b", "zero-grad")]


def test_no_remedy_is_advised_twice() -> None:
    diagnosis = diagnosis_of(("a", 0.9, ("clip-norm", "lower-lr")), ("b", 0.7, ("lower-lr", "warmup")))
    assert advised(diagnosis) == [("a", "clip-norm"), ("a", "lower-lr"), ("b", "warmup")]


def test_a_weak_second_cause_gets_no_advice_but_a_weak_only_one_does() -> None:
    assert advised(diagnosis_of(("a", 0.9, ("clip-norm",)), ("b", 0.3, ("zero-grad",)))) == [("a", "clip-norm")]
    assert advised(diagnosis_of(("a", 0.3, ("clip-norm",)))) == [("a", "clip-norm")]


def test_a_remedy_that_has_no_value_for_this_run_is_not_advised() -> None:
    diagnosis = diagnosis_of(("learning-rate-too-high", 0.9, ("lower-lr", "line-search", "clip-norm")))
    assert [code for _, code in advised(diagnosis)] == ["lower-lr", "clip-norm"]


def test_a_healthy_run_gets_no_advice() -> None:
    history = Net().train(200).history()
    assert advise(history, diagnose(history, detect(history))).advice == ()


def test_everything_else_of_the_diagnosis_is_kept() -> None:
    history = Net().train(100, loss=flat, clip=lambda _: Clip("norm", 1e-4, 3.0, 3e-5)).history()
    before = diagnose(history, detect(history))
    after = advise(history, before)
    assert after.advice
    assert replace(after, advice=(), causes=()) == replace(before, advice=(), causes=())
    for one, other in zip(after.causes, before.causes, strict=True):
        assert replace(one, remedies=()) == replace(other, remedies=())
        assert set(one.remedies) <= set(other.remedies)
