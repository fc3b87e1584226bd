"""How every chart looks. Colours are told apart with colour-blind eyes and on light and on dark paper."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

PALETTE = ("#3d7fd9", "#e08a2e", "#2ba08b", "#9a6bd6", "#c9599a", "#8a9a3b", "#5aa9d6", "#b57b5a")
BROKEN = "#e0218a"  # NaN and Inf, everywhere; no palette or scale contains it
ZERO = "#8a93a3"  # exactly zero, where the scale is logarithmic
LIMIT = "#d1495b"  # thresholds and critical findings
WARNING = "#e08a2e"
NEUTRAL = "#8a93a3"
SCALE = "Viridis"
MIN_DECADES = 2.0
FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure with what a reader needs: ``title`` says what is drawn, ``caption`` how to read it (plain text)."""

    name: str
    title: str
    caption: str
    figure: go.Figure


def safe(text: str) -> str:
    """Text for labels: Plotly renders a subset of HTML in them, and names come from the user's script.

    Example:
        >>> safe("<b>layer</b>")
        '&lt;b&gt;layer&lt;/b&gt;'
    """
    return html.escape(text, quote=False)


def short(name: str, width: int = 34) -> str:
    """A dotted name cut from the left, where it says least."""
    return safe(name if len(name) <= width else "…" + name[1 - width :])


def blank(*, x: str = "step", y: str = "", log: bool = False, height: int = 320) -> go.Figure:
    """An empty figure in the common style. Text and grid colours are set by the page, for light or dark."""
    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 72, "r": 24, "t": 30, "b": 46},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12.5, "color": "#5b6472"},
        colorway=list(PALETTE),
        hovermode="closest",
        hoverlabel={"font": {"family": FONT, "size": 12}},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": NEUTRAL, "activecolor": PALETTE[0]},
        xaxis=_axis(x),
        yaxis=_axis(y, log=log),
    )
    return figure


def _axis(title: str, *, log: bool = False) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "title": {"text": title, "standoff": 8} if title else None,
        "gridcolor": "rgba(128,138,155,0.22)",
        "exponentformat": "power",
        "zeroline": False,
        "showline": False,
        "ticks": "",
        "automargin": True,
    }
    if log:
        axis.update(type="log", tickfont={"size": 11})
    return axis


def fit_log_axis(figure: go.Figure) -> None:
    """Fit a logarithmic y axis to its data and guides, over at least MIN_DECADES, labelled at powers of ten.

    Left alone, such an axis stretches ordinary noise over its whole height and crowds nine labels into a decade.
    """
    values = [float(v) for trace in figure.data for v in trace.y if v is not None and 0 < v < math.inf]
    values += [float(shape.y0) for shape in figure.layout.shapes if shape.yref == "y"]
    if not values:
        return
    low, high = math.log10(min(values)), math.log10(max(values))
    spare = max(0.15, (MIN_DECADES - (high - low)) / 2)
    figure.update_yaxes(range=[low - spare, high + spare], dtick=max(1, math.ceil((high - low) / 8)))


def line(figure: go.Figure, points: Sequence[tuple[int, float]], name: str, color: str, **options: Any) -> None:
    """A curve through (step, value) points; a single point is drawn as a dot, which a line would hide."""
    mode = "lines" if len(points) > 1 else "markers"
    figure.add_scatter(
        x=[step for step, _ in points],
        y=[value for _, value in points],
        name=safe(name),
        mode=mode,
        line={"color": color, "width": options.pop("width", 1.6), "dash": options.pop("dash", "solid")},
        hovertemplate="step %{x}: %{y:.4g}<extra>" + safe(name).replace("%{", "% {") + "</extra>",
        **options,
    )


def broken_marks(figure: go.Figure, marks: Iterable[tuple[int, float]], level: float, what: str) -> None:
    """Values that no axis can hold, as crosses at height ``level``: where a curve ends in NaN is the thing to see."""
    marks = list(marks)
    if not marks:
        return
    figure.add_scatter(
        x=[step for step, _ in marks],
        y=[level] * len(marks),
        name=f"{what}: NaN, Inf" if not all(value == 0 for _, value in marks) else f"{what}: 0",
        mode="markers",
        marker={"symbol": "x", "size": 8, "color": BROKEN, "line": {"width": 0}},
        text=[f"step {step}: {value}" for step, value in marks],
        hovertemplate="%{text}<extra></extra>",
    )


def guide(figure: go.Figure, y: float, label: str) -> None:
    """A dotted horizontal line on a logarithmic axis, with its meaning at the right end."""
    figure.add_hline(y=y, line={"color": NEUTRAL, "width": 1.2, "dash": "dot"})
    figure.add_annotation(
        x=1,
        xref="paper",
        xanchor="right",
        y=math.log10(y),  # lines take the value on a logarithmic axis, annotations its logarithm
        yanchor="bottom",
        text=safe(label),
        showarrow=False,
        font={"size": 11, "color": NEUTRAL},
    )
