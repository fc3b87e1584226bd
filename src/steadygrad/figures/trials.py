"""Loss curves of trials: the script as it is against the remedies that were tried."""

from __future__ import annotations

import math

import plotly.graph_objects as go

from steadygrad.figures.style import LIMIT, PALETTE, Chart, blank, broken_marks, fit_log_axis, line
from steadygrad.records import TrialResult
from steadygrad.trials.job import title
from steadygrad.trials.result import FixResult

#: Curves drawn; more could not be told apart.
MAX_CURVES = 8
#: Losses above this many times the first are left out.
RUNAWAY = 30.0
_GOOD = "#1d8a63"


def trials_chart(result: FixResult) -> Chart | None:
    """Loss by step of control and candidates, with the script's own seed; the recommended one on top.

    >>> from steadygrad.records import Candidate
    >>> control = TrialResult(Candidate((), "", ""), 0, "finished", 2, 1.0, ((1, 2.0), (2, 1.0)))
    >>> trials_chart(FixResult("train.py", "no-fix-found", 2, 1, (control,))).name
    'trials'
    """
    if not result.control:
        return None
    others = [s for s in result.standings if not result.is_recommended(s) and s.candidate.kind != "no-op"]
    curves = [(title(s.candidate), s.first, PALETTE[i % len(PALETTE)]) for i, s in enumerate(others[:MAX_CURVES])]
    drawn = [r for r in [result.control[0], *(r for _, r, _ in curves)] if r.curve]
    figure = blank(y="loss", log=_spans_decades(drawn), height=360)
    for name, trial, color in curves:
        line(figure, _finite(trial), name, color, width=1.1, opacity=0.75)
    _curve(figure, "the script as it is", result.control[0], LIMIT)
    if result.recommended is not None:
        _curve(figure, title(result.recommended.candidate), result.recommended.first, _GOOD)
    figure.update_layout(showlegend=True)
    if figure.layout.yaxis.type == "log":
        fit_log_axis(figure)
    caption = "The loss of the same script with the same seed, as it is and with each remedy in place. "
    caption += "Curves that end early were stopped: not finite any more, diverging, or far behind the best."
    return Chart("trials", "Control against candidates", caption, figure)


def _curve(figure: go.Figure, name: str, trial: TrialResult, color: str) -> None:
    """A curve that matters, with crosses where it was not finite."""
    points = _finite(trial)
    line(figure, points, name, color, width=2.6)
    broken = [(step, value) for step, value in trial.curve if not math.isfinite(value)]
    level = max((value for _, value in points), default=1.0)
    broken_marks(figure, broken[:1], level, name)


def _finite(trial: TrialResult) -> list[tuple[int, float]]:
    """The curve as far as it is worth drawing: what ran away would flatten all the others."""
    values = [(step, value) for step, value in trial.curve if math.isfinite(value)]
    limit = RUNAWAY * abs(values[0][1]) if values else 0.0
    return [(step, value) for step, value in values if abs(value) <= limit or value <= values[0][1]]


def _spans_decades(trials: list[TrialResult]) -> bool:
    values = [value for trial in trials for _, value in _finite(trial)]
    return bool(values) and min(values) > 0 and max(values) > 30 * min(values)
