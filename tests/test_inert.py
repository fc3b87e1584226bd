"""Watching changes nothing: after training with and without it, everything is equal to the bit."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from idioms import IDIOMS
from torch import Tensor, nn

from steadygrad.session import Session


def seed() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)


def random_states() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state()[1], random.getstate()


def leaves(value: Any) -> Iterator[Any]:
    """What a result is made of, in order: tensors, arrays, numbers, strings."""
    if isinstance(value, nn.Module):
        yield type(value).__name__
        yield from leaves(list(value.state_dict().items()))
        yield from leaves([p.grad for p in value.parameters()])
    elif isinstance(value, torch.optim.Optimizer):
        yield from leaves(value.state_dict())
    elif isinstance(value, dict):
        yield from leaves(list(value.items()))
    elif isinstance(value, list | tuple):
        yield len(value)
        for item in value:
            yield from leaves(item)
    else:
        yield value


def bits(value: Any) -> Any:
    if isinstance(value, Tensor):
        dense = value.detach().to_dense() if value.layout == torch.sparse_coo else value.detach()
        return str(dense.dtype), tuple(dense.shape), dense.contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return value.tobytes() if isinstance(value, np.ndarray) else value


def run(name: str) -> list[Any]:
    seed()
    with warnings.catch_warnings():
        result = IDIOMS[name].train()
    return [bits(leaf) for leaf in leaves((result, random_states()))]


@pytest.mark.parametrize("name", IDIOMS)
def test_training_is_equal_to_the_bit(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    plain = run(name)
    with Session(every=4) as session:
        watched = run(name)
    assert capsys.readouterr().err == ""
    assert "observation_failed" not in session.meta
    assert watched == plain
    assert session.history.steps >= IDIOMS[name].records


def test_the_comparison_sees_a_single_bit() -> None:
    model = nn.Linear(2, 2)
    before = [bits(leaf) for leaf in leaves(model)]
    with torch.no_grad():
        model.weight.view(torch.int32)[0, 0] ^= 1
    assert [bits(leaf) for leaf in leaves(model)] != before


def test_everything_is_put_back() -> None:
    places = [(nn.Module, "__call__"), (torch.autograd, "backward"), (torch.autograd, "grad"), (torch, "compile"),
              (torch.nn.functional, "cross_entropy"), (torch.nn.utils, "clip_grad_value_"), (nn.Module, "compile"),
              (torch.amp.GradScaler, "step"), (torch.optim.Optimizer, "__init__"),
              (torch.nn.utils.clip_grad, "_get_total_norm")]  # fmt: skip
    before = [vars(holder)[name] for holder, name in places]
    with Session():
        assert [vars(holder)[name] for holder, name in places] != before
    assert [vars(holder)[name] for holder, name in places] == before


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("how", ["model", "method", "step"])
def test_compiled_models_keep_their_graphs(backend: str, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    def train() -> Any:
        torch._dynamo.reset()
        seed()
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        optimizer, x = torch.optim.Adam(model.parameters()), torch.randn(8, 4)
        loss_of = lambda: nn.functional.mse_loss(model(x), x[:, :2])  # noqa: E731
        run = model
        if how == "model":
            run = torch.compile(model, backend=backend)
        elif how == "method":
            model.compile(backend=backend)
        else:
            loss_of = torch.compile(loss_of, backend=backend)
        counters = torch._dynamo.utils.counters
        counters.clear()
        for _ in range(8):
            optimizer.zero_grad()
            loss = loss_of() if how == "step" else nn.functional.mse_loss(run(x), x[:, :2])
            loss.backward()
            optimizer.step()
        graphs = (dict(counters["graph_break"]), counters["stats"]["unique_graphs"])
        return [bits(leaf) for leaf in leaves((model, optimizer, loss, graphs))]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler
        plain = train()
        with Session(every=2) as session:
            watched = train()
    assert capsys.readouterr().err == ""
    assert watched == plain
    assert session.history.steps == 8
    assert len(session.history.facts("compiled")) == 1
    assert session.history.parameters[0].name == "0.weight"
    assert not session.history.sites


def test_scripted_models_compile(capsys: pytest.CaptureFixture[str]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.criterion = nn.Linear(4, 2), nn.CrossEntropyLoss()

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.criterion(self.fc(x), y) + torch.nn.functional.mse_loss(x, x)

    with Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = torch.jit.script(Net())
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randn(8, 4), torch.zeros(8, dtype=torch.long)).backward()
            optimizer.step()
    assert capsys.readouterr().err == ""
    assert session.history.steps == 4
