"""The learning-rate range test drawn: loss over rate, with the rates that matter."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from steadygrad.figures.style import BROKEN, LIMIT, NEUTRAL, PALETTE, Chart, blank, safe
from steadygrad.schedules.rangetest import RangeTest, Values


def range_test_chart(tests: Mapping[str, RangeTest]) -> Chart:
    """Loss after each update over the rate of the update; the first optimizer's suggestion is marked.

    Args:
        tests: by optimizer, the leading one first.

    Example:
        >>> from steadygrad.schedules.rangetest import read_range_test
        >>> chart = range_test_chart({"SGD": read_range_test([0.1, 1.0], [2.0, float("nan")])})
        >>> [trace.name for trace in chart.figure.data]
        ['SGD: loss', 'SGD: smoothed', 'SGD: NaN, Inf']
    """
    figure = blank(x="learning rate", y="loss", height=440)
    figure.update_xaxes(type="log", dtick=1)
    for index, (name, test) in enumerate(tests.items()):
        _curves(figure, safe(name), test, PALETTE[index % len(PALETTE)])
    low, high = _window(list(tests.values()))
    spare = 0.08 * (high - low) or 1.0
    figure.update_yaxes(range=[low - spare, high + spare])
    lead = next(iter(tests.values()))
    if lead.lowest is not None:
        _mark(figure, lead.lowest, f"lowest {lead.lowest:.1e}", NEUTRAL, height=0.02, side="left")
    if lead.suggested is not None:
        _mark(figure, lead.suggested, f"suggested {lead.suggested:.1e}", LIMIT, height=0.98, side="right")
    figure.update_layout(showlegend=True)
    caption = "Each dot is the loss after one update. Rates to the right of the lowest point make training diverge."
    return Chart("lr-find", "Learning-rate range test", caption, figure)


def _curves(figure: go.Figure, name: str, test: RangeTest, color: str) -> None:
    finite = np.isfinite(test.losses)
    figure.add_scatter(
        x=test.rates[finite],
        y=test.losses[finite],
        name=f"{name}: loss",
        mode="markers",
        marker={"color": color, "size": 5, "opacity": 0.45},
        hovertemplate="rate %{x:.2e}: %{y:.4g}<extra></extra>",
    )
    figure.add_scatter(
        x=test.rates,
        y=test.smoothed,
        name=f"{name}: smoothed",
        mode="lines",
        line={"color": color, "width": 2},
        hoverinfo="skip",
    )
    if not finite.all():
        _, high = _window([test])
        figure.add_scatter(
            x=test.rates[~finite],
            y=[high] * int((~finite).sum()),
            name=f"{name}: NaN, Inf",
            mode="markers",
            marker={"symbol": "x", "size": 9, "color": BROKEN},
            hovertemplate="rate %{x:.2e}: not finite<extra></extra>",
        )


def _window(tests: list[RangeTest]) -> tuple[float, float]:
    """The losses worth looking at: what shoots up at the end would flatten everything before it."""
    lows, highs = zip(*(_reach(test.losses) for test in tests), strict=True)
    return min(lows), max(highs)


def _reach(losses: Values) -> tuple[float, float]:
    finite = losses[np.isfinite(losses)]
    if not len(finite):
        return 0.0, 1.0
    begin = finite[: max(1, len(finite) // 4)]
    return float(finite.min()), float(begin.max() + 0.5 * max(0.0, begin.max() - finite.min()))


def _mark(figure: go.Figure, rate: float, label: str, color: str, *, height: float, side: str) -> None:
    figure.add_vline(x=rate, line={"color": color, "width": 1.4, "dash": "dash"})
    figure.add_annotation(
        x=math.log10(rate),
        y=height,
        yref="paper",
        xanchor=side,
        xshift=4 if side == "left" else -4,
        text=safe(label),
        showarrow=False,
        font={"size": 11.5, "color": color},
    )
