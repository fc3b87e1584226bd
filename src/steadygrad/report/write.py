"""Writing the report file."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from steadygrad.errors import StoreError
from steadygrad.figures import draw, read_series
from steadygrad.figures.trials import trials_chart
from steadygrad.records import Diagnosis
from steadygrad.report import trials, view
from steadygrad.store import Run
from steadygrad.trials.reading import read_fix
from steadygrad.trials.result import FixResult


def write_report(run: Run, path: Path, *, diagnosis: Diagnosis | None = None) -> Path:
    """Write the run as one HTML file that needs no network, and return its path.

    Where ``steadygrad fix`` has left its result in the run folder, the page shows the trials as well.

    Args:
        run: an open run.
        path: the file to write; a folder stands for ``report.html`` inside it.
        diagnosis: what to report; the stored one by default.

    Raises:
        StoreError: the run cannot be read, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> from steadygrad.store import Recorder
        >>> folder = Path(tempfile.mkdtemp())
        >>> Recorder(folder, {"script": "train.py"}).close()
        >>> with Run(folder) as run:
        ...     write_report(run, folder).name
        'report.html'
    """
    path = Path(path)
    target = path / "report.html" if path.is_dir() else path
    fix = read_fix(run.path.parent)
    if diagnosis is None:
        diagnosis = fix.diagnosis if fix is not None else run.diagnosis()
    page = _page(run, diagnosis, fix)
    part = target.with_name(target.name + ".part")
    try:  # a reader never meets half a file
        part.write_text(page, encoding="utf-8")
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True) if part.parent.is_dir() else None
        raise StoreError(
            f"The report is written where there is room and permission, but {target} failed: {error}. "
            f"Choose another file with --out."
        ) from error
    return target


def _page(run: Run, diagnosis: Diagnosis | None, fix: FixResult | None) -> str:
    meta, series = run.meta, read_series(run)
    charts = draw(run, series=series, diagnosis=diagnosis)
    chart = trials_chart(fix) if fix is not None else None
    text: str = _template().render(
        meta=meta,
        verdict=diagnosis.verdict if diagnosis else "unknown",
        diagnosis=diagnosis or Diagnosis("unknown"),
        headline=view.headline(diagnosis),
        facts=view.facts(run, meta),
        charts=[(chart, view.chart_json(chart)) for chart in charts],
        fix=fix,
        trials_chart=(chart, view.chart_json(chart)) if chart is not None else None,
        trials=trials,
        environment=view.environment(meta),
        optimizers=list(view.optimizers(run)),
        parameters=list(view.parameter_rows(run, series)),
        hidden_parameters=max(0, len(run.parameters) - view.MAX_PARAMETERS),
        plotly=Markup(get_plotlyjs()) if charts or chart else "",  # the library itself, not data
        view=view,
    )
    return text


def _template() -> Any:
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = view.number
    return environment.get_template("page.html")


def _resource(name: str) -> str:
    return resources.files("steadygrad.report").joinpath(name).read_text(encoding="utf-8")
