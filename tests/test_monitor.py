"""What is recorded is right: against slow references in float64, and against what the script itself knows."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadygrad.attach import attached
from steadygrad.history import History
from steadygrad.monitor import Monitor
from steadygrad.monitor.gradients import SIGNS, STEPS_PER_SIGN
from steadygrad.monitor.sampling import EARLY_STEPS, Schedule
from steadygrad.naming import FULL, Registry
from steadygrad.records import NO_GRADIENT, Fact, OptimizerInfo, ParameterInfo, SiteInfo, StepRecord


class Kept:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.table: list[ParameterInfo] = []
        self.site_table: list[SiteInfo] = []
        self.optimizer_table: list[OptimizerInfo] = []
        self.steps: list[StepRecord] = []
        self.facts: list[Fact] = []

    def parameters(self, table: list[ParameterInfo]) -> None:
        self.table = list(table)

    def sites(self, table: list[SiteInfo]) -> None:
        self.site_table = list(table)

    def optimizers(self, table: list[OptimizerInfo]) -> None:
        self.optimizer_table = list(table)

    def step(self, record: StepRecord) -> None:
        self.steps.append(record)

    def fact(self, fact: Fact) -> None:
        self.facts.append(fact)

    @property
    def names(self) -> list[str]:
        return [p.name for p in self.table]

    @property
    def stale(self) -> list[int]:
        return [r.step for r in self.steps if "stale-gradient" in r.flags]


def reraise(error: BaseException) -> None:
    raise error


def watch(train: Callable[[], Any], *, every: int = 1) -> Kept:
    torch.manual_seed(0)
    sink = Kept()
    with attached(Monitor(sink, every=every, trace=False), reraise) as attachment:
        train()
        attachment.finish()
    return sink


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def norms_of(tensors: Sequence[Tensor | None]) -> list[float]:
    return [NO_GRADIENT if t is None else float(t.detach().double().norm()) for t in tensors]


def total(norms: Sequence[float]) -> float:
    return math.sqrt(sum(n * n for n in norms if n >= 0))


# -- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_statistics_equal_a_float64_reference(kind: Any) -> None:
    expected: list[dict[str, Any]] = []

    def train() -> None:
        model, x = mlp(), torch.randn(10, 8)
        model.register_parameter("unused", nn.Parameter(torch.ones(3)))
        parameters = list(model.parameters())
        optimizer = kind(parameters, lr=0.01)
        for step in range(6):
            optimizer.param_groups[0]["lr"] = 0.01 * (step + 1)
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            before = [p.detach().double().clone() for p in parameters]
            grads = [None if p.grad is None else p.grad.double().clone() for p in parameters]
            optimizer.step()
            change = [(p.detach().double() - b).norm().item() for p, b in zip(parameters, before, strict=True)]
            expected.append({"loss": loss.item(), "lr": 0.01 * (step + 1), "grads": grads, "update_norm": change,
                             "weight_norm": [b.norm().item() for b in before]})  # fmt: skip

    sink = watch(train)
    assert [r.step for r in sink.steps] == [1, 2, 3, 4, 5, 6]
    sampled = 0
    order = [sink.names.index(n) for n in ("unused", "0.weight", "0.bias", "2.weight", "2.bias")]
    for record, known in zip(sink.steps, expected, strict=True):
        norms = norms_of(known["grads"])
        assert record.loss == pytest.approx(known["loss"], rel=1e-6)
        assert record.lr == pytest.approx(known["lr"])
        assert record.grad_norm == pytest.approx(total(norms), rel=1e-5)
        assert record.norms is not None
        np.testing.assert_allclose(record.norms[order], norms, rtol=1e-5)
        if record.detail is None:
            continue
        sampled += 1
        seen = {key: values[order] for key, values in record.detail.parameters.items()}
        present = [g for g in known["grads"] if g is not None]
        reference = {
            "grad_l1": [float(g.abs().sum()) for g in present],
            "grad_mean": [float(g.mean()) for g in present],
            "grad_std": [float(g.std(correction=0)) for g in present],
            "grad_max": [float(g.abs().max()) for g in present],
            "grad_zeros": [float((g == 0).double().mean()) for g in present],
        }
        for key, values in reference.items():
            assert math.isnan(seen[key][0])
            np.testing.assert_allclose(seen[key][1:], values, rtol=1e-4, atol=1e-8, err_msg=key)
        np.testing.assert_allclose(seen["weight_norm"], known["weight_norm"], rtol=1e-5)
        np.testing.assert_allclose(seen["update_norm"], known["update_norm"], rtol=1e-3, atol=1e-7)
    assert sampled >= 4


@pytest.mark.parametrize("how", ["one", "groups", "twice", "inf", "value", "functions", "with error check", "huge"])
def test_gradients_are_recorded_as_before_any_clip(how: str) -> None:
    known: list[list[float]] = []
    clip = torch.nn.utils.clip_grad_norm_

    def train() -> None:
        model, x = mlp(), torch.randn(10, 8) * 5
        parameters = list(model.parameters())
        optimizer = torch.optim.SGD(parameters, 0.001)
        for _ in range(5):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            known.append(norms_of([p.grad for p in parameters]))
            if how == "one":
                clip(parameters, 0.5)
            elif how == "groups":
                clip(parameters[:2], 0.5)
                clip(parameters[2:], 0.25)
            elif how == "twice":
                clip(parameters, 0.5)
                clip(parameters, 0.1)
            elif how == "inf":
                clip(parameters[:3], 0.5, norm_type=math.inf)
            elif how == "value":
                torch.nn.utils.clip_grad_value_(parameters, 0.01)
            elif how == "functions":
                norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
                nn.utils.clip_grads_with_norm_(parameters, 0.5, norm)
            elif how == "with error check":
                clip(parameters, 0.5, error_if_nonfinite=True)
            else:
                clip(parameters, 1e9)
            optimizer.step()

    sink = watch(train)
    for record, norms in zip(sink.steps, known, strict=True):
        assert record.norms is not None
        assert record.clip is not None
        np.testing.assert_allclose(record.norms, norms, rtol=2e-4)
        assert record.grad_norm == pytest.approx(total(norms), rel=2e-4)
        if how not in ("inf", "groups"):
            assert record.clip.norm == pytest.approx(total(norms), rel=1e-4)
        if how == "one":
            assert record.clip.coefficient == pytest.approx(0.5 / total(norms), rel=1e-4)
        if how == "twice":
            assert record.clip.coefficient == pytest.approx(0.1 / total(norms), rel=1e-3)
        if how == "huge":
            assert record.clip.coefficient == 1.0
        if how != "value" and record.detail is not None:
            l1, l2 = record.detail.parameters["grad_l1"], record.norms
            assert all(a >= b * (1 - 1e-3) for a, b in zip(l1, l2, strict=True)), "statistics and norms disagree"


def test_accumulated_gradients_count_once_and_the_loss_is_their_mean() -> None:
    known: list[tuple[float, float]] = []

    def train() -> None:
        model, x = mlp(), torch.randn(12, 8)
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(4):
            losses = []
            for part in x.split(4):
                loss = model(part).square().mean()
                loss.backward()
                losses.append(loss.item())
            known.append((sum(losses) / 3, total(norms_of([p.grad for p in model.parameters()]))))
            optimizer.step()
            optimizer.zero_grad()

    sink = watch(train)
    assert [r.step for r in sink.steps] == [1, 2, 3, 4]
    for record, (loss, norm) in zip(sink.steps, known, strict=True):
        assert record.loss == pytest.approx(loss, rel=1e-5)
        assert record.grad_norm == pytest.approx(norm, rel=1e-5)


SHARES: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "divided by their number": lambda x, y, parts: F.cross_entropy(x, y) / parts,
    "multiplied with a share": lambda x, y, parts: F.cross_entropy(x, y) * (1 / parts),
    "a sum over the targets of all": lambda x, y, parts: F.cross_entropy(x, y, reduction="sum") / 12,
    "with a loss scale on top": lambda x, y, parts: F.cross_entropy(x, y) / parts * 1.0,
}


@pytest.mark.parametrize("how", SHARES)
def test_an_accumulated_loss_is_no_share_of_itself(how: str) -> None:
    known: list[float] = []

    def train() -> None:
        model, x, y = mlp(), torch.randn(12, 8), torch.arange(12) % 3
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(3):
            with torch.no_grad():
                known.append(F.cross_entropy(model(x), y).item())
            for rows in torch.arange(12).split(4):
                SHARES[how](model(x[rows]), y[rows], 3).backward()
            optimizer.step()
            optimizer.zero_grad()

    assert [r.loss for r in watch(train).steps] == pytest.approx(known, rel=1e-5)


def test_the_last_batches_of_an_epoch_may_be_fewer() -> None:
    def train() -> None:
        w = torch.ones(2, requires_grad=True)
        optimizer = torch.optim.SGD([w], 0.0)
        for batches in (2, 2, 1, 2):
            for _ in range(batches):
                (w.sum() / 2).backward()
            optimizer.step()
            optimizer.zero_grad()

    assert [r.loss for r in watch(train).steps] == [2.0] * 4


def test_a_loss_divided_for_its_own_sake_stays_as_it_is() -> None:
    def train() -> None:
        w = torch.ones(2, requires_grad=True)
        optimizer = torch.optim.SGD([w], 0.0)
        for batches in (1, 2):
            for _ in range(batches):
                (w.sum() / 8).backward()
            optimizer.step()
            optimizer.zero_grad()

    assert [r.loss for r in watch(train).steps] == [0.25] * 2


def test_the_rate_is_that_of_the_group_with_the_most_numbers() -> None:
    def train() -> None:
        model = mlp()
        biases = [p for p in model.parameters() if p.dim() < 2]
        weights = [{"params": [p], "lr": 0.01 * p.numel()} for p in model.parameters() if p.dim() == 2]
        optimizer = torch.optim.SGD([{"params": biases, "lr": 0.5}, *weights], lr=0.1, momentum=0.9)
        for _ in range(3):
            model(torch.ones(2, 8)).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] /= 2

    sink = watch(train)
    assert [r.lr for r in sink.steps] == pytest.approx([1.28, 0.64, 0.32])
    assert sink.optimizer_table[0].hyper["lr"] == pytest.approx(1.28)


def test_faint_gradients_beside_clips_in_another_order() -> None:
    """The factors that undo the clips are then known one by one, in float64."""
    faint = torch.full((3,), 1e-25)

    def train() -> None:
        a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
        optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.1)
        for _ in range(3):
            ((a * faint).sum() + b.sum()).backward()
            torch.nn.utils.clip_grad_norm_([b, a], 1.0)
            optimizer.step()
            optimizer.zero_grad()

    for record in watch(train).steps:
        assert record.norms is not None
        assert record.norms.tolist() == pytest.approx([math.sqrt(3) * 1e-25, math.sqrt(3)], rel=1e-4)


def test_losses_of_different_lines_add_up() -> None:
    def train() -> None:
        w = torch.ones(2, requires_grad=True)
        optimizer = torch.optim.SGD([w], 0.0)
        for _ in range(3):
            optimizer.zero_grad()
            w.sum().backward()
            (w.square().sum() * 10).backward()
            optimizer.step()

    assert [r.loss for r in watch(train).steps] == [22.0, 22.0, 22.0]


def test_vanishing_norms_are_not_rounded_to_zero() -> None:
    def train() -> None:
        w = torch.ones(4, requires_grad=True)
        optimizer = torch.optim.SGD([w], 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (w * 1e-25).sum().backward()
            optimizer.step()

    assert watch(train).steps[0].grad_norm == pytest.approx(2e-25, rel=1e-4)


def test_overflowing_norms_are_finite() -> None:
    def train() -> None:
        w = torch.ones(4, requires_grad=True)
        optimizer = torch.optim.SGD([w], 1e-30)
        (w * 1e30).sum().backward()
        optimizer.step()

    assert watch(train).steps[0].grad_norm == pytest.approx(2e30, rel=1e-4)


def test_loss_scaling_is_undone_and_skipped_steps_say_so() -> None:
    known: list[tuple[float, float]] = []

    def train() -> None:
        model, x = mlp(), torch.randn(10, 8)
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=1000)
        for step in range(8):
            optimizer.zero_grad()
            a, b = model(x).square().mean() * 8, model(x).abs().mean() * 0
            scaled, other = scaler.scale(a), scaler.scale(b)
            scaled.backward()
            other.backward()
            if step % 2:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            (grad,) = torch.autograd.grad(model(x).square().mean() * 8, [model[0].weight])
            known.append((a.item(), float(grad.double().norm())))
            scaler.step(optimizer)
            scaler.update()

    sink = watch(train)
    assert [r.step for r in sink.steps] == list(range(1, 9))
    skipped = [r.amp.skipped for r in sink.steps if r.amp is not None]
    assert len(skipped) == 8
    assert skipped[0]
    assert not skipped[-1]
    for record, (loss, norm) in zip(sink.steps, known, strict=True):
        assert record.loss == pytest.approx(loss, rel=1e-5)
        assert record.amp is not None
        if not record.amp.skipped:
            assert record.norms is not None
            assert record.norms[sink.names.index("0.weight")] == pytest.approx(norm, rel=1e-3)


def test_a_clip_before_unscaling_is_flagged() -> None:
    def train() -> None:
        model, x = mlp(), torch.randn(10, 8)
        optimizer, scaler = torch.optim.SGD(model.parameters(), 0.01), torch.amp.GradScaler("cpu")
        for _ in range(4):
            optimizer.zero_grad()
            scaler.scale(model(x).square().mean()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()

    assert any("clip-before-unscale" in r.flags for r in watch(train).steps)


# -- iterations -----------------------------------------------------------------------------------------------------


def test_a_gan_counts_rounds_and_keeps_its_losses_apart() -> None:
    def train() -> None:
        g, d = nn.Linear(2, 2), nn.Linear(2, 1)
        og, od = torch.optim.SGD(g.parameters(), 0.01), torch.optim.SGD(d.parameters(), 0.02)
        for _ in range(6):
            od.zero_grad()
            (d(g(torch.randn(4, 2)).detach()).mean() * 0 + 1).backward()
            od.step()
            og.zero_grad()
            (d(g(torch.randn(4, 2))).mean() * 0 + 2).backward()
            og.step()

    sink = watch(train)
    assert [(r.step, r.stream, r.loss, r.lr) for r in sink.steps] == [
        (step, *rest) for step in range(1, 7) for rest in ((0, 1.0, 0.02), (1, 2.0, 0.01))
    ]
    assert not sink.stale


def test_several_critic_steps_a_round() -> None:
    def train() -> None:
        w, v = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        critic, actor = torch.optim.SGD([w], 0.1), torch.optim.SGD([v], 0.1)
        for _ in range(4):
            for _ in range(3):
                critic.zero_grad()
                w.square().sum().backward()
                critic.step()
            actor.zero_grad()
            v.square().sum().backward()
            actor.step()

    sink = watch(train)
    steps = [r.step for r in sink.steps]
    assert steps == sorted(steps)
    for stream, count in ((0, 12), (1, 4)):
        own = [r.step for r in sink.steps if r.stream == stream]
        assert len(own) == len(set(own)) == count
    assert not sink.stale


def test_two_optimizers_over_one_loss_share_iterations() -> None:
    def train() -> None:
        model, x = mlp(), torch.randn(4, 8)
        pair = [torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.Adam(model[2].parameters())]
        for _ in range(5):
            for optimizer in pair:
                optimizer.zero_grad()
            model(x).square().mean().backward()
            for optimizer in pair:
                optimizer.step()

    sink = watch(train)
    assert [(r.step, r.stream) for r in sink.steps] == [(s, i) for s in range(1, 6) for i in (0, 1)]
    assert all(r.loss is not None for r in sink.steps)
    assert [p.optimizer for p in sink.table] == [0, 0, 1, 1]


def test_an_optimizer_built_before_is_adopted() -> None:
    model, x = mlp(), torch.randn(4, 8)
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=0.5)

    def train() -> None:
        for _ in range(5):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    sink = watch(train)
    assert [(r.step, r.stream) for r in sink.steps] == [(s, 0) for s in range(1, 6)]
    assert [o.type for o in sink.optimizer_table] == ["Adam"]
    assert {p.weight_decay for p in sink.table} == {0.5}


def test_an_optimizer_rebuilt_every_epoch_is_one_stream() -> None:
    def train() -> None:
        model, x = mlp(), torch.randn(4, 8)
        for _ in range(4):
            optimizer = torch.optim.SGD(model.parameters(), 0.01)
            for _ in range(3):
                optimizer.zero_grad()
                model(x).square().mean().backward()
                optimizer.step()
            del optimizer

    sink = watch(train)
    assert {r.stream for r in sink.steps} == {0}
    assert len(sink.steps) == 12


def test_an_optimizer_inside_another_is_not_a_step_of_its_own() -> None:
    class Outer(torch.optim.SGD):
        def __init__(self, inner: Any) -> None:
            super().__init__(inner.param_groups, lr=0.1)
            self.inner = inner

        def step(self, closure: Any = None) -> None:
            self.inner.step()

    def train() -> None:
        model, x = mlp(), torch.randn(4, 8)
        optimizer = Outer(torch.optim.Adam(model.parameters()))
        for _ in range(4):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    sink = watch(train)
    assert [(r.step, r.stream) for r in sink.steps] == [(s, 0) for s in range(1, 5)]


def test_closures_are_one_step_each() -> None:
    def train() -> None:
        w = torch.ones(3, requires_grad=True)
        optimizer = torch.optim.LBFGS([w], lr=0.1, max_iter=5)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = (w - 2).square().sum()
            loss.backward()
            return loss

        for _ in range(4):
            optimizer.step(closure)

    sink = watch(train)
    assert [r.step for r in sink.steps] == [1, 2, 3, 4]
    assert all(r.loss is not None and r.grad_norm is not None for r in sink.steps)


@pytest.mark.parametrize("how", ["data", "no_grad", "grad"])
def test_updates_by_hand_are_steps(how: str) -> None:
    known: list[float] = []

    def train() -> None:
        w = torch.ones(3, requires_grad=True)
        for _ in range(5):
            loss = (w - 2).square().sum()
            before = w.detach().clone()
            if how == "grad":
                (g,) = torch.autograd.grad(loss, [w])
            else:
                loss.backward()
                g = w.grad
            if how == "data":
                w.data -= 0.1 * g
            else:
                with torch.no_grad():
                    w -= 0.1 * g
            w.grad = None
            known.append(float((w.detach() - before).double().norm()))

    sink = watch(train)
    assert [r.step for r in sink.steps] == [1, 2, 3, 4, 5]
    assert sink.names == ["w"]
    for record, moved in zip(sink.steps, known, strict=True):
        if record.detail is not None:
            assert record.detail.parameters["update_norm"][0] == pytest.approx(moved, rel=1e-3)
    assert not sink.stale


# -- gradients that were not cleared ----------------------------------------------------------------------------------


def plainly(zero: bool, *, by: str = "optimizer", chunks: int = 1) -> Callable[[], None]:
    def train() -> None:
        model, x = mlp(), torch.randn(4, 8)
        optimizer = torch.optim.SGD(model.parameters(), 1e-3) if by == "optimizer" else None
        for _ in range(12):
            if zero:
                model.zero_grad(set_to_none=by != "zeros")
            for _ in range(chunks):
                model(x).square().mean().backward()
            if optimizer is not None:
                optimizer.step()
            else:
                for p in model.parameters():
                    p.data -= 1e-3 * p.grad

    return train


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("by", ["optimizer", "hand"])
def test_gradients_that_nobody_clears_are_flagged(by: str, chunks: int) -> None:
    sink = watch(plainly(False, by=by, chunks=chunks))
    assert len(sink.stale) >= 3


@pytest.mark.parametrize(("by", "chunks"), [("optimizer", 1), ("optimizer", 3), ("hand", 1), ("hand", 3), ("zeros", 3)])
def test_gradients_that_are_cleared_are_not(by: str, chunks: int) -> None:
    assert not watch(plainly(True, by=by, chunks=chunks)).stale


def test_truncated_backpropagation_is_not_flagged() -> None:
    def train() -> None:
        rnn, x = nn.RNN(3, 4), torch.randn(24, 2, 3)
        optimizer, state = torch.optim.SGD(rnn.parameters(), 0.01), None
        for part in x.split(4):
            optimizer.zero_grad()
            out, state = rnn(part, state)
            out.square().mean().backward()
            optimizer.step()
            state = state.detach()

    assert not watch(train).stale


def test_a_gan_that_backpropagates_through_its_critic_is_not_flagged() -> None:
    def train() -> None:
        g, d = nn.Linear(2, 2), nn.Linear(2, 1)
        og, od = torch.optim.Adam(g.parameters()), torch.optim.Adam(d.parameters())
        for _ in range(12):
            og.zero_grad()
            d(g(torch.randn(4, 2))).mean().backward()
            og.step()
            od.zero_grad()
            d(g(torch.randn(4, 2)).detach()).square().mean().backward()
            od.step()

    assert not watch(train).stale


# -- names ------------------------------------------------------------------------------------------------------------


def one_step(loss: Callable[[], Tensor], parameters: Any, steps: int = 2) -> None:
    optimizer = torch.optim.SGD(list(parameters), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def test_names_are_those_of_the_model() -> None:
    model, x = mlp(), torch.randn(4, 8)
    sink = watch(lambda: one_step(lambda: model(x).mean(), model.parameters()))
    assert sink.names == [name for name, _ in model.named_parameters()]
    assert [s.name for s in sink.site_table] == ["0", "1", "2"]
    assert [(p.role, p.module_type, p.fan_in) for p in sink.table[:2]] == [
        ("weight", "Linear", 8),
        ("bias", "Linear", 0),
    ]


def test_what_is_called_before_there_is_an_optimizer_belongs_to_no_step() -> None:
    """As where a trainer builds the model anew, and each is tried on zeros to learn its strides."""

    def train() -> None:
        first, model = mlp(), mlp()
        first(torch.zeros(1, 8))
        model(torch.zeros(1, 8))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(4, 8)).mean().backward()
            optimizer.step()

    sink = watch(train)
    assert sink.names == [name for name, _ in mlp().named_parameters()]
    assert [s.name for s in sink.site_table] == ["0", "1", "2"]
    assert sink.steps[0].detail is not None
    assert sink.steps[0].detail.batch["batch_size"] == 4
    assert sink.steps[0].detail.batch["input_mean"] == 1


def test_of_a_batch_that_is_a_dict_the_largest_numbers_are_the_input() -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 1)

        def forward(self, batch: dict[str, Any]) -> Tensor:
            out: Tensor = self.layer(batch["image"])
            return out

    def train() -> None:
        model = Detector()
        batch = {"file": "a.png", "box": torch.ones(7, 4), "image": torch.full((2, 16, 8), 255.0)}
        one_step(lambda: model(batch).mean(), model.parameters())

    detail = watch(train).steps[0].detail
    assert detail is not None
    assert detail.batch["batch_size"] == 2
    assert detail.batch["input_max"] == 255


def test_a_nan_anywhere_in_a_batch_is_the_datas_though_targets_are_made_of_predictions() -> None:
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 1)

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            out: Tensor = self.layer(batch["image"]).mean(1)
            return F.binary_cross_entropy_with_logits(out, out.detach().sigmoid())

    sink = Kept()
    with attached(Monitor(sink, every=1), reraise):
        model = Detector()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model({"box": torch.ones(7, 4), "image": torch.full((2, 16, 8), math.nan)}).backward()
        optimizer.step()
    assert [fact.data["what"] for fact in sink.facts if fact.kind == "bad-batch"] == ["256 values of the input"]


def test_parts_called_directly_are_named_after_the_whole() -> None:
    model, x = nn.ModuleDict({"encoder": nn.Linear(8, 4), "decoder": nn.Linear(4, 8)}), torch.randn(4, 8)

    def train() -> None:
        one_step(lambda: model["decoder"](model["encoder"](x)).mean(), model.parameters())

    assert watch(train).names == ["encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"]


def test_two_models_are_told_apart_by_their_variables() -> None:
    def train() -> None:
        generator, critic, x = mlp(), nn.Sequential(nn.Linear(3, 1)), torch.randn(4, 8)
        one_step(lambda: critic(generator(x)).mean(), [*generator.parameters(), *critic.parameters()])

    sink = watch(train)
    assert len(set(sink.names)) == 6
    assert sink.names[:2] == ["generator.0.weight", "generator.0.bias"]
    assert sink.names[4:] == ["critic.0.weight", "critic.0.bias"]
    assert [p.model for p in sink.table] == ["generator"] * 4 + ["critic"] * 2
    assert [p.module for p in sink.table[::2]] == ["generator.0", "generator.2", "critic.0"]
    assert [s.name for s in sink.site_table] == ["generator.0", "generator.1", "generator.2", "critic.0"]


class Half(nn.Module):
    """One of two models whose names clash, with a functional activation."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x))


class Other(nn.Module):
    """A model with names of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.trunk(x)
        return out


def alternating(one: nn.Module, other: nn.Module, steps: int = 3) -> None:
    """Each model has its own optimizer, and is called in a function in which its name is another."""

    def call(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        net(torch.ones(4, 8)).square().mean().backward()
        optimizer.step()

    first, second = torch.optim.SGD(one.parameters(), 0.01), torch.optim.SGD(other.parameters(), 0.01)
    for _ in range(steps):
        call(one, first)
        call(other, second)


def test_a_model_met_later_tells_the_first_one_apart_too() -> None:
    sink = watch(lambda: alternating(Half(), Half()))
    assert sink.names == ["one.body.weight", "one.body.bias", "other.body.weight", "other.body.bias"]
    assert {"one:relu", "one.body", "other:relu", "other.body"} <= {s.name for s in sink.site_table}
    assert all(s.name.startswith(("one", "other")) for s in sink.site_table)


def test_names_that_tell_are_left_as_they_are() -> None:
    assert watch(lambda: alternating(Half(), Other())).names == [
        "body.weight",
        "body.bias",
        "trunk.weight",
        "trunk.bias",
    ]


def test_a_plain_layer_beside_a_model_is_named_after_its_variable() -> None:
    names = watch(lambda: alternating(Half(), nn.Linear(8, 8))).names
    assert names == ["body.weight", "body.bias", "other.weight", "other.bias"]


def test_a_model_called_in_its_own_method_is_named_after_its_variable() -> None:
    class Speaking(Half):
        def step(self, x: Tensor) -> Tensor:
            out: Tensor = self(x)
            return out

    def train() -> None:
        encoder, decoder = Half(), Speaking()
        both = [*encoder.parameters(), *decoder.parameters()]
        one_step(lambda: decoder.step(encoder(torch.ones(4, 8))).mean(), both)

    assert watch(train).names == [
        "encoder.body.weight",
        "encoder.body.bias",
        "decoder.body.weight",
        "decoder.body.bias",
    ]


def test_a_frozen_copy_does_not_rename_the_model() -> None:
    def train() -> None:
        student, x = Half(), torch.ones(4, 8)
        teacher = copy.deepcopy(student).requires_grad_(False)
        one_step(lambda: (student(x) - teacher(x) + 1).square().mean(), student.parameters())

    assert watch(train).names == ["body.weight", "body.bias", "teacher.body.weight", "teacher.body.bias"]


def test_a_model_around_another_is_not_a_second_one() -> None:
    def train() -> None:
        model = Half()
        one_step(lambda: model(torch.ones(4, 8)).mean(), model.parameters())
        wrapped = nn.Sequential(model)
        one_step(lambda: wrapped(torch.ones(4, 8)).mean(), wrapped.parameters())

    assert watch(train).names == ["body.weight", "body.bias"]


def test_models_that_follow_each_other_under_one_variable_keep_their_names() -> None:
    """As in cross-validation where the models of all folds are kept: there is no variable that tells them apart."""
    kept: list[Any] = []

    def train() -> None:
        for _ in range(2):
            model = Half()
            kept.append(model.forward)
            one_step(lambda model=model: model(torch.ones(4, 8)).mean(), model.parameters())  # type: ignore[misc]

    names = watch(train).names
    assert names[:2] == ["body.weight", "body.bias"]
    assert len(set(names)) == 4


def test_a_list_of_modules() -> None:
    def train() -> None:
        layers, x = [nn.Linear(8, 8) for _ in range(3)], torch.randn(4, 8)

        def loss() -> Tensor:
            h = x
            for layer in layers:
                h = layer(h)
            return h.mean()

        one_step(loss, [p for layer in layers for p in layer.parameters()])

    assert watch(train).names == [f"layers[{i}].{leaf}" for i in range(3) for leaf in ("weight", "bias")]


def test_raw_tensors_are_named_after_variables() -> None:
    def train() -> None:
        w, params, x = (
            torch.randn(8, 4, requires_grad=True),
            {"b": torch.zeros(4, requires_grad=True)},
            torch.ones(2, 8),
        )
        optimizer = torch.optim.SGD([w, *params.values()], 0.1)
        for _ in range(2):
            optimizer.zero_grad()
            (x @ w + params["b"]).square().mean().backward()
            optimizer.step()

    assert watch(train).names == ["w", "params['b']"]


def test_models_of_an_object() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.actor, self.critic, self.x = mlp(), mlp(), torch.randn(4, 8)

        def fit(self) -> None:
            both = [*self.actor.parameters(), *self.critic.parameters()]
            one_step(lambda: (self.actor(self.x) * self.critic(self.x)).mean(), both)  # noqa: PLW0108

    names = watch(lambda: Trainer().fit()).names
    assert names[0] == "actor.0.weight"
    assert names[4] == "critic.0.weight"


def test_locals_of_the_script_are_not_refreshed() -> None:
    seen = {}

    def train() -> None:
        first = 1
        settings = locals()
        model, x = mlp(), torch.randn(4, 8)
        one_step(lambda: model(x).mean(), model.parameters())
        seen["settings"] = sorted(settings)
        assert first

    watch(train)
    assert seen == {"settings": ["first", "seen"]}


def test_functional_activations_are_sites_and_reused_modules_count() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = self.fc(x)
            return F.relu(x).tanh()

    net, x = Net(), torch.randn(5, 8)
    sink = watch(lambda: one_step(lambda: net(x).mean(), net.parameters(), steps=3))
    assert [(s.name, s.kind, s.activation) for s in sink.site_table] == [
        ("fc", "linear", ""), (":relu", "activation", "relu"), (":tanh", "activation", "tanh"), ("", "other", ""),
    ] or [s.name for s in sink.site_table][:3] == ["fc", "relu", "tanh"]  # fmt: skip
    detail = sink.steps[0].detail
    assert detail is not None
    assert detail.sites["calls"][0] == 3


def test_sites_are_measured_rightly() -> None:
    known: dict[str, list[float]] = {}
    model, x = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3)), torch.randn(5, 8)

    def train() -> None:
        h = [x]
        for layer in model:
            h.append(layer(h[-1]).detach())
        outs = [t.double() for t in h[1:]]
        known["out_rms"] = [float(t.square().mean().sqrt()) for t in outs]
        known["out_mean"] = [float(t.mean()) for t in outs]
        known["out_max"] = [float(t.abs().max()) for t in outs]
        known["out_zeros"] = [float((t == 0).double().mean()) for t in outs]
        known["in_rms"] = [float(t.double().square().mean().sqrt()) for t in h[:-1]]
        dead = float((outs[1].amax(0) <= 0).double().mean())
        known["dead_units"] = [math.nan, dead, math.nan]
        one_step(lambda: model(x).square().sum(), model.parameters(), steps=1)
        known["signal"] = [math.nan, math.nan, float((2 * outs[2]).norm())]

    sink = watch(train)
    # The layers were called one by one before: three steps of nothing, then the model.
    detail = sink.steps[0].detail
    assert detail is not None
    index = [next(s.index for s in sink.site_table if s.name == name) for name in ("0", "1", "2")]
    for key, values in known.items():
        got = detail.sites[key][index]
        for mine, theirs in zip(got, values, strict=True):
            assert math.isnan(theirs) or mine == pytest.approx(theirs, rel=1e-4, abs=1e-7), key


# -- cost and memory --------------------------------------------------------------------------------------------------


def test_the_schedule_is_deterministic_and_sparse() -> None:
    def sampled(every: int, steps: int) -> list[int]:
        schedule, found = Schedule(every), []
        for _ in range(steps):
            if schedule.sampled:
                found.append(schedule.iteration)
            before = schedule.next_is_sampled
            schedule.advance()
            assert before or not schedule.sampled
        return found

    assert sampled(10, 5000) == sampled(10, 5000)
    assert sampled(10, 100)[:4] == sorted(EARLY_STEPS)
    assert {10, 20, 30, 50} <= set(sampled(10, 100))
    assert sampled(1, 50) == list(range(1, 51))
    assert len(sampled(10, 20_000)) < 300


def test_structure_is_looked_at_on_the_first_sample_from_each_mark_on() -> None:
    schedule, looks, samples = Schedule(10), [], []
    for _ in range(2000):
        if schedule.sampled:
            samples.append(schedule.iteration)
        if schedule.structural:
            looks.append(schedule.iteration)
            assert schedule.probed
        schedule.advance()
    assert looks == [next(s for s in samples if s >= mark) for mark in (1, 2, 3, 10, 30, 100, 300, 1000)]


def test_sampling_follows_the_schedule() -> None:
    model, x = mlp(), torch.randn(4, 8)
    sink = watch(lambda: one_step(lambda: model(x).square().mean(), model.parameters(), steps=45), every=10)
    assert [r.step for r in sink.steps if r.detail is not None] == [1, 2, 3, 5, 10, 20, 30, 40]


def test_an_unusual_step_and_the_next_ones_are_kept_in_full() -> None:
    torch.manual_seed(0)
    model = mlp()
    inputs = [torch.randn(16, 8) * (5.0 if step == 54 else 1.0) for step in range(1, 74)]
    batches = iter(inputs)
    sink = watch(
        lambda: one_step(lambda: model(next(batches)).square().mean(), model.parameters(), steps=len(inputs)),
        every=10,
    )
    by_step = {r.step: r for r in sink.steps}
    assert by_step[54].detail is not None
    assert by_step[54].detail.batch["input_max"] > 8
    assert [r.step for r in sink.steps if "close-up" in r.flags] == [55, 56, 57]
    assert all(by_step[s].detail.sites and "update_norm" in by_step[s].detail.parameters for s in (55, 56, 57))
    history = History()
    for record in sink.steps:
        history.add(record)
    assert [s for s, _ in history.main.samples.all()] == [1, 2, 3, 5, 10, 20, 30, 40, 50, 62]


def steep(model: nn.Module, at: Callable[[int], bool], steps: int, clip: bool = False, times: float = 1e4) -> list[int]:
    """The steps seen in full because of steps whose gradient, and not whose loss, is so many times the usual."""
    torch.manual_seed(0)
    step = 0

    def loss() -> Tensor:
        nonlocal step
        step += 1
        out = model(torch.randn(16, 8)).square().mean()
        steep = (times - 1) * (out - out.detach()) if at(step) else 0.0
        return out + steep

    optimizer = torch.optim.SGD(model.parameters(), 0.0)

    def train() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    sink = watch(train, every=10)
    close = [r for r in sink.steps if "close-up" in r.flags]
    assert all(r.detail is not None and r.detail.sites for r in close)
    return [r.step for r in close]


@pytest.mark.parametrize("clip", [False, True])
def test_a_steep_gradient_has_the_next_steps_kept_in_full(clip: bool) -> None:
    assert steep(mlp(), lambda step: step == 54, 70, clip) == [55, 56, 57]
    assert steep(mlp(), lambda _: False, 70, clip) == []


def test_a_gradient_of_two_or_three_times_the_usual_is_no_sign() -> None:
    assert steep(mlp(), lambda step: step == 54, 70, times=2.5) == []
    assert steep(mlp(), lambda step: step == 54, 70, times=12.0) == [55, 56, 57]


def test_a_run_of_many_steep_gradients_is_not_looked_at_closely_all_the_time() -> None:
    close = steep(mlp(), lambda step: step > 50 and step % 5 == 0, 900)
    assert 3 * SIGNS <= len(close) <= 3 * (SIGNS + 900 // STEPS_PER_SIGN)


def test_models_built_a_thousand_times_stay_in_bounded_tables() -> None:
    sink = Kept()
    registry = Registry(sink.parameters, sink.sites)
    for _ in range(2500):
        model = mlp()
        registry.add_root(model, None)
        registry.site(model[1])
        assert all(registry.index_of(p) is not None for p in model.parameters())
    assert len(registry.parameters) <= FULL + 4
    assert len(registry._row) <= 3 * FULL + 8
    assert len(registry._module_name) <= FULL + 8


def test_activations_made_in_passing_do_not_fill_the_site_table() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return nn.Tanh()(nn.ReLU()(self.fc(x)))

    net, x = Net(), torch.randn(4, 8)
    sink = watch(lambda: one_step(lambda: nn.Softmax(1)(net(x)).square().mean(), net.parameters(), steps=40))
    assert len(sink.site_table) <= 6


def test_tensors_replaced_at_every_step_keep_their_row() -> None:
    def train() -> None:
        w, x = torch.randn(8, 2, requires_grad=True), torch.randn(4, 8)
        for _ in range(30):
            (g,) = torch.autograd.grad((x @ w).square().mean(), [w])
            w = (w - 0.01 * g).detach().requires_grad_()

    sink = watch(train)
    assert sink.names == ["w"]
    assert len(sink.steps) == 30


def test_nothing_of_the_script_is_kept_alive() -> None:
    import gc
    import weakref

    kept: list[weakref.ref[Any]] = []

    def train() -> None:
        model, x = mlp(), torch.randn(4, 8)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(12):
            optimizer.zero_grad()
            out = model(x)
            kept.append(weakref.ref(out))
            F.mse_loss(out, torch.zeros(4, 3)).backward()
            optimizer.step()
        kept.extend([weakref.ref(model), weakref.ref(optimizer), weakref.ref(model[0].weight)])

    sink = Kept()
    monitor = Monitor(sink, every=1)
    with attached(monitor, reraise):
        train()
        gc.collect()
        assert [ref() for ref in kept] == [None] * len(kept)


def test_facts_name_the_lines(tmp_path: Path) -> None:
    model, x = mlp(), torch.randn(4, 8)
    sink = watch(lambda: one_step(lambda: F.mse_loss(model(x), torch.zeros(4, 3)), model.parameters()))
    sources = {f.data["what"]: f.data["source"] for f in sink.facts if f.kind == "source"}
    assert sources.keys() == {"optimizer", "backward"}
    assert all(source.startswith("test_monitor.py:") for source in sources.values())
    calls = [f for f in sink.facts if f.kind == "loss-call"]
    assert calls[0].data["name"] == "mse_loss"
    assert len(calls) == 2, "one for each structural step"


def test_the_record_is_not_the_tensors_own_memory() -> None:
    model, x = mlp(), torch.randn(4, 8)
    sink = watch(lambda: one_step(lambda: model(x).square().mean(), model.parameters(), steps=3))
    before = copy.deepcopy(sink.steps[0].norms)
    with torch.no_grad():
        for p in model.parameters():
            p.grad.fill_(7.0)  # type: ignore[union-attr]
    np.testing.assert_array_equal(sink.steps[0].norms, before)


def test_a_closure_that_raises_ends_its_step() -> None:
    model, x = mlp(), torch.randn(16, 8)

    def failing() -> Tensor:
        raise ArithmeticError

    def train() -> None:
        first = torch.optim.LBFGS(model.parameters())
        with contextlib.suppress(ArithmeticError):
            first.step(failing)
        one_step(lambda: model(x).square().mean(), model.parameters(), steps=20)

    assert len(watch(train).steps) == 20


def test_gradients_beyond_float32_warn_of_nothing() -> None:
    parameters = [torch.ones(1, requires_grad=True) for _ in range(4)]

    def loss() -> Tensor:
        return torch.stack([3e37 * (p / p.detach()) for p in parameters]).sum() * 1e1

    sink = watch(lambda: one_step(loss, parameters, steps=3))
    assert len(sink.steps) == 3
    assert sink.steps[0].norms is not None and sink.steps[0].norms.tolist() == pytest.approx([3e38] * 4)
