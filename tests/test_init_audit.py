"""The audit of scales: measured by independent hooks, expected where the theory is exact, and nothing left behind."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from steadygrad import init
from steadygrad.errors import InputError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wide(*, groups: int = 1) -> nn.Sequential:
    """Linear maps of every kind, wide enough for averages."""
    model = nn.Sequential(
        nn.Conv2d(32, 64, 3, groups=groups),
        nn.Conv2d(64, 64, 4, stride=2),
        nn.ConvTranspose2d(64, 32, 4, stride=2, groups=groups),
        nn.Conv2d(32, 32, 1, stride=2),
        nn.Flatten(),
        nn.LazyLinear(128),
    )
    model(torch.ones(1, 32, 24, 24))
    return model


@pytest.mark.parametrize("groups", [1, 8])
def test_what_is_expected_is_measured_in_linear_nets(groups: int) -> None:
    model = wide(groups=groups)
    init.auto_(model, generator=seeded())
    result = init.audit(model, torch.randn(8, 32, 24, 24, generator=seeded(1)))
    assert len(result.rows) == 5
    for row in result.rows:
        assert row.forward == pytest.approx(row.forward_expected, rel=0.2), row.name
        assert row.backward == pytest.approx(row.backward_expected, rel=0.25), row.name
        assert row.off == pytest.approx(1, abs=0.05)


def test_the_measured_scales_are_those_of_plain_autograd() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.ReLU(inplace=True), nn.Linear(5, 3))
    batch = torch.randn(16, 6)
    outputs: list[Tensor] = []
    x = batch.clone().requires_grad_()
    inputs = [x]
    h = x
    for layer in (model[0], model[2], model[4]):
        h = layer(h)
        outputs.append(h)
        h = torch.tanh(h) if layer is model[0] else F.relu(h)
        inputs.append(h)
    loss = outputs[-1].square().sum()
    grads = torch.autograd.grad(loss, [*inputs[:3], *outputs])
    result = init.audit(model, batch, loss=lambda out: out.square().sum())
    for i, row in enumerate(result.rows):
        assert row.forward == pytest.approx(float(outputs[i].detach().square().mean().sqrt()), rel=1e-5)
        assert row.backward == pytest.approx(float(grads[i].square().mean().sqrt()), rel=1e-5)
        layer = model[2 * i]
        size = float(layer.weight.detach().square().mean().sqrt())
        arriving = float(grads[3 + i].square().mean().sqrt())
        assert row.backward_expected == pytest.approx(arriving * size * math.sqrt(layer.out_features), rel=1e-5)


class Branching(nn.Module):
    """A shared input, a recurrent layer, attention, a tied weight and a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.twice = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.norm = nn.BatchNorm1d(8)
        self.out = nn.Linear(8, 11)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.lstm(self.embed(x))[0]
        x = x + self.attend(x, x, x)[0]
        x = F.dropout(F.relu_(self.twice(x)), training=self.training) + self.twice(x)
        return self.out(self.norm(x.transpose(1, 2)).transpose(1, 2))


def test_nothing_is_left_behind() -> None:
    model = Branching()
    model.norm.train()
    model.lstm.eval()
    model.lstm.weight_hh_l0.grad = torch.ones_like(model.lstm.weight_hh_l0)
    kept = copy.deepcopy(model.state_dict())
    flags = [m.training for m in model.modules()]
    grads = {k: p.grad for k, p in model.named_parameters()}
    state = torch.get_rng_state()
    tokens = torch.randint(0, 11, (4, 6), generator=seeded())
    result = init.audit(model, tokens)
    names = [row.name for row in result.rows]
    assert names[:2] == ["lstm.weight_ih_l0", "lstm.weight_hh_l0"]
    assert set(names[2:]) == {"attend.in_proj_weight", "attend.out_proj.weight", "twice.weight"}
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
    assert flags == [m.training for m in model.modules()]
    assert all(p.grad is grads[k] for k, p in model.named_parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert not any(len(m._forward_hooks) for m in model.modules())


def test_nothing_is_left_behind_by_a_failure() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4))
    kept, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with pytest.raises(RuntimeError):
        init.audit(model, torch.ones(3, 4), loss=lambda _: torch.rand(5).view(3))
    with pytest.raises(InputError, match="differentiated"):
        init.audit(model, torch.ones(3, 4), loss=lambda out: out.detach().sum())
    with pytest.raises(InputError, match="no weight"):
        init.audit(nn.BatchNorm1d(4), torch.ones(3, 4))
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert model.training


def test_problems_are_named() -> None:
    def deep(activation: type[nn.Module], depth: int = 12) -> nn.Sequential:
        return nn.Sequential(*(m for _ in range(depth) for m in (nn.Linear(64, 64), activation())))

    batch = torch.randn(32, 64, generator=seeded(7))
    good = deep(nn.ReLU)
    init.auto_(good, batch=batch, generator=seeded())
    assert init.audit(good, batch).problems == ()
    large = deep(nn.ReLU)
    init.normal_(large, std=10.0, generator=seeded())
    said = init.audit(large, batch).problems
    assert said[0].startswith("12 of 12 weights")
    assert "forward scale grows" in said[1]
    assert "backward scale grows" in said[2]
    init.auto_(good, batch=batch, generator=seeded())
    init.normal_(good[4], std=1.0)
    assert init.audit(good, batch).problems[0].startswith("4.weight")
    dead = deep(nn.ReLU, 3)
    init.normal_(dead[2], std=0.0)
    assert any("zero or infinite" in p for p in init.audit(dead, batch).problems)


def test_table_and_figure() -> None:
    model = Branching()
    result = init.audit(model, torch.randint(0, 11, (4, 6)))
    console = Console(width=140, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(result)
    text = capture.get()
    assert "twice.weight" in text
    assert "8/8" in text
    figure = result.figure()
    assert [trace.name for trace in figure.data] == [
        f"{way}, {what}" for way in ("forward", "backward") for what in ("expected", "measured")
    ]
    assert figure.layout.yaxis.type == "log"
    assert len(figure.data[0].x) == len(result.rows)
