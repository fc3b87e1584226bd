"""Pictures by place: gradient norms of every layer over steps, signal flow by depth, update ratios, unit health.

Shapes legend: R = rows (parameters or sites), C = columns (ranges of steps).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.colors import sample_colorscale

from steadygrad.figures.series import Field, Flow, Series
from steadygrad.figures.style import BROKEN, PALETTE, SCALE, ZERO, Chart, blank, guide, safe, short
from steadygrad.records import ParameterInfo, SiteInfo, Vector

MAX_ROWS = 80
MAX_LINES = 10
MIN_DECADES = 4.0
USUAL_RATIO = 1e-3
_WEIGHTS = frozenset({"weight", "recurrent", "embedding"})


def forward_order(parameters: Sequence[ParameterInfo], sites: Sequence[SiteInfo]) -> list[int]:
    """Indices of the parameters in the order in which the forward pass reaches them.

    Parameters that no site holds keep their own order and come last.
    """
    reached: dict[int, int] = {}
    for site in sites:
        for index in site.params:
            reached.setdefault(index, site.index)
    return sorted((p.index for p in parameters), key=lambda index: (reached.get(index, len(sites)), index))


def _groups(names: Sequence[tuple[int, str]]) -> list[tuple[str, list[int]]]:
    """At most MAX_ROWS rows; where there are more, neighbours share one."""
    size = max(1, -(-len(names) // MAX_ROWS))
    chunks = [names[start : start + size] for start in range(0, len(names), size)]
    return [
        (chunk[0][1] if len(chunk) == 1 else f"{chunk[0][1]} +{len(chunk) - 1}", [index for index, _ in chunk])
        for chunk in chunks
    ]


def _shown(parameters: Sequence[ParameterInfo], sites: Sequence[SiteInfo], rows: int) -> list[tuple[int, str]]:
    by_index = {p.index: p for p in parameters if p.index < rows}
    order = [index for index in forward_order(parameters, sites) if index in by_index]
    if len(order) > MAX_ROWS:  # biases and norm scales mostly repeat what their layer's weight says
        order = [index for index in order if by_index[index].role in _WEIGHTS] or order
    return [(index, by_index[index].name) for index in order]


def gradient_map(series: Series, parameters: Sequence[ParameterInfo], sites: Sequence[SiteInfo]) -> Chart | None:
    """Log10 of every parameter's gradient norm over steps, first layer on top."""
    steps, values, broken = series.norms.table()
    rows = _groups(_shown(parameters, sites, len(values)))
    if not rows or not steps:
        return None
    with np.errstate(divide="ignore"):
        levels = np.log10(_largest(values, rows))
    names = [name for name, _ in rows]
    figure = _heatmap(steps, np.where(np.isneginf(levels), np.nan, levels), names, "log₁₀ norm", "norm 10^%{z:.2f}")
    figure.data[0].update(_color_range(levels[np.isfinite(levels)]))
    _overlay(figure, steps, np.isneginf(levels), color=ZERO, what="exactly 0")
    _overlay(figure, steps, _any(broken, rows), color=BROKEN, what="NaN or Inf")
    caption = (
        "Each row is a parameter, first layer on top; bright is large. Healthy rows keep their brightness. Rows that "
        "fade towards the top vanish, rows that light up explode. Pink: NaN or Inf. Grey: zero. Empty: no gradient."
    )
    return Chart("gradient-map", "Gradient norm of every layer", caption, figure)


def _color_range(levels: NDArray[np.float64]) -> dict[str, float]:
    """At least MIN_DECADES of colour: stretched over less, ordinary noise would look like trouble."""
    if not levels.size:
        return {}
    low, high = float(levels.min()), float(levels.max())
    spare = max(0.0, MIN_DECADES - (high - low)) / 2
    return {"zmin": low - spare, "zmax": high + spare}


def _largest(values: NDArray[np.float64], rows: Sequence[tuple[str, list[int]]]) -> NDArray[np.float64]:
    return np.array([np.fmax.reduce(values[indices], axis=0) for _, indices in rows])


def _any(broken: NDArray[np.bool_], rows: Sequence[tuple[str, list[int]]]) -> NDArray[np.bool_]:
    return np.array([broken[indices].any(axis=0) for _, indices in rows])


def _heatmap(
    steps: Sequence[int], values: NDArray[np.float64], names: Sequence[str], title: str, hover: str
) -> go.Figure:
    figure = blank(height=max(260, min(1250, 96 + 17 * len(names))))
    figure.add_heatmap(
        x=steps,
        y=list(range(len(names))),
        z=values.astype(np.float32),
        colorscale=SCALE,
        colorbar={"title": {"text": title, "side": "right"}, "thickness": 12, "outlinewidth": 0},
        hovertemplate=f"%{{y}}<br>step %{{x}}: {hover}<extra></extra>",
        hoverongaps=False,
    )
    figure.update_yaxes(
        autorange="reversed",
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=[short(name) for name in names],
        tickfont={"size": 11 if len(names) <= 40 else 9.5},
        ticklabelstandoff=6,
        showgrid=False,
    )
    figure.update_xaxes(showgrid=False)
    return figure


def _overlay(figure: go.Figure, steps: Sequence[int], cells: NDArray[np.bool_], *, color: str, what: str) -> None:
    """Cells that have no place on the scale, in a colour of their own over the map."""
    if not cells.any():
        return
    figure.add_heatmap(
        x=steps,
        y=list(range(len(cells))),
        z=np.where(cells, 1.0, np.nan).astype(np.float32),
        colorscale=[[0, color], [1, color]],
        showscale=False,
        hovertemplate=f"%{{y}}<br>step %{{x}}: {what}<extra></extra>",
        hoverongaps=False,
    )


def unit_maps(series: Series, sites: Sequence[SiteInfo]) -> list[Chart]:
    """Shares of dead and of saturated units over steps, for the sites where they are measured."""
    texts = (
        ("dead-units", "Dead units", series.dead, "Share of units that were 0 for every sample of the batch."),
        (
            "saturated-units",
            "Saturated units",
            series.saturated,
            "Share of inputs in the flat tails of the activation.",
        ),
    )
    drawn = (_unit_map(name, title, table, caption, sites) for name, title, table, caption in texts if table)
    return [chart for chart in drawn if chart is not None]


def _unit_map(name: str, title: str, table: Field, caption: str, sites: Sequence[SiteInfo]) -> Chart | None:
    steps, values, broken = table.table()
    measured = [(s.index, s.name) for s in sites if s.index < len(values) and not np.isnan(values[s.index]).all()]
    rows = _groups(measured)
    if not rows:
        return None
    shares = _largest(values, rows)
    figure = _heatmap(steps, shares, [label for label, _ in rows], "share", "%{z:.0%}")
    figure.data[0].update(zmin=0, zmax=1)
    _overlay(figure, steps, _any(broken, rows), color=BROKEN, what="NaN or Inf")
    return Chart(name, title, caption, figure)


def flow_chart(series: Series, sites: Sequence[SiteInfo]) -> Chart | None:
    """Forward scale and backward signal by depth, at the first and the last sampled step."""
    figure = blank(x="", y="output RMS, signal norm", log=True, height=430)
    for flow, dash in zip(_sampled(series), ("solid", "dot"), strict=False):
        for stat, label, color in (("out_rms", "output", PALETTE[0]), ("signal", "backward signal", PALETTE[1])):
            if stat in flow.stats:
                name = f"{label}, step {flow.step}"
                _flow_line(figure, flow.stats[stat], sites, name=name, color=color, dash=dash)
    if not figure.data:
        return None
    _depth_axis(figure, sites)
    caption = (
        "From input (left) to output (right), in order of execution. Flat lines are healthy. A backward signal that "
        "falls by orders of magnitude towards the left vanishes, one that rises explodes."
    )
    if series.blind is not None:
        caption += f" At step {series.blind} nothing was finite any more."
    return Chart("signal-flow", "Signal flow by depth", caption, figure)


def _sampled(series: Series) -> list[Flow]:
    """The first and the last sampled step, once if they are the same."""
    flows = [flow for flow in (series.first, series.last) if flow is not None]
    return flows[:1] if len(flows) == 2 and flows[0].step == flows[1].step else flows


def gain_chart(series: Series, sites: Sequence[SiteInfo]) -> Chart | None:
    """Output over input scale of every site, at the first and the last sampled step."""
    figure = blank(x="", y="output / input", log=True, height=300)
    for flow, color in zip(_sampled(series), (PALETTE[0], PALETTE[2]), strict=False):
        if {"out_rms", "in_rms"} <= set(flow.stats):
            with np.errstate(divide="ignore", invalid="ignore"):
                gain = flow.stats["out_rms"] / flow.stats["in_rms"]
            _flow_line(figure, gain, sites, name=f"step {flow.step}", color=color)
    if not figure.data:
        return None
    guide(figure, 1.0, "1: scale is kept")
    _depth_axis(figure, sites)
    caption = "What each layer does to the scale of its input. Gains that all lie on one side of 1 compound with depth."
    return Chart("gain", "Gain of every layer", caption, figure)


def _depth_axis(figure: go.Figure, sites: Sequence[SiteInfo]) -> None:
    every = max(1, -(-len(sites) // 60))
    shown = list(sites)[::every]
    figure.update_xaxes(
        tickmode="array",
        tickvals=[site.index for site in shown],
        ticktext=[short(site.name or site.type, 22) for site in shown],
        tickangle=-55 if len(shown) > 8 else 0,
        tickfont={"size": 11 if len(shown) <= 30 else 9.5},
    )
    figure.update_layout(showlegend=True, margin_b=24)


def _flow_line(
    figure: go.Figure, values: Vector, sites: Sequence[SiteInfo], *, name: str, color: str, dash: str = "solid"
) -> None:
    known = [(s, float(values[s.index])) for s in sites if s.index < len(values) and not np.isnan(values[s.index])]
    drawn = [(site, value) for site, value in known if 0 < value < np.inf]
    if drawn:
        figure.add_scatter(
            x=[site.index for site, _ in drawn],
            y=[value for _, value in drawn],
            name=name,
            mode="lines+markers",
            line={"color": color, "width": 1.8, "dash": dash},
            marker={"size": 5},
            text=[f"{safe(site.name)} ({safe(site.type)})" for site, _ in drawn],
            hovertemplate="%{text}: %{y:.3g}<extra></extra>",
        )
    _flow_marks(figure, known, max((value for _, value in drawn), default=1.0), name)


def _flow_marks(figure: go.Figure, known: Sequence[tuple[SiteInfo, float]], level: float, name: str) -> None:
    odd = [(site, value) for site, value in known if not 0 < value < np.inf]
    if odd:
        figure.add_scatter(
            x=[site.index for site, _ in odd],
            y=[level] * len(odd),
            name=f"{name}: 0 or Inf",
            mode="markers",
            marker={"symbol": "x", "size": 8, "color": BROKEN},
            text=[f"{safe(site.name)} ({safe(site.type)}): {value}" for site, value in odd],
            hovertemplate="%{text}<extra></extra>",
        )


def ratio_chart(series: Series, parameters: Sequence[ParameterInfo], sites: Sequence[SiteInfo]) -> Chart | None:
    """Update over weight norm of the weights over steps, with the usual 1e-3."""
    steps, values, broken = series.ratios.table()
    shown = _shown(parameters, sites, len(values))
    weights = {p.index for p in parameters if p.role in _WEIGHTS}
    shown = [(index, name) for index, name in shown if index in weights] or shown
    if not shown or not steps:
        return None
    picked = [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, MAX_LINES).round().astype(int))]
    figure = blank(y="update / weight", log=True, height=340)
    colors = sample_colorscale(SCALE, np.linspace(0.05, 0.92, max(2, len(picked))).tolist())
    for (index, name), color in zip(picked, colors, strict=False):
        _ratio_line(figure, steps, values[index], name, color)
    _ratio_marks(figure, steps, _any(broken, [("", [index for index, _ in shown])])[0], values)
    guide(figure, USUAL_RATIO, "10⁻³ is usual")
    figure.update_layout(
        legend={"orientation": "v", "x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top"}, showlegend=True
    )
    caption = (
        "How far one optimizer step moves each weight, relative to its size; dark is near the input. Around 10⁻³ is "
        "usual; far above is a rate too high for that layer, far below a layer that hardly learns."
    )
    if len(picked) < len(shown):
        caption += f" {len(picked)} of {len(shown)} weights, evenly over depth."
    return Chart("update-ratio", "Update to weight ratio", caption, figure)


def _ratio_line(
    figure: go.Figure, steps: Sequence[int], values: Vector | NDArray[np.float64], name: str, color: str
) -> None:
    drawn = [(step, float(value)) for step, value in zip(steps, values, strict=True) if value > 0]
    figure.add_scatter(
        x=[step for step, _ in drawn],
        y=[value for _, value in drawn],
        name=short(name, 26),
        mode="lines" if len(drawn) > 1 else "markers",
        line={"color": color, "width": 1.6},
        hovertemplate="step %{x}: %{y:.3g}<extra>%{fullData.name}</extra>",
    )


def _ratio_marks(
    figure: go.Figure, steps: Sequence[int], broken: NDArray[np.bool_], values: NDArray[np.float64]
) -> None:
    if not broken.any():
        return
    finite = values[np.isfinite(values) & (values > 0)]
    where = [step for step, bad in zip(steps, broken, strict=True) if bad]
    figure.add_scatter(
        x=where,
        y=[float(finite.max(initial=USUAL_RATIO))] * len(where),
        name="NaN or Inf",
        mode="markers",
        marker={"symbol": "x", "size": 8, "color": BROKEN},
        hovertemplate="step %{x}: NaN or Inf<extra></extra>",
    )
