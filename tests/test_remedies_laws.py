"""Interventions: each applies to every way of training or says why not, does what it says, and leaves no trace."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
import torch.optim.optimizer as optimizers
from test_inert import run, seed
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks

from steadygrad.errors import InputError
from steadygrad.interventions import APPLY
from steadygrad.records import RemedySpec
from steadygrad.remedies import CODES, install, parse_spec
from steadygrad.session import Session

VARIANTS = (
    "attach-parameters:reconnect", "swap-activation:elu", "guard-operation:float64", "reinit-kaiming:bias",
    "add-normalization:batch", "loosen-clip:off", "lower-lr:0.001", "reduce-weight-decay:0",
)  # fmt: skip
#: One of each architecture and loop: what the others add is tried where a remedy is about it.
ARCHITECTURES = (
    "cnn_batchnorm_dropout", "hand_written_attention", "gan_with_two_optimizers", "manual_update_of_raw_tensors",
    "lbfgs_closure", "checkpoint",
)  # fmt: skip
HOLDERS = (
    torch, Tensor, F, nn, nn.Module, nn.utils, nn.utils.clip_grad, torch.linalg, torch.autograd, optimizers.Optimizer,
    torch.amp.GradScaler, torch.amp.autocast_mode.autocast, torch.no_grad,
)  # fmt: skip
every_remedy = pytest.mark.parametrize("spec", [*CODES, *VARIANTS])


def treated(specs: list[str], train: Callable[[], Any]) -> tuple[Any, list[str]]:
    notes: list[tuple[RemedySpec, str]] = []
    undo = install([parse_spec(s) for s in specs], notes=notes)
    try:
        with warnings.catch_warnings():
            result = train()
    finally:
        undo()
    return result, [text for _, text in notes]


def surroundings() -> list[Any]:
    """Everything that interventions may replace."""
    kept = [sorted((name, id(value)) for name, value in vars(holder).items()) for holder in HOLDERS]
    hooks = (optimizers._global_optimizer_pre_hooks, optimizers._global_optimizer_post_hooks, _global_forward_hooks)
    return [kept, [len(h) for h in hooks]]


@cache
def warm() -> None:
    """What torch imports on first use is no trace of ours."""
    for name in ARCHITECTURES:
        run(name)


# -- laws for all -------------------------------------------------------------------------------------------------


@every_remedy
def test_applies_to_every_architecture_or_says_why_not_and_leaves_no_trace(spec: str) -> None:
    warm()
    before = surroundings()
    for name in ARCHITECTURES:
        _, notes = treated([spec], lambda: run(name))  # noqa: B023
        assert len(notes) == 1, name
        assert notes[0].startswith(("applied: ", "refused: ")), name
        assert surroundings() == before, name


def test_afterwards_scripts_run_as_before() -> None:
    plain = run("functional_net")
    for spec in (*CODES, *VARIANTS):
        undo = install([parse_spec(spec)])
        undo()
    assert run("functional_net") == plain


def test_a_remedy_that_finds_nothing_to_do_changes_nothing() -> None:
    idle = ["skip-bad-step", "full-precision", "loss-on-logits", "mean-reduction", "match-shapes",
            "constant-lr", "line-search", "reduce-weight-decay", "replace-batchnorm",
            "attach-parameters"]  # fmt: skip
    plain = run("sequential_inplace_relu")
    for spec in idle:
        result, _ = treated([spec], lambda: run("sequential_inplace_relu"))
        assert result == plain, spec


def test_the_scripts_random_numbers_stay_its_own() -> None:
    for spec in ("reinit-kaiming", "reinit-lsuv", "add-residual", "standardize-input", "adaptive-optimizer"):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        model, x = nn.Linear(4, 1), torch.ones(8, 4)
        after_building = torch.get_rng_state()
        treated([spec], lambda: trained(model, x))  # noqa: B023
        assert torch.equal(torch.get_rng_state(), after_building), spec
        assert not torch.equal(before, after_building)


def test_applies_again_and_together() -> None:
    plain = run("sequential_inplace_relu")
    specs = ["clip-norm:0.5", "lower-lr:/3", "warmup:10", "reinit-xavier", "swap-activation:elu", "zero-grad"]
    first, notes = treated(specs, lambda: run("sequential_inplace_relu"))
    again, _ = treated(specs, lambda: run("sequential_inplace_relu"))
    assert first == again
    assert first != plain
    assert [n.split(":")[0] for n in notes] == ["applied"] * 6


@pytest.mark.parametrize(
    "spec", ["clip-norm:much", "clip-norm:-1", "swap-activation:rule", "lower-lr:/0", "add-normalization:group"]
)
def test_a_value_that_cannot_be_is_explained(spec: str) -> None:
    before = surroundings()
    with pytest.raises(InputError, match=spec.partition(":")[2].strip("/")):
        install([parse_spec("clip-value:1"), parse_spec(spec)])
    assert surroundings() == before


def test_every_remedy_has_a_reason_for_its_silence() -> None:
    assert all(reason for _, reason in APPLY.values())


# -- each does what it says ---------------------------------------------------------------------------------------


def trained(
    model: nn.Module, x: Tensor, y: Tensor | None = None, *, steps: int = 5, optimizer: Any = None, lr: float = 0.1
) -> list[float]:
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), torch.zeros_like(model(x)) if y is None else y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def problem() -> tuple[nn.Sequential, Tensor, Tensor]:
    seed()
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    return model, torch.randn(16, 4), torch.randn(16, 1)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def outcome(specs: list[str], *, lr: float = 0.1, wrap: Callable[[Any], Any] = lambda o: o, **options: Any) -> Tensor:
    model, x, y = problem()

    def train() -> None:
        trained(model, x, y, optimizer=wrap(torch.optim.SGD(model.parameters(), lr=lr, **options)))

    treated(specs, train)
    return weights(model)


def test_a_lower_rate_is_that_rate() -> None:
    assert torch.equal(outcome(["lower-lr:0.025"]), outcome([], lr=0.025))
    assert torch.equal(outcome(["lower-lr:/4"]), outcome([], lr=0.025))
    assert torch.equal(outcome(["raise-lr:x2"]), outcome([], lr=0.2))


def test_the_scripts_schedule_sees_its_own_rate() -> None:
    model, x, y = problem()
    seen: list[float] = []

    def train() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for _ in range(3):
            trained(model, x, y, steps=1, optimizer=optimizer)
            schedule.step()
            seen.append(optimizer.param_groups[0]["lr"])

    treated(["lower-lr:/10"], train)
    assert seen == [0.05, 0.025, 0.0125]


@pytest.mark.parametrize("spec", ["lower-lr:0.05", "lower-lr:/4"])
def test_a_rate_is_that_at_the_peak_of_a_schedule_with_its_own(spec: str) -> None:
    seen: list[float] = []

    def train(peak: float) -> None:
        model, x, y = problem()
        optimizer = torch.optim.SGD(model.parameters(), lr=9.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=peak, total_steps=8)
        for _ in range(8):
            trained(model, x, y, steps=1, optimizer=optimizer)
            schedule.step()
        seen.extend(weights(model).tolist())

    treated([spec], lambda: train(0.2))
    train(0.05)
    assert seen[: len(seen) // 2] == pytest.approx(seen[len(seen) // 2 :], rel=1e-5)


def test_an_update_by_hand_is_slowed_by_its_gradient() -> None:
    def train() -> Tensor:
        w = torch.ones(3, requires_grad=True)
        for _ in range(4):
            (w - 2).square().sum().backward()
            with torch.no_grad():
                w -= 0.1 * w.grad
                w.grad.zero_()
        return w.detach()

    slow, notes = treated(["lower-lr:/4"], train)
    assert slow.tolist() == pytest.approx([2 - (1 - 0.05) ** 4] * 3)
    assert "by itself" in notes[0] or "itself" in notes[0]


def test_warmup_ramps() -> None:
    assert torch.equal(outcome(["warmup:1"]), outcome([]))
    model, x, y = problem()
    other, _, _ = problem()
    treated(["warmup:4"], lambda: trained(model, x, y, steps=2))
    optimizer = torch.optim.SGD(other.parameters(), lr=0.025)
    trained(other, x, y, steps=1, optimizer=optimizer)
    optimizer.param_groups[0]["lr"] = 0.05
    trained(other, x, y, steps=1, optimizer=optimizer)
    assert torch.equal(weights(model), weights(other))


def test_a_schedule_is_left_out() -> None:
    model, x, y = problem()

    def train() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1)
        for _ in range(5):
            trained(model, x, y, steps=1, optimizer=optimizer)
            schedule.step()

    treated(["constant-lr"], train)
    assert torch.equal(weights(model), outcome([]))


def test_adam_is_torchs_adam() -> None:
    model, x, y = problem()
    trained(model, x, y, optimizer=torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.1))
    torch.testing.assert_close(outcome(["adaptive-optimizer:0.01"], weight_decay=0.1), weights(model))


def test_a_line_search_is_torchs() -> None:
    def fitted(search: str | None) -> Tensor:
        model, x, y = problem()
        optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=4, line_search_fn=search)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            return loss

        for _ in range(4):
            optimizer.step(closure)
        assert optimizer.param_groups[0]["line_search_fn"] == search
        return weights(model)

    treated_weights, notes = treated(["line-search"], lambda: fitted(None))
    assert torch.equal(treated_weights, fitted("strong_wolfe"))
    assert not torch.equal(treated_weights, fitted(None))
    assert notes == ["applied: LBFGS searches along its direction for the length of its step"]


def test_clips_are_torchs_clips() -> None:
    for spec, clip in (("clip-norm:0.1", nn.utils.clip_grad_norm_), ("clip-value:0.01", nn.utils.clip_grad_value_)):
        limit = float(spec.partition(":")[2])
        model, x, y = problem()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.register_step_pre_hook(lambda o, a, k, clip=clip, m=model, c=limit: clip(m.parameters(), c) and None)
        trained(model, x, y, optimizer=optimizer)
        torch.testing.assert_close(outcome([spec]), weights(model))


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_clip_is_loosened(by_hand: bool) -> None:
    def clip(parameters: list[Tensor]) -> None:
        if not by_hand:
            nn.utils.clip_grad_norm_(parameters, max_norm=1e-3)
            return
        norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
        for p in parameters:
            assert p.grad is not None
            p.grad.mul_(1e-3 / norm)

    def train(model: nn.Module, x: Tensor, y: Tensor, *, clipped: bool) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            if clipped:
                clip(list(model.parameters()))
            optimizer.step()

    plain, x, y = problem()
    train(plain, x, y, clipped=False)
    model, _, _ = problem()
    _, notes = treated(["loosen-clip:off"], lambda: train(model, x, y, clipped=True))
    assert notes[0].startswith("applied")
    torch.testing.assert_close(weights(model), weights(plain))


@pytest.mark.parametrize("poison", [math.nan, 1e4])
def test_a_bad_batch_is_left_out(poison: float) -> None:
    seed()
    batches = [torch.randn(8, 4) for _ in range(20)]
    bad = [*batches[:15], batches[15] * poison, *batches[15:]]

    def train(stream: list[Tensor]) -> Tensor:
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for x in stream:
            trained(model, x, steps=1, optimizer=optimizer)
        return weights(model)

    result, notes = treated(["skip-bad-step"], lambda: train(bad))
    assert "left out" in notes[0]
    assert torch.equal(result, train(batches))


@pytest.mark.parametrize("clip", [nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_])
def test_a_clip_does_not_hide_a_bad_batch(clip: Callable[[Any, float], Any]) -> None:
    def train(poison: float) -> Tensor:
        model, x, y = problem()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(20):
            optimizer.zero_grad()
            F.mse_loss(model(x * (poison if step == 15 else 1.0)), y).backward()
            getattr(nn.utils, clip.__name__)(model.parameters(), 0.01)  # as scripts find it
            optimizer.step()
        return weights(model)

    result, notes = treated(["skip-bad-step"], lambda: train(1e3))
    assert "left out" in notes[0]
    assert not torch.equal(result, train(1e3))
    _, idle = treated(["skip-bad-step"], lambda: train(1.0))
    assert idle == ["refused: no step was bad"]


def test_gradients_are_cleared() -> None:
    def train(*, clear: bool) -> Tensor:
        model, x, y = problem()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            if clear:
                optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()
        return weights(model)

    assert torch.equal(treated(["zero-grad"], lambda: train(clear=False))[0], train(clear=True))


def test_forgotten_parameters_are_trained() -> None:
    def train(*, forgotten: bool) -> Tensor:
        model, x, y = problem()
        held = list(model[0].parameters()) if forgotten else list(model.parameters())
        trained(model, x, y, optimizer=torch.optim.Adam(held, lr=0.01))
        return weights(model)

    torch.testing.assert_close(treated(["attach-parameters"], lambda: train(forgotten=True))[0], train(forgotten=False))


@pytest.mark.parametrize("cut", ["detach()", "data", "no_grad()", "@no_grad"])
def test_a_cut_graph_is_mended(cut: str) -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            if cut == "detach()":
                return self.b(self.a(x).detach())
            if cut == "data":
                return self.b(self.a(x).data)
            if cut == "@no_grad":
                return self.b(self.hidden(x))
            with torch.no_grad():
                hidden = self.a(x)
            return self.b(hidden)

        @torch.no_grad()
        def hidden(self, x: Tensor) -> Tensor:
            return cast("Tensor", self.a(x))

    def train() -> float:
        seed()
        model = Cut()
        before = model.a.weight.detach().clone()
        trained(model, torch.randn(16, 4))
        with torch.no_grad():
            return float((model.a.weight - before).norm())

    assert train() == 0.0
    moved, notes = treated(["attach-parameters:reconnect"], train)
    assert moved > 0
    assert cut.strip("@()") in notes[0]


def test_data_is_given_and_set_as_ever_where_no_graph_is_cut() -> None:
    def train() -> list[Tensor]:
        weight = torch.ones(3, requires_grad=True)
        weight.data = torch.arange(3.0)
        weight.data.mul_(2.0)
        with torch.no_grad():
            product = (weight * 2).data
        return [weight.detach().clone(), product]

    plain = train()
    treated_too, _ = treated(["attach-parameters:reconnect"], train)
    assert all(torch.equal(a, b) for a, b in zip(plain, treated_too, strict=True))


def test_weight_decay_is_reduced() -> None:
    assert torch.equal(outcome(["reduce-weight-decay:0.001"], weight_decay=0.1), outcome([], weight_decay=0.001))
    assert torch.equal(outcome(["reduce-weight-decay:0"], weight_decay=0.1), outcome([]))


@pytest.mark.parametrize("penalty", [lambda w: w.pow(2).sum(), lambda w: (w**2).sum(), lambda w: torch.norm(w, p=2)])
def test_a_penalty_written_into_the_loss_is_reduced(penalty: Callable[[Tensor], Tensor]) -> None:
    def train(size: float) -> Tensor:
        model, x, y = problem()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            (F.mse_loss(model(x), y) + size * penalty(model[0].weight)).backward()
            optimizer.step()
        return weights(model)

    reduced, _ = treated(["reduce-weight-decay:/100"], lambda: train(1.0))
    torch.testing.assert_close(reduced, train(0.01))


def test_a_penalty_on_all_parameters_is_reduced_as_a_whole_and_a_vector_by_itself_is_none() -> None:
    def train(size: float) -> Tensor:
        model, x, y = problem()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        shift = nn.Parameter(torch.ones(1))
        for _ in range(5):
            optimizer.zero_grad()
            ridge = sum((p**2).sum() for p in model.parameters())
            (F.mse_loss(model(x), y) + size * ridge + shift.square().sum() * model[0].weight.mean()).backward()
            optimizer.step()
        return weights(model)

    reduced, _ = treated(["reduce-weight-decay:/100"], lambda: train(1.0))
    torch.testing.assert_close(reduced, train(0.01))


def test_penalties_are_those_of_the_loss() -> None:
    for spec, penalty in (
        ("l2-regularization:0.1", lambda w: 0.05 * w.square().sum()),
        ("l1-regularization:0.1", lambda w: 0.1 * w.abs().sum()),
    ):
        model, x, y = problem()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            (F.mse_loss(model(x), y) + sum(penalty(p) for p in model.parameters() if p.dim() > 1)).backward()
            optimizer.step()
        torch.testing.assert_close(outcome([spec]), weights(model))


# -- what the model computes --------------------------------------------------------------------------------------


def output_of(spec: str, model: nn.Module, x: Tensor, *, rehearsals: int = 1) -> tuple[Tensor, list[str]]:
    """The output of a model's second training forward (the first one may be a rehearsal)."""

    def forward() -> Tensor:
        for _ in range(rehearsals):
            model(x).sum().backward()
        return model(x).detach()

    return treated([spec], forward)


def deep(activation: Callable[[], nn.Module], width: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [m for _ in range(3) for m in (nn.Linear(width, width), activation())]
    return nn.Sequential(*layers, nn.Linear(width, 2))


@pytest.mark.parametrize("old", [nn.Sigmoid, nn.Tanh, nn.ReLU])
def test_activations_are_exchanged_in_modules(old: Callable[[], nn.Module]) -> None:
    x = torch.randn(5, 8)
    got, _ = output_of("swap-activation:elu", deep(old), x)
    assert torch.equal(got, deep(nn.ELU)(x))


def test_activations_are_exchanged_in_functions_but_not_at_the_output() -> None:
    class Net(nn.Module):
        def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c, self.act = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2), act

        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(self.c(self.act(self.b(self.act(self.a(x))))))

    x = torch.randn(5, 8)
    for old in (lambda t: t.sigmoid(), lambda t: t.clone().sigmoid_()):
        got, _ = output_of("swap-activation:relu", Net(old), x)
        assert torch.equal(got, Net(torch.relu)(x))


def test_an_output_activation_goes_where_it_is_named() -> None:
    x = torch.randn(5, 8)
    model = nn.Sequential(deep(nn.ReLU), nn.ReLU())
    got, _ = output_of("swap-activation:identity@1", model, x)
    assert torch.equal(got, model[0](x))


def test_normalisation_follows_hidden_layers() -> None:
    x = 100 * torch.randn(5, 8)
    model = deep(nn.ReLU)
    got, _ = output_of("add-normalization:layer", model, x)
    h = x
    for layer in model[:-1]:
        h = layer(h)
        h = F.layer_norm(h, (8,)) if isinstance(layer, nn.Linear) else h
    torch.testing.assert_close(got, model[-1](h))


def test_shortcuts_carry_the_input() -> None:
    x, model = torch.randn(5, 8), deep(nn.Tanh)
    got, _ = output_of("add-residual:0.3", model, x)
    h = x
    for i in range(0, 6, 2):
        h = h + 0.3 * torch.tanh(model[i](h))
    torch.testing.assert_close(got, model[-1](h))


class Padded(nn.Module):
    """Causal convolutions: what goes into a layer is longer than what comes out."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.inlet = nn.Conv1d(1, 4, 1)
        self.layers = nn.ModuleList(nn.Conv1d(4, 4, 3) for _ in range(depth))
        self.outlet = nn.Conv1d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inlet(x)
        for layer in self.layers:
            x = torch.tanh(layer(F.pad(x, (2, 0))))
        return cast("Tensor", self.outlet(x))


@pytest.mark.parametrize("depth", [5, 12])  # on one line, as a recurrence would be
def test_a_stack_is_known_by_its_activations_where_no_input_fits(depth: int) -> None:
    torch.manual_seed(0)
    model, x = Padded(depth), torch.randn(2, 1, 12)
    got, notes = output_of("add-residual:0.3", model, x)
    assert notes == ["applied: each activation of a stack of one shape is added to the next"]
    h = torch.tanh(model.layers[0](F.pad(model.inlet(x), (2, 0))))
    for layer in model.layers[1:]:
        h = h + 0.3 * torch.tanh(layer(F.pad(h, (2, 0))))
    torch.testing.assert_close(got, model.outlet(h))


def test_branches_beside_each_other_are_no_stack() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(nn.Linear(4, 8) for _ in range(5))

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([torch.tanh(part(x)) for part in self.parts]).sum(0) * 2

    x = torch.randn(3, 4)
    _, notes = treated(["add-residual"], lambda: trained(Branches(), x, torch.zeros(3, 8)))
    assert notes[0].startswith("refused")


class Scaled(nn.Module):
    """Puts out a mean and a scale, which a ReLU lets reach zero."""

    def __init__(self, scale: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.mean, self.scale = nn.Linear(4, 8), nn.Linear(8, 1), nn.Linear(8, 1)
        self.positive = scale

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(self.body(x))
        return self.mean(h), self.positive(self.scale(h))


def test_a_scale_that_is_put_out_is_kept_from_zero() -> None:
    def train(positive: Callable[[Tensor], Tensor]) -> Tensor:
        seed()
        model, x = Scaled(positive), torch.randn(16, 4)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(4):
            mean, scale = model(x)
            optimizer.zero_grad()
            (scale + mean.square()).mean().backward()
            optimizer.step()
        return weights(model)

    swapped, notes = treated(["swap-activation:softplus"], lambda: train(lambda x: torch.relu(x + 0)))
    assert notes == ["applied: relu is replaced by softplus"]
    assert not torch.equal(swapped, train(lambda x: torch.relu(x + 0)))
    model, x, y = problem()
    _, notes = treated(["swap-activation:softplus"], lambda: trained(model, x, y))
    assert notes[0].startswith("refused")


@pytest.mark.parametrize("spec", ["swap-activation:elu", "add-normalization:layer", "add-residual:0.3", "reinit-lsuv"])
def test_what_is_learned_from_the_first_forward_costs_no_update(spec: str) -> None:
    """The gradients of a first forward that is still broken must not reach the weights."""
    model, x = deep(nn.ReLU if "swap" in spec else nn.Tanh), torch.randn(4, 8)
    before = [p.detach().clone() for p in model.parameters()]

    def train() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        (model(x).sum() * math.nan).backward()
        optimizer.step()

    treated([spec], train)
    if spec != "reinit-lsuv":
        assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert all(bool(new.isfinite().all()) for new in model.parameters())


def test_a_recurrence_carries_its_state_on() -> None:
    torch.manual_seed(0)
    rnn, x = nn.RNN(3, 4, batch_first=True), torch.randn(2, 9, 3)

    def forward() -> Tensor:
        for _ in range(2):
            out, last = rnn(x)
            out.sum().backward()
        assert torch.equal(out[:, -1], last[0])
        return out.detach()

    got, notes = treated(["add-residual:0.1"], forward)
    state = torch.zeros(2, 4)
    for t in range(9):
        drive = x[:, t] @ rnn.weight_ih_l0.T + rnn.bias_ih_l0 + state @ rnn.weight_hh_l0.T + rnn.bias_hh_l0
        state = state + 0.1 * torch.tanh(drive)
    assert notes == ["applied: the state of a recurrence of 9 steps is carried on"]
    torch.testing.assert_close(got[:, -1], state)


def test_a_recurrence_by_hand_carries_its_state_on() -> None:
    class Hand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.w = nn.Parameter(torch.randn(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.zeros(2, 4)
            for frame in x:
                h = torch.tanh(frame + h @ self.w)
            return 2 * h

    model, x = Hand(), torch.randn(10, 2, 4)
    got, _ = output_of("add-residual:0.1", model, x)
    state = torch.zeros(2, 4)
    for frame in x:
        state = state + 0.1 * torch.tanh(frame + state @ model.w)
    torch.testing.assert_close(got, 2 * state)


def test_weights_are_drawn_at_the_named_scale() -> None:
    for spec, expected in (("reinit-kaiming", 2 / 256), ("reinit-xavier", 2 / 512)):
        model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))
        nn.init.constant_(model[0].bias, 7.0)
        treated([spec], lambda: trained(model, torch.randn(4, 256), lr=1e-12))  # noqa: B023
        assert model[0].weight.var().item() == pytest.approx(expected, rel=0.05)
        assert model[0].bias.abs().max().item() < 1e-6
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    treated(["reinit-orthogonal"], lambda: trained(model, torch.randn(4, 32), lr=1e-12))
    torch.testing.assert_close(model[0].weight @ model[0].weight.T, torch.eye(32), atol=1e-4, rtol=0)


def test_other_seeds_of_the_script_give_other_draws() -> None:
    def drawn(shift: int) -> Tensor:
        torch.manual_seed(shift)
        model = nn.Linear(8, 8)
        treated(["reinit-xavier"], lambda: trained(model, torch.randn(4, 8), lr=1e-12))
        return weights(model)

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.allclose(drawn(0), drawn(1), atol=0.01)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 8, batch_first=True)
        self.out = nn.Linear(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.out(self.rnn(x)[0]))


def test_biases_that_were_drawn_as_large_as_signals_go_and_those_that_were_meant_stay() -> None:
    def redrawn(model: Tagger) -> tuple[float, float]:
        treated(["reinit-xavier"], lambda: trained(model, torch.randn(2, 5, 4), lr=1e-12))
        return model.rnn.bias_hh_l0.abs().max().item(), model.out.bias.abs().max().item()

    torch.manual_seed(0)
    wild, meant = Tagger(), Tagger()
    for parameter in wild.parameters():
        nn.init.uniform_(parameter, -2.0, 2.0)
    with torch.no_grad():
        meant.rnn.bias_hh_l0[8:16] = 3.0  # the forget gate begins open
        meant.out.bias.copy_(torch.log_softmax(torch.arange(16.0), 0))  # what is known of the classes
    assert redrawn(wild) == pytest.approx((0.0, 0.0), abs=1e-6)
    kept = redrawn(meant)
    assert kept == pytest.approx((3.0, 15.5), abs=0.1)


def test_lsuv_gives_every_layer_unit_variance() -> None:
    model, x = deep(nn.Tanh, 64), 50 * torch.randn(256, 64)
    treated(["reinit-lsuv"], lambda: trained(model, x, lr=1e-12, steps=1))
    h = x
    for layer in model:
        h = layer(h)
        if isinstance(layer, nn.Linear):
            assert h.std().item() == pytest.approx(1.0, abs=0.05)


def test_one_place_is_drawn_anew() -> None:
    model = deep(nn.Tanh)
    before = [layer.weight.detach().clone() for layer in model[::2]]
    treated(["reinit-kaiming@2"], lambda: trained(model, torch.randn(4, 8), lr=1e-12))
    same = [torch.allclose(old, layer.weight) for old, layer in zip(before, model[::2], strict=True)]
    assert same == [True, False, True, True]


def test_inputs_are_standardised_by_feature() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 4) * torch.tensor([1e3, 1.0, 1e-2, 5.0]) + torch.tensor([5e3, 0.0, 1.0, -5.0])
    seen: list[Tensor] = []
    model = nn.Linear(4, 1)
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    treated(["standardize-input"], lambda: trained(model, x))
    torch.testing.assert_close(seen[0].mean(0), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen[0].std(0, correction=0), torch.ones(4), atol=1e-3, rtol=0)


def test_a_sequence_is_standardised_by_itself() -> None:
    torch.manual_seed(0)
    x = 1200 + torch.randn(6, 20, 2).cumsum(1) * 3
    seen: list[Tensor] = []
    model = Tagger()
    model.rnn = nn.LSTM(2, 8, batch_first=True)
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    _, notes = treated(["standardize-input:sample"], lambda: trained(model, x))
    assert notes == ["applied: each sequence is standardised by itself"]
    torch.testing.assert_close(seen[0].mean(1), torch.zeros(6, 2), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen[0].std(1, correction=0), torch.ones(6, 2), atol=1e-2, rtol=0)


def fitted_by_hand(x: Tensor, y: Tensor, lr: float) -> float:
    """``w * x + b`` without any module; the loss at the end."""
    w, b = (torch.zeros((), requires_grad=True) for _ in range(2))
    loss = torch.zeros(())
    for _ in range(100):
        loss = (w * x + b - y).square().mean()
        loss.backward()
        with torch.no_grad():
            for p in (w, b):
                assert p.grad is not None
                p.sub_(lr * p.grad)
                p.grad.zero_()
    return loss.item()


def test_a_variable_that_meets_a_single_weight_is_standardised() -> None:
    seed()
    x = torch.rand(200) * 200 + 40
    y = 3.2 * x + 50
    found, notes = treated(["standardize-input"], lambda: fitted_by_hand(x, y, 0.1))
    assert notes == ["applied: the data that meets the weights is standardised"]
    assert found == pytest.approx(fitted_by_hand((x - x.mean()) / x.std(correction=0), y, 0.1), rel=1e-3, abs=1e-3)
    assert not fitted_by_hand(x, y, 0.1) < 1e6
    usual = x / 100
    again, notes = treated(["standardize-input"], lambda: fitted_by_hand(usual, y, 0.1))
    assert notes[0].startswith("refused")
    assert again == fitted_by_hand(usual, y, 0.1)


def test_usual_inputs_stay() -> None:
    model, x, y = problem()
    other, _, _ = problem()
    _, notes = treated(["standardize-input"], lambda: trained(model, x, y))
    trained(other, x, y)
    assert notes[0].startswith("refused")
    assert torch.equal(weights(model), weights(other))


def test_batchnorm_is_built_as_groupnorm() -> None:
    built, notes = treated(["replace-batchnorm"], lambda: nn.BatchNorm2d(24, momentum=0.2))
    assert isinstance(built, nn.GroupNorm)
    assert (built.num_groups, built.num_channels) == (3, 24)
    assert notes == ["applied: BatchNorm2d is built as GroupNorm"]
    x = torch.randn(2, 24, 4, 4)
    assert torch.equal(treated(["replace-batchnorm:none"], lambda: nn.BatchNorm2d(24)(x))[0], x)
    rows = torch.randn(3, 24)
    whole, notes = treated(["replace-batchnorm:layer"], lambda: nn.BatchNorm1d(24)(rows))
    assert torch.allclose(whole, nn.functional.layer_norm(rows, (24,)), atol=1e-6)
    assert notes == ["applied: BatchNorm1d is built as GroupNorm of one group"]


# -- losses and numbers -------------------------------------------------------------------------------------------


def test_losses_are_given_what_they_want() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(6, 3, requires_grad=True), torch.randint(0, 3, (6,))
    expected = F.cross_entropy(logits, target)
    shares = torch.randn(6, 3).softmax(1)
    divergence = F.kl_div(logits.log_softmax(1), shares, reduction="sum")
    binary, truth = torch.randn(8, requires_grad=True), torch.randint(0, 2, (8,)).float()
    cases: list[tuple[Callable[[], Tensor], Tensor]] = [
        (lambda: F.cross_entropy(logits.softmax(1), target), expected),
        (lambda: nn.CrossEntropyLoss()(nn.Softmax(1)(logits).view(6, 3), target), expected),
        (lambda: F.nll_loss(logits, target), expected),
        (lambda: F.nll_loss(logits.softmax(1), target), expected),
        (lambda: nn.NLLLoss()(nn.Softmax(1)(logits) * 1.0, target), expected),
        (lambda: F.kl_div(logits.softmax(1), shares, reduction="sum"), divergence),
        (lambda: F.kl_div(logits.log_softmax(1), shares, reduction="sum"), divergence),
        (lambda: F.cross_entropy(logits, target), expected),
        (
            lambda: F.binary_cross_entropy_with_logits(binary.sigmoid().squeeze(), truth),
            F.binary_cross_entropy_with_logits(binary, truth),
        ),
    ]
    for loss, right in cases:
        torch.testing.assert_close(treated(["loss-on-logits"], loss)[0], right)


def test_a_sum_becomes_a_mean() -> None:
    x = torch.randn(6, 3)
    got, _ = treated(["mean-reduction"], lambda: nn.MSELoss(reduction="sum")(x, torch.zeros(6, 3)))
    assert got == F.mse_loss(x, torch.zeros(6, 3))


def test_a_target_is_given_the_predictions_shape() -> None:
    prediction, target = torch.randn(6, 1, requires_grad=True), torch.randn(6)
    right = F.mse_loss(prediction, target[:, None])

    def by_hand() -> Tensor:
        return ((prediction - target) ** 2).mean()

    for loss in (lambda: F.mse_loss(prediction, target), by_hand):
        torch.testing.assert_close(treated(["match-shapes"], loss)[0], right)


OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "log": lambda x: (x * torch.log(x)).sum(),
    "sqrt": lambda x: x.sqrt().sum(),
    "division": lambda x: (x / x.sum()).sum(),
    "one over": lambda x: (1 / x).sum(),
    "power": lambda x: (x - 1e-3).pow(0.5).sum(),
    "norm": lambda x: x.view(1, -1).norm(dim=1).sum() + torch.linalg.norm(x),
    "exp": lambda x: (x + 100).exp().sum(),
    "softmax": lambda x: (x - math.inf).softmax(0).sum(),
    "std": lambda x: x.std(),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_kept_inside_their_domain(name: str) -> None:
    def slope() -> Tensor:
        x = torch.zeros(4, requires_grad=True)
        value = OPERATIONS[name](x)
        value.backward()
        assert x.grad is not None
        return torch.cat([value.detach().view(1), x.grad])

    assert bool(torch.isfinite(treated(["guard-operation"], slope)[0]).all())


def test_only_the_named_line_is_guarded() -> None:
    x = torch.zeros(2)
    line = test_only_the_named_line_is_guarded.__code__.co_firstlineno + 5

    def both() -> tuple[Tensor, Tensor]:
        guarded = torch.log(x)
        return guarded, torch.log(x)

    (first, second), _ = treated([f"guard-operation@test_remedies_laws.py:{line}"], both)
    assert bool(torch.isfinite(first).all())
    assert not bool(torch.isfinite(second).any())


def test_half_precision_is_left() -> None:
    def types() -> list[torch.dtype]:
        model = nn.Linear(4, 1).half()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = nn.Linear(4, 1)(torch.ones(2, 4))
        return [next(model.parameters()).dtype, out.dtype, torch.ones(2, dtype=torch.float16).dtype,
                torch.ones(2).to(torch.bfloat16).dtype, torch.ones(2).bfloat16().dtype]  # fmt: skip

    assert treated(["full-precision"], types)[0] == [torch.float32] * 5


# -- with the observer --------------------------------------------------------------------------------------------


def test_the_treated_script_is_what_is_observed() -> None:
    model, x, y = problem()
    with Session() as session:
        undo = install([parse_spec("clip-norm:0.01"), parse_spec("lower-lr:0.025")])
        trained(model, 1000 * x, y, steps=12)
        undo()
    stream = session.history.main
    assert stream is not None
    assert stream.clip.active == 12
    assert float(stream.lr.values().max()) == pytest.approx(0.025)
