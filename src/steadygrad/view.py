"""Quantities that detectors and causes share, worked out once from a history.

Shapes legend: P = parameters, M = sites, S = samples kept, W = weight matrices in forward order.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steadygrad.curve import LossShape, loss_shape
from steadygrad.history import Array, History, StreamHistory, parameter_matrix, site_matrix
from steadygrad.records import Detail, NotRun, ParameterInfo, SiteInfo

ADAPTIVE = frozenset(
    {"Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "Adafactor", "SparseAdam", "Lion"}
)
MATRIX_ROLES = frozenset({"weight", "recurrent"})
#: Operations whose parameter is no weight matrix, whatever its shape.
NOT_PRODUCTS = ("Index", "Embedding", "Gather", "Sub", "Rsub", "Add", "Mul", "Div", "Exp", "Pow", "Neg", "Cdist")


class View:
    """Derived quantities of a history. Cheap to build; everything is computed on first use."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.parameters: list[ParameterInfo] = history.parameters
        self.sites: list[SiteInfo] = history.sites
        #: Checks of ours that raised while this view was looked at.
        self.failures: list[NotRun] = []
        self._matrices: dict[tuple[str, str], Array] = {}

    # -- streams ------------------------------------------------------------------------------------------------

    @cached_property
    def streams(self) -> list[StreamHistory]:
        """Streams that stepped, longest first."""
        return sorted(self.history.streams.values(), key=lambda s: (-s.steps, s.index))

    @cached_property
    def main(self) -> StreamHistory | None:
        """The stream with the most steps."""
        return self.streams[0] if self.streams else None

    @cached_property
    def interleaved(self) -> bool:
        """Two optimizers that take turns (as in a GAN): their losses need not fall."""
        spans = sorted((s.first_step, s.last_step) for s in self.streams if s.steps > 2)
        return any(b[0] < a[1] - 1 for a, b in itertools.pairwise(spans))

    @cached_property
    def losses(self) -> dict[int, LossShape]:
        """Shape of each stream's loss curve."""
        shapes = {s.index: loss_shape(s.loss) for s in self.streams}
        return {i: shape for i, shape in shapes.items() if shape is not None}

    @cached_property
    def loss(self) -> LossShape | None:
        """Shape of the main stream's loss curve."""
        return self.losses.get(self.main.index) if self.main is not None else None

    @cached_property
    def signed_loss(self) -> bool:
        """A loss that takes both signs is a policy gradient, a likelihood ratio ...: its level means nothing."""
        shape = self.loss
        return shape is not None and shape.lowest < 0

    def optimizer_type(self, stream: StreamHistory | None = None) -> str:
        """Class name of the stream's optimizer."""
        stream = stream or self.main
        infos = [o for o in self.history.optimizers if stream is not None and o.index == stream.index]
        return infos[0].type if infos else ""

    def hyper(self, key: str, stream: StreamHistory | None = None) -> float:
        """A scalar hyper-parameter of the stream's optimizer; 0 where it has none."""
        stream = stream or self.main
        for info in self.history.optimizers:
            if stream is not None and info.index == stream.index:
                value = info.hyper.get(key, 0.0)
                if isinstance(value, list | tuple):
                    value = value[0] if value else 0.0
                return float(value) if isinstance(value, int | float) else 0.0
        return 0.0

    @cached_property
    def adaptive(self) -> bool:
        """Whether the main optimizer divides by a running gradient scale."""
        return self.optimizer_type() in ADAPTIVE

    # -- parameters ---------------------------------------------------------------------------------------------

    @cached_property
    def samples(self) -> list[tuple[int, Detail]]:
        """Sampled details of the main stream."""
        return self.main.samples.all() if self.main is not None else []

    @cached_property
    def sample_steps(self) -> NDArray[np.int64]:
        """Steps of the samples."""
        return np.array([step for step, _ in self.samples], dtype=np.int64)

    def parameter(self, key: str) -> Array:
        """``[S, P]`` of a parameter statistic."""
        return self._kept(("parameter", key), lambda: parameter_matrix(self.samples, key, len(self.parameters)))

    def site(self, key: str) -> Array:
        """``[S, M]`` of a site statistic."""
        return self._kept(("site", key), lambda: site_matrix(self.samples, key, len(self.sites)))

    def _kept(self, name: tuple[str, str], make: Callable[[], Array]) -> Array:
        """A matrix that is made once. It is everybody's, so nobody may write to it."""
        matrix = self._matrices.get(name)
        if matrix is None:
            matrix = self._matrices[name] = make()
            matrix.flags.writeable = False
        return matrix

    @cached_property
    def update_ratio(self) -> Array:
        """``[S, P]`` update norm over weight norm."""
        weight = self.parameter("weight_norm")
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = self.parameter("update_norm") / weight
        ratio[~(weight > 0)] = np.nan
        return ratio

    @cached_property
    def tables(self) -> set[int]:
        """Rows of parameters that nothing is multiplied with: looked up (embeddings by hand), added, compared."""
        rows, readers = self.graph.get("parameters", []), self.graph.get("readers", [])
        return {r for r, op in zip(rows, readers, strict=False) if op.startswith(NOT_PRODUCTS)}

    @cached_property
    def penalised(self) -> list[int]:
        """Rows of weight matrices that the loss reads directly, past every layer: a penalty on the weights."""
        rows, near = self.graph.get("parameters", []), self.graph.get("shortest", [])
        wanted = set(self.matrices)
        return [r for r, d in zip(rows, near, strict=True) if d == 0 and r in wanted] if self.longest_path >= 2 else []

    @cached_property
    def matrices(self) -> list[int]:
        """Rows of weight matrices that an optimizer trains, in forward order where known."""
        order = {row: site.index for site in reversed(self.sites) for row in site.params}
        rows = [
            p.index
            for p in self.parameters
            if p.role in MATRIX_ROLES and p.trainable and len(p.shape) >= 2 and p.index not in self.tables
        ]
        return sorted(rows, key=lambda r: (order.get(r, 1 << 30), r))

    @cached_property
    def matrix_ratio(self) -> Array:
        """``[S]`` median update ratio over the trained weight matrices (over all parameters if there is none)."""
        ratio = self.update_ratio
        if not ratio.size:
            return np.zeros(0)
        chosen = ratio[:, self.matrices] if self.matrices else ratio
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            median: Array = np.nanmedian(chosen, axis=1)
        return median

    @cached_property
    def init_gain(self) -> dict[int, float]:
        """Weight RMS at the start times sqrt(fan_in): 1 keeps the scale of a linear layer, torch's default is 0.58.

        Of weights that are trained: one that is frozen was given its values on purpose.
        """
        return {
            p.index: p.init_rms * math.sqrt(p.fan_in)
            for p in self.parameters
            if p.role in MATRIX_ROLES
            and p.trainable
            and p.fan_in > 0
            and math.isfinite(p.init_rms)
            and p.index not in self.tables
        }

    # -- signal flow --------------------------------------------------------------------------------------------

    @cached_property
    def weighted_sites(self) -> list[SiteInfo]:
        """Sites that hold weight matrices (linear, conv, recurrent), in forward order."""
        return [s for s in self.sites if s.kind in ("linear", "conv", "recurrent") and s.params]

    def flow(self, key: str, sample: int = 0, *, norms: bool = False) -> tuple[list[SiteInfo], Array]:
        """One statistic along the weighted sites at a sample; only sites where it was measured."""
        matrix = self.site(key)
        if not len(matrix):
            return [], np.zeros(0)
        row = matrix[sample]
        sites = [s for s in (self.sites if norms else self.weighted_sites) if not math.isnan(row[s.index])]
        return sites, np.array([row[s.index] for s in sites])

    def place(self, index: int) -> str:
        """Where a site is, as ``named_modules()`` has it: a functional activation lies at the layer that feeds it."""
        site = self.sites[index]
        owner, colon, _ = site.name.rpartition(":")
        if site.kind != "activation" or site.params or not (colon or site.name == site.type):
            return site.name
        before = [s.name for s in self.weighted_sites if s.index < index]
        inside = [name for name in before if not owner or name == owner or name.startswith(owner + ".")]
        return inside[-1] if inside else owner or (before[-1] if before else site.name)

    def label(self, index: int) -> str:
        """A site in words: ``fc2 (relu)`` for a functional activation, the module's name otherwise."""
        site, place = self.sites[index], self.place(index)
        return place if place == site.name else f"{place} ({site.activation})"

    # -- structure ----------------------------------------------------------------------------------------------

    @cached_property
    def graph(self) -> dict[str, Any]:
        """The largest autograd graph seen; empty where none was walked."""
        facts = self.history.facts("graph")
        return dict(max(facts, key=lambda f: (f.data["nodes"], f.step)).data) if facts else {}

    def ops(self, *names: str) -> int:
        """How many operations of these kinds the graph holds."""
        counts = self.graph.get("ops", {})
        return sum(v for k, v in counts.items() if any(n in k for n in names))

    @cached_property
    def reached(self) -> set[int]:
        """Rows of parameters that the loss depended on at any look."""
        return {r for f in self.history.facts("graph") for r in f.data["parameters"]}

    @cached_property
    def depth(self) -> int:
        """Fewest weight operations between the loss and the deepest parameter: what a shortcut cannot bypass."""
        return max(self.graph.get("shortest", [0]), default=0)

    @cached_property
    def input_parameter(self) -> str:
        """The weight matrix furthest from the loss: the one that meets the data. "" where no graph was walked."""
        rows, far = self.graph.get("parameters", []), self.graph.get("longest", [])
        matrices = [(d, -r) for r, d in zip(rows, far, strict=True) if len(self.parameters[r].shape) >= 1]
        return self.parameters[-max(matrices)[1]].name if matrices else ""

    @cached_property
    def longest_path(self) -> int:
        """Most weight operations between the loss and any parameter."""
        return max(self.graph.get("longest", [0]), default=0)

    @cached_property
    def has_norm(self) -> bool:
        """Whether any normalisation layer takes part."""
        return bool(self.graph.get("norms", 0)) or any(s.kind == "norm" for s in self.sites)

    @cached_property
    def has_attention(self) -> bool:
        """Whether attention takes part."""
        named = any(s.kind == "attention" or "ttention" in s.type or "ttn" in s.name for s in self.sites)
        weighted = self.ops("Softmax") > self.ops("LogSoftmax") and self.ops("Bmm", "UnsafeView") > 0
        return named or weighted or self.ops("ScaledDotProduct") > 0

    @cached_property
    def reused(self) -> dict[int, int]:
        """Parameters that one forward uses many times (recurrence by hand): row -> uses."""
        rows, uses = self.graph.get("parameters", []), self.graph.get("uses", [])
        return {
            r: u
            for r, u in zip(rows, uses, strict=True)
            if u >= 5 and self.parameters[r].role in ("weight", "recurrent")
        }

    @cached_property
    def repeated(self) -> dict[int, int]:
        """Parameters of any shape that one forward uses ten times or more: row -> uses."""
        rows, uses = self.graph.get("parameters", []), self.graph.get("uses", [])
        return {r: u for r, u in zip(rows, uses, strict=True) if u >= 10}

    @cached_property
    def elasticity(self) -> dict[int, float]:
        """How the first loss goes with a parameter: relative change by relative change, at most, ``|w||dL/dw|/L``.

        Empty where the loss is or becomes negative: a relative change needs a zero that means something.
        """
        if self.loss is None or not self.loss.start > 0 or self.signed_loss or not len(self.samples):
            return {}
        spread, mean = self.parameter("grad_std")[0], self.parameter("grad_mean")[0]
        weights = self.parameter("weight_norm")[0]
        found = {}
        for p in self.parameters:
            gradient = math.hypot(spread[p.index], mean[p.index]) * math.sqrt(max(1, math.prod(p.shape)))
            value = gradient * float(weights[p.index]) / self.loss.start
            if math.isfinite(value):
                found[p.index] = value
        return found

    def source(self, what: str) -> str:
        """``file:line`` where the script builds its last optimizer, clips, or calls backward; "" where unknown."""
        found = [str(f.data["source"]) for f in self.history.facts("source") if f.data["what"] == what]
        return found[-1] if found else ""

    def set_at(self, what: str, *keywords: str) -> str:
        """Where a value handed to such a call is set, then the next place or the call: ``train.py:9 (train.py:45)``."""
        facts = [f.data for f in self.history.facts("source") if f.data["what"] == what]
        if not facts:
            return ""
        places = [str(facts[-1][k]) for k in keywords if facts[-1].get(k)]
        first, second = [*dict.fromkeys([*places, str(facts[-1]["source"])]), ""][:2]
        return f"{first} ({second})" if second else first

    # -- the loss function --------------------------------------------------------------------------------------

    @cached_property
    def loss_calls(self) -> list[dict[str, Any]]:
        """What the loss functions were fed, call by call."""
        return [dict(f.data) for f in self.history.facts("loss-call")]

    @cached_property
    def uninformed(self) -> float:
        """Loss of a predictor that knows nothing, for mean-reduced classification losses; NaN for others."""
        for call in self.loss_calls:
            if call.get("reduction") != "mean" or "value" not in call:
                continue
            if abs(call["value"] - call.get("loss", call["value"])) > 0.01 * abs(call["value"]):
                continue  # one term of several
            if (
                call["name"] in ("cross_entropy", "nll_loss")
                and call.get("classes", 0) > 1
                and call.get("target_shape")
            ):
                return math.log(call["classes"])
            if call["name"] in ("binary_cross_entropy_with_logits", "binary_cross_entropy"):
                share = min(0.999, max(0.001, float(call.get("target_mean", 0.5))))
                return -share * math.log(share) - (1 - share) * math.log(1 - share)
        return math.nan

    @cached_property
    def target_growth(self) -> float:
        """How many times the spread of the targets has grown, as that of a Q-network's own does. 1 if unknown."""
        spreads = [d.batch["target_std"] for _, d in self.samples if d.batch.get("target_std", 0.0) > 0]
        return float(np.median(spreads[-3:]) / np.median(spreads[:3])) if len(spreads) >= 6 else 1.0

    @cached_property
    def batch(self) -> dict[str, float]:
        """Median statistics of inputs and targets over the samples."""
        keys = {k for _, d in self.samples for k in d.batch}
        return {k: float(np.median([d.batch[k] for _, d in self.samples if k in d.batch])) for k in sorted(keys)}
