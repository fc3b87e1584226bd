"""``steadygrad schedules``: what is drawn, printed and refused."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from typer.testing import CliRunner

from steadygrad.cli import app
from steadygrad.commands.schedules import POINTS, times
from steadygrad.errors import InputError, StoreError
from steadygrad.figures.export import write_figure
from steadygrad.schedules import Cosine, Step, Warmup, parse
from steadygrad.schedules.text import WORDS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def call(*words: str) -> str:
    return CliRunner().invoke(app, ["schedules", *words], catch_exceptions=False, standalone_mode=False).output


def drawn(path: Path) -> list[dict[str, Any]]:
    """The traces in a page."""
    text = path.read_text()
    start = text.index("[", text.rindex("Plotly.newPlot("))
    return json.JSONDecoder().raw_decode(text, start)[0]


def test_the_curve_drawn_is_the_schedule(folder: Path) -> None:
    out = call("plot", "warmup(20) > cosine(80)", "--lr", "0.5")
    assert "drawn in schedules.html" in out
    curve, joints = drawn(folder / "schedules.html")
    schedule = Warmup(20) >> Cosine(80)
    assert curve["name"] == "warmup(20) &gt; cosine(80)"
    assert curve["x"] == list(range(101))
    assert curve["y"] == [0.5 * schedule(t) for t in range(101)]
    assert (joints["x"], joints["y"]) == ([20], [0.5])


def test_several_are_compared_and_summed_up() -> None:
    out = call("plot", "cosine(100, end=0.1) > step(30)", "0.1*step(30)", "--steps", "200", "--out", "both.html")
    row = re.sub(" +", " ", out).splitlines()
    assert "cosine(100, end=0.1) > step(30) endless 1 1 0 0.001" in row[1]
    assert "0.1*step(30) endless 0.1 0.1 0 " in row[2]
    assert "jumps from 0.1 to 1 at step 100; continued(...)" in out
    assert [trace["name"] for trace in drawn(Path("both.html")) if trace.get("name")] == [
        "cosine(100, end=0.1) &gt; step(30)",
        "0.1*step(30)",
    ]


def test_joints_without_a_jump_are_not_complained_about() -> None:
    assert "jump" not in call("plot", "warmup(200) > cosine(800)")


def test_a_logarithmic_axis_leaves_zeros_out(folder: Path) -> None:
    call("plot", "linear(10)", "--log")
    (curve,) = drawn(folder / "schedules.html")
    assert curve["y"][-1] is None
    assert None not in curve["y"][:-1]


def test_long_schedules_are_thinned_but_joints_kept() -> None:
    schedule = parse("warmup(12345) > cosine(1e6)")
    chosen = times(schedule, 1_012_345)
    assert len(chosen) <= POINTS + 4
    assert {0, 12344, 12345, 1_012_345} <= set(chosen)
    assert times(Step(30), 50) == list(range(51))


def test_every_form_is_listed() -> None:
    out = call("list")
    assert all(f"{word}(" in out for word in WORDS)


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("cosin(800)",), "did you mean cosine"),
        (("cosine(10)", "--out", "rates.pdf"), ".html or .png"),
        (("cosine(10)", "--lr", "0"), "number above 0"),
        (("cosine(10)", "--lr", "nan"), "number above 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(words: tuple[str, ...], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        call("plot", *words)


# -- pictures -----------------------------------------------------------------------------------------------------


def browser(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A browser of our own: only its command line is under test."""
    script = folder / "bin" / "chromium"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")


TAKE = 'for word; do case $word in --screenshot=*) cp "${last#file://}" "${word#--screenshot=}";; esac; done'


def test_a_picture_is_taken_of_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser(folder, monkeypatch, f"echo $* > {folder}/words; for last; do :; done; {TAKE}")
    figure = go.Figure(layout={"height": 300})
    assert write_figure(figure, folder / "a.png", title="a < b", width=800) == folder / "a.png"
    assert "<h1>a &lt; b</h1>" in (folder / "a.png").read_text()  # here the "picture" is the page itself
    assert "--headless" in (folder / "words").read_text()
    assert "--window-size=800,360" in (folder / "words").read_text()


def test_no_picture_is_an_error_with_the_browsers_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser(folder, monkeypatch, "echo no display >&2")
    with pytest.raises(StoreError, match=r"took no picture \(no display\); write .html"):
        write_figure(go.Figure(), folder / "a.png", title="")


def test_no_browser_is_an_error_with_the_way_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(InputError, match=r"install one, or write a.html instead"):
        write_figure(go.Figure(), folder / "a.png", title="")


def test_a_folder_that_does_not_exist_is_said(folder: Path) -> None:
    with pytest.raises(StoreError, match="could not be written"):
        write_figure(go.Figure(), folder / "none" / "a.html", title="")
