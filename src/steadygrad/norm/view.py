"""An inspection of BatchNorm as a table, and one layer as a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text
from torch import Tensor

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from steadygrad.norm.inspect import Inspection, LayerStatistics

#: Bins of a distribution, and the share of values left out at each end so that one outlier does not squeeze the rest.
BINS, TAIL = 48, 0.001


def inspection_text(inspection: Inspection) -> Text:
    """The gap and the warnings, a line each."""
    gap = f"{inspection.gap:.1%} of the output"
    if math.isnan(inspection.gap):
        gap = "unknown, as so small a batch cannot be used in training mode"
    return Text("\n".join((f"train/eval gap: {gap}", *inspection.warnings)))


def inspection_table(inspection: Inspection) -> Table:
    """One row per layer, medians over channels."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold")
    for title in ("channels", "values per\nchannel", "shift of means\n(running std)", "variance,\nbatch/running"):
        table.add_column(title, justify="right")
    table.add_column("mode")
    for layer in inspection.layers:
        mode = "frozen" if layer.frozen else "train" if layer.training else "eval"
        shift, ratio = float(layer.shift.abs().median()), float(layer.ratio.median())
        table.add_row(
            Text(layer.name), str(len(layer.batch_mean)), str(layer.samples), _number(shift), _number(ratio), mode
        )
    return table


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def layer_figure(layer: LayerStatistics) -> go.Figure:
    """Left: the input's distribution and the normalised one in both modes. Right: mean and spread of each channel."""
    from plotly.subplots import make_subplots

    from steadygrad.figures.style import blank, safe

    figure = make_subplots(1, 2, column_widths=[0.55, 0.45], horizontal_spacing=0.1)
    figure.update_layout(blank(height=380).layout)
    figure.update_layout(
        title={
            "text": safe(f"BatchNorm layer {layer.name}"),
            "x": 0.01,
            "y": 0.97,
            "yanchor": "top",
            "font": {"size": 13},
        },
        margin={"t": 84},
    )
    _distributions(figure, layer)
    _channels(figure, layer)
    for column, (x, y) in enumerate((("value", "density"), ("channel", "value")), start=1):
        grid = {"gridcolor": "rgba(128,138,155,0.22)", "zeroline": False}
        figure.update_xaxes(title=x, **grid, row=1, col=column)
        figure.update_yaxes(title=y, **grid, row=1, col=column)
    return figure


def _distributions(figure: go.Figure, layer: LayerStatistics) -> None:
    from steadygrad.figures.style import NEUTRAL, PALETTE

    by_batch = layer.normalised(running=False)
    curves = [("before", layer.sample, NEUTRAL, "solid"), ("after, training mode", by_batch, PALETTE[0], "solid")]
    if not layer.running_mean.isnan().all():
        curves.append(("after, evaluation mode", layer.normalised(running=True), PALETTE[1], "solid"))
    if not (layer.gamma == 1).all() or layer.beta.any():
        affine = by_batch * layer.gamma[layer.channels] + layer.beta[layer.channels]
        curves.append(("after gamma and beta", affine, PALETTE[0], "dot"))
    for name, values, color, dash in curves:
        x, y = _density(values)
        figure.add_scatter(x=x, y=y, name=name, line={"color": color, "dash": dash, "width": 1.8}, row=1, col=1)


def _channels(figure: go.Figure, layer: LayerStatistics) -> None:
    from steadygrad.figures.style import PALETTE

    numbers = np.arange(len(layer.batch_mean))
    for name, mean, var, color, symbol, aside in (
        ("batch", layer.batch_mean, layer.batch_var, PALETTE[0], "circle", -0.12),
        ("running", layer.running_mean, layer.running_var, PALETTE[1], "diamond", 0.12),
    ):
        spread = {"type": "data", "array": var.sqrt().tolist(), "thickness": 1, "width": 0, "color": color}
        figure.add_scatter(
            x=numbers + aside, y=mean.tolist(), error_y=spread, name=f"{name}: mean ± std", mode="markers",
            marker={"color": color, "symbol": symbol, "size": 6}, row=1, col=2,
        )  # fmt: skip


def _density(values: Tensor) -> tuple[list[float], list[float]]:
    known = values.cpu().numpy()
    known = known[np.isfinite(known)]
    low, high = np.quantile(known, [TAIL, 1 - TAIL]) if len(known) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(known, bins=BINS, range=(low, high))
    width = edges[1] - edges[0]
    share = counts / max(1, len(known)) / width
    return [float(v) for v in (edges[:-1] + width / 2)], [float(v) for v in share]
