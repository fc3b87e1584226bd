"""Schedules drawn against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steadygrad.figures.style import PALETTE, Chart, blank, safe

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Curve:
    """One schedule as drawn: its text, its values, and where its pieces meet."""

    name: str
    points: Points
    joints: Points = ()


def schedule_chart(curves: Sequence[Curve], *, unit: str = "factor", log: bool = False) -> Chart:
    """Curves over the number of steps made, with a ring where pieces meet.

    Args:
        curves: at least one.
        unit: what the values are: ``factor`` or ``learning rate``.
        log: logarithmic; values of 0 are then left out.

    Example:
        >>> chart = schedule_chart([Curve("constant()", [(0, 1.0), (10, 1.0)])])
        >>> chart.figure.data[0].name
        'constant()'
    """
    figure = blank(x="steps made", y=unit, log=log, height=380 + 22 * len(curves))
    for index, curve in enumerate(curves):
        color = PALETTE[index % len(PALETTE)]
        figure.add_scatter(
            x=[t for t, _ in curve.points],
            y=[value if value > 0 or not log else None for _, value in curve.points],
            name=safe(curve.name),
            mode="lines",
            line={"color": color, "width": 2, "dash": "solid" if index < len(PALETTE) else "dash"},
            hovertemplate="after %{x} steps: %{y:.4g}<extra></extra>",
        )
        if curve.joints:
            figure.add_scatter(
                x=[t for t, _ in curve.joints],
                y=[value for _, value in curve.joints],
                mode="markers",
                marker={"symbol": "circle-open", "size": 9, "color": color, "line": {"width": 1.8}},
                showlegend=False,
                hovertemplate="pieces meet at %{x}: %{y:.4g}<extra></extra>",
            )
    figure.update_layout(showlegend=True, legend={"orientation": "v", "y": 1.0, "yanchor": "bottom"})
    if not log:
        figure.update_yaxes(rangemode="tozero")
    caption = "The value used by each optimizer step. A ring marks where one piece hands over to the next."
    return Chart("schedules", "Schedules", caption, figure)
