"""Folding a clip into the optimizer's kernel: the same result, only where that is known, and nothing left behind."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from training import FUSED, UNFUSED, batches, distance, mse, network, same, state_of

from steadygrad import Stepper
from steadygrad.clip import GlobalNorm
from steadygrad.clip.gradients import collect
from steadygrad.guard.copies import tensors_in
from steadygrad.stepper import folding
from steadygrad.stepper.folding import verified

every_fused = pytest.mark.parametrize("name", FUSED)


def train(
    name: str, *, fold: bool, defer: bool = False, n: int = 10, dtype: torch.dtype = torch.float32, scale: float = 1.0
) -> tuple[nn.Module, Stepper]:
    model = network().to(dtype)
    stepper = Stepper(FUSED[name](list(model.parameters())), clip=GlobalNorm(0.3), model=model, fold=fold, defer=defer)
    for x, y in batches(n):
        stepper.step(scale * mse(model, (x.to(dtype), y.to(dtype))))
    return model, stepper


@every_fused
@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-7), (torch.bfloat16, 2e-2)])
def test_folded_and_scaled_agree(name: str, defer: bool, dtype: torch.dtype, limit: float) -> None:
    folded, stepper = train(name, fold=True, defer=defer, dtype=dtype)
    scaled, other = train(name, fold=False, dtype=dtype)
    assert stepper.fold_refused == ""
    assert "switched off" in other.fold_refused
    assert distance(folded, scaled) < limit


@every_fused
def test_folding_saves_the_pass_over_the_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def scale(*_: Any) -> None:
        raise AssertionError("the gradients were scaled")

    monkeypatch.setattr("steadygrad.stepper.update.scale", scale)
    _, stepper = train(name, fold=True)
    assert stepper.steps == 10
    with pytest.raises(AssertionError, match="were scaled"):
        train(name, fold=False)


def seen_by_kernel(loss_factor: float, max_norm: float, *, defer: bool) -> dict[str, Any]:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    stepper = Stepper(optimizer, clip=GlobalNorm(max_norm, eps=0.0), defer=defer)
    stepper.step(mse(model, next(batches(1))))
    seen: dict[str, Any] = {}
    optimizer.register_step_pre_hook(
        lambda o, *_: seen.update({k: getattr(o, k, None) for k in ("grad_scale", "found_inf")})
    )
    result = stepper.step(loss_factor * mse(model, next(batches(1))))
    return seen | {"coefficient": result.coefficient}


def test_the_kernel_is_given_what_it_takes() -> None:
    """A 0-dim float32 scale, and a flag of exactly 0 or 1: 2 would move the parameters and set the step to -1."""
    seen = seen_by_kernel(1.0, 0.1, defer=True)
    for key in ("grad_scale", "found_inf"):
        assert seen[key].shape == () and seen[key].dtype == torch.float32
    assert float(seen["grad_scale"]) == pytest.approx(1 / float(seen["coefficient"]))
    assert float(seen["found_inf"]) == 0.0
    bad = seen_by_kernel(math.nan, 0.1, defer=True)  # loss and gradient and norm are all bad: still exactly 1
    assert float(bad["found_inf"]) == 1.0
    assert math.isfinite(float(bad["grad_scale"]))


def test_where_the_host_decides_the_kernel_is_told_only_what_it_has_to_do() -> None:
    assert seen_by_kernel(1.0, 0.1, defer=False)["found_inf"] is None
    assert seen_by_kernel(1.0, 1e9, defer=False) | {"coefficient": 0} == {
        "grad_scale": None,  # a scale of 1 would still write every gradient back
        "found_inf": None,
        "coefficient": 0,
    }


@every_fused
def test_a_threshold_of_zero_is_the_step_of_a_gradient_of_zero(name: str) -> None:
    def run(clip: GlobalNorm | None, factor: float, **options: Any) -> list[Any]:
        model = network()
        optimizer = FUSED[name](list(model.parameters()))
        stepper = Stepper(optimizer, clip=clip, **options)
        for batch in batches(3):
            assert stepper.step(factor * mse(model, batch)).stepped
        return [t + 0.0 for t in tensors_in(state_of(optimizer, model[0], model[3]))]  # -0.0 and 0.0 are one

    nothing = run(None, 0.0)
    assert same(run(GlobalNorm(0.0), 1.0, fold=False), nothing)
    assert same(run(GlobalNorm(0.0), 1.0, defer=True), nothing)


# -- what keeps an optimizer from it ------------------------------------------------------------------------------


def refusal(optimizer: torch.optim.Optimizer, **options: bool) -> str:
    held = [p for group in optimizer.param_groups for p in group["params"]]
    return folding.refusal(optimizer, collect(held), **options)


def with_gradients(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    return optimizer


def weights(n: int = 1, **options: Any) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2, 3, **options)) for _ in range(n)]


@pytest.mark.parametrize("name", UNFUSED)
def test_other_optimizers_are_refused(name: str) -> None:
    reason = refusal(with_gradients(UNFUSED[name](weights())))
    assert "fused" in reason


def test_each_trap_has_its_reason() -> None:
    first, second = weights(2)
    mixed = torch.optim.AdamW([{"params": [first], "fused": True}, {"params": [second], "fused": False}])
    assert "not every parameter group" in refusal(with_gradients(mixed))

    class Custom(torch.optim.AdamW):
        pass

    assert "Custom has no fused kernel" in refusal(with_gradients(Custom(weights(), fused=True)))
    scaled = with_gradients(torch.optim.AdamW(weights(), fused=True))
    scaled.grad_scale = torch.tensor(2.0)  # type: ignore[attr-defined]
    assert "set already" in refusal(scaled)
    turned = with_gradients(torch.optim.AdamW(weights(), fused=True))
    turned.param_groups[0]["params"][0].grad = torch.ones(3, 2).t()
    assert "laid out" in refusal(turned)
    sparse = torch.optim.SGD(weights(), 0.1, fused=True)
    sparse.param_groups[0]["params"][0].grad = torch.ones(2, 3).to_sparse()
    assert "sparse" in refusal(sparse)
    fresh = with_gradients(torch.optim.SGD(weights(), 0.1, momentum=0.9, fused=True))
    assert refusal(fresh) == ""
    assert "no optimizer state yet" in refusal(fresh, on_device=True)
    assert refusal(with_gradients(torch.optim.SGD(weights(), 0.1, fused=True)), on_device=True) == ""


def test_a_kernel_that_does_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def ignores(tensors: list[list[Tensor]], grad_scale: Any, found_inf: Any) -> None:
        real["AdamW"](tensors, None, found_inf)

    def fails(*_: Any) -> None:
        raise RuntimeError("no kernel")

    real = dict(folding._KERNELS)
    for broken in (ignores, fails):
        verified.cache_clear()
        monkeypatch.setitem(folding._KERNELS, "AdamW", broken)
        assert not verified("AdamW", "cpu", torch.float32)
        _, stepper = train("adamw", fold=True)
        assert "does not do what folding relies on" in stepper.fold_refused
        assert same(state_of(train("adamw", fold=True)[0]), state_of(train("adamw", fold=False)[0]))
    verified.cache_clear()


def test_trying_the_kernels_out_draws_no_random_number_and_steps_no_optimizer() -> None:
    verified.cache_clear()
    steps: list[Any] = []
    handle = register_optimizer_step_pre_hook(lambda *args: steps.append(args))
    before = torch.get_rng_state()
    assert all(verified(name, "cpu", torch.float32) for name in folding._KERNELS)
    handle.remove()
    assert torch.equal(torch.get_rng_state(), before)
    assert not steps


# -- traps of the fused kernels themselves ------------------------------------------------------------------------


@every_fused
def test_gradients_laid_out_in_another_way_update_the_right_entries(name: str) -> None:
    """Torch's fused CPU kernels walk parameter and gradient in memory order, and are silently wrong."""
    results = []
    for strided in (False, True):
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(3, 4))
        stepper = Stepper(FUSED[name]([weight]), clip=GlobalNorm(0.5))
        for i in range(3):
            gradient = torch.arange(12.0).view(3, 4) - 5 + i
            weight.grad = gradient.t().contiguous().t() if strided else gradient
            stepper.step()
        results.append(weight.detach().clone())
    assert torch.equal(*results)


@pytest.mark.parametrize("defer", [False, True])
def test_momentum_survives_a_skipped_first_step(defer: bool) -> None:
    """Torch's kernel leaves uninitialised momentum behind, which reached 1e36 where memory was dirty."""
    weight = nn.Parameter(torch.ones(1 << 12))
    optimizer = torch.optim.SGD([weight], 0.1, momentum=0.9, dampening=0.5, fused=True)
    stepper = Stepper(optimizer, defer=defer)
    for _ in range(8):
        torch.full((1 << 12,), 1e36)  # what the allocator would hand out next
    stepper.step((weight * math.nan).sum())
    stepper.settle()
    assert not optimizer.state
    stepper.step((weight * 2).sum())
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, 0.8).detach())  # no dampening at the first step


def test_measuring_only_survives_an_infinite_entry() -> None:
    """``clip_grad_norm_(max_norm=inf)``, the idiom to log the norm, turns every gradient to NaN."""
    model = network()
    stepper = Stepper(torch.optim.SGD(model.parameters(), 0.1), clip=GlobalNorm(math.inf))
    mse(model, next(batches(1))).backward()
    model[0].weight.grad[0, 0] = math.inf  # type: ignore[index, union-attr]
    before = state_of(model)
    assert stepper.step().skipped
    assert same(state_of(model), before)


def test_gradients_whose_square_overflows_are_clipped_and_not_dropped() -> None:
    """Above 1.9e19 torch's float32 norm is Inf, and all gradients become 0."""
    weight = nn.Parameter(torch.zeros(4))
    Stepper(torch.optim.SGD([weight], 1.0, fused=True), clip=GlobalNorm(1.0)).step((weight * 1e20).sum())
    torch.testing.assert_close(weight.detach(), torch.full((4,), -0.5))
