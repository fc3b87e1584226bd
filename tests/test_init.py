"""Initialisers against torch.nn.init bit for bit, against moments and bounds, and against the traps they avoid."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor, nn

from steadygrad import init
from steadygrad.errors import InputError
from steadygrad.init.gains import SHAPES, second_moment
from steadygrad.init.rules import truncated_std


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- torch with the same generator --------------------------------------------------------------------------------

SAME: dict[str, tuple[Callable[..., object], Callable[..., object]]] = {
    "uniform": (
        lambda w, g: init.uniform_(w, -0.3, 0.7, generator=g),
        lambda w, g: nn.init.uniform_(w, -0.3, 0.7, generator=g),
    ),
    "normal": (
        lambda w, g: init.normal_(w, mean=0.1, std=0.2, generator=g),
        lambda w, g: nn.init.normal_(w, 0.1, 0.2, generator=g),
    ),
    "xavier uniform": (
        lambda w, g: init.xavier_(w, gain=1.7, generator=g),
        lambda w, g: nn.init.xavier_uniform_(w, 1.7, generator=g),
    ),
    "xavier normal": (
        lambda w, g: init.xavier_(w, gain=0.5, distribution="normal", generator=g),
        lambda w, g: nn.init.xavier_normal_(w, 0.5, generator=g),
    ),
    "kaiming normal": (
        lambda w, g: init.kaiming_(w, generator=g),
        lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    ),
    "kaiming uniform, fan_out, leaky": (
        lambda w, g: init.kaiming_(
            w, nonlinearity="leaky_relu", slope=0.2, mode="fan_out", distribution="uniform", generator=g
        ),
        lambda w, g: nn.init.kaiming_uniform_(w, 0.2, "fan_out", "leaky_relu", generator=g),
    ),
    "kaiming tanh": (
        lambda w, g: init.kaiming_(w, nonlinearity="tanh", generator=g),
        lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="tanh", generator=g),
    ),
    "orthogonal": (
        lambda w, g: init.orthogonal_(w, gain=1.4, generator=g),
        lambda w, g: nn.init.orthogonal_(w, 1.4, generator=g),
    ),
    "truncated normal": (
        lambda w, g: init.truncated_normal_(w, std=0.02, generator=g),
        lambda w, g: nn.init.trunc_normal_(w, 0.0, 0.02, -0.04, 0.04, generator=g),
    ),
}


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (4, 6, 3), (8, 4, 3, 3), (2, 3, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SAME)
def test_the_numbers_are_those_of_torch(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    ours, theirs = torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype)
    SAME[name][0](ours, seeded(3))
    SAME[name][1](theirs, seeded(3))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["xavier uniform", "kaiming normal", "orthogonal"])
def test_an_ordinary_layer_is_filled_as_its_weight(name: str) -> None:
    for layer in (nn.Linear(6, 9), nn.Conv2d(4, 8, 3), nn.Conv1d(3, 5, 2)):
        theirs = torch.empty_like(layer.weight)
        SAME[name][0](layer, seeded(5))
        SAME[name][1](theirs, seeded(5))
        assert torch.equal(layer.weight, theirs)
        assert not layer.bias.any()


def test_identity_is_torchs_eye_and_dirac() -> None:
    assert torch.equal(init.identity_(torch.empty(4, 6)), nn.init.eye_(torch.empty(4, 6)))
    for groups, kernel in ((1, 3), (2, 4), (4, 5)):
        layer = init.identity_(nn.Conv2d(8, 12, kernel, groups=groups))
        assert torch.equal(layer.weight, nn.init.dirac_(torch.empty_like(layer.weight), groups))


@pytest.mark.parametrize("name", SAME)
def test_the_global_random_state_is_used_only_without_a_generator(name: str) -> None:
    before = torch.get_rng_state()
    SAME[name][0](torch.empty(4, 4), seeded())
    assert torch.equal(before, torch.get_rng_state())
    SAME[name][0](torch.empty(4, 4), None)
    assert not torch.equal(before, torch.get_rng_state())


# -- moments and bounds -------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.floats(0.1, 4))
def test_xavier_uniform_stays_within_the_published_bound(rows: int, columns: int, gain: float) -> None:
    w = init.xavier_(torch.empty(rows, columns), gain=gain)
    assert w.abs().max() <= gain * math.sqrt(6 / (rows + columns)) * (1 + 1e-6)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
def test_kaiming_has_its_published_variance(mode: str, distribution: str) -> None:
    w = init.kaiming_(torch.empty(400, 300), mode=mode, distribution=distribution, generator=seeded())
    fan = 300 if mode == "fan_in" else 400
    assert abs(w.double().var() * fan / 2 - 1) < 0.02
    assert abs(w.double().mean()) < 4 * w.double().std() / math.sqrt(w.numel())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000), st.sampled_from([torch.float32, torch.bfloat16]))
def test_orthogonal_rows_or_columns(rows: int, columns: int, seed: int, dtype: torch.dtype) -> None:
    w = init.orthogonal_(torch.empty(rows, columns, dtype=dtype), generator=seeded(seed)).double()
    small = w @ w.T if rows <= columns else w.T @ w
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    assert torch.allclose(small, torch.eye(min(rows, columns), dtype=torch.float64), atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_orthogonal_where_torch_gives_up(dtype: torch.dtype) -> None:
    with pytest.raises(NotImplementedError):
        nn.init.orthogonal_(torch.empty(4, 4, dtype=dtype))
    exact = init.orthogonal_(torch.empty(4, 4), generator=seeded())
    assert torch.equal(init.orthogonal_(torch.empty(4, 4, dtype=dtype), generator=seeded()), exact.to(dtype))


def test_truncation_is_relative_and_can_keep_the_std() -> None:
    loose = nn.init.trunc_normal_(torch.empty(400, 400), std=0.02, generator=seeded())
    assert loose.abs().max() > 4 * 0.02, "torch's absolute bounds do not truncate a small std"
    cut = init.truncated_normal_(torch.empty(400, 400), std=0.02, generator=seeded())
    assert cut.abs().max() <= 2 * 0.02
    assert abs(cut.std() / 0.02 - 0.8796) < 0.01
    kept = init.truncated_normal_(torch.empty(400, 400), std=0.02, keep_std=True, generator=seeded())
    assert abs(kept.std() / 0.02 - 1) < 0.01
    lopsided = init.truncated_normal_(torch.empty(200, 200), mean=1.0, std=0.1, low=-1, high=3, generator=seeded())
    assert 0.9 <= lopsided.min() < 1 < lopsided.max() <= 1.3


@settings(max_examples=60, deadline=None)
@given(st.floats(-4, 3.5), st.floats(0.2, 4))
def test_the_std_of_a_truncated_normal(low: float, width: float) -> None:
    assert math.isclose(truncated_std(low, low + width), stats.truncnorm.std(low, low + width), rel_tol=1e-5)


def test_residual_branches_add_up_to_one() -> None:
    total = sum(init.residual_(torch.empty(200, 200), branches=8, generator=seeded(i)) for i in range(8))
    assert abs(float(total.std()) / 0.02 - 1) < 0.02


def test_identity_layers_pass_their_input_on() -> None:
    x = torch.randn(2, 6, 5, 5, generator=seeded())
    for layer in (nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 5, padding=2, groups=3)):
        assert torch.equal(init.identity_(layer)(x), x)
    up = init.identity_(nn.ConvTranspose2d(6, 6, 3, padding=1, groups=2))
    assert torch.equal(up(x), x)
    assert torch.equal(init.identity_(nn.Linear(5, 5), gain=2.0)(x), 2 * x)
    gru = init.identity_(nn.GRU(3, 4))
    assert all(torch.equal(gate, torch.eye(4)) for gate in gru.weight_hh_l0.chunk(3))


# -- gains --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "relu", "leaky_relu", "tanh", "sigmoid"])
def test_gains_that_torch_has(name: str) -> None:
    assert init.gain(name) == pytest.approx(nn.init.calculate_gain(name), rel=1e-12)
    assert init.gain("leaky_relu", 0.3) == pytest.approx(nn.init.calculate_gain("leaky_relu", 0.3), rel=1e-12)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_second_moments_against_adaptive_quadrature(name: str) -> None:
    function, parameter = SHAPES[name]

    def integrand(z: float) -> float:
        y = float(function(torch.tensor(1.3 * z, dtype=torch.float64), parameter))
        return y * y * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    kinks = [-3 / 1.3, -1 / 1.3, 0.0, 1 / 1.3, 3 / 1.3, 6 / 1.3]
    exact, _ = integrate.quad(integrand, -12, 12, points=kinks, limit=200)
    assert second_moment(name, parameter, 1.3) == pytest.approx(exact, rel=1e-5)


def test_slopes_against_their_closed_forms() -> None:
    assert second_moment("leaky_relu", 0.2, slope=True) == pytest.approx((1 + 0.04) / 2, rel=1e-6)
    assert second_moment("linear", scale=2.0, slope=True) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "mish", "elu"])
def test_a_deep_net_keeps_its_scale_with_the_gain(name: str) -> None:
    function, parameter = SHAPES[name]
    x = torch.randn(64, 512, generator=seeded(99))
    for layer in range(10):
        w = init.kaiming_(torch.empty(512, 512), nonlinearity=name, generator=seeded(layer))
        x = function(x, parameter) @ w.T
    assert 0.5 < float(x.std()) < 2.0


# -- fans ---------------------------------------------------------------------------------------------------------

CONVS = {
    "ordinary": lambda: nn.Conv2d(8, 12, 3),
    "grouped": lambda: nn.Conv2d(8, 12, 3, groups=4),
    "depthwise": lambda: nn.Conv2d(32, 32, 3, groups=32),
    "strided": lambda: nn.Conv2d(8, 12, 4, stride=2),
    "dilated": lambda: nn.Conv1d(8, 4, 3, dilation=2),
    "transposed": lambda: nn.ConvTranspose2d(64, 16, 2, stride=2),
    "transposed, overlapping": lambda: nn.ConvTranspose2d(8, 6, 4, stride=2, groups=2),
    "strided 3d": lambda: nn.Conv3d(4, 6, 2, stride=(1, 2, 1)),
    "patches": lambda: nn.Conv2d(3, 10, 4, stride=4),
    "linear": lambda: nn.Linear(11, 7),
}


def middle(value: Tensor, dims: int) -> Tensor:
    """Away from borders; an even number of positions, as strides of 2 alternate."""
    for axis in range(2, 2 + dims):
        value = value.narrow(axis, value.shape[axis] // 2 - 2, 4)
    return value


@pytest.mark.parametrize("name", CONVS)
def test_fans_count_connections(name: str) -> None:
    """Of a layer with weights 1, an output of ones is its fan_in; the gradient of an input is its fan_out."""
    layer = CONVS[name]()
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    dims = layer.weight.dim() - 2
    x = torch.ones(1, layer.weight.shape[1] if dims == 0 else layer.in_channels, *[24] * dims, requires_grad=True)
    y = layer(x)
    fans = init.fans(layer)
    assert float(middle(y.detach(), dims).mean()) == pytest.approx(fans.fan_in)
    y.sum().backward()
    assert x.grad is not None
    assert float(middle(x.grad, dims).mean()) == pytest.approx(fans.fan_out)


def test_torchs_fans_are_wrong_where_ours_differ() -> None:
    rule = nn.init._calculate_fan_in_and_fan_out
    assert rule(CONVS["depthwise"]().weight) == (9, 288)
    assert init.fans(CONVS["depthwise"]()) == init.Fans(9, 9)
    assert rule(CONVS["transposed"]().weight) == (64, 256)
    assert init.fans(CONVS["transposed"]()) == init.Fans(64, 64)
    assert init.fans(CONVS["linear"]().weight) == init.Fans(*map(float, rule(CONVS["linear"]().weight)))


@pytest.mark.parametrize("name", ["transposed", "transposed, overlapping", "grouped", "depthwise", "patches"])
def test_the_scale_is_kept_through_unusual_convolutions(name: str) -> None:
    layer = CONVS[name]()
    init.kaiming_(layer, nonlinearity="linear", generator=seeded())
    x = torch.randn(64, layer.in_channels, 24, 24, generator=seeded(1))
    assert float(middle(layer(x).detach(), 2).std()) == pytest.approx(1.0, abs=0.15)


def test_gates_are_blocks_of_their_own() -> None:
    lstm = init.orthogonal_(nn.LSTM(6, 5, num_layers=2, bidirectional=True))
    for key, value in lstm.named_parameters():
        if value.dim() == 2:
            for gate in value.chunk(4):
                small = gate @ gate.T if gate.shape[0] <= gate.shape[1] else gate.T @ gate
                assert torch.allclose(small, torch.eye(len(small)), atol=1e-5), key
    by_name = {w.name: w.fans for w in init.weights(lstm)}
    assert by_name["weight_ih_l0"] == init.Fans(6, 5)
    assert by_name["weight_ih_l1"] == init.Fans(10, 5)
    assert {w.name: w.fans for w in init.weights(nn.LSTM(6, 5, proj_size=3))}["weight_hr_l0"] == init.Fans(5, 3)
    assert init.weights(nn.GRUCell(3, 4))[0].fans == init.Fans(3, 4)
    assert init.weights(nn.MultiheadAttention(8, 2))[0].fans == init.Fans(8, 8)
    apart = init.weights(nn.MultiheadAttention(8, 2, kdim=6, vdim=4))
    assert [w.name for w in apart] == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]


# -- which weights ------------------------------------------------------------------------------------------------


def test_tied_and_frozen_weights() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = nn.Sequential(first, second, nn.Linear(4, 2))
    model[2].weight.requires_grad_(False)
    frozen = model[2].weight.clone()
    assert [w.name for w in init.weights(model)] == ["0.weight"]
    init.normal_(model, std=1.0, generator=seeded(2))
    once = torch.empty(4, 4).normal_(generator=seeded(2))
    assert torch.equal(first.weight, once), "a tied weight is drawn once"
    assert torch.equal(model[2].weight, frozen)


def test_parametrized_weights_really_change() -> None:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(5, 3))
    init.xavier_(layer, generator=seeded(1))
    assert torch.allclose(layer.weight, nn.init.xavier_uniform_(torch.empty(3, 5), generator=seeded(1)), atol=1e-6)


def test_several_modules_and_norm_layers() -> None:
    layers = [nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Embedding(5, 4), nn.Linear(4, 2)]
    kept = [copy.deepcopy(layer.state_dict()) for layer in layers]
    init.kaiming_(layer for layer in layers)
    changed = [any(not torch.equal(a[k], b.state_dict()[k]) for k in a) for a, b in zip(kept, layers, strict=True)]
    assert changed == [True, False, False, True]
    norm = layers[1]
    nn.init.normal_(norm.weight)
    norm.running_mean.add_(3)
    assert init.norm_layers_(layers) == 1
    assert norm.weight.tolist() == [1] * 4
    assert norm.bias.tolist() == norm.running_mean.tolist() == [0] * 4


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a bias": (lambda: init.xavier_(torch.empty(3)), "two dimensions"),
    "not a model": (lambda: init.xavier_(3), "module"),
    "not modules": (lambda: init.xavier_([nn.Linear(2, 2), "x"]), "str"),
    "lazy": (lambda: init.xavier_(nn.LazyLinear(3)), "lazy"),
    "gain": (lambda: init.xavier_(torch.empty(2, 2), gain=-1), "gain"),
    "nan": (lambda: init.normal_(torch.empty(2, 2), std=math.nan), "std"),
    "mode": (lambda: init.kaiming_(torch.empty(2, 2), mode="fan"), "fan_out"),
    "name": (lambda: init.kaiming_(torch.empty(2, 2), nonlinearity="rule"), "relu"),
    "distribution": (lambda: init.xavier_(torch.empty(2, 2), distribution="gaussian"), "uniform"),
    "bounds": (lambda: init.uniform_(torch.empty(2, 2), 1, -1), "below"),
    "cut": (lambda: init.truncated_normal_(torch.empty(2, 2), low=2, high=1), "below"),
    "branches": (lambda: init.residual_(torch.empty(2, 2), branches=0), "branches"),
    "rule": (lambda: init.auto_(nn.Linear(2, 2), rule="best"), "lsuv_"),
    "nothing": (lambda: init.auto_(nn.ReLU()), "no trainable"),
    "elsewhere": (lambda: init.auto_([nn.Linear(2, 2)], within=nn.Linear(2, 2)), "part of"),
    "fans": (lambda: init.fans(nn.ReLU()), "one kind"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_explained(name: str) -> None:
    with pytest.raises(InputError, match=WRONG[name][1]):
        WRONG[name][0]()


# -- auto ---------------------------------------------------------------------------------------------------------


class Functional(nn.Module):
    """Activations that are no modules, registered in another order than they run."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 2)
        self.first = nn.Conv2d(1, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Linear(16, 8)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.norm(self.first(x)))
        x = self.second(x.flatten(1))
        return self.last(self.drop(x.tanh_()))


class Dynamic(Functional):
    """Cannot be traced: it looks at its values."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > -1e9 else -x)


IMAGES = torch.randn(8, 1, 4, 4, generator=seeded(9))


@pytest.mark.parametrize("batch", [None, IMAGES], ids=["graph", "run"])
def test_the_activation_behind_each_weight(batch: Tensor | None) -> None:
    found = {c.name: (c.rule, c.activation) for c in init.plan(Functional(), batch=batch)}
    assert list(found) == ["first.weight", "second.weight", "last.weight"], "in the order of execution"
    assert found["first.weight"] == ("kaiming", "silu")
    assert found["second.weight"] == ("xavier", "tanh")
    assert found["last.weight"] == ("xavier", "linear")


def test_what_cannot_be_traced_is_run_or_assumed() -> None:
    assert [c.activation for c in init.plan(Dynamic(), batch=IMAGES)] == ["silu", "tanh", "linear"]
    without = init.plan(Dynamic())
    assert {c.why for c in without[:-1]} == {"assumed: no activation seen"}
    assert [c.activation for c in without] == ["relu", "relu", "linear"]


def test_modules_in_registration_order() -> None:
    layers = [nn.Linear(4, 8), nn.LayerNorm(8), nn.PReLU(), nn.Linear(8, 8), nn.LeakyReLU(0.3), nn.Linear(8, 1)]
    assert [c.activation for c in init.plan(layers)] == ["prelu(0.25)", "leaky_relu(0.3)", "linear"]


def test_a_part_of_a_model_is_seen_within_it() -> None:
    model = Functional()
    kept = copy.deepcopy(model.last.state_dict())
    (choice,) = init.auto_([model.first], within=model)
    assert (choice.name, choice.activation) == ("first.weight", "silu")
    assert torch.equal(model.last.weight, kept["weight"])


@pytest.mark.parametrize(
    ("layer", "rule", "gain"),
    [
        (nn.ReLU(), "kaiming", math.sqrt(2)),
        (nn.ReLU(inplace=True), "kaiming", math.sqrt(2)),
        (nn.LeakyReLU(0.2), "kaiming", math.sqrt(2 / 1.04)),
        (nn.GELU(), "kaiming", 1.5335),
        (nn.SiLU(), "kaiming", 1.6765),
        (nn.Tanh(), "xavier", 5 / 3),
        (nn.Sigmoid(), "xavier", 1.0),
        (nn.SELU(), "lecun", 1.0),
        (nn.Identity(), "xavier", 1.0),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_the_rule_for_each_activation(layer: nn.Module, rule: str, gain: float) -> None:
    model = nn.Sequential(nn.Linear(400, 300), nn.BatchNorm1d(300), layer, nn.Linear(300, 2))
    for batch in (None, torch.randn(4, 400)):
        choice = init.auto_(model, batch=batch, generator=seeded())[0]
        assert (choice.rule, choice.gain) == (rule, pytest.approx(gain, rel=1e-4))
        std = gain * math.sqrt(2 / 700 if rule == "xavier" else 1 / 400)
        assert choice.std == pytest.approx(std, rel=1e-4)
        assert float(model[0].weight.detach().std()) == pytest.approx(std, rel=0.02)


def test_residual_blocks_and_shortcuts() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.short = (
                nn.Conv2d(2, 4, 3, padding=1),
                nn.Conv2d(4, 4, 3, padding=1),
                nn.Conv2d(2, 4, 1),
            )

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.b(F.gelu(self.a(x))) + self.short(x))

    for batch in (None, torch.randn(2, 2, 5, 5)):
        found = {c.name: c.activation for c in init.plan(Block(), batch=batch)}
        assert found == {"a.weight": "gelu", "b.weight": "relu", "short.weight": "relu"}


def test_recurrent_attention_and_embeddings() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(20, 16, padding_idx=0)
            self.lstm = nn.LSTM(16, 16, batch_first=True)
            self.attend = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.out = nn.Linear(16, 20)
            self.out.weight = self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.attend(self.lstm(self.embed(x))[0]))

    net = Net()
    tokens = torch.randint(0, 20, (2, 5))
    found = {c.name: c for c in init.auto_(net, batch=tokens, generator=seeded())}
    assert found["embed.weight"].std == 0.25
    assert "out.weight" not in found
    assert found["attend.linear1.weight"].activation == "relu"
    assert not net.embed.weight[0].any()
    assert all(torch.allclose(g @ g.T, torch.eye(16), atol=1e-5) for g in net.lstm.weight_hh_l0.chunk(4))
    assert net.lstm.bias_ih_l0.tolist() == [0] * 16 + [1] * 16 + [0] * 32
    assert not net.lstm.bias_hh_l0.any()
    assert float(net.attend.self_attn.in_proj_weight.detach().std()) == pytest.approx(math.sqrt(2 / 32), rel=0.1)


@pytest.mark.parametrize("rule", init.RULES)
def test_one_rule_throughout(rule: str) -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
    choices = init.auto_(model, rule=rule, generator=seeded())
    if rule != "auto":
        assert {c.rule for c in choices} == {rule}
    if rule == "orthogonal":
        assert torch.allclose(model[0].weight @ model[0].weight.T, 1.5335**2 * torch.eye(16), atol=1e-3)
    again = copy.deepcopy(model)
    init.auto_(again, rule=rule, generator=seeded())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_half_precision_models() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)).to(torch.bfloat16)
    for rule in init.RULES:
        init.auto_(model, rule=rule)
        assert torch.isfinite(model[0].weight).all()
        assert model[0].weight.dtype == torch.bfloat16


# -- LSUV ---------------------------------------------------------------------------------------------------------


def spreads(model: nn.Module, batch: Tensor) -> list[float]:
    out: list[float] = []
    hooks = [
        m.register_forward_hook(lambda _, __, y: out.append(float(y.double().std())))
        for m in model.modules()
        if isinstance(m, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    return out


class Odd(Functional):
    """Dropout and BatchNorm, functional use of a weight, and an order of its own."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.conv2d(x * 40, self.first.weight))
        return self.last(F.relu(self.drop(self.second(x.flatten(1)))))


def test_lsuv_gives_unit_variance_in_execution_order() -> None:
    model = Odd()
    rows = init.lsuv_(model, IMAGES, generator=seeded())
    assert [r.name for r in rows] == ["first.weight", "second.weight", "last.weight"]
    assert all(abs(r.after - 1) <= 0.1 for r in rows)
    model.eval()
    assert all(abs(s - 1) <= 0.1 for s in spreads(model, IMAGES))
    shape = model.second.weight.flatten(1)
    gram = shape @ shape.T
    assert torch.allclose(gram / gram[0, 0], torch.eye(8), atol=1e-4), "still orthogonal, scaled"


def test_lsuv_leaves_everything_else_as_it_was() -> None:
    model = Functional()
    model.norm.eval()
    model.first.weight.grad = torch.ones_like(model.first.weight)
    grad = model.first.weight.grad
    pointers = [p.data_ptr() for p in model.parameters()]
    buffers = {k: v.clone() for k, v in model.named_buffers()}
    flags = [m.training for m in model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    init.lsuv_(model, IMAGES, generator=seeded())
    assert pointers == [p.data_ptr() for p in model.parameters()]
    assert flags == [m.training for m in model.modules()]
    assert all(torch.equal(v, buffers[k]) for k, v in model.named_buffers())
    assert model.first.weight.grad is grad
    assert torch.equal(grad, torch.ones_like(grad))
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()


def test_lsuv_without_orthonormal_only_rescales() -> None:
    model = nn.Sequential(nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 4))
    before = [p.clone() for p in (model[0].weight, model[2].weight)]
    batch = torch.randn(64, 10)
    init.lsuv_(model, batch, orthonormal=False, std=2.0, tolerance=0.01)
    for old, layer in zip(before, (model[0], model[2]), strict=True):
        ratio = layer.weight / old
        assert torch.allclose(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-4)
    assert all(abs(s / 2 - 1) <= 0.011 for s in spreads(model, batch))


def test_lsuv_scales_a_tied_weight_once() -> None:
    a, b = nn.Linear(8, 8), nn.Linear(8, 8)
    b.weight = a.weight
    model = nn.Sequential(a, nn.ReLU(), b)
    assert [r.name for r in init.lsuv_(model, 5 * torch.randn(128, 8))] == ["0.weight"]


def test_lsuv_that_fails_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    kept = copy.deepcopy(model.state_dict())
    for batch, message in ((torch.zeros(3, 4), "all equal"), (torch.full((3, 4), math.nan), "not finite")):
        with pytest.raises(InputError, match=message):
            init.lsuv_(model, batch)
        assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
    with pytest.raises(RuntimeError, match="shapes"):
        init.lsuv_(model, torch.ones(3, 5))
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
    with pytest.raises(InputError, match="no linear"):
        init.lsuv_(nn.ReLU(), torch.ones(2, 2))
    for wrong in ({"std": 0}, {"tolerance": -1}, {"max_tries": 0}):
        with pytest.raises(InputError):
            init.lsuv_(model, torch.ones(2, 4), **wrong)


def test_batches_of_every_kind() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3)

        def forward(self, x: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
            return {"out": self.a(x) * scale}

    x = torch.randn(32, 3)
    for batch, forward in ((x, None), ((x, "y"), None), ({"x": x, "scale": 2.0}, None), (None, lambda m, _: m(x, 3.0))):
        assert len(init.lsuv_(Two(), batch, forward=forward)) == 1
    with pytest.raises(InputError, match="empty"):
        init.lsuv_(Two(), ())
