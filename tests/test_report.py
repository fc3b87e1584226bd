"""The report: one file that needs nothing else, and that no name from a script can break out of."""

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from steadygrad.errors import StoreError
from steadygrad.records import (
    NO_GRADIENT,
    Advice,
    Cause,
    Detail,
    Diagnosis,
    NotRun,
    OptimizerInfo,
    ParameterInfo,
    SiteInfo,
    StepRecord,
    Symptom,
)
from steadygrad.report import write_report
from steadygrad.report.view import duration, headline, number
from steadygrad.store import Recorder, Run

EVIL = "</script><script>alert('x')</script><img src=x onerror=alert(1)>{{ 1234 * 5678 }}\"'&"


def sick(text):
    return Diagnosis(
        "unhealthy",
        tuple(Symptom("loss-spike", "critical", text, n, n + 1, {"x": math.nan, text: 1}, text) for n in range(1, 16)),
        (Cause("learning-rate-too-high", 0.87, text, (text, "rate 0.5"), (text,), ("lower-lr",)),
         Cause("missing-warmup", 0.2, "", (), (), ("warmup",))),
        (Advice("lower-lr", "learning-rate-too-high", text, text, f"lr = 0.1  # {text}"),
         Advice("clip-norm", "long-recurrence", "why", "", "clip()")),
        (NotRun("dead-units", text),),
    )  # fmt: skip


def report(folder, diagnosis, *, text="layer"):
    environment = {"torch": "2.13", text: text, "gpus": {"n": [1, 2]}}
    with Recorder(folder, {"script": f"{text}.py", "argv": [text], "environment": environment}) as recorder:
        rest = ((2, 3), "float32", "weight", text, text, True)
        recorder.parameters([ParameterInfo(i, f"{text}.{i}", *rest, i or None, 2, 0.1) for i in range(2)])
        recorder.sites([SiteInfo(0, text, text, "linear", params=(0, 1))])
        recorder.optimizers([OptimizerInfo(0, text, {"lr": 0.1, "betas": [0.9, 0.99], text: text})])
        for step in range(1, 20):
            norms = np.array([step, NO_GRADIENT], np.float32)
            ones = np.ones(2, np.float32)
            detail = Detail(
                {"weight_norm": ones, "update_norm": ones / 1000}, {"out_rms": ones[:1]}, {"input_mean": 1.0, text: 1.0}
            )
            recorder.step(StepRecord(step, loss=1 / step, lr=0.1, grad_norm=1.0, norms=norms, detail=detail))
        if diagnosis is not None:
            recorder.diagnosis(diagnosis)
        recorder.meta(exit_code=0, overhead={"seconds": 0.2, "share": 0.015})
    with Run(folder) as run:
        path = write_report(run, folder)
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Elements with attributes, visible text, and the bodies of scripts."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self.scripts, self._in = [], "", [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in == "script":
            kind, body = self.scripts[-1]
            self.scripts[-1] = (kind, body + data)
        elif self._in != "style":
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    return report(tmp_path_factory.mktemp("run"), sick("encoder.fc"))


def test_everything_a_reader_needs_is_there(html):
    text = " ".join(Page(html).text.split())
    for part in (
        "Unhealthy", "15 findings. Most likely cause: Learning rate too high at encoder.fc (87%).",
        "Loss spike", "critical", "1–2", "NaN", "Evidence for", "rate 0.5", "Evidence against", "Lower learning rate",
        "lr = 0.1", "Remedies worth trying: warmup.", "clip()", "Checks that did not run", "Dead units", "2.13",
        "betas=0.9, 0.99", "Parameters (2)", "2×3", "no gradient", "none: nothing updates it", "0.001", "1.5%",
        "12 in 2 tensors", "3 more",
    ):  # fmt: skip
        assert part in text, part


def test_nothing_is_fetched(html):
    page = Page(html)
    assert not page.all("link") and not page.all("iframe") and not page.all("img") and not page.all("object")
    assert all("src" not in attributes for attributes in page.all("script"))
    assert all(attributes["href"].startswith("#") for attributes in page.all("a"))
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    assert "url(" not in style and "@import" not in style and "http" not in style
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")  # a browser enforces what this test can only look for
    assert "connect-src" not in policy


def test_plotly_is_inlined_once(html):
    assert html.count("plotly.js v") == 1
    assert 3e6 < len(html) < 7e6


def test_figures_are_valid_json_with_a_text_for_those_who_cannot_see_them(html):
    page = Page(html)
    figures = [json.loads(body) for kind, body in page.scripts if kind == "application/json"]
    assert len(figures) == len(page.all("figure")) > 5
    assert all(figure["data"] for figure in figures)
    plots = [a for a in page.all("div") if a.get("class") == "plot"]
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in plots)


def test_the_page_is_well_formed(html):
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for a in page.all("a")} <= set(ids)
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    body = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.S)
    for tag in ("div", "section", "table", "tr", "td", "figure", "details", "li", "ol", "ul", "dl", "pre", "p"):
        assert len(re.findall(rf"<{tag}[\s>]", body)) == body.count(f"</{tag}>"), tag
    assert "prefers-color-scheme: dark" in html and "@media print" in html


def test_no_name_from_a_script_can_break_out(tmp_path):
    html = report(tmp_path, sick(EVIL), text=EVIL)
    page = Page(html)
    assert not page.all("img")
    assert EVIL not in html
    assert str(1234 * 5678) not in html  # templates inside names are not rendered
    assert not any("alert" in body for kind, body in page.scripts if kind is None and len(body) < 1e5)
    assert EVIL in page.text
    assert [a for _, a in page.elements if "onerror" in a] == []
    assert all(json.loads(body) for kind, body in page.scripts if kind == "application/json")


def test_healthy_unknown_and_undiagnosed_runs(tmp_path):
    healthy = Page(report(tmp_path / "a", Diagnosis("healthy")))
    assert "Nothing wrong was found." in healthy.text
    assert not [a for a in healthy.all("section") if a["id"] in ("findings", "causes", "not-run")]
    assert "too little to judge by" in Page(report(tmp_path / "b", Diagnosis("unknown"))).text
    assert "stopped before there was one" in Page(report(tmp_path / "c", None)).text


def test_an_empty_run_has_a_report_without_figures(tmp_path):
    Recorder(tmp_path, {}).close()
    with Run(tmp_path) as run:
        html = write_report(run, tmp_path / "other.html", diagnosis=Diagnosis("unknown")).read_text()
    assert "plotly.js v" not in html
    assert len(html) < 60_000


def test_a_report_that_cannot_be_written_is_said(tmp_path):
    Recorder(tmp_path / "run", {}).close()
    (tmp_path / "file").write_text("")
    with Run(tmp_path / "run") as run:
        for path in (tmp_path / "file" / "report.html", tmp_path / "missing" / "report.html"):
            with pytest.raises(StoreError, match="Choose another file"):
                write_report(run, path)


def test_numbers_and_durations_are_readable():
    assert [number(v) for v in (1e-9, 123456.0, -math.inf, True, "x", 3)] == [
        "1e-09",
        "1.235e+05",
        "−Inf",
        "True",
        "x",
        "3",
    ]
    start = "2026-01-01T00:00:00+00:00"
    ends = [("00:00:07.5", "7.5 s"), ("00:02:05", "2 min 5 s"), ("05:30:00", "5 h 30 min")]
    for end, said in ends:
        assert duration({"started": start, "ended": f"2026-01-01T{end}+00:00"}) == said
    assert duration({"started": start}) == duration({"started": 3, "ended": None}) == ""


def test_headlines():
    one = Diagnosis("unhealthy", sick("fc").symptoms[:1])
    assert headline(one) == "1 finding. No cause could be named."
