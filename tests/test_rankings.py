"""Where two explanations fit one run: which of them comes first."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from test_diagnosis import clusters, observed, sgd, stack, train
from torch import Tensor, nn


def ranked(run: Any) -> list[str]:
    return [cause.code for cause in observed(run)[1].causes]


def test_a_rate_that_has_run_out_comes_before_a_recurrence_that_nothing_was_learned_in() -> None:
    def run(gamma: float = 0.7) -> None:
        torch.manual_seed(0)
        rnn, head = nn.LSTM(1, 16, batch_first=True), nn.Linear(16, 1)
        optimizer = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=1e-2)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
        for _ in range(120):
            x = torch.randn(16, 24, 1)
            loss = F.mse_loss(head(rnn(x)[0][:, -1]), x[:, 0] - 0.5 * x[:, 6])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    assert ranked(run)[0] == "learning-rate-too-low"


class Regions(nn.Module):
    def __init__(self, first: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 4))
        with torch.no_grad():
            self.body[0].weight.mul_(first)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


def test_inputs_that_saturate_the_first_activation_come_before_the_activation() -> None:
    def raw() -> None:
        model = Regions()
        train(model, sgd(model, 0.05), clusters(scale=200.0, offset=300.0), steps=100)

    def usual_inputs() -> None:
        model = Regions(200.0)  # the same saturation, by the weights
        train(model, sgd(model, 0.05), clusters(), steps=100)

    assert ranked(raw)[0] == "unnormalized-input"
    assert "unnormalized-input" not in ranked(usual_inputs)


class HalfProduct(torch.autograd.Function):
    """A product in half precision, backward as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x.half(), weight.half())
        return (x.half() @ weight.half().t()).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grads[0].half()
        return (grad @ weight).float(), (grad.t() @ x).float()


class HalfLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = HalfProduct.apply(x, self.weight)
        return out


def narrow(scale: float) -> Any:
    """Two layers whose own backward is half precision, and a loss of that scale."""

    def run() -> None:
        torch.manual_seed(0)
        model = nn.Sequential(HalfLinear(16, 24, bias=False), nn.Tanh(), HalfLinear(24, 4, bias=False))
        train(model, sgd(model, 0.05), loss=lambda out, y: scale * F.cross_entropy(out, y), steps=60)

    return run


def test_a_gradient_that_ends_in_a_layer_for_no_other_reason_was_too_small_for_its_numbers() -> None:
    answer = observed(narrow(1e-8))[1]
    assert answer.causes[0].code == "precision-range"
    assert answer.causes[0].location == "2"
    assert "precision-range" not in ranked(narrow(1.0))


def test_a_gradient_that_the_script_cuts_off_is_no_matter_of_precision() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = stack(2), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(torch.tanh(self.body(x)).detach())
            return out

    def run() -> None:
        model = Cut()
        train(model, sgd(model, 0.05), loss=lambda out, y: 1e-8 * F.cross_entropy(out, y))

    codes = ranked(run)
    assert codes[0] == "detached-parameters"
    assert "precision-range" not in codes
