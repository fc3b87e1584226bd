"""What a module and its parameters are, for rules that depend on it: kind, activation, fan-in, role."""

from __future__ import annotations

import math

from torch import Tensor, nn

ACTIVATION_TYPES = {
    "ReLU": "relu", "ReLU6": "relu", "LeakyReLU": "leaky_relu", "PReLU": "leaky_relu", "RReLU": "leaky_relu",
    "ELU": "elu", "SELU": "selu", "CELU": "elu", "GELU": "gelu", "SiLU": "silu", "Mish": "silu", "Softplus": "softplus",
    "Hardswish": "silu", "Sigmoid": "sigmoid", "Hardsigmoid": "sigmoid", "LogSigmoid": "sigmoid", "Tanh": "tanh",
    "Hardtanh": "tanh", "Softsign": "tanh", "Softmax": "softmax", "LogSoftmax": "softmax", "GLU": "sigmoid",
}  # fmt: skip
_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("linear", (nn.Linear, nn.Bilinear)),
    ("conv", (nn.modules.conv._ConvNd,)),
    ("recurrent", (nn.RNNBase, nn.RNNCellBase)),
    ("embedding", (nn.Embedding, nn.EmbeddingBag)),
    ("attention", (nn.MultiheadAttention,)),
    ("dropout", (nn.modules.dropout._DropoutNd,)),
    ("loss", (nn.modules.loss._Loss,)),
)


def module_kind(module: nn.Module) -> str:
    """The family of a module, for rules that depend on it."""
    for kind, types in _KINDS:
        if isinstance(module, types):
            return kind
    name = type(module).__name__
    if name in ACTIVATION_TYPES:
        return "activation"
    return "norm" if "Norm" in name and not list(module.children()) else "other"


def fan_in_of(module: nn.Module | None, tensor: Tensor) -> int:
    """Number of inputs that each output sums over; 0 for vectors. Grouped and transposed convolutions included."""
    if tensor.dim() < 2:
        return 0
    field = math.prod(tensor.shape[2:])
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return max(1, tensor.shape[0] * field // (module.groups * math.prod(module.stride)))
    if module is None or module_kind(module) == "other":
        return int(tensor.shape[-2])  # a bare matrix is used as x @ w
    return int(tensor.shape[1] * field)


def parameter_role(module: nn.Module | None, leaf: str, tensor: Tensor) -> str:
    """weight, bias, norm, embedding, recurrent or other."""
    kind = module_kind(module) if module is not None else "other"
    if kind == "norm":
        return "norm"
    if kind == "embedding":
        return "embedding"
    if "weight_hh" in leaf:
        return "recurrent"
    if "bias" in leaf or tensor.dim() < 2:
        return "bias" if "bias" in leaf or tensor.dim() == 1 else "other"
    if "emb" in leaf or leaf.startswith("pos"):
        return "embedding"
    return "weight"
