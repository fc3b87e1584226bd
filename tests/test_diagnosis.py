"""Causes: each is argued on a run that has it, ranked against the others, and silent on a healthy run.

``FAULTS`` holds one tiny training run (well under a second) for each cause of the vocabulary; a code without one fails
the suite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from histories import Net, falling, flat, spoiled
from hypothesis import given, settings
from hypothesis import strategies as st
from test_detectors import any_history
from torch import Tensor, nn

from steadygrad.detectors import detect
from steadygrad.diagnosis import CAUSES, LATENT, SHOWN, diagnose, rank
from steadygrad.diagnosis.base import Argument, CauseRule, Findings, ramp
from steadygrad.history import History
from steadygrad.records import NO_GRADIENT, Diagnosis, ParameterInfo, StepRecord
from steadygrad.remedies import advise
from steadygrad.session import Session
from steadygrad.view import View

CODES = (
    "init-too-large",
    "init-too-small",
    "saturating-activation",
    "depth-without-shortcut",
    "long-recurrence",
    "learning-rate-too-high",
    "learning-rate-too-low",
    "missing-warmup",
    "unnormalized-input",
    "corrupt-batch",
    "unstable-operation",
    "precision-range",
    "missing-zero-grad",
    "loss-misuse",
    "dying-relu",
    "tiny-batch-batchnorm",
    "clip-threshold-too-low",
    "detached-parameters",
    "excessive-weight-decay",
)

# -- tiny training runs -------------------------------------------------------------------------------------------

Batches = Callable[[int], tuple[Tensor, Tensor]]
FAULTS: dict[str, Callable[[], None]] = {}
CLASSES = 4
INPUTS = 16


def fault(code: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register the run that has this fault and no other."""

    def add(train: Callable[[], None]) -> Callable[[], None]:
        FAULTS[code] = train
        return train

    return add


def clusters(rows: int = 32, *, scale: float = 1.0, offset: float = 0.0, spread: float = 1.5) -> Batches:
    """Four classes in 16 dimensions that a linear layer can nearly tell apart; a fresh batch for each step."""
    random = torch.Generator().manual_seed(7)
    centres = torch.randn(CLASSES, INPUTS, generator=random)

    def batch(_: int) -> tuple[Tensor, Tensor]:
        y = torch.randint(CLASSES, (rows,), generator=random)
        x = centres[y] + spread * torch.randn(rows, INPUTS, generator=random)
        return x * scale + offset, y

    return batch


def stack(layers: int, activation: type[nn.Module] = nn.ReLU, width: int = 24) -> nn.Sequential:
    """A plain stack of linear layers."""
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for layer in range(layers):
        inputs = INPUTS if layer == 0 else width
        parts += [nn.Linear(inputs, width if layer < layers - 1 else CLASSES), activation()]
    return nn.Sequential(*parts[:-1])


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches | None = None,
    *,
    steps: int = 80,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    clear: bool = True,
    clip: float = 0.0,
) -> None:
    """An ordinary training loop."""
    batches = batches or clusters()
    for step in range(1, steps + 1):
        x, y = batches(step)
        value = loss(model(x), y)
        if clear:
            optimizer.zero_grad()
        value.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


def sgd(model: nn.Module, lr: float = 0.1, **options: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


@fault("init-too-large")
def large_weights() -> None:
    model = stack(5)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=5.0)
    train(model, sgd(model, 0.01))


@fault("init-too-small")
def small_weights() -> None:
    model = stack(6)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1e-3)
            nn.init.zeros_(module.bias)
    train(model, sgd(model))


@fault("saturating-activation")
def sigmoids() -> None:
    model = stack(7, nn.Sigmoid)
    train(model, sgd(model))


@fault("depth-without-shortcut")
def deep_stack() -> None:
    model = stack(32)
    train(model, sgd(model), steps=60)


class Recurrent(nn.Module):
    """A plain RNN that starts near the edge of stability, read out at its last step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.RNN(2, 24, nonlinearity="relu", batch_first=True)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain=1.25)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


@fault("long-recurrence")
def recurrence() -> None:
    model = Recurrent()
    random = torch.Generator().manual_seed(1)

    def sequences(_: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(16, 60, 2, generator=random)
        return x, (x[:, 0, 0] > 0).long() + 2 * (x[:, 0, 1] > 0).long()

    train(model, sgd(model, 0.02), sequences)


@fault("dying-relu")
def dead_from_the_start() -> None:
    model = stack(3)
    with torch.no_grad():
        model[0].bias.fill_(-30.0)
        model[2].bias.fill_(-30.0)
    train(model, sgd(model))


@fault("learning-rate-too-high")
def high_rate() -> None:
    model = stack(3)
    train(model, sgd(model, 12.0))


def raised_rate() -> None:
    model = stack(3)
    optimizer = sgd(model, 0.05)
    train(model, optimizer, steps=200)
    optimizer.param_groups[0]["lr"] = 6.0
    train(model, optimizer, steps=200)


def rate_that_kills_units() -> None:
    model = stack(8)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for rate in (0.02, 0.2, 1.0):
        optimizer.param_groups[0]["lr"] = rate
        train(model, optimizer, steps=60)


@fault("learning-rate-too-low")
def low_rate() -> None:
    model = stack(3)
    train(model, sgd(model, 1e-7), steps=100)


class Attention(nn.Module):
    """Two post-norm transformer layers on short sequences."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up = nn.Linear(2, 32)
        self.layers = nn.Sequential(
            *(nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True) for _ in range(4))
        )
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.up(x)).mean(1))


@fault("missing-warmup")
def cold_attention() -> None:
    model = Attention()
    random = torch.Generator().manual_seed(1)

    def sequences(_: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(16, 8, 2, generator=random)
        return x, (x[:, :, 0].sum(1) > 0).long() + 2 * (x[:, :, 1].sum(1) > 0).long()

    train(model, torch.optim.Adam(model.parameters(), lr=0.015), sequences, steps=60)


@fault("unnormalized-input")
def raw_inputs() -> None:
    model = stack(3)
    train(model, sgd(model), clusters(scale=60.0, offset=300.0))


@fault("corrupt-batch")
def corrupt_batch() -> None:
    model, usual = stack(3), clusters()

    def batches(step: int) -> tuple[Tensor, Tensor]:
        x, y = usual(step)
        return (x * 1e4, y) if step == 60 else (x, y)

    train(model, torch.optim.Adam(model.parameters(), lr=3e-3), batches, steps=100)


@fault("unstable-operation")
def log_of_zero() -> None:
    model, usual = stack(2), clusters()

    def loss(z: Tensor, y: Tensor) -> Tensor:
        p = torch.softmax(z * 400.0, dim=1)
        return -torch.log(p.gather(1, y[:, None])).mean() * 0.01

    train(model, sgd(model, 0.01), usual, loss=loss, steps=60)


@fault("precision-range")
def bfloat16_updates() -> None:
    model, usual = stack(3).bfloat16(), clusters()
    train(model, sgd(model, 3e-4), lambda s: (usual(s)[0].bfloat16(), usual(s)[1]), steps=80)


@fault("missing-zero-grad")
def never_cleared() -> None:
    model = stack(3)
    train(model, sgd(model, 0.05), clear=False)


@fault("loss-misuse")
def softmax_twice() -> None:
    model = nn.Sequential(stack(3), nn.Softmax(dim=1))
    train(model, sgd(model, 0.05), loss=F.cross_entropy)


@fault("tiny-batch-batchnorm")
def tiny_batches() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(INPUTS, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, CLASSES))
    train(model, sgd(model, 0.05), clusters(2))


@fault("clip-threshold-too-low")
def choked() -> None:
    model = stack(3)
    train(model, sgd(model), clip=1e-4)


class Detached(nn.Module):
    """The graph is cut in the middle."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.head = nn.Linear(INPUTS, 24), nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.encoder(x)).detach())


@fault("detached-parameters")
def detached() -> None:
    model = Detached()
    train(model, sgd(model))


@fault("excessive-weight-decay")
def heavy_decay() -> None:
    model = stack(3)
    train(model, torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=30.0), steps=100)


def healthy_run() -> None:
    model = stack(3)
    train(model, torch.optim.Adam(model.parameters(), lr=3e-3), steps=120)


@cache
def observed(run: Callable[[], None]) -> tuple[History, Diagnosis]:
    """Train under observation."""
    with Session(every=5) as session:
        run()
    return session.history, session.close()


# -- every cause --------------------------------------------------------------------------------------------------

every_code = pytest.mark.parametrize("code", CODES)


def test_every_code_of_the_vocabulary_is_argued_and_has_a_run() -> None:
    assert sorted(rule.code for rule in CAUSES) == sorted(CODES)
    assert sorted(FAULTS) == sorted(CODES)


@every_code
def test_the_cause_is_found_first(code: str) -> None:
    _, answer = observed(FAULTS[code])
    assert answer.verdict == "unhealthy"
    ranked = [(c.code, c.confidence) for c in answer.causes]
    assert ranked
    assert ranked[0][0] == code, ranked
    assert ranked[0][1] >= 0.4


@every_code
def test_the_answer_is_well_formed(code: str) -> None:
    _, answer = observed(FAULTS[code])
    confidences = [c.confidence for c in answer.causes]
    assert confidences == sorted(confidences, reverse=True), "best first"
    assert all(SHOWN <= c <= 0.99 for c in confidences)
    assert len({c.code for c in answer.causes}) == len(answer.causes)
    assert not [c for c in answer.checks_not_run if "itself failed" in c.why]
    for cause in answer.causes:
        assert cause.code in CODES
        assert cause.evidence, "no cause without a reason that can be read"
        assert all(e == e.strip() and "nan" not in e.split() for e in (*cause.evidence, *cause.against))
        assert cause.remedies


@every_code
def test_diagnosing_again_gives_the_same(code: str) -> None:
    history, answer = observed(FAULTS[code])
    again = advise(history, diagnose(history, detect(history)))
    assert (again.verdict, again.symptoms, again.causes) == (answer.verdict, answer.symptoms, answer.causes)


@pytest.mark.parametrize(
    "code", ["unstable-operation", "learning-rate-too-high", "missing-zero-grad", "clip-threshold-too-low"]
)
def test_the_cause_is_placed_in_the_script(code: str) -> None:
    _, answer = observed(FAULTS[code])
    assert "test_diagnosis.py:" in answer.causes[0].location


@pytest.mark.parametrize(
    ("code", "place"),
    [
        ("detached-parameters", "encoder"),
        ("tiny-batch-batchnorm", "1"),
        ("long-recurrence", "rnn.weight_hh_l0"),
        ("init-too-large", "0.weight"),
    ],
)
def test_the_cause_is_placed_in_the_model(code: str, place: str) -> None:
    _, answer = observed(FAULTS[code])
    assert answer.causes[0].location == place


# -- healthy, short and failed ------------------------------------------------------------------------------------


def test_a_healthy_run_has_no_causes() -> None:
    _, answer = observed(healthy_run)
    assert (answer.verdict, answer.symptoms, answer.causes, answer.advice) == ("healthy", (), (), ())


def diagnosed(net: Net) -> Diagnosis:
    history = net.history()
    view = View(history)
    answer = diagnose(history, detect(history, view), view)
    assert view.failures == [], "a rule of ours raised"
    return answer


def test_a_healthy_synthetic_run_has_no_causes() -> None:
    answer = diagnosed(Net().train(200))
    assert (answer.verdict, answer.causes) == ("healthy", ())


# -- verdict, findings and causes agree ---------------------------------------------------------------------------


def coherent(answer: Diagnosis) -> bool:
    """A run is unhealthy just where there is a finding, and only findings have causes."""
    return (answer.verdict == "unhealthy") is bool(answer.symptoms) and (bool(answer.symptoms) or not answer.causes)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_verdict_findings_and_causes_agree_for_any_record(seed: int) -> None:
    history = any_history(seed)
    assert coherent(diagnose(history, detect(history)))


@pytest.mark.parametrize("train", [*FAULTS.values(), healthy_run], ids=lambda train: train.__name__)
def test_verdict_findings_and_causes_agree(train: Callable[[], None]) -> None:
    assert coherent(observed(train)[1])


def superfluous_softmax(steps: int = 200) -> Net:
    graph = {"nodes": 9, "chain": ["LogSoftmax", "Softmax"], "uses": [1], "readers": [""]}
    return Net().fact("graph", **graph, parameters=[0], shortest=[1], longest=[1]).train(steps)


@pytest.mark.parametrize("steps", [10, 200])
def test_what_is_certain_without_a_symptom_is_a_finding(steps: int) -> None:
    answer = diagnosed(superfluous_softmax(steps))
    assert coherent(answer)
    (finding,), cause = answer.symptoms, answer.causes[0]
    assert (finding.code, finding.severity, finding.location) == (LATENT, "warning", cause.location)
    assert (finding.first_step, finding.last_step) == (1, steps)
    assert cause.code == "loss-misuse"
    assert cause.evidence[0] in finding.message


def test_beside_a_symptom_a_cause_is_no_finding_of_its_own() -> None:
    net = superfluous_softmax()
    net.train(200, loss=math.nan)
    answer = diagnosed(net)
    assert "loss-misuse" in {c.code for c in answer.causes}
    assert LATENT not in {s.code for s in answer.symptoms}


@pytest.mark.parametrize(("steps", "verdict"), [(10, "unknown"), (200, "healthy")])
def test_a_cause_that_is_not_certain_is_not_named_without_a_finding(steps: int, verdict: str) -> None:
    net = Net().change(0, init_rms=5.0 / 8).train(steps)  # a layer that starts somewhat large, and nothing else
    assert [c.code for c in rank(Findings(View(net.history()), ()))] == ["init-too-large"]
    answer = diagnosed(net)
    assert (answer.verdict, answer.symptoms, answer.causes) == (verdict, (), ())


@pytest.mark.parametrize("steps", [1, 5, 19])
def test_a_short_quiet_run_is_not_called_healthy(steps: int) -> None:
    answer = diagnosed(Net().train(steps))
    assert answer.verdict == "unknown"
    assert answer.checks_not_run


def test_a_short_run_that_went_wrong_is_unhealthy() -> None:
    assert diagnosed(Net().train(5, loss=math.nan)).verdict == "unhealthy"


def test_nothing_seen_is_unknown_and_says_so() -> None:
    answer = diagnose(History(), [])
    assert answer.verdict == "unknown"
    assert "no training" in {c.check: c.why for c in answer.checks_not_run}["observation"]


def test_a_run_that_could_not_be_observed_is_not_called_healthy() -> None:
    answer = diagnosed(Net().train(200).fact("observation-failed", 30, error="ValueError: boom"))
    assert answer.verdict == "unknown"
    why = {c.check: c.why for c in answer.checks_not_run}["observation"]
    assert "30" in why
    assert "boom" in why


def test_a_failed_observation_does_not_hide_what_was_seen_before() -> None:
    answer = diagnosed(
        Net().train(60, loss=lambda s: falling(s) if s < 40 else math.nan).fact("observation-failed", 50, error="x")
    )
    assert answer.verdict == "unhealthy"


def test_a_rate_that_is_raised_too_far_is_named_by_that() -> None:
    _, answer = observed(raised_rate)
    assert "diverging-loss" in [s.code for s in answer.symptoms]
    assert answer.causes[0].code == "learning-rate-too-high"
    assert answer.causes[0].evidence[0].startswith("the rate had just been raised from 0.05 to 6")


def own_penalty() -> None:
    model = stack(3)

    def penalised(prediction: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(prediction, y) + 0.3 * sum(p.pow(2).sum() for p in model.parameters())

    train(model, torch.optim.Adam(model.parameters(), lr=0.01), steps=200, loss=penalised)


def test_a_penalty_of_the_scripts_own_is_a_decay() -> None:
    _, answer = observed(own_penalty)
    assert answer.causes[0].code == "excessive-weight-decay"
    assert "the loss holds a penalty on the weights themselves" in answer.causes[0].evidence


def new_head() -> None:
    """A head put in place after the optimizer was made; the optimizer of the training before is gone by then."""
    model = stack(3)
    train(model, torch.optim.Adam(model.parameters(), lr=3e-3), steps=40)
    model[0].requires_grad_(False)
    optimizer = sgd(nn.Sequential(model[2], model[4]), 0.02)
    model[4] = nn.Linear(24, CLASSES)
    train(model, optimizer, steps=80)


def test_what_replaced_a_layer_of_the_optimizer_is_in_none() -> None:
    _, answer = observed(new_head)
    assert (answer.causes[0].code, answer.causes[0].location) == ("detached-parameters", "4")


def zero_head() -> None:
    """Its last layer starts at zero, by design, and its rate is too low."""
    model = stack(3)
    nn.init.zeros_(model[4].weight)
    train(model, torch.optim.Adam(model.parameters(), lr=1e-7), steps=200)


def test_a_layer_that_starts_at_zero_and_leaves_it_does_not_start_too_small() -> None:
    _, answer = observed(zero_head)
    assert [c.code for c in answer.causes] == ["learning-rate-too-low"]


@pytest.mark.parametrize(("height", "latent"), [(1.0, False), (500.0, True)])
def test_rare_targets_are_no_corrupt_batch_unless_they_are_extreme(height: float, latent: bool) -> None:
    tail = {60: 0.011, 100: 0.019, 130: 0.016, 170: 0.014}
    net = Net().train(
        200,
        loss=lambda s: tail.get(s, 0.01 + math.exp(-s / 4) + 2e-4 * math.sin(37 * s)),
        batch=lambda s: {"batch_size": 32.0, "target_max": height if s == 100 else 0.1},
    )
    found = [s.code for s in diagnosed(net).symptoms]
    assert found == ([LATENT] if latent else [])


def test_units_that_a_rate_kills_are_its_doing() -> None:
    _, answer = observed(rate_that_kills_units)
    assert "dead-units" in [s.code for s in answer.symptoms]
    assert [c.code for c in answer.causes][:2] == ["learning-rate-too-high", "dying-relu"]
    assert any("large updates came first" in line for line in answer.causes[1].against)


@pytest.mark.parametrize("share", [1.0, 1 / 32])
def test_a_sum_is_misuse_only_while_it_is_one(share: float) -> None:
    def run() -> None:
        model = stack(3)
        train(model, sgd(model, 0.5 / share), loss=lambda x, y: F.cross_entropy(x, y, reduction="sum") * share)

    history, answer = observed(run)
    assert [fact.data["reduction"] for fact in history.facts("loss-call")][:1] == ["sum"]
    said = [line for cause in answer.causes for line in cause.evidence if "the loss is summed" in line]
    assert bool(said) == (share == 1.0)


def test_of_a_loss_that_became_nan_it_is_not_said_that_it_is_summed() -> None:
    def run() -> None:
        model = stack(3)
        batches = iter(range(1000))

        def loss(x: Tensor, y: Tensor) -> Tensor:
            spoilt = math.nan if next(batches) >= 29 else 1.0
            return F.cross_entropy(x * spoilt, y, reduction="sum") / len(y)

        train(model, sgd(model, 2.0), loss=loss)

    _, answer = observed(run)
    assert "non-finite" in [s.code for s in answer.symptoms]
    assert "loss-misuse" not in [c.code for c in answer.causes]


def test_values_of_a_frozen_layer_are_no_initialisation() -> None:
    def run() -> None:
        model = stack(3)
        ruler = nn.Linear(16, 16)
        ruler.weight.data.copy_(torch.arange(16 * 16.0).view(16, 16))
        ruler.requires_grad_(False)
        train(nn.Sequential(ruler, nn.BatchNorm1d(16), *model), sgd(model, 30.0))

    history, answer = observed(run)
    assert answer.verdict == "unhealthy"
    assert "init-too-large" not in [c.code for c in answer.causes]
    assert min(View(history).init_gain) > 0


@pytest.mark.parametrize("spoil", [0, 1, 100])
def test_nan_in_the_records_never_raises(spoil: int) -> None:
    net = Net(8, "tanh").train(101, loss=flat)
    net.events = [spoiled(e) if spoil in (1, i) else e for i, e in enumerate(net.events)]
    diagnosed(net)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_record_makes_a_cause_raise(seed: int) -> None:
    history = any_history(seed)
    view = View(history)
    advise(history, diagnose(history, detect(history, view), view))
    assert view.failures == []


def test_a_cause_that_fails_is_named_and_the_others_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Findings, __: Argument) -> None:
        raise ZeroDivisionError("boom")

    before = diagnosed(Net().train(100, loss=flat, ratio=1e-8))
    monkeypatch.setattr("steadygrad.diagnosis.CAUSES", (CauseRule("broken", broken, ()), *CAUSES))
    history = Net().train(100, loss=flat, ratio=1e-8).history()
    view = View(history)
    after = diagnose(history, detect(history, view), view)
    assert after.causes == before.causes
    assert [c.check for c in after.checks_not_run if "ZeroDivisionError: boom" in c.why] == ["broken"]


# -- a rate that is too high --------------------------------------------------------------------------------------


def died(*, leap: float, share: float = 1.0) -> Argument:
    """Units die as early steps change the weights by a tenth and take them to ``leap`` times their size; then quiet."""
    net = Net()
    net.train(
        120,
        loss=flat,
        ratio=lambda step: 0.1 if step <= 3 else 1e-4,
        weight=lambda step: 8.0 if step <= 3 else 8.0 * leap,
        stats=lambda step: {"dead_units": net.at("relu", 0.02 if step <= 3 else share)},
    )
    history = net.history()
    view = View(history)
    symptoms = tuple(detect(history, view))
    argument = Argument("learning-rate-too-high")
    (rule,) = [rule for rule in CAUSES if rule.code == argument.code]
    rule.argue(Findings(view, symptoms), argument)
    assert ("dead-units" in {s.code for s in symptoms}) == (share > 0.5)
    return argument


def test_small_updates_of_units_that_died_in_a_leap_do_not_speak_for_the_rate() -> None:
    """They have no gradient any more: what a typical step changes after that tells nothing about the steps before."""
    assert not [o for o in died(leap=10.0).objections if "usual size" in o]
    assert died(leap=10.0).confidence >= 0.6
    for other in (died(leap=2.0), died(leap=10.0, share=0.1)):  # no leap, or nothing died: the updates speak
        assert [o for o in other.objections if "usual size" in o]


@pytest.mark.parametrize(("raised", "speaks"), [(1.0, True), (50.0, False)])
def test_small_updates_before_the_rate_was_raised_do_not_speak_for_it(raised: float, speaks: bool) -> None:
    net = Net().train(
        120, loss=lambda step: falling(step) if step < 100 else 9.0, ratio=1e-3,
        rate=lambda step: 0.1 if step < 100 else 0.1 * raised,
    )  # fmt: skip
    history = net.history()
    view, argument = View(history), Argument("learning-rate-too-high")
    (rule,) = [rule for rule in CAUSES if rule.code == argument.code]
    rule.argue(Findings(view, tuple(detect(history, view))), argument)
    assert bool([r for r in argument.reasons if "had just been raised" in r]) is not speaks
    assert bool([o for o in argument.objections if "usual size" in o]) is speaks


# -- the arithmetic -----------------------------------------------------------------------------------------------

weights = st.lists(st.floats(0.0, 0.99), max_size=6)


def argued(fors: list[float], against: list[float] = []) -> Argument:  # noqa: B006
    argument = Argument("x")
    for i, weight in enumerate(fors):
        argument.add(weight, f"for {i}")
    for i, weight in enumerate(against):
        argument.doubt(weight, f"against {i}")
    return argument


def test_no_evidence_is_no_confidence() -> None:
    assert argued([]).confidence == 0.0
    assert argued([], [0.5]).confidence == 0.0


def test_one_piece_of_evidence_counts_for_what_it_weighs() -> None:
    assert argued([0.7]).confidence == pytest.approx(0.7)
    assert argued([0.7], [0.5]).confidence == pytest.approx(0.35)
    assert argued([0.5, 0.5]).confidence == pytest.approx(0.75)


def test_weights_are_kept_within_bounds() -> None:
    assert argued([7.0]).confidence == pytest.approx(0.99)
    assert argued([-1.0]).confidence == 0.0
    assert argued([0.9], [5.0]).confidence == pytest.approx(0.009)


@given(weights, weights)
def test_confidence_is_a_probability(fors: list[float], against: list[float]) -> None:
    assert 0.0 <= argued(fors, against).confidence < 1.0


@given(weights, weights, st.floats(0.0, 0.99))
def test_evidence_never_hurts_and_doubt_never_helps(fors: list[float], against: list[float], weight: float) -> None:
    before = argued(fors, against).confidence
    assert argued([*fors, weight], against).confidence >= before - 1e-12
    assert argued(fors, [*against, weight]).confidence <= before + 1e-12


@given(st.permutations([0.1, 0.4, 0.8]), st.permutations([0.2, 0.6]))
def test_the_order_of_the_arguments_does_not_matter(fors: list[float], against: list[float]) -> None:
    assert argued(fors, against).confidence == pytest.approx(argued([0.1, 0.4, 0.8], [0.2, 0.6]).confidence)


def test_the_strongest_reason_is_told_first() -> None:
    cause = argued([0.1, 0.9, 0.5], [0.3]).cause(("clip-norm",))
    assert cause.evidence == ("for 1", "for 2", "for 0")
    assert cause.against == ("against 0",)
    assert cause.remedies == ("clip-norm",)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_a_ramp_rises_from_0_to_1(a: float, b: float) -> None:
    low, high = 0.01, 100.0
    assert 0.0 <= ramp(a, low, high) <= 1.0
    assert (ramp(a, low, high) <= ramp(b, low, high)) or a > b
    assert ramp(0.01, low, high) == 0.0
    assert ramp(1.0, low, high) == pytest.approx(0.5)
    assert ramp(math.nan, low, high) == 0.0
    assert ramp(math.inf, low, high) == 1.0


# -- explaining away ----------------------------------------------------------------------------------------------


def rule(code: str, weight: float, explains: tuple[str, ...] = ()) -> CauseRule:
    def argue(_: Findings, argument: Argument) -> None:
        argument.add(weight, f"weight {weight}")

    return CauseRule(code, argue, ("clip-norm",), explains)


@pytest.fixture
def ranked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, float]]:
    def of(*rules: CauseRule) -> dict[str, float]:
        monkeypatch.setattr("steadygrad.diagnosis.CAUSES", rules)
        return {c.code: c.confidence for c in rank(Findings(View(History()), ()))}

    return of


def test_a_strong_cause_explains_a_weaker_one_away(ranked: Callable[..., dict[str, float]]) -> None:
    alone = ranked(rule("a", 0.9), rule("b", 0.8))
    explained = ranked(rule("a", 0.9, ("b",)), rule("b", 0.8))
    assert alone == {"a": 0.9, "b": 0.8}
    assert explained["a"] == 0.9
    assert explained["b"] < 0.5 * alone["b"]


def test_a_weak_cause_explains_nothing(ranked: Callable[..., dict[str, float]]) -> None:
    assert ranked(rule("a", 0.4, ("b",)), rule("b", 0.5)) == {"b": 0.5, "a": 0.4}


def test_a_much_stronger_cause_is_not_explained_away(ranked: Callable[..., dict[str, float]]) -> None:
    assert ranked(rule("a", 0.5, ("b",)), rule("b", 0.95))["b"] == 0.95


def test_two_causes_that_explain_each_other_do_not_both_vanish(ranked: Callable[..., dict[str, float]]) -> None:
    left = ranked(rule("a", 0.9, ("b",)), rule("b", 0.9, ("a",)))
    assert left == {"a": pytest.approx(0.414), "b": pytest.approx(0.414)}


def test_causes_not_worth_the_time_are_not_shown(ranked: Callable[..., dict[str, float]]) -> None:
    assert ranked(rule("a", 0.9), rule("b", 0.1)) == {"a": 0.9}


def test_what_a_cause_explains_are_causes() -> None:
    for each in CAUSES:
        assert set(each.explains) <= set(CODES) - {each.code}, each.code
        assert len(set(each.explains)) == len(each.explains)


def test_no_two_causes_share_an_argument() -> None:
    assert len({each.argue for each in CAUSES}) == len(CAUSES)


def test_parameters_of_an_earlier_model_that_learned_are_not_detached() -> None:
    """As in cross-validation: their row may name a later optimizer, which of course never feeds them."""
    history = History()
    history.parameters = [
        ParameterInfo(i, f"{i}.weight", (4, 4), "float32", "weight", str(i), "Linear", True, optimizer=1, fan_in=4)
        for i in range(2)
    ]
    for step in range(1, 81):
        later = step > 40
        norms = np.array([NO_GRADIENT, 1.0] if later else [1.0, NO_GRADIENT], dtype=np.float32)
        history.add(StepRecord(step, stream=int(later), loss=1.0 / step, grad_norm=1.0, norms=norms))
    assert "zero-gradients" not in {s.code for s in detect(history)}
