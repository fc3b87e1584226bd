"""Figures of a stored run, drawn with Plotly: what happened, in bounded size, with nothing dropped silently.

Example:
    >>> import tempfile
    >>> from pathlib import Path
    >>> from steadygrad.records import StepRecord
    >>> from steadygrad.store import Recorder, Run
    >>> folder = Path(tempfile.mkdtemp())
    >>> with Recorder(folder, {}) as recorder:
    ...     for step in range(1, 4):
    ...         recorder.step(StepRecord(step, loss=1 / step, lr=0.1))
    >>> with Run(folder) as run:
    ...     [chart.name for chart in draw(run)]
    ['loss', 'learning-rate']
"""

from __future__ import annotations

from steadygrad.figures.curves import batch_chart, gradient_chart, loss_chart, lr_chart, scale_chart
from steadygrad.figures.maps import flow_chart, forward_order, gain_chart, gradient_map, ratio_chart, unit_maps
from steadygrad.figures.series import Series, read_series
from steadygrad.figures.style import Chart, fit_log_axis
from steadygrad.records import Diagnosis
from steadygrad.store import Run

__all__ = ["Chart", "Series", "draw", "forward_order", "read_series"]


def draw(run: Run, *, series: Series | None = None, diagnosis: Diagnosis | None = None) -> list[Chart]:
    """All charts for which the run has data, in reading order.

    Args:
        run: an open run.
        series: its data, when :func:`read_series` was called before; read otherwise.
        diagnosis: whose findings are flagged on the loss; the stored one by default.

    Raises:
        StoreError: the run cannot be read.
    """
    series = read_series(run) if series is None else series
    diagnosis = run.diagnosis() if diagnosis is None else diagnosis
    parameters, sites = run.parameters, run.sites
    charts = (
        loss_chart(series, diagnosis.symptoms if diagnosis else ()),
        gradient_chart(series),
        gradient_map(series, parameters, sites),
        flow_chart(series, sites),
        gain_chart(series, sites),
        ratio_chart(series, parameters, sites),
        lr_chart(series),
        *unit_maps(series, sites),
        scale_chart(series),
        batch_chart(series),
    )
    drawn = [chart for chart in charts if chart is not None]
    for chart in drawn:
        if chart.figure.layout.yaxis.type == "log":
            fit_log_axis(chart.figure)
    return drawn
