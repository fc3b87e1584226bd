"""An audit of scales as a table and as a plot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from steadygrad.init.audit import Audit, Scale


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}"


def _fan(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.4g}"


def audit_table(audit: Audit) -> Table:
    """One row per weight; expected and measured side by side, deviations from the rule in colour."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("weight", overflow="fold")
    table.add_column("layer")
    table.add_column("then")
    for title in ("fan in/out", "std", "rule's std"):
        table.add_column(title, justify="right")
    for title in ("forward\nexpected", "\nmeasured", "backward\nexpected", "\nmeasured"):
        table.add_column(title, justify="right")
    for row in audit.rows:
        off = not math.isnan(row.rule_std) and not 0.5 <= row.off <= 2
        table.add_row(
            Text(row.name),
            row.kind,
            "" if row.activation == "linear" else row.activation,
            f"{_fan(row.fan_in)}/{_fan(row.fan_out)}",
            Text(_number(row.std), style="red" if off else ""),
            _number(row.rule_std),
            *map(_number, (row.forward_expected, row.forward, row.backward_expected, row.backward)),
        )
    return table


def audit_figure(audit: Audit) -> go.Figure:
    """Four curves over the layers in order of execution."""
    from steadygrad.figures.style import PALETTE, blank, fit_log_axis, safe

    figure = blank(x="", y="root mean square", log=True, height=420)
    names = [safe(row.name.removesuffix(".weight")) for row in audit.rows]
    curves = (
        ("forward, expected", "forward_expected", PALETTE[0], "dot"),
        ("forward, measured", "forward", PALETTE[0], "solid"),
        ("backward, expected", "backward_expected", PALETTE[1], "dot"),
        ("backward, measured", "backward", PALETTE[1], "solid"),
    )
    for label, key, color, dash in curves:
        figure.add_scatter(
            x=names,
            y=[_drawable(row, key) for row in audit.rows],
            name=label,
            mode="lines+markers",
            line={"color": color, "dash": dash, "width": 1.8},
            marker={"size": 9 if dash == "dot" else 5, "symbol": "circle-open" if dash == "dot" else "circle"},
            hovertemplate="%{x}: %{y:.3g}<extra>" + label + "</extra>",
        )
    fit_log_axis(figure)
    figure.update_xaxes(type="category", tickangle=-45 if len(names) > 8 else 0)
    return figure


def _drawable(row: Scale, key: str) -> float | None:
    value = float(getattr(row, key))
    return value if math.isfinite(value) and value > 0 else None
