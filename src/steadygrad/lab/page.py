"""The lab's page: for each claim its source, verdict, effects with intervals, and pictures, in one file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from steadygrad.errors import StoreError
from steadygrad.lab.experiment import Picture
from steadygrad.lab.running import Result

TONES = {"holds": "healthy", "does not hold": "unhealthy", "holds only when": "warning"}
MARKS = {True: "yes", False: "no", None: "not shown"}


def write_page(results: Sequence[Result], path: Path) -> Path:
    """Write one self-contained HTML file for some experiments; it needs no network.

    Raises:
        StoreError: the file cannot be written.
    """
    page = _template().render(
        results=results, tones=TONES, marks=MARKS, plotlyjs=Markup(get_plotlyjs()), figures=figures,
        tally={word: sum(r.verdict.word == word for r in results) for word in TONES},
    )  # fmt: skip
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(page, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise StoreError(f"The page is written where there is room and permission, but {path}: {error}") from error
    return path


def figures(result: Result) -> list[tuple[Picture, Markup]]:
    """The pictures of a result, each with its drawing as HTML."""
    drawn = []
    for picture in result.experiment.pictures(result.runs):
        html = picture.figure.to_html(
            full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
        )
        drawn.append((picture, Markup(html)))
    return drawn


def _template() -> Template:
    def source(name: str) -> str:
        package = "steadygrad.report" if name == "page.css" else "steadygrad.lab"
        return resources.files(package).joinpath(name).read_text(encoding="utf-8")

    environment = Environment(loader=FunctionLoader(source), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("lab.html")
