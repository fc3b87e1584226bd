"""Curves over steps: loss, gradient norm, learning rate, loss scale, batch statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import plotly.graph_objects as go

from steadygrad.figures.series import Envelope, Series
from steadygrad.figures.style import LIMIT, NEUTRAL, PALETTE, WARNING, Chart, blank, broken_marks, line
from steadygrad.records import Symptom

MAX_FLAGS = 12


def loss_chart(series: Series, symptoms: Sequence[Symptom]) -> Chart | None:
    """Loss of every stream, with the findings as numbered flags at their first step."""
    curves = {key: stream.loss for key, stream in series.streams.items() if stream.loss}
    if not curves:
        return None
    log = _spans_decades(curves.values())
    figure = blank(y="loss", log=log)
    _draw(figure, curves, "loss")
    _flags(figure, symptoms)
    caption = "Every value of the loss as the script computed it; long runs keep the extremes of each stretch."
    if symptoms:
        caption += " Numbered flags are the findings of the table above, at the step where each was first seen."
    return Chart("loss", "Loss", caption, figure)


def _draw(figure: go.Figure, curves: dict[int, Envelope], what: str) -> None:
    for index, (key, curve) in enumerate(curves.items()):
        name = what if len(curves) == 1 else f"{what}, optimizer {key}"
        line(figure, curve.points(), name, PALETTE[index % len(PALETTE)])
        broken_marks(figure, curve.marks, _top(curves.values()), name)
    figure.update_layout(showlegend=len(figure.data) > 1)


def _top(curves: Iterable[Envelope]) -> float:
    """Where to put marks: beside the largest value drawn, so that they do not stretch the axis."""
    return max((value for curve in curves for _, value in curve.points()), default=1.0)


def _spans_decades(curves: Iterable[Envelope]) -> bool:
    values = [value for curve in curves for _, value in curve.points()]
    return bool(values) and min(values) > 0 and max(values) > 300 * min(values)


def _flags(figure: go.Figure, symptoms: Sequence[Symptom]) -> None:
    """Findings share a flag where they share a step; numbers are their rows in the table of findings."""
    by_step: dict[int, list[tuple[int, Symptom]]] = {}
    for number, symptom in enumerate(symptoms, start=1):
        by_step.setdefault(symptom.first_step, []).append((number, symptom))
    for row, (step, found) in enumerate(sorted(by_step.items())[:MAX_FLAGS]):
        color = LIMIT if any(symptom.severity == "critical" for _, symptom in found) else WARNING
        figure.add_vline(x=step, line={"color": color, "width": 1.2, "dash": "dash"}, opacity=0.75)
        figure.add_annotation(
            x=step,
            y=1 - 0.085 * (row % 3),  # neighbours would cover each other on one height
            yref="paper",
            yanchor="top",
            text=", ".join(str(number) for number, _ in found[:4]) + ("…" if len(found) > 4 else ""),
            showarrow=False,
            font={"size": 11, "color": "#ffffff"},
            bgcolor=color,
            borderpad=2.5,
        )


def gradient_chart(series: Series) -> Chart | None:
    """Global gradient norm before and after clipping, on a log axis, with the threshold."""
    streams = {key: stream for key, stream in series.streams.items() if stream.before_clip}
    if not streams:
        return None
    figure = blank(y="gradient norm (L2)", log=True)
    for index, (key, stream) in enumerate(streams.items()):
        suffix = "" if len(streams) == 1 else f", optimizer {key}"
        color = PALETTE[index % len(PALETTE)]
        clipped = bool(stream.after_clip)
        if clipped:  # drawn below the other curve, so that it shows only where clipping changed something
            after = PALETTE[(index + 2) % len(PALETTE)]
            line(figure, stream.after_clip.points(), "after clipping" + suffix, after)
        line(figure, stream.before_clip.points(), ("before clipping" if clipped else "norm") + suffix, color)
        if clipped:
            line(figure, stream.threshold.points(), "threshold" + suffix, LIMIT, dash="dash", width=1.4)
        broken_marks(figure, stream.before_clip.marks, _top([stream.before_clip]), "norm" + suffix)
    figure.update_layout(showlegend=len(figure.data) > 1)
    caption = "The global L2 norm of all gradients at each step."
    if any(stream.after_clip for stream in streams.values()):
        caption += " Clipping acts where the upper curve lies above the dashed threshold, and does nothing elsewhere."
    else:
        caption += " No clipping by norm was seen."
    return Chart("gradient-norm", "Gradient norm", caption, figure)


def lr_chart(series: Series) -> Chart | None:
    """Learning rate of every stream."""
    curves = {key: stream.lr for key, stream in series.streams.items() if stream.lr}
    if not curves:
        return None
    figure = blank(y="learning rate", log=_spans_decades(curves.values()), height=250)
    _draw(figure, curves, "learning rate")
    figure.update_yaxes(rangemode="tozero")
    caption = "The rate each optimizer used, of the parameter group with the most numbers."
    return Chart("learning-rate", "Learning rate", caption, figure)


def scale_chart(series: Series) -> Chart | None:
    """The loss scaler's scale, where mixed precision was used."""
    curves = {key: stream.scale for key, stream in series.streams.items() if stream.scale}
    if not curves:
        return None
    figure = blank(y="loss scale", log=True, height=250)
    _draw(figure, curves, "loss scale")
    caption = (
        "The scaler halves it when a gradient overflows, and doubles it after a calm stretch. A steady fall is a fault."
    )
    return Chart("loss-scale", "Loss scale (mixed precision)", caption, figure)


def _belongs(name: str, curve: Envelope) -> bool:
    if name.endswith("_nonfinite"):
        return any(value > 0 for _, value in curve.points())
    return bool(curve) and name.endswith(("_mean", "_std", "_max"))


def batch_chart(series: Series) -> Chart | None:
    """Scale and offset of the batches, on sampled steps, and how much of them was not finite."""
    curves = {name: curve for name, curve in sorted(series.batch.items()) if _belongs(name, curve)}
    if not curves:
        return None
    figure = blank(y="value", height=280)
    for index, (name, curve) in enumerate(curves.items()):
        label = name.replace("_", " ")
        line(figure, curve.points(), label, PALETTE[index % len(PALETTE)] if index < len(PALETTE) else NEUTRAL)
        broken_marks(figure, curve.marks, _top(curves.values()), label)
    figure.update_layout(showlegend=True)
    caption = "What the script fed its model. Inputs train best near mean 0 and standard deviation 1."
    return Chart("batches", "Batches", caption, figure)
