"""The ways people train, one small function each: what watching must leave bit-equal, in :mod:`test_inert`.

Every function trains for some thirty steps and returns what must come out the same: tensors, numbers, optimizers,
modules. ``records`` is how many step records watching it must give at least; 0 where there is nothing to see.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import pickle
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

STEPS = 30


@dataclass(frozen=True)
class Idiom:
    """A way to train, and how many records it gives when watched."""

    train: Callable[[], Any]
    records: int


IDIOMS: dict[str, Idiom] = {}


def idiom(records: int = STEPS) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def add(train: Callable[[], Any]) -> Callable[[], Any]:
        IDIOMS[train.__name__] = Idiom(train, records)
        return train

    return add


def data(rows: int = 16, width: int = 8, classes: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, width), torch.randint(0, classes, (rows,))


def fit(model: nn.Module, loss_of: Callable[[], Tensor], optimizer: Any = None, steps: int = STEPS) -> Any:
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, optimizer, losses


def mlp(*, width: int = 16, inplace: bool = False, out: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, width), nn.ReLU(inplace), nn.Linear(width, width), nn.ReLU(inplace), nn.Linear(width, out)
    )


# -- models ---------------------------------------------------------------------------------------------------------


@idiom()
def sequential_inplace_relu() -> Any:
    model, (x, y) = mlp(inplace=True), data()
    return fit(model, lambda: F.cross_entropy(model(x), y))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x), inplace=True)
        x = torch.tanh(self.b(x)) + x.sigmoid() + F.gelu(x)
        return F.log_softmax(self.c(F.dropout(x, 0.2, self.training)), 1)


@idiom()
def functional_net() -> Any:
    model, (x, y) = Functional(), data()
    return fit(model, lambda: F.nll_loss(model(x), y))


@idiom()
def cnn_batchnorm_dropout() -> Any:
    x, y = torch.randn(8, 1, 8, 8), torch.randint(0, 3, (8,))
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.Dropout2d(0.2), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(36, 8), nn.BatchNorm1d(8), nn.Dropout(0.5, inplace=True), nn.Linear(8, 3),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True)
    return fit(model, lambda: nn.CrossEntropyLoss(label_smoothing=0.1)(model(x), y), optimizer)


class Recurrent(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(4, 8, num_layers=2, dropout=0.3, batch_first=True)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return self.head(out[:, -1])


def recurrent(kind: str) -> Any:
    model, x = Recurrent(kind), torch.randn(6, 9, 4)
    return fit(model, lambda: F.mse_loss(model(x), x.sum((1, 2))[:, None]))


for _kind in ("LSTM", "GRU", "RNN"):
    IDIOMS[f"recurrent_{_kind}"] = Idiom(partial(recurrent, _kind), STEPS)


@idiom()
def packed_bidirectional_lstm() -> Any:
    lstm, head, x = nn.LSTM(4, 5, bidirectional=True), nn.Linear(10, 1), torch.randn(7, 3, 4)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([7, 5, 2]))
    both = nn.ModuleList([lstm, head])
    return fit(both, lambda: head(nn.utils.rnn.pad_packed_sequence(lstm(packed)[0])[0].mean(0)).square().mean())


@idiom()
def cell_loop() -> Any:
    cell, head, x = nn.RNNCell(4, 8), nn.Linear(8, 1), torch.randn(5, 6, 4)

    def loss() -> Tensor:
        state = torch.zeros(6, 8)
        for frame in x:
            state = cell(frame, state)
        return head(state).square().mean()

    return fit(nn.ModuleList([cell, head]), loss)


@idiom()
def transformer_encoder_with_eval_phases() -> Any:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Linear(8, 1))
    x, seen = torch.randn(4, 5, 8), []
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        model.eval()
        with torch.no_grad():
            seen.append(model(x))
        with torch.inference_mode():
            seen.append(model(x).clone())
        model.train()
    return model, optimizer, seen


class FrozenEncoder(nn.Module):
    """The encoder's fast path (eval, nothing to differentiate) inside a model that trains."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2).eval().requires_grad_(False)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


@idiom()
def frozen_encoder_on_the_fast_path() -> Any:
    model, x = FrozenEncoder(), torch.randn(4, 5, 8)
    return fit(model, lambda: model(x).square().mean())


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        scores = (q @ k.transpose(1, 2)) / math.sqrt(8)
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf"))
        return x + self.out(F.dropout(scores.softmax(-1), 0.1, self.training) @ v)


@idiom()
def hand_written_attention() -> Any:
    model, x = nn.Sequential(Attention(), nn.LayerNorm(8), Attention()), torch.randn(4, 5, 8)
    return fit(model, lambda: model(x).square().mean())


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.block = nn.Embedding(11, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        for _ in range(3):  # the same module again and again
            x = torch.relu_(self.block(x))
        return self.head(x)


@idiom()
def tied_weights_and_reused_modules() -> Any:
    model, tokens = Tied(), torch.randint(0, 11, (4, 6))
    return fit(model, lambda: F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()))


@dataclasses.dataclass
class Output:
    logits: Tensor
    extra: tuple[Tensor, dict[str, Tensor]]


class Odd(nn.Module):
    """Keyword-only inputs, a dataclass, a dict and a tuple as outputs, and modules made in passing."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, *, x: Tensor, scale: float = 1.0) -> Output:
        hidden = nn.Tanh()(nn.ReLU()(self.a(x)) * scale)
        return Output(self.b(hidden), (hidden, {"hidden": hidden}))


@idiom()
def keyword_forward_and_structured_outputs() -> Any:
    model, (x, y) = Odd(), data()
    return fit(model, lambda: F.cross_entropy(nn.Identity()(model(x=x, scale=2.0).logits), y))


class LossInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.criterion = mlp(), nn.CrossEntropyLoss()

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": self.criterion(self.net(batch["x"]), batch["y"]) + F.mse_loss(batch["x"], batch["x"])}


@idiom()
def loss_inside_forward() -> Any:
    model, (x, y) = LossInside(), data()
    return fit(model, lambda: model({"x": x, "y": y})["loss"])


@idiom()
def several_losses() -> Any:
    model, (x, y) = mlp(), data()
    optimizer = torch.optim.RMSprop(model.parameters(), 1e-3)
    for _ in range(STEPS):
        optimizer.zero_grad()
        out = model(x)
        F.cross_entropy(out, y).backward(retain_graph=True)
        out.square().mean().backward()
        optimizer.step()
    return model, optimizer


@idiom()
def lazy_modules() -> Any:
    model, (x, y) = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyBatchNorm1d(), nn.LazyLinear(3)), data()
    warnings.simplefilter("ignore", UserWarning)
    model(x)
    return fit(model, lambda: F.cross_entropy(model(x), y))


@idiom()
def lazy_modules_that_meet_data_in_training() -> Any:
    model, (x, y) = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3)), data()
    F.cross_entropy(model(x), y).backward()
    return fit(model, lambda: F.cross_entropy(model(x), y))


class StopsHalfway(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = F.relu(self.a(x))
        if self.calls % 3 == 0:
            raise ValueError("no memory, say")
        return self.b(x)


@idiom(20)
def exceptions_caught_by_the_script() -> Any:
    model, (x, y), caught = StopsHalfway(), data(), 0
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        try:
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        except ValueError:
            caught += 1
    return model, caught


@idiom()
def model_built_again() -> Any:
    (x, y), seen = data(), []
    for _ in range(5):
        model = mlp()
        seen.append(fit(model, partial(lambda m: F.cross_entropy(m(x), y), model), steps=6))
    return seen


@idiom()
def copied_and_pickled_in_between() -> Any:
    model, (x, y) = mlp(), data()
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        if step % 7 == 3:
            file = io.BytesIO()
            torch.save({"model": model, "optimizer": optimizer.state_dict()}, file)
            for stored in (file.getvalue(), pickle.dumps(copy.deepcopy((model, optimizer)))):
                assert b"steadygrad" not in stored
            assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in model.modules())
            model, state = copy.deepcopy(model), copy.deepcopy(optimizer.state_dict())
            optimizer = torch.optim.Adam(model.parameters())
            optimizer.load_state_dict(state)
    return model, optimizer


@idiom()
def outputs_saved_with_their_graph() -> Any:
    """A tensor with hooks of ours would warn when it is pickled."""
    model, (x, y) = mlp(), data()
    optimizer, sizes = torch.optim.Adam(model.parameters()), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        out = model(x)
        file = io.BytesIO()
        torch.save(out, file)
        sizes.append(len(file.getvalue()))
        assert out._backward_hooks is None
        F.cross_entropy(out, y).backward()
        optimizer.step()
    return model, sizes


# -- optimizers and updates -----------------------------------------------------------------------------------------


@idiom()
def gan_with_two_optimizers() -> Any:
    g, d = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2)), nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 1))
    opt_g, opt_d = torch.optim.Adam(g.parameters(), 1e-3), torch.optim.Adam(d.parameters(), 1e-3)
    for _ in range(STEPS):
        real, fake = torch.randn(8, 2), g(torch.randn(8, 2))
        opt_d.zero_grad()
        (F.softplus(-d(real)).mean() + F.softplus(d(fake.detach())).mean()).backward()
        opt_d.step()
        opt_g.zero_grad()
        F.softplus(-d(fake)).mean().backward()
        opt_g.step()
    return g, d, opt_g, opt_d


def with_closure(build: Callable[[Any], Any]) -> Any:
    model, (x, y) = mlp(), data()
    optimizer, losses = build(model.parameters()), []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(STEPS):
        losses.append(optimizer.step(closure).item())
    return model, optimizer, losses


IDIOMS["lbfgs_closure"] = Idiom(partial(with_closure, partial(torch.optim.LBFGS, lr=0.1, max_iter=4)), STEPS)
IDIOMS["sgd_closure"] = Idiom(partial(with_closure, partial(torch.optim.SGD, lr=0.1)), STEPS)
IDIOMS["adam_closure"] = Idiom(partial(with_closure, torch.optim.Adam), STEPS)


@idiom()
def manual_update_through_data() -> Any:
    model, (x, y) = mlp(), data()
    for _ in range(STEPS):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for p in model.parameters():
            p.data -= 0.1 * p.grad
    return model


@idiom()
def manual_update_of_raw_tensors() -> Any:
    x, y = data()
    w1, b1 = torch.randn(8, 8, requires_grad=True), torch.zeros(8, requires_grad=True)
    w2 = torch.randn(8, 3).mul_(0.3).requires_grad_()
    for _ in range(STEPS):
        F.cross_entropy(torch.tanh(x @ w1 + b1) @ w2, y).backward()
        with torch.no_grad():
            w1 -= 0.1 * w1.grad
            b1 -= 0.1 * b1.grad
            w2 -= 0.1 * w2.grad
        w1.grad = b1.grad = w2.grad = None
    return w1, b1, w2


@idiom()
def updates_by_autograd_grad() -> Any:
    model, (x, y) = mlp(), data()
    parameters = list(model.parameters())
    for _ in range(STEPS):
        grads = torch.autograd.grad(F.cross_entropy(model(x), y), parameters)
        with torch.no_grad():
            for p, g in zip(parameters, grads, strict=True):
                p.sub_(g, alpha=0.1)
    return parameters


@idiom()
def new_tensors_at_every_step() -> Any:
    x, y = data()
    params = [torch.randn(8, 8, requires_grad=True), torch.randn(8, 3, requires_grad=True)]
    for _ in range(STEPS):
        loss = F.cross_entropy(torch.relu(x @ params[0]) @ params[1], y)
        grads = torch.autograd.grad(loss, params)
        params = [(p - 0.1 * g).detach().requires_grad_() for p, g in zip(params, grads, strict=True)]
    return params


@idiom()
def gradient_penalty() -> Any:
    critic = nn.Sequential(nn.Linear(2, 8), nn.Softplus(), nn.Linear(8, 1))

    def loss() -> Tensor:
        x = torch.randn(8, 2, requires_grad=True)
        score = critic(x)
        (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)
        return score.mean() + 10 * (slope.norm(dim=1) - 1).square().mean()

    return fit(critic, loss)


@idiom()
def backward_with_create_graph() -> Any:
    model, (x, y) = mlp(), data()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    warnings.simplefilter("ignore", UserWarning)  # torch warns of the reference cycle
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(x).tanh(), y).backward(create_graph=True)
        norm = sum(p.grad.square().sum() for p in model.parameters())
        optimizer.zero_grad()
        (norm + F.cross_entropy(model(x), y)).backward()
        optimizer.step()
    model.zero_grad()
    return model


@idiom(10)
def gradient_accumulation() -> Any:
    model, (x, y) = mlp(), data()
    optimizer = torch.optim.AdamW(model.parameters())
    for micro in range(STEPS):
        (F.cross_entropy(model(x + micro), y) / 3).backward()
        if micro % 3 == 2:
            clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
    return model, optimizer


@idiom()
def clips_imported_by_name() -> Any:
    model, (x, y) = mlp(), data()
    optimizer, norms = torch.optim.SGD(model.parameters(), 0.5), []
    for step in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        norms.append(clip_grad_norm_(model[0].parameters(), 0.1))
        norms.append(clip_grad_norm_(model[2].parameters(), 1e3, foreach=bool(step % 2)))
        norms.append(clip_grad_norm_(model.parameters(), 0.3, norm_type="inf" if step % 3 else 1.5))
        norms.append(clip_grad_norm_((p for p in model.parameters()), 0.2, error_if_nonfinite=True))
        clip_grad_value_(model.parameters(), 0.05)
        norms.append(nn.utils.get_total_norm([p.grad for p in model.parameters()]))
        nn.utils.clip_grads_with_norm_(model.parameters(), 0.1, norms[-1])
        optimizer.step()
    return model, norms


@idiom()
def grad_scaler_that_skips() -> Any:
    model, (x, y) = mlp(), data()
    optimizer = torch.optim.Adam(model.parameters())
    scaler, scales = torch.amp.GradScaler("cpu", init_scale=2.0**127, growth_interval=5), []
    for step in range(STEPS):
        optimizer.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y) * 16).backward()
        if step % 2:
            scaler.unscale_(optimizer)
            clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return model, optimizer, scales


@idiom()
def autocast_bfloat16() -> Any:
    model, (x, y) = nn.Sequential(mlp(out=8), nn.Softmax(1), nn.Linear(8, 3)), data()
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    return model, optimizer


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.block, self.last = nn.Linear(8, 8), mlp(out=8), nn.Linear(8, 3)
        self.noise, self.reentrant = nn.Dropout(0.2), reentrant

    def forward(self, x: Tensor) -> Tensor:
        run = lambda t: self.noise(torch.relu(self.block(t)))  # noqa: E731
        return self.last(checkpoint(run, self.first(x), use_reentrant=self.reentrant))


def checkpointed(reentrant: bool) -> Any:
    model, (x, y) = Checkpointed(reentrant), data()
    return fit(model, lambda: F.cross_entropy(model(x), y))


IDIOMS["checkpoint_reentrant"] = Idiom(partial(checkpointed, True), STEPS)
IDIOMS["checkpoint"] = Idiom(partial(checkpointed, False), STEPS)


@idiom()
def checkpoint_without_modules() -> Any:
    """Looking at what an operation saved would run the user's function again."""
    (x, _), calls = data(), []
    w = torch.randn(8, 8).mul_(0.3).requires_grad_()

    def block(t: Tensor) -> Tensor:
        calls.append(len(calls))
        return torch.tanh(t @ w) @ w

    optimizer = torch.optim.SGD([w], 0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        checkpoint(block, x, use_reentrant=False).square().mean().backward()
        optimizer.step()
    return w, calls


# -- kinds of tensors -----------------------------------------------------------------------------------------------


@idiom()
def sparse_embedding() -> Any:
    table, head, tokens = nn.Embedding(20, 4, sparse=True), nn.Linear(4, 1), torch.randint(0, 20, (6, 3))
    optimizers = torch.optim.SparseAdam(table.parameters()), torch.optim.SGD(head.parameters(), 0.1)
    for _ in range(STEPS):
        for optimizer in optimizers:
            optimizer.zero_grad()
        head(table(tokens).mean(1)).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    return table, head


@idiom()
def sparse_gradients_without_modules() -> Any:
    table = torch.randn(20, 4, requires_grad=True)
    tokens = torch.randint(0, 20, (6,))
    for _ in range(STEPS):
        F.embedding(tokens, table, sparse=True).square().mean().backward()
        with torch.no_grad():
            table -= 0.1 * table.grad.to_dense()
        table.grad = None
    return table


@idiom()
def complex_parameters() -> Any:
    w = nn.Parameter(torch.randn(4, 4, dtype=torch.complex64))
    x, optimizer = torch.randn(6, 4, dtype=torch.complex64), torch.optim.Adam([w], 1e-2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        (x @ w).abs().square().mean().backward()
        clip_grad_norm_([w], 1.0)
        optimizer.step()
    return w, optimizer


def of_type(dtype: torch.dtype) -> Any:
    model, (x, y) = mlp().to(dtype), data()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(x.to(dtype)).float(), y).backward()
        clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    return model


for _dtype in (torch.float16, torch.bfloat16, torch.float64):
    IDIOMS[f"parameters_{str(_dtype)[6:]}"] = Idiom(partial(of_type, _dtype), STEPS)


@idiom()
def mixed_types_in_one_clip() -> Any:
    a, b = nn.Linear(8, 4), nn.Linear(4, 3).double()
    optimizer, x = torch.optim.SGD([*a.parameters(), *b.parameters()], 0.1), torch.randn(4, 8)
    for _ in range(STEPS):
        optimizer.zero_grad()
        b(a(x).double()).square().mean().backward()
        clip_grad_norm_([*a.parameters(), *b.parameters()], 0.01)
        optimizer.step()
    return a, b


@idiom()
def odd_gradients() -> Any:
    """Not contiguous, expanded, of no elements, of no dimensions, missing."""
    w, scalar = nn.Parameter(torch.randn(6, 4).t()), nn.Parameter(torch.tensor(0.5))
    empty, unused = nn.Parameter(torch.zeros(0, 3)), nn.Parameter(torch.ones(3))
    optimizer, x = torch.optim.SGD([w, scalar, empty, unused], 0.1), torch.randn(5, 4)
    for _ in range(STEPS):
        optimizer.zero_grad()
        ((x @ w).sum() * scalar + empty.sum()).backward()
        w.grad = torch.ones(6).expand(4, 6) if w.grad is None else w.grad.t().contiguous().t()
        clip_grad_norm_([w, scalar, empty, unused], 1.0)
        optimizer.step()
    return w, scalar, empty, unused


@idiom(0)
def parameters_on_meta() -> Any:
    model, shapes = mlp().to("meta"), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        out = model(torch.randn(4, 8, device="meta"))
        out.square().mean().backward()
        optimizer.step()
        shapes.append(tuple(out.shape))
    return shapes


@idiom()
def other_default_type() -> Any:
    torch.set_default_dtype(torch.float64)
    try:
        model, (x, y) = Functional(), data()
        return fit(model, lambda: F.nll_loss(model(x), y))
    finally:
        torch.set_default_dtype(torch.float32)


@idiom()
def other_default_device() -> Any:
    model, (x, y) = mlp(), data()
    torch.set_default_device("meta")  # a fault of ours that forgets to name a device would show
    try:
        return fit(model, lambda: F.cross_entropy(model(x), y))
    finally:
        torch.set_default_device(None)


# -- surroundings ---------------------------------------------------------------------------------------------------


class Noise(Dataset):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.randn(8) + float(np.random.rand()), i % 3


@idiom(20)
def data_loader_with_workers() -> Any:
    np.random.seed(0)
    loader = DataLoader(Noise(), 4, shuffle=True, num_workers=1, worker_init_fn=np.random.seed)
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside threads, torch's own
        for _ in range(2):
            for x, y in loader:
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
    return model, optimizer


class Names(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def in_mode(mode: Any) -> Any:
    model, (x, y) = Functional(), data()
    optimizer = torch.optim.Adam(model.parameters())
    with mode:
        for _ in range(STEPS):
            optimizer.zero_grad()
            F.nll_loss(model(x), y).backward()
            clip_grad_norm_(model.parameters(), 1e3)
            optimizer.step()
    return model, mode.seen


IDIOMS["in_a_function_mode"] = Idiom(lambda: in_mode(Names())[0], STEPS)


@idiom()
def in_a_dispatch_mode() -> Any:
    """Its user must not see our operations; the one exception is the scaling by exactly 1 that a clip is spared."""
    model, seen = in_mode(Operations())
    return model, [name for name in seen if "clip" not in name and "mul_" not in name and "clamp" not in name]


@idiom()
def hooks_of_the_users_own() -> Any:
    model, (x, y), seen = mlp(), data(), []
    model[0].register_forward_hook(lambda module, args, out: seen.append(out.detach().norm()))
    model[2].register_full_backward_hook(lambda module, before, after: seen.append(after[0].norm()))
    model[0].weight.register_hook(lambda g: g * 0.5)
    model[4].weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.norm()))
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.register_step_post_hook(lambda *_: seen.append(torch.rand(1)))
    return fit(model, lambda: F.cross_entropy(model(x), y), optimizer), seen


@idiom()
def functional_transforms() -> Any:
    model, (x, y) = mlp(), data()
    parameters = {k: v.detach() for k, v in model.named_parameters()}

    def loss(p: dict[str, Tensor], row: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(model, p, (row[None],)), label[None])

    def per_sample() -> Tensor:
        grads = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, x, y)
        scale = 1 / (1 + sum(g.flatten(1).square().sum(1) for g in grads.values()))
        return (F.cross_entropy(model(x), y, reduction="none") * scale).mean()

    return fit(model, per_sample)


class Energy(nn.Module):
    """Differentiates inside its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 8), nn.Softplus(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(self.net(x).sum(), x, create_graph=True)[0]


@idiom()
def gradient_inside_forward() -> Any:
    model, (x, _) = Energy(), data()
    return fit(model, lambda: (model(x) - x).square().mean())


@idiom()
def inference_between() -> Any:
    model, (x, y), seen = mlp(), data(), []
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(STEPS):
        with torch.inference_mode():
            seen.append(model(x).sum().clone())
            with torch.enable_grad():
                seen.append(model(x).mean().clone())
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, seen


@idiom(0)
def evolution_without_gradients() -> Any:
    model, (x, y) = mlp(), data()
    with torch.inference_mode():
        return [F.cross_entropy(model(x + torch.randn(8)), y).clone() for _ in range(STEPS)]


@idiom()
def second_thread_trains_too() -> Any:
    """Only the watching thread is watched; the other one must not disturb it."""
    (x, y), other, seen = data(), mlp(), {}
    model, wide = mlp(), torch.randn(64, 8)

    def aside() -> None:
        optimizer = torch.optim.SGD(other.parameters(), 0.01)
        for _ in range(3 * STEPS):
            optimizer.zero_grad()
            other(wide).square().mean().backward()
            optimizer.step()
        seen["done"] = True

    thread = threading.Thread(target=aside)
    thread.start()
    result = fit(model, lambda: F.cross_entropy(model(x), y))
    thread.join()
    return result, other, seen


@idiom()
def own_autograd_function() -> Any:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.variable = 3  # as the leaves of a graph have it
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return 2 * ctx.saved_tensors[0] * grad

    model, (x, _) = mlp(), data()
    return fit(model, lambda: Square.apply(model(x)).mean())


@idiom()
def saved_tensors_elsewhere() -> Any:
    (x, _), moved = data(), []
    w = torch.randn(8, 8, requires_grad=True)

    def unpack(i: int) -> Tensor:
        moved.append(i)
        return kept[i]

    kept: list[Tensor] = []

    def pack(t: Tensor) -> int:
        kept.append(t.detach().clone())
        return len(kept) - 1

    for _ in range(STEPS):
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            loss = torch.tanh(x @ w).square().mean()
        loss.backward()
        with torch.no_grad():
            w -= 0.1 * w.grad
        w.grad = None
    return w, moved


@idiom()
def gradient_edge() -> Any:
    model, (x, y) = mlp(), data()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        edge = torch.autograd.graph.get_gradient_edge(loss)
        torch.autograd.grad(edge, list(model.parameters()), retain_graph=True)
        torch.autograd.backward((loss, model(x).mean()))
        optimizer.step()
    return model


class Lookahead(torch.optim.Optimizer):
    """An optimizer around an optimizer, both with hooks."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.inner, self.count = inner, 0
        self.slow = [p.detach().clone() for g in inner.param_groups for p in g["params"]]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.inner.step(closure)
        self.count += 1
        if self.count % 5 == 0:
            fast = [p for g in self.param_groups for p in g["params"]]
            for p, s in zip(fast, self.slow, strict=True):
                p.copy_(s.lerp_(p, 0.5))


@idiom()
def optimizer_around_an_optimizer() -> Any:
    model, (x, y) = mlp(), data()
    return fit(model, lambda: F.cross_entropy(model(x), y), Lookahead(torch.optim.Adam(model.parameters(), 1e-2)))


@idiom()
def scheduler_and_averaging() -> Any:
    model, (x, y) = mlp(), data()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=STEPS + 1)
    average = torch.optim.swa_utils.AveragedModel(model)
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
    return model, average, schedule.get_last_lr()
