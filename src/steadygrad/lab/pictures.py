"""Pictures that many experiments need: curves by arm with the spread over seeds, effects, sweeps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from steadygrad.figures.style import BROKEN, PALETTE, blank, fit_log_axis, safe
from steadygrad.lab.experiment import Picture, Runs

#: Points of a curve that are drawn; more only make the file larger.
POINTS = 200


def curves(
    runs: Runs,
    *,
    curve: str = "loss",
    y: str = "",
    title: str = "",
    caption: str = "",
    log: bool = True,
    arms: Sequence[str] | None = None,
    name: str = "",
    window: int = 1,
) -> Picture:
    """A curve of every arm: the median over seeds, and all seeds between the edges of the band.

    ``window`` above 1 draws means over as many steps, for curves whose noise hides them.
    """
    figure = blank(x="step", y=y or curve.replace("_", " "), log=log, height=360)
    every = list(next(iter(runs.values())))
    for index, arm in enumerate(arms or [a for a in every if curve in next(iter(runs.values()))[a].curves]):
        seeds = [smooth(seed[arm].curves[curve], window) for seed in runs.values()]
        _arm(figure, seeds, arm, PALETTE[index % len(PALETTE)])
    if log:
        fit_log_axis(figure)
    figure.update_layout(showlegend=True)
    caption = caption or "Median over seeds; the band holds all of them."
    return Picture(name or curve.replace("_", "-"), title or "Loss", caption, figure)


def smooth(values: list[float], window: int) -> list[float]:
    """Running means over the last ``window`` values.

    Example:
        >>> smooth([1.0, 3.0, 5.0], 2)
        [1.0, 2.0, 4.0]
    """
    return [sum(values[max(0, i + 1 - window) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def _arm(figure: go.Figure, seeds: list[list[float]], name: str, color: str) -> None:
    length = min(len(s) for s in seeds)
    stride = max(1, length // POINTS)
    at = list(range(0, length, stride))
    columns = [[_finite(s[i]) for s in seeds] for i in at]
    middle = [statistics.median(c) if c else None for c in map(_known, columns)]
    low = [min(c) if c else None for c in map(_known, columns)]
    high = [max(c) if c else None for c in map(_known, columns)]
    band = [i for i, c in enumerate(columns) if len(_known(c)) == len(c)]
    if len(seeds) > 1 and band:
        figure.add_scatter(
            x=[at[i] for i in band] + [at[i] for i in reversed(band)],
            y=[high[i] for i in band] + [low[i] for i in reversed(band)],
            fill="toself", fillcolor=_faint(color), line={"width": 0}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    drawn = [m if len(_known(c)) == len(c) else None for m, c in zip(middle, columns, strict=True)]
    figure.add_scatter(
        x=at, y=drawn, name=safe(name), mode="lines" if len([d for d in drawn if d is not None]) > 1 else "markers",
        line={"color": color, "width": 2},
        hovertemplate="step %{x}: %{y:.4g}<extra>" + safe(name) + "</extra>",
    )  # fmt: skip
    broken = next((i for i, c in enumerate(columns) if len(_known(c)) < len(c)), None)
    if broken is not None:
        level = next((d for d in reversed(drawn[:broken]) if d is not None), 1.0)
        figure.add_scatter(
            x=[at[broken]], y=[level], name=f"{safe(name)}: not finite", mode="markers",
            marker={"symbol": "x", "size": 9, "color": BROKEN},
        )  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _known(values: Sequence[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def _faint(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


def sweep(
    values: Mapping[str, Sequence[tuple[float, Sequence[float]]]],
    *,
    x: str,
    y: str,
    title: str,
    caption: str,
    log_y: bool = True,
    name: str = "sweep",
) -> Picture:
    """Curves over a logarithmic setting: (setting, values over seeds); the middle is the median, bars are extremes."""
    figure = blank(x=x, y=y, log=log_y, height=360)
    for index, (label, points) in enumerate(values.items()):
        middle = [statistics.median(v) for _, v in points]
        figure.add_scatter(
            x=[setting for setting, _ in points], y=middle, name=safe(label), mode="lines+markers",
            line={"color": PALETTE[index % len(PALETTE)], "width": 2},
            error_y={
                "type": "data", "symmetric": False, "thickness": 1, "width": 3,
                "array": [max(v) - m for (_, v), m in zip(points, middle, strict=True)],
                "arrayminus": [m - min(v) for (_, v), m in zip(points, middle, strict=True)],
            },
        )  # fmt: skip
    figure.update_xaxes(type="log", exponentformat="power")
    figure.update_layout(showlegend=len(values) > 1)
    if log_y:
        fit_log_axis(figure)
    return Picture(name, title, caption, figure)


def layers(
    profiles: Mapping[str, Sequence[float]], *, y: str, title: str, caption: str, x: str = "layer", name: str = "layers"
) -> Picture:
    """One number per layer for several arms, on a logarithmic axis."""
    figure = blank(x=x, y=y, log=True, height=360)
    for index, (label, values) in enumerate(profiles.items()):
        figure.add_scatter(
            x=list(range(1, len(values) + 1)), y=[v if math.isfinite(v) and v > 0 else None for v in values],
            name=safe(label), mode="lines+markers", line={"color": PALETTE[index % len(PALETTE)], "width": 2},
        )  # fmt: skip
    fit_log_axis(figure)
    figure.update_layout(showlegend=True)
    return Picture(name, title, caption, figure)
