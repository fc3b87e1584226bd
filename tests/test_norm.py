"""BatchNorm: recalibration against a naive float64 pass, inspection against what torch does, nothing left behind."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from steadygrad import norm
from steadygrad.errors import InputError


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6),
        nn.Flatten(), nn.Linear(24, 5), nn.BatchNorm1d(5, momentum=None), nn.Linear(5, 2),
    )  # fmt: skip


def data(sizes: tuple[int, ...] = (16, 16, 7, 2)) -> list[Tensor]:
    g = torch.Generator().manual_seed(1)
    return [torch.randn(n, 2, 6, 6, generator=g) * (1 + i) + i for i, n in enumerate(sizes)]


def state_of(model: nn.Module) -> dict[str, object]:
    """All that could be disturbed, as something that can be compared."""
    return {
        "tensors": {k: v.tolist() for k, v in model.state_dict().items()},
        "flags": [m.training for m in model.modules()],
        "momenta": [getattr(m, "momentum", None) for m in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "random": (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()),
    }


# -- recalibration ------------------------------------------------------------------------------------------------


def naive(model: nn.Module, batches: list[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Everything each layer is fed in training mode (no dropout), at once, in float64."""
    model = copy.deepcopy(model)
    fed: dict[str, list[Tensor]] = {}
    for name, layer in norm.batchnorm_layers(model).items():
        layer.register_forward_pre_hook(lambda _, args, n=name: fed.setdefault(n, []).append(args[0].double()))
    model.eval()
    for layer in norm.batchnorm_layers(model).values():
        layer.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    rows = {name: torch.cat([v.transpose(0, 1).flatten(1) for v in values], 1) for name, values in fed.items()}
    return {name: (r.mean(1), r.var(1, correction=0)) for name, r in rows.items()}


def test_the_statistics_are_those_of_the_whole_data() -> None:
    model = net()
    expected = naive(model, data())
    rows = norm.recalibrate(model, data())
    assert [r.name for r in rows] == list(expected) == ["1", "5", "8"]
    assert [r.samples for r in rows] == [41 * 16, 41 * 4, 41]
    for name, (mean, var) in expected.items():
        layer = model.get_submodule(name)
        assert torch.allclose(layer.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
        assert torch.allclose(layer.running_var.double(), var, rtol=1e-5)


def test_samples_count_and_not_batches() -> None:
    batches = [torch.zeros(100, 1), torch.full((2, 1), 10.0)]
    theirs, ours = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    update_bn(batches, nn.Sequential(theirs))
    assert theirs.running_mean.item() == pytest.approx(5.0)
    assert theirs.running_var.item() == pytest.approx(0.0)
    norm.recalibrate(nn.Sequential(ours), batches)
    assert ours.running_mean.item() == pytest.approx(20 / 102)
    assert ours.running_var.item() == pytest.approx(100 * 2 / 102 - (20 / 102) ** 2)


def test_no_cancellation() -> None:
    g = torch.Generator().manual_seed(0)
    x = 1e3 + 1e-2 * torch.randn(4096, 3, generator=g)
    parts = x.split(128)
    means, squares = sum(p.mean(0) for p in parts) / 32, sum(p.square().mean(0) for p in parts) / 32
    assert ((squares - means.square()) / x.double().var(0) - 1).abs().max() > 100, "E[x²] - E[x]² does not do"
    layer = nn.BatchNorm1d(3)
    norm.recalibrate(nn.Sequential(layer), x.split(100))
    assert torch.allclose(layer.running_var.double(), x.double().var(0, correction=0), rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.floats(-1e4, 1e4), st.integers(0, 99))
def test_merging_batches_is_as_one(sizes: list[int], offset: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    parts = [offset + torch.randn(n, 2, 3, generator=g) for n in sizes]
    moments, reverse = norm.Moments(), norm.Moments()
    for part in parts:
        moments.add(part)
    for part in parts[::-1]:
        reverse.add(part)
    whole = torch.cat(parts).double().transpose(0, 1).flatten(1)
    for found in (moments, reverse):
        mean, var = found.result()
        assert found.count == 3 * sum(sizes)
        assert torch.allclose(mean, whole.mean(1), rtol=1e-12)
        assert torch.allclose(var, whole.var(1, correction=0), rtol=1e-9, atol=1e-12)


def test_only_running_statistics_change() -> None:
    model = net()
    model.train()
    model[7].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = state_of(model)
    norm.recalibrate(model, data())
    after = state_of(model)
    assert {k: v for k, v in after.items() if k != "tensors"} == {k: v for k, v in before.items() if k != "tensors"}
    changed = {k for k in after["tensors"] if after["tensors"][k] != before["tensors"][k]}
    assert changed == {f"{i}.running_{what}" for i in (1, 5, 8) for what in ("mean", "var")}


def test_frozen_layers_stay_frozen() -> None:
    asleep, fixed = net(), net()
    asleep.train()
    asleep[1].eval()
    fixed.eval()
    fixed[1].requires_grad_(False)
    for model in (asleep, fixed):
        kept = model[1].running_mean.clone()
        assert [r.name for r in norm.recalibrate(model, data())] == ["5", "8"]
        assert torch.equal(model[1].running_mean, kept)
    # update_bn wakes them
    kept = asleep[1].running_mean.clone()
    update_bn(data(), asleep)
    assert not torch.equal(asleep[1].running_mean, kept)
    # and so does asking for them by name
    assert [r.name for r in norm.recalibrate(fixed, data(), layers=["1"])] == ["1"]
    assert not torch.equal(fixed[1].running_mean, kept)


def test_a_frozen_layer_normalises_by_its_running_statistics() -> None:
    model = net()
    model.train()
    model[1].eval()
    model[1].running_var.fill_(9.0)
    kept = copy.deepcopy(model)
    norm.recalibrate(model, data())
    fed: list[Tensor] = []
    kept.eval()
    kept[5].register_forward_pre_hook(lambda _, args: fed.append(args[0].double()))
    with torch.no_grad():
        for batch in data():
            kept(batch)
    rows = torch.cat(fed).transpose(0, 1).flatten(1)
    assert torch.allclose(model[5].running_mean.double(), rows.mean(1), rtol=1e-5, atol=1e-7)


def test_after_a_failure_all_is_as_before() -> None:
    model = net()

    def broken() -> Iterator[Tensor]:
        yield from data()
        raise OSError("disk")

    state = state_of(model)
    with pytest.raises(OSError, match="disk"):
        norm.recalibrate(model, broken())
    assert state_of(model) == state
    with pytest.raises(InputError, match="batch 2 has a single value"):
        norm.recalibrate(model, data((4, 1)))
    assert state_of(model) == state
    with pytest.raises(InputError, match="empty"):
        norm.recalibrate(model, [])
    with pytest.raises(InputError, match="iterable of batches"):
        norm.recalibrate(model, data()[0])
    with pytest.raises(InputError, match="limit"):
        norm.recalibrate(model, data(), limit=0)
    with pytest.raises(InputError, match="no BatchNorm layer"):
        norm.recalibrate(model, data(), layers=["0"])
    assert state_of(model) == state
    with pytest.raises(InputError, match="not frozen"):
        norm.recalibrate(nn.Sequential(nn.Linear(2, 2)), data())
    with pytest.raises(InputError, match="track_running_stats"):
        plain = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))
        norm.recalibrate(plain, [torch.ones(3, 3)], layers=[plain[0]])
    with pytest.raises(InputError, match="no batch reached extra"):
        spare = nn.Module()
        spare.used, spare.extra = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
        spare.forward = spare.used.forward
        norm.recalibrate(spare, [torch.randn(4, 2)], forward=lambda m, b: m.used(b))


class Words(nn.Module):
    """Takes keywords, and feeds its BatchNorm by keyword too, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)

    def forward(self, *, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.bn(input=self.bn(x)), "loss": x.mean()}


def test_dictionaries_pairs_and_functions() -> None:
    x = torch.randn(8, 3) + 2
    model = Words()
    norm.recalibrate(model, [{"x": x, "labels": torch.ones(8)}])
    assert torch.allclose(model.bn.running_mean, (x.mean(0) + 0) / 2, atol=1e-5), "both uses count"
    first = nn.Sequential(nn.BatchNorm1d(3))
    norm.recalibrate(first, [(x, "target")], limit=1)
    second = nn.Sequential(nn.BatchNorm1d(3))
    norm.recalibrate(second, iter([[0, x], [0, x]]), limit=1, forward=lambda m, b: m(b[1]))
    assert torch.equal(first[0].running_mean, second[0].running_mean)
    assert torch.allclose(first[0].running_mean, x.mean(0), atol=1e-6)


# -- inspection ---------------------------------------------------------------------------------------------------


def test_batch_statistics_and_the_gap_are_those_of_torch() -> None:
    model, (batch, *_) = net(), data()
    model[1].running_mean.fill_(0.3)
    before = state_of(model)
    result = norm.inspect(model, batch)
    assert state_of(model) == before
    assert [layer.name for layer in result.layers] == ["1", "5", "8"]
    for name, (mean, var) in naive(model, [batch]).items():
        layer = next(found for found in result.layers if found.name == name)
        assert torch.allclose(layer.batch_mean, mean, rtol=1e-9)
        assert torch.allclose(layer.batch_var, var, rtol=1e-9)
        module = model.get_submodule(name)
        assert torch.allclose(layer.shift, (mean - module.running_mean) / (module.running_var + 1e-5).double().sqrt())
    still = copy.deepcopy(model).eval()
    with torch.no_grad():
        evaluated = still(batch)
        for layer in norm.batchnorm_layers(still).values():
            layer.train()
        trained = still(batch)
    assert result.gap == pytest.approx(float((trained - evaluated).norm() / evaluated.norm()), rel=1e-5)


def test_the_sample_is_normalised_as_torch_does() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3))
    nn.init.normal_(model[0].running_mean)
    x = torch.randn(8, 3, 4, 4) * 2 + 1
    (layer,) = norm.inspect(model, x).layers
    flat = x.transpose(0, 1).reshape(-1).double()
    assert torch.allclose(layer.sample, flat)
    trained = copy.deepcopy(model).train()(x).detach().transpose(0, 1).reshape(-1).double()
    evaluated = copy.deepcopy(model).eval()(x).detach().transpose(0, 1).reshape(-1).double()
    assert torch.allclose(layer.normalised(running=False), trained, atol=1e-5)
    assert torch.allclose(layer.normalised(running=True), evaluated, atol=1e-5)


def test_a_recalibrated_model_has_no_gap() -> None:
    model = net()
    (batch,) = data((64,))
    assert norm.inspect(model, batch).gap > 0.3
    norm.recalibrate(model, [batch])
    result = norm.inspect(model, batch)
    assert result.gap < 1e-3
    assert all(float(layer.shift.abs().max()) < 1e-4 for layer in result.layers)
    assert result.warnings == ()


def layer_warnings(layer: nn.BatchNorm1d, batch: Tensor, *, training: bool = True) -> str:
    model = nn.Sequential(nn.Identity(), layer)
    model.training = training
    return " | ".join(norm.inspect(model, batch).warnings)


def test_warnings_fire_and_stay_silent() -> None:
    def steady() -> nn.BatchNorm1d:
        layer = nn.BatchNorm1d(4)
        layer.running_mean.fill_(0.01)
        return layer

    g = torch.Generator().manual_seed(3)
    good = torch.randn(256, 4, generator=g)
    assert layer_warnings(steady(), good) == ""
    assert "still those of construction" in layer_warnings(nn.BatchNorm1d(4), good)
    assert "single value" in layer_warnings(steady(), good[:1])
    assert "-1 or +1" in layer_warnings(steady(), good[:2])
    assert "noisy by 0.35" in layer_warnings(steady(), good[:8])
    assert "running standard deviations" in layer_warnings(steady(), good + 3)
    assert "factor of" in layer_warnings(steady(), good * 3)
    assert "differ by" in layer_warnings(steady(), good + 3)
    assert "frozen" in layer_warnings(steady().eval(), good)
    assert layer_warnings(steady().eval(), good, training=False) == ""
    assert "in training mode within" in layer_warnings(steady(), good, training=False)
    high = steady()
    high.momentum = 0.9
    assert "keeps 10%" in layer_warnings(high, good)
    constant = good.clone()
    constant[:, 2] = 5.0
    assert "1 of 4 channels are constant" in layer_warnings(steady(), constant)


def test_two_values_make_every_output_a_sign() -> None:
    """Why a batch of two without spatial dimensions is no batch."""
    out = nn.BatchNorm1d(5, eps=1e-12)(torch.randn(2, 5) * 100 + 7)
    assert torch.allclose(out.abs(), torch.ones(2, 5), atol=1e-4)


def test_a_batch_of_one_is_inspected_all_the_same() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    batch = torch.randn(1, 3)
    before = state_of(model)
    result = norm.inspect(model, batch)
    assert state_of(model) == before
    assert math.isnan(result.gap)
    assert result.layers[0].samples == 1
    with pytest.raises(InputError, match="no BatchNorm"):
        norm.inspect(nn.Linear(3, 3), torch.ones(2, 3))


def test_table_and_figure() -> None:
    model = net()
    nn.init.normal_(model[5].weight)
    result = norm.inspect(model, data()[0])
    console = Console(width=120)
    with console.capture() as capture:
        console.print(result)
    text = capture.get()
    assert "train/eval gap" in text
    assert text.count("construction") == 3
    names = [trace.name for trace in result.figure("5").data]
    assert names == [
        "before", "after, training mode", "after, evaluation mode", "after gamma and beta",
        "batch: mean ± std", "running: mean ± std",
    ]  # fmt: skip
    first = result.figure()
    assert "after gamma and beta" not in [trace.name for trace in first.data]
    density = first.data[1]
    width = density.x[1] - density.x[0]
    assert sum(density.y) * width == pytest.approx(1, abs=0.01)
    with pytest.raises(InputError, match="there are 1, 5, 8"):
        result.figure("2")
    untracked = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))
    assert "after, evaluation mode" not in [t.name for t in norm.inspect(untracked, torch.randn(9, 3)).figure().data]


def test_functional_dropout_is_off_too() -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(F.dropout(x, training=self.training))

    model, x = Dropping(), torch.randn(50, 3)
    norm.recalibrate(model, [x])
    assert torch.allclose(model.bn.running_mean, x.mean(0), atol=1e-6)
