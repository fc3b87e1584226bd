"""Activations, normalisation and shortcuts."""

from __future__ import annotations

from steadygrad.records import Cause
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.fitting import can_normalize, can_shortcut, has_batchnorm
from steadygrad.remedies.numbers import path_to
from steadygrad.view import View


def _swap_words(view: View, cause: Cause) -> tuple[str, str]:
    saturating = cause.code == "saturating-activation"
    old, new = (
        ("torch.sigmoid / nn.Sigmoid / nn.Tanh", "nn.ReLU()") if saturating else ("nn.ReLU()", "nn.LeakyReLU(0.01)")
    )
    why = (
        "ReLU passes the gradient on undiminished wherever it is on; with Kaiming's init the scale is kept over depth."
        if saturating
        else "A small slope for negative inputs gives a dead unit a gradient, so that it can come back."
    )
    where = f"  # e.g. at {path_to(view, cause.location)}" if cause.location else ""
    return why, f"# {old}  ->  {new}{where}"


def output_activation(view: View) -> str:
    """The ReLU that makes the model's output, by name; "" where there is none."""
    chain = [str(op) for op in view.graph.get("chain", [])]
    weights = ("Addmm", "Mm", "Convolution", "Bmm", "Linear")
    for op in chain:
        if op.startswith(weights):
            return ""
        if op in ("Relu", "Threshold"):
            found = [s.name for s in view.sites if s.kind == "activation" and s.activation == "relu"]
            return found[-1] if found else ""
    return ""


def _swap_values(view: View, cause: Cause) -> list[str]:
    if cause.code == "unstable-operation":  # an output that is to be positive, and reaches zero
        return ["softplus"] if any(s.activation == "relu" for s in view.sites) else []
    output = output_activation(view)
    last = [f"identity@{output}"] if output else []
    squashing = any(s.activation in ("sigmoid", "tanh") for s in view.sites)
    if cause.code == "saturating-activation" or (squashing and cause.code != "dying-relu"):
        return ["relu", "elu", "gelu", *last]
    one_sided = any(s.activation == "relu" for s in view.sites) or not view.sites
    return [*last, *(["leaky_relu", "gelu"] if one_sided else [])]


def _norm_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "Resets the scale at every layer, so that it cannot compound over depth.",
        "self.norm = torch.nn.LayerNorm(width)\n...\nh = activation(self.norm(self.linear(h)))",
    )


def _norm_values(view: View, cause: Cause) -> list[str]:
    """BatchNorm wants some rows, and would tell each step of a sequence what comes later."""
    rows = view.batch.get("batch_size", 0.0)
    images = any(s.kind == "conv" for s in view.sites)
    sequence = any(s.kind in ("recurrent", "attention", "embedding") for s in view.sites)
    return (
        ["layer"]
        if 0 < rows < 8 or sequence
        else (["batch", "layer"] if images or view.depth >= 6 else ["layer", "batch"])
    )


def _residual_words(view: View, cause: Cause) -> tuple[str, str]:
    return "A shortcut gives the gradient a way back that no layer can shrink.", "h = h + activation(self.linear(h))"


def _group_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "GroupNorm and LayerNorm do not look at the batch, so its size does not matter.",
        "torch.nn.GroupNorm(num_groups=8, num_channels=channels)  # in place of BatchNorm; or a batch of 16 and more",
    )


def _other_norms(view: View, cause: Cause) -> list[str]:
    """Vectors are normalised whole, images by groups of channels."""
    vectors = any(s.kind == "norm" and s.type == "BatchNorm1d" for s in view.sites)
    return ["layer", "", "none"] if vectors else ["", "none"]


REMEDIES = (
    Remedy(
        "swap-activation",
        "sigmoid or tanh that saturates, ReLU units that die, a ReLU on an output",
        "Change the initialisation with it: each activation has its own gain.",
        "swap-activation:relu@encoder.act",
        _swap_words,
        _swap_values,
    ),
    Remedy(
        "add-normalization",
        "a scale that grows or shrinks over depth",
        "BatchNorm needs batches of at least 8 or so; LayerNorm does not.",
        "add-normalization:layer",
        _norm_words,
        _norm_values,
        can_normalize,
    ),
    Remedy(
        "add-residual",
        "deep stacks and long recurrences whose gradient dies on the way",
        "Input and output of the block must have the same shape; start the branch small.",
        "add-residual:0.1",
        _residual_words,
        lambda view, cause: ["", "0.1"] if cause.code == "long-recurrence" else ["", "0.3", "0.05"],
        can_shortcut,
    ),
    Remedy(
        "replace-batchnorm",
        "BatchNorm over batches of a few samples",
        "GroupNorm's groups must divide the channels.",
        "replace-batchnorm",
        _group_words,
        _other_norms,
        has_batchnorm,
    ),
)
