"""Figures as files: a page that needs no network, or a picture taken of that page by a browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import plotly.graph_objects as go

from steadygrad.errors import InputError, StoreError
from steadygrad.figures.style import FONT, safe

#: Browsers that can take a picture without a window, best first.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
#: Pictures have this many pixels per CSS pixel.
SHARPNESS = 2
_PATIENCE = 120  # seconds

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ margin: 0; background: #ffffff; color: #1d2430; font-family: {font}; }}
h1 {{ font-size: 17px; font-weight: 600; margin: 20px 24px 0; }}</style></head>
<body><h1>{title}</h1>{figure}</body></html>
"""


def write_figure(figure: go.Figure, path: Path, *, title: str, width: int = 960) -> Path:
    """Write a figure as a self-contained HTML page, or as a PNG, by the file's ending. Returns the path.

    Args:
        figure: its height is used, 480 where it has none.
        path: ends in ``.html`` or ``.png``. A PNG needs Chromium, Chrome or Edge on this machine.
        title: heading of the page.
        width: of the PNG, in CSS pixels.

    Raises:
        InputError: another ending, or no browser for a PNG.
        StoreError: the file could not be written.

    Example:
        >>> write_figure(go.Figure(), Path("figure.html"), title="Nothing yet").stat().st_size > 1_000_000
        True
    """
    path = Path(path)
    kind = kind_of(path)
    config = {"displaylogo": False, "responsive": True, "displayModeBar": kind == ".html"}
    inner = figure.to_html(full_html=False, include_plotlyjs=True, config=config)
    page = _PAGE.format(title=safe(title), font=FONT, figure=inner)
    try:
        if kind == ".html":
            path.write_text(page, encoding="utf-8")
        else:
            _photograph(page, path, width, int(figure.layout.height or 480) + 60)
    except OSError as error:
        raise StoreError(f"{path} could not be written: {error}; choose another file with --out") from error
    return path


def kind_of(path: Path) -> str:
    """How a figure is written to this path: ".html" or ".png".

    Raises:
        InputError: the path ends in something else.

    >>> kind_of(Path("rates.PNG"))
    '.png'
    """
    kind = path.suffix.lower()
    if kind not in (".html", ".png"):
        raise InputError(f"a figure is written as .html or .png, not as {path.name!r}")
    return kind


def _photograph(page: str, path: Path, width: int, height: int) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise InputError(
            f"a PNG is a picture taken by {', '.join(BROWSERS[:3])} or another such browser, and there is "
            f"none on the PATH; install one, or write {path.with_suffix('.html').name} instead"
        )
    with tempfile.TemporaryDirectory() as folder:
        source, taken = Path(folder) / "page.html", Path(folder) / "page.png"
        source.write_text(page, encoding="utf-8")
        command = [browser, *_options(Path(folder), width, height), f"--screenshot={taken}", source.as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise StoreError(f"{browser} took no picture within {_PATIENCE} s; write .html instead") from error
        if not taken.exists():
            why = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise StoreError(f"{browser} took no picture ({why}); write .html instead")
        shutil.copyfile(taken, path)


def _options(folder: Path, width: int, height: int) -> list[str]:
    for_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [
        *(["--no-sandbox"] if for_root else []),  # it refuses to start otherwise
        "--headless",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder}/profile",
        f"--force-device-scale-factor={SHARPNESS}",
        "--virtual-time-budget=3000",  # until the figure is drawn
        f"--window-size={width},{height}",
    ]
