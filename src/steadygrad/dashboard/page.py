"""What the live page shows, as Dash components in the look of the report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dash import dcc, html

from steadygrad.dashboard.following import Shown
from steadygrad.figures import Chart
from steadygrad.records import Advice, Cause, Symptom
from steadygrad.report import view

#: How often the browser asks, in milliseconds.
INTERVAL = 2000
#: Findings listed; the most serious come first.
MAX_FINDINGS = 12
#: A run that has written nothing for so long may have been killed, or paused.
QUIET_SECONDS = 60.0


def skeleton() -> html.Div:
    """The page without a run in it."""
    return html.Div(
        className="page",
        children=[
            dcc.Interval(id="tick", interval=INTERVAL),
            dcc.Store(id="seen", data={}),
            html.Div(
                className="top",
                children=[
                    html.Div("SteadyGrad", className="brand"),
                    html.Nav(dcc.Dropdown(id="run", clearable=False, searchable=False), className="choice"),
                ],
            ),
            html.Main([html.Div(id="answer"), html.Div(id="findings"), html.Div(id="causes"), html.Div(id="figures")]),
        ],
    )


def empty(message: str) -> html.Div:
    """In place of an answer: there is nothing to show, and why."""
    return html.Div(html.P(message, className="headline"), className="card hero unknown")


def answer(shown: Shown, folder: Path) -> html.Div:
    """The verdict so far, and the latest numbers."""
    verdict = shown.diagnosis.verdict
    title = view.VERDICTS.get(verdict, verdict) + ("" if shown.final else ", so far")
    command = " ".join([str(shown.meta.get("script", folder.name)), *map(str, shown.meta.get("argv") or [])])
    return html.Div(
        className=f"card hero {verdict}",
        children=[
            html.P(html.Code(command), className="script"),
            html.Div(html.H1(title), className="answer"),
            html.P(view.headline(shown.diagnosis), className="headline"),
            html.Dl([html.Div([html.Dt(k), html.Dd(v)]) for k, v in numbers(shown, folder)], className="strip"),
        ],
    )


def numbers(shown: Shown, folder: Path) -> list[tuple[str, str]]:
    """The latest step in numbers."""
    latest = shown.latest
    pairs: list[tuple[str, Any]] = [
        ("Step", f"{latest.step:,}" if latest is not None else "0"),
        ("Loss", latest.loss if latest is not None else None),
        ("Gradient norm", latest.grad_norm if latest is not None else None),
        ("Learning rate", latest.lr if latest is not None else None),
        ("State", state(shown, folder)),
        ("Duration", view.duration(shown.meta)),
    ]
    return [(name, view.number(value)) for name, value in pairs if value not in (None, "")]


def state(shown: Shown, folder: Path) -> str:
    """Whether the run goes on."""
    if shown.final:
        code = shown.meta.get("exit_code")
        return "ended" if code in (None, 0) else f"ended with code {code}"
    quiet = datetime.now(UTC).timestamp() - max(path.stat().st_mtime for path in folder.glob("run.db*"))
    return f"nothing written for {quiet:.0f} s" if quiet > QUIET_SECONDS else "running"


def findings(symptoms: Sequence[Symptom]) -> list[Any]:
    """The table of findings."""
    if not symptoms:
        return []
    columns = ("Severity", "What", "Where", "Since step", "Seen")
    rows = [html.Tr(_cells(symptom)) for symptom in symptoms[:MAX_FINDINGS]]
    table = html.Table([html.Thead(html.Tr([html.Th(c) for c in columns])), html.Tbody(rows)], className="found")
    more = len(symptoms) - len(rows)
    rest = [html.P(f"and {more} more", className="lead")] if more > 0 else []
    return [html.H2("Findings"), html.Div(html.Div(table, className="scroll"), className="card"), *rest]


def _cells(symptom: Symptom) -> list[html.Td]:
    tone = "critical" if symptom.severity == "critical" else "warning"
    where = html.Code(symptom.location) if symptom.location else "whole run"
    return [
        html.Td(html.Span(symptom.severity, className=f"chip {tone}")),
        html.Td([html.B(view.words(symptom.code)), symptom.message], className="what"),
        html.Td(where, className="where"),
        html.Td(view.steps_of(symptom), className="num since"),
        html.Td(f"{symptom.count}×", className="num"),
    ]


def causes(shown: Shown) -> list[Any]:
    """Causes, best first, with their evidence and the lines to paste."""
    cards = view.cards(shown.diagnosis)
    if not cards:
        return []
    items = [html.Li(_cause(card.rank, card.cause, card.advice), className="card cause") for card in cards]
    return [html.H2("Causes and remedies"), html.Ol(items, className="causes")]


def _cause(rank: int, cause: Cause, advice: Sequence[Advice]) -> list[Any]:
    where = [html.P(["at ", html.Code(cause.location)], className="where")] if cause.location else []
    percent = round(100 * cause.confidence)
    meter: list[Any] = [
        "confidence ",
        html.B(f"{percent}%"),
        html.Div(html.I(style={"width": f"{percent}%"}), className="bar"),
    ]
    return [
        html.Header(
            [
                html.Div([html.H3(f"{rank}. {view.words(cause.code)}"), *where]),
                html.Div(meter, className="meter"),
            ]
        ),
        html.Div(
            [
                _side("for", "Evidence for", cause.evidence, "none recorded"),
                _side("against", "Evidence against", cause.against, "none found"),
            ],
            className="sides",
        ),
        *[_advice(each) for each in advice],
    ]


def _side(name: str, title: str, lines: Sequence[str], nothing: str) -> html.Div:
    body = html.Ul([html.Li(line) for line in lines]) if lines else html.Span(nothing, className="dim")
    return html.Div([html.H4(title), body], className=name)


def _advice(advice: Advice) -> html.Div:
    lines: list[Any] = [html.H3(view.words(advice.remedy)), html.P(advice.why)]
    if advice.risk:
        lines.append(html.P(f"Risk: {advice.risk}", className="dim"))
    if advice.patch:
        lines.append(html.Div(html.Pre(html.Code(advice.patch)), className="code"))
    return html.Div(lines, className="advice")


def figures(charts: Sequence[Chart], folder: Path) -> list[Any]:
    """The charts. What a reader has zoomed into stays as it is when new steps come."""
    return [html.H2("Figures"), *[_figure(chart, folder) for chart in charts]] if charts else []


def _figure(chart: Chart, folder: Path) -> html.Figure:
    chart.figure.update_layout(uirevision=str(folder))
    graph = dcc.Graph(id=f"figure-{chart.name}", figure=chart.figure, config={"displaylogo": False}, responsive=True)
    caption = html.Figcaption([html.H3(chart.title), html.P(chart.caption)])
    height = {"height": f"{chart.figure.layout.height}px"}
    return html.Figure([caption, html.Div(graph, style=height)], className="card")
