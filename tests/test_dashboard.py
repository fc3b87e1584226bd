"""The live page: follows a run as it is written, ends at the stored answer, and says what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dash
import numpy as np
import pytest
from interrupting import STEADYGRAD

from steadygrad.dashboard import Follower, Serving, page
from steadygrad.errors import InputError, StoreError
from steadygrad.figures import draw, read_series
from steadygrad.records import Advice, Cause, Diagnosis, Fact, ParameterInfo, StepRecord, Symptom
from steadygrad.replay import replay
from steadygrad.store import Recorder, Run


def step(number: int, loss: float = 1.0) -> StepRecord:
    return StepRecord(number, loss=loss, lr=0.1, grad_norm=2.0, norms=np.array([2.0], np.float32))


def begun(folder: Path, steps: int = 5) -> Recorder:
    recorder = Recorder(folder, {"script": "train.py", "argv": ["--lr", "3"]})
    recorder.parameters([ParameterInfo(0, "layer.weight", (2, 3), "float32", "weight", "layer", "Linear", True, None)])
    for number in range(1, steps + 1):
        recorder.step(step(number, 1 / number))
    recorder.flush()
    return recorder


def drawn(charts: Any) -> list[str]:
    return [json.dumps(chart.figure.to_plotly_json()["data"], default=str) for chart in charts]


def text_of(component: Any) -> str:
    if isinstance(component, list | tuple):
        return " ".join(map(text_of, component))
    if isinstance(component, str | int | float):
        return str(component)
    return text_of(getattr(component, "children", None) or [])


def test_a_follower_reads_only_what_is_new_and_shows_what_a_whole_reading_shows(tmp_path: Path) -> None:
    with begun(tmp_path) as recorder:
        follower = Follower(tmp_path)
        first = follower.now()
        assert (first.step, first.final) == (5, False)
        assert follower.now() is first, "nothing was added"
        recorder.fact(Fact("note", 6, {}))
        for number in range(6, 300):
            recorder.step(step(number, float("nan") if number > 250 else 1 / number))
        recorder.flush()
        second = follower.now()
        assert second.version > first.version and second.step == 299
        with Run(tmp_path) as run:
            assert second.diagnosis == replay(run)
            assert drawn(second.charts) == drawn(draw(run, series=read_series(run), diagnosis=replay(run)))
    assert second.diagnosis.verdict == "unhealthy"


def test_it_ends_at_the_stored_diagnosis(tmp_path: Path) -> None:
    recorder = begun(tmp_path)
    follower = Follower(tmp_path)
    assert not follower.now().final
    stored = Diagnosis(
        "unhealthy",
        (Symptom("loss-spike", "critical", "layer", 3, 4, {}, "a leap"),),
        (Cause("learning-rate-too-high", 0.87, "train.py:3", ("it leaps",), ("it lands",), ("lower-lr",)),),
        (Advice("lower-lr", "learning-rate-too-high", "a lower rate", "slower", "lr = 0.1"),),
        (),
    )
    recorder.diagnosis(stored)
    recorder.meta(exit_code=1)
    recorder.close()
    shown = follower.now()
    assert shown.final and shown.diagnosis == stored
    assert page.state(shown, tmp_path) == "ended with code 1"
    said = text_of(page.causes(shown))
    for part in ("1. Learning rate too high", "train.py:3", "87%", "it leaps", "it lands", "Risk: slower", "lr = 0.1"):
        assert part in said


def test_a_run_that_has_gone_quiet_is_not_called_running(tmp_path: Path) -> None:
    with begun(tmp_path):
        shown = Follower(tmp_path).now()
        assert page.state(shown, tmp_path) == "running"
        for path in tmp_path.glob("run.db*"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 300))
        assert page.state(shown, tmp_path).startswith("nothing written for 30")


def test_the_newest_run_is_followed_until_another_is_chosen(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    assert serving.choices(0, None, None) == ([], dash.no_update)
    assert "Waiting for a run" in text_of(serving.refresh(0, None, {})[0])
    begun(tmp_path / "a-20260101-000000").close()
    assert serving.choices(1, [], None) == (["a-20260101-000000"], "a-20260101-000000")
    begun(tmp_path / "b-20260101-000001").close()
    known = ["a-20260101-000000"]
    assert serving.choices(2, known, known[0])[1] == "b-20260101-000001"
    both = ["b-20260101-000001", "a-20260101-000000"]
    assert serving.choices(3, both, "a-20260101-000000") == (dash.no_update, dash.no_update)
    begun(tmp_path / "c-20260101-000002").close()
    assert serving.choices(4, both, "a-20260101-000000")[1] is dash.no_update, "the reader has chosen"


def test_only_what_has_changed_is_sent(tmp_path: Path) -> None:
    with begun(tmp_path / "run", 60) as recorder:
        serving = Serving(tmp_path)
        answer, _, _, figures, seen = serving.refresh(0, "run", {})
        assert "train.py --lr 3" in text_of(answer) and "Figures" in text_of(figures)
        assert serving.refresh(1, "run", seen)[1:4] == (dash.no_update,) * 3
        recorder.step(step(61, float("nan")))
        recorder.flush()
        answer, findings, causes, figures, later = serving.refresh(2, "run", seen)
        assert later != seen and "NaN" in text_of(answer)
        assert "Non-finite" in text_of(findings) and causes == []
        revisions = {graph.figure.layout.uirevision for graph in graphs(figures)}
        assert revisions == {str(tmp_path / "run")}, "what was zoomed into stays"


def graphs(component: Any) -> Iterator[Any]:
    if isinstance(component, dash.dcc.Graph):
        yield component
    inner = component if isinstance(component, list) else getattr(component, "children", None)
    for each in inner if isinstance(inner, list) else [inner] if hasattr(inner, "to_plotly_json") else []:
        yield from graphs(each)


def test_what_cannot_be_read_is_said_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.db").write_bytes(b"not a database" * 100)
    said = text_of(Serving(tmp_path).refresh(0, "broken", {})[0])
    assert "run.db" in said
    with pytest.raises(StoreError, match=r"run\.db"):
        Serving(tmp_path / "broken")


def test_it_answers_a_browser(tmp_path: Path) -> None:
    begun(tmp_path / "run").close()
    server = Serving(tmp_path / "run").server("127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.port}"
        with urllib.request.urlopen(address) as reply:
            body = reply.read().decode()
        assert "SteadyGrad" in body and "http://" not in body.replace("http://www.w3.org", ""), "no network is needed"
        names = ("answer", "findings", "causes", "figures")
        outputs = [*({"id": name, "property": "children"} for name in names), {"id": "seen", "property": "data"}]
        asked = {
            "output": ".." + "...".join(f"{o['id']}.{o['property']}" for o in outputs) + "..",
            "outputs": outputs,
            "inputs": [
                {"id": "tick", "property": "n_intervals", "value": 1},
                {"id": "run", "property": "value", "value": "run"},
            ],
            "state": [{"id": "seen", "property": "data", "value": {}}],
            "changedPropIds": ["tick.n_intervals"],
        }
        request = urllib.request.Request(
            f"{address}/_dash-update-component", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as reply:
            answer = json.load(reply)["response"]
        assert answer["seen"]["data"]["run"] == "run" and "train.py --lr 3" in json.dumps(answer["answer"])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_port_that_is_taken_is_an_error_that_says_so(tmp_path: Path) -> None:
    serving = Serving(tmp_path)
    server = serving.server("127.0.0.1", 0)
    try:
        with pytest.raises(InputError, match="choose another one with --port"):
            serving.server("127.0.0.1", server.port)
    finally:
        server.server_close()


def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    begun(tmp_path / "run").close()
    words = [*STEADYGRAD, "live", str(tmp_path), "--port", "0", "--no-browse"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            address = process.stdout.readline().split()[1]
            with urllib.request.urlopen(address) as reply:
                assert reply.status == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_without_dash_it_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['dash'] = None; from steadygrad.cli import main; sys.argv[1:] = ['live']; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "steadygrad: `steadygrad live` needs Dash, which is an extra: pip install 'steadygrad[dashboard]'"
    )
