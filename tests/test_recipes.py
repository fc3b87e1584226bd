"""Recipes: the values they choose, where they say these come from, which parameters decay, and that they train."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from steadygrad import recipes
from steadygrad.clip import GlobalNorm
from steadygrad.errors import InputError
from steadygrad.recipes import Recipe, parameter_groups
from steadygrad.schedules import Cosine, InverseSqrt, Noam, ScheduledLR, Step, Warmup


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.out = nn.Linear(8, 2)


class CustomRMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2, 4))


class Odd(nn.Module):
    """What real models hold: tied, frozen, shared, bare and two-dimensional norm parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.relative_bias = nn.Parameter(torch.zeros(3, 4))
        self.matrix = nn.Parameter(torch.zeros(4, 4))
        self.layer_scale = nn.Parameter(torch.zeros(4))
        self.norm2d = nn.LayerNorm((2, 4))
        self.custom = CustomRMSNorm()
        self.attention = nn.MultiheadAttention(4, 2)
        self.recurrent = nn.LSTM(4, 3)
        self.prelu = nn.PReLU()
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.shared = nn.Linear(4, 4)
        self.again = self.shared
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight


# -- groups -------------------------------------------------------------------------------------------------------


def test_only_weights_decay_and_each_parameter_is_in_one_group() -> None:
    model = Odd()
    names = {id(p): name for name, p in model.named_parameters()}
    decay, spared = parameter_groups(model, weight_decay=0.1)
    assert (decay["name"], decay["weight_decay"]) == ("decay", 0.1)
    assert (spared["name"], spared["weight_decay"]) == ("no_decay", 0.0)
    assert {names[id(p)] for p in decay["params"]} == {
        "matrix",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "recurrent.weight_ih_l0",
        "recurrent.weight_hh_l0",
        "shared.weight",
    }
    both = [id(p) for group in (decay, spared) for p in group["params"]]
    assert len(both) == len(set(both))
    assert set(both) == {id(p) for p in model.parameters() if p.requires_grad}


def test_a_group_without_parameters_is_left_out() -> None:
    assert [g["name"] for g in parameter_groups(nn.Linear(2, 2, bias=False), weight_decay=0.1)] == ["decay"]
    assert [g["name"] for g in parameter_groups(nn.LayerNorm(2), weight_decay=0.1)] == ["no_decay"]


@pytest.mark.parametrize(
    ("model", "rule"),
    [
        (nn.ReLU(), "nothing to optimize"),
        (nn.Linear(2, 2).requires_grad_(False), "nothing to optimize"),
        (nn.LazyLinear(2), "call the model once"),
    ],
)
def test_models_that_cannot_be_grouped_are_refused(model: nn.Module, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        parameter_groups(model, weight_decay=0.1)


# -- values -------------------------------------------------------------------------------------------------------


def values(recipe: Recipe) -> dict[str, Any]:
    return {setting.name: setting.value for setting in recipe.settings}


def test_the_cnn_recipe() -> None:
    optimizer, scheduler, clip = recipe = recipes.cnn(Net(), 1000, batch_size=128)
    assert isinstance(optimizer, torch.optim.SGD)
    assert isinstance(scheduler, ScheduledLR)
    assert isinstance(clip, GlobalNorm)
    assert scheduler.base_lrs == [0.05, 0.05]
    assert scheduler.schedules == [Warmup(50) >> Cosine(950)]
    assert clip.max_norm == 5.0
    assert all(group["momentum"] == 0.9 and group["nesterov"] for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 0.0]
    assert recipe.remarks == ()


def test_the_rnn_recipe() -> None:
    optimizer, scheduler, clip = recipes.rnn(nn.GRU(4, 4), 1000)
    assert type(optimizer) is torch.optim.Adam
    assert scheduler.schedules == [Step(250, gamma=0.5)]
    assert scheduler.base_lrs == [1e-3] * 2
    assert clip.max_norm == 1.0
    assert type(recipes.rnn(nn.GRU(4, 4), 1000, weight_decay=0.01).optimizer) is torch.optim.AdamW


def test_the_transformer_recipe() -> None:
    optimizer, scheduler, clip = recipes.transformer(nn.TransformerEncoderLayer(64, 4), 100_000, 64)
    assert type(optimizer) is torch.optim.AdamW
    assert scheduler.schedules == [Warmup(4000) >> InverseSqrt(4000)]
    assert optimizer.defaults["betas"] == (0.9, 0.98)
    assert clip.max_norm == 1.0
    # with the original's warm-up it is the original's schedule, but for its decay, which lags one step
    theirs = Noam(64, warmup=4000)
    for t in (0, 10, 3999):
        assert scheduler.base_lrs[0] * scheduler.schedules[0](t) == pytest.approx(theirs(t), rel=1e-12)
    for t in (4000, 20_000, 90_000):
        assert scheduler.base_lrs[0] * scheduler.schedules[0](t) == pytest.approx(theirs(t), rel=2e-4)
    assert values(recipes.transformer(nn.TransformerEncoderLayer(64, 4), 500, 64))["warmup"] == 50


MAKE: dict[str, Callable[..., Recipe]] = {
    "cnn": lambda **given: recipes.cnn(Net(), 200, **given),
    "rnn": lambda **given: recipes.rnn(nn.LSTM(4, 4), 200, **given),
    "transformer": lambda **given: recipes.transformer(nn.TransformerEncoderLayer(8, 2), 200, 8, **given),
}


@pytest.mark.parametrize("name", MAKE)
def test_every_value_has_a_source_and_can_be_overridden(name: str) -> None:
    own = MAKE[name]()
    for setting in own.settings:
        assert setting.source
        assert setting.source != "given"
        assert setting.name in str(own)
    other = {
        "lr": 0.123,
        "momentum": 0.5,
        "nesterov": False,
        "betas": (0.8, 0.9),
        "eps": 1e-6,
        "weight_decay": 0.03,
        "warmup": 7,
        "every": 9,
        "gamma": 0.7,
        "schedule": "cosine(200)",
        "max_norm": 2.5,
    }
    for setting in own.settings:
        if setting.name != "optimizer":
            (changed,) = [
                s for s in MAKE[name](**{setting.name: other[setting.name]}).settings if s.name == setting.name
            ]
            assert (changed.value, changed.source) == (other[setting.name], "given")


def test_values_given_reach_their_place() -> None:
    recipe = recipes.transformer(
        nn.TransformerEncoderLayer(8, 2),
        100,
        8,
        lr=0.5,
        betas=(0.8, 0.9),
        eps=1e-6,
        weight_decay=0.3,
        max_norm=math.inf,
    )
    (group, spared) = recipe.optimizer.param_groups
    assert (group["initial_lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.5, (0.8, 0.9), 1e-6, 0.3)
    assert spared["weight_decay"] == 0.0
    assert recipe.clip.max_norm == math.inf
    noam = recipes.transformer(nn.TransformerEncoderLayer(8, 2), 100, 8, lr=1.0, schedule="noam(8, warmup=10)")
    assert noam.scheduler.get_last_lr()[0] == pytest.approx(8**-0.5 * 10**-1.5)


def test_a_model_that_does_not_fit_is_remarked_on() -> None:
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    assert "meant for networks with BatchNorm" in str(recipes.cnn(plain, 100))
    assert "no torch.nn recurrent layer" in str(recipes.rnn(plain, 100))


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: recipes.cnn(Net(), 0), "steps must be"),
        (lambda: recipes.cnn(Net(), 10.5), "steps is a whole number"),  # type: ignore[arg-type]
        (lambda: recipes.cnn(Net(), 10, warmup=11), "must fit into the 10 steps"),
        (lambda: recipes.cnn(Net(), 10, lr=0.0), "lr must be a number above 0"),
        (lambda: recipes.cnn(Net(), 10, momentum=-1.0), "torch's SGD refuses these values"),
        (lambda: recipes.cnn(Net(), 10, weight_decay=-1.0), "weight_decay must be"),
        (lambda: recipes.cnn(Net(), 10, max_norm=-1.0), "max_norm"),
        (lambda: recipes.cnn(Net(), 10, schedule="cosin(3)"), "did you mean"),
        (lambda: recipes.cnn(Net(), 10, batch_size=0), "batch_size must be"),
        (lambda: recipes.transformer(nn.Linear(2, 2), 10, 0), "d_model must be"),
        (lambda: recipes.rnn(nn.LSTM(2, 2), 10, betas=(2.0, 0.9)), "torch's Adam refuses"),
    ],
)
def test_bad_values_are_refused(make: Callable[[], Recipe], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        make()


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_shortest_runs_work(name: str, steps: int) -> None:
    model: nn.Module = {"cnn": Net(), "rnn": nn.LSTM(4, 4), "transformer": nn.TransformerEncoderLayer(8, 2)}[name]
    build: dict[str, Callable[[], Recipe]] = {
        "cnn": lambda: recipes.cnn(model, steps),
        "rnn": lambda: recipes.rnn(model, steps),
        "transformer": lambda: recipes.transformer(model, steps, 8),
    }
    optimizer, scheduler, _ = build[name]()
    for _ in range(steps):
        assert scheduler.get_last_lr()[0] > 0
        optimizer.step()
        scheduler.step()


# -- training -----------------------------------------------------------------------------------------------------


def train(recipe: Recipe, model: nn.Module, loss: Callable[[], Tensor], steps: int) -> tuple[float, float]:
    """First and last loss, the last averaged over a tenth of the run."""
    optimizer, scheduler, clip = recipe
    losses = []
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        clip(model)
        optimizer.step()
        scheduler.step()
        losses.append(value.item())
    return losses[0], sum(losses[-steps // 10 :]) / len(losses[-steps // 10 :])


def test_the_cnn_recipe_trains_on_digits() -> None:
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(labels)
    blocks = [(1, 16), (16, 32)]
    layers = [
        m for a, b in blocks for m in (nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
    ]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))

    def loss() -> Tensor:
        chosen = torch.randint(0, 1500, (64,))
        return F.cross_entropy(model(x[chosen]), y[chosen])

    first, last = train(recipes.cnn(model, 150, batch_size=64), model, loss, 150)
    assert first > 2
    assert last < 0.1
    model.eval()
    assert (model(x[1500:]).argmax(1) == y[1500:]).float().mean() > 0.9


def test_the_rnn_recipe_learns_a_parity() -> None:
    torch.manual_seed(0)

    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(1, 24, batch_first=True)
            self.out = nn.Linear(24, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.rnn(x)[0])[..., 0]

    model = Counter()

    def loss() -> Tensor:
        bits = torch.randint(0, 2, (64, 6, 1)).float()
        return F.binary_cross_entropy_with_logits(model(bits), bits[..., 0].cumsum(1) % 2)

    first, last = train(recipes.rnn(model, 400, lr=0.01), model, loss, 400)
    assert first > 0.65
    assert last < 0.1


def test_the_transformer_recipe_learns_to_reverse() -> None:
    torch.manual_seed(0)
    width, length = 32, 6

    class Reverser(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(8, width)
            self.position = nn.Parameter(torch.randn(length, width) * 0.5)
            self.layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True)
            self.out = nn.Linear(width, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.layer(self.embedding(x) + self.position))

    model = Reverser()

    def loss() -> Tensor:
        x = torch.randint(0, 8, (64, length))
        return F.cross_entropy(model(x).flatten(0, 1), x.flip(1).flatten())

    first, last = train(recipes.transformer(model, 400, width), model, loss, 400)
    assert first > 1.9
    assert last < 0.2
