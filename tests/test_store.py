"""The run folder: what is written comes back exactly, and damage is said, not hidden."""

import json
import math
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steadygrad.errors import StoreError
from steadygrad.records import (
    PARAMETER_STATS,
    SITE_STATS,
    Advice,
    Amp,
    Cause,
    Clip,
    Detail,
    Diagnosis,
    Fact,
    NotRun,
    OptimizerInfo,
    ParameterInfo,
    SiteInfo,
    StepRecord,
    Symptom,
)
from steadygrad.store import SCHEMA_VERSION, Recorder, Run, list_runs, new_run_folder, to_json

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and resource limits")


def same(a, b):
    """Equality that knows NaN, arrays and nested dataclasses."""
    if is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and a == b


def vector(*values):
    return np.array(values, dtype=np.float32)


DIAGNOSIS = Diagnosis(
    "unhealthy",
    (Symptom("non-finite", "critical", "fc1.weight", 3, 9, {"share": float("nan"), "max": float("inf")}, "NaN", 7),),
    (Cause("init-too-large", 0.9, "fc1", ("gain 12",), ("rate is small",), ("reinit-kaiming",)),),
    (Advice("reinit-kaiming", "init-too-large", "why", "risk", "nn.init.kaiming_normal_(w)"),),
    (NotRun("saturated-units", "no sigmoid"),),
)

real = st.none() | st.floats(width=64)
number = st.floats(width=64)
vectors = hnp.arrays(np.float32, st.integers(0, 5), elements=st.floats(width=32))
details = st.builds(
    Detail,
    parameters=st.dictionaries(st.sampled_from(PARAMETER_STATS), vectors, max_size=3),
    sites=st.dictionaries(st.sampled_from(SITE_STATS), vectors, max_size=3),
    batch=st.dictionaries(st.sampled_from(["input_mean", "target_std"]), number),
)
records = st.builds(
    StepRecord,
    step=st.integers(1, 10**12),
    stream=st.integers(0, 9),
    loss=real,
    lr=real,
    grad_norm=real,
    clip=st.none() | st.builds(Clip, st.sampled_from(["norm", "value"]), number, number, number),
    amp=st.none() | st.builds(Amp, number, st.booleans()),
    norms=st.none() | vectors,
    detail=st.none() | details,
    flags=st.lists(st.text(max_size=5), max_size=2).map(tuple),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(records, max_size=6), st.integers(1, 4))
def test_every_record_comes_back_exactly(tmp_path_factory, steps, flush_steps):
    folder = tmp_path_factory.mktemp("run")
    with Recorder(folder, {}, flush_steps=flush_steps) as recorder:
        for record in steps:
            recorder.step(record)
    with Run(folder) as run:
        back = list(run.records())
    assert len(back) == len(steps)
    assert all(same(a, b) for a, b in zip(steps, back, strict=True))


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf"), 0.0, 1e-320, 1e308, 3.0])
def test_none_nan_and_infinities_are_told_apart(tmp_path, value):
    with Recorder(tmp_path, {}) as recorder:
        recorder.step(StepRecord(1, loss=value, lr=value, grad_norm=value))
    with Run(tmp_path) as run:
        (record,) = run.records()
    assert same(record, StepRecord(1, loss=value, lr=value, grad_norm=value))


def test_numpy_scalars_and_float64_vectors_are_accepted(tmp_path):
    with Recorder(tmp_path, {"n": np.int64(3)}) as recorder:
        recorder.step(StepRecord(1, loss=np.float32(0.5), norms=np.array([1e300, 2.0])))
        recorder.fact(Fact("graph", 1, {"edges": np.array([1, 2])}))
    with Run(tmp_path) as run:
        (record,) = run.records()
        assert record.loss == 0.5
        np.testing.assert_array_equal(record.norms, vector(np.inf, 2.0))
        assert run.meta["n"] == 3
        assert next(run.facts()).data == {"edges": [1, 2]}


def test_the_caller_may_reuse_its_vectors(tmp_path):
    norms = vector(1, 2)
    with Recorder(tmp_path, {}) as recorder:
        recorder.step(StepRecord(1, norms=norms, detail=Detail({"grad_l1": norms})))
        norms[:] = 7
    with Run(tmp_path) as run:
        (record,) = run.records()
    np.testing.assert_array_equal(record.norms, [1, 2])
    np.testing.assert_array_equal(record.detail.parameters["grad_l1"], [1, 2])


def test_tables_grow_and_rows_are_replaced_by_index(tmp_path):
    weight = ParameterInfo(0, "fc.weight", (3, 2), "float32", "weight", "fc", "Linear", True, fan_in=2)
    bias = ParameterInfo(1, "fc.bias", (3,), "float32", "bias", "fc", "Linear", True, 0, 2, 0.1, 0.01)
    site = SiteInfo(0, "fc", "Linear", "linear", params=(0, 1))
    with Recorder(tmp_path, {}) as recorder:
        recorder.parameters([weight])
        recorder.sites([site])
        recorder.optimizers([OptimizerInfo(0, "SGD", {"lr": 0.1})])
        recorder.step(StepRecord(1, norms=vector(1)))
        recorder.parameters([weight, bias])
        recorder.step(StepRecord(2, norms=vector(1, 2)))
    with Run(tmp_path) as run:
        assert same(run.parameters[0], weight)
        assert run.parameters[1] == bias
        assert run.sites == (site,)
        assert run.optimizers == (OptimizerInfo(0, "SGD", {"lr": 0.1}),)
        assert [len(record.norms) for record in run.records()] == [1, 2]


@pytest.mark.parametrize("flushed", [True, False])
def test_an_empty_table_takes_the_rows_before_it_back(tmp_path, flushed):
    rows = [ParameterInfo(i, f"fc{i}.weight", (3, 2), "float32", "weight", "fc", "Linear", True) for i in range(3)]
    sites = [SiteInfo(i, f"fc{i}", "Linear", "linear") for i in range(2)]
    with Recorder(tmp_path, {}) as recorder:
        recorder.parameters(rows)
        recorder.sites(sites)
        if flushed:
            recorder.flush()
        recorder.parameters([])
        recorder.sites([])
        recorder.parameters(rows[:1])
    with Run(tmp_path) as run:
        assert [p.name for p in run.parameters] == ["fc0.weight"]
        assert run.sites == ()


def test_events_keep_the_order_of_writing(tmp_path):
    written = []
    with Recorder(tmp_path, {}, flush_steps=3) as recorder:
        for step in range(1, 300):
            record = StepRecord(step, stream=step % 2)
            recorder.step(record)
            written.append(record)
            if step % 7 == 0:
                fact = Fact("loss-call", step, {"name": "mse", "value": float(step)})
                recorder.fact(fact)
                written.append(fact)
    with Run(tmp_path) as run:
        assert list(run.events()) == written
        assert list(run.events(after=200)) == written[200:]
        assert run.position() == len(written)


def test_reading_while_writing_sees_whole_flushes(tmp_path):
    recorder = Recorder(tmp_path, {"script": "train.py"}, flush_steps=10, flush_seconds=1e9)
    with Run(tmp_path) as run:
        assert run.meta["steps"] == 0
        for step in range(1, 26):
            recorder.step(StepRecord(step))
        assert [record.step for record in run.records()] == list(range(1, 21))
        iterator = run.records()
        next(iterator)
        recorder.close()
        assert [record.step for record in iterator] == list(range(2, 21))
        assert run.meta["steps"] == 25
        assert "ended" in run.meta


def test_a_slow_run_is_flushed_by_time(tmp_path):
    recorder = Recorder(tmp_path, {}, flush_seconds=0.0)
    recorder.step(StepRecord(1))
    with Run(tmp_path) as run:
        assert len(list(run.records())) == 1
    recorder.close()


def test_a_finished_run_is_one_plain_file(tmp_path):
    with Recorder(tmp_path, {}) as recorder:
        recorder.step(StepRecord(1))
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]
    Run(tmp_path / "run.db").close()
    assert [path.name for path in tmp_path.iterdir()] == ["run.db"]


def test_meta_diagnosis_and_findings(tmp_path):
    with Recorder(tmp_path, {"script": "train.py", "argv": ["--lr", "1"]}) as recorder:
        recorder.finding({"code": "non-finite", "evidence": {"loss": float("nan")}})
        assert json.loads((tmp_path / "findings.jsonl").read_text())["evidence"] == {"loss": "nan"}
        recorder.diagnosis(Diagnosis("unknown"))
        recorder.diagnosis(DIAGNOSIS)
        recorder.meta(exit_code=1)
    with (tmp_path / "findings.jsonl").open("a") as log:
        log.write('{"code": "torn')
    with Run(tmp_path) as run:
        assert same(run.diagnosis(), DIAGNOSIS)
        assert (run.meta["argv"], run.meta["exit_code"]) == (["--lr", "1"], 1)
        assert [finding["code"] for finding in run.findings()] == ["non-finite"]


def test_two_writers_are_refused_and_the_folder_is_free_after_close(tmp_path):
    first = Recorder(tmp_path, {})
    with pytest.raises(StoreError, match=rf"one writer at a time.*process {os.getpid()}"):
        Recorder(tmp_path, {})
    first.step(StepRecord(1))
    first.close()
    first.close()
    Recorder(tmp_path, {}).close()


def test_an_earlier_run_in_the_folder_is_kept(tmp_path):
    for loss in (1.0, 2.0, 3.0):
        with Recorder(tmp_path, {}) as recorder:
            recorder.step(StepRecord(1, loss=loss))
            recorder.finding({"loss": loss})
    for name, loss in (("run.1.db", 1.0), ("run.2.db", 2.0), ("run.db", 3.0)):
        with Run(tmp_path / name) as run:
            assert [record.loss for record in run.records()] == [loss]
            assert run.findings() == [{"loss": loss}]


def test_a_lock_of_another_machine_is_respected(tmp_path):
    (tmp_path / "run.lock").write_text(json.dumps({"pid": 1, "host": "elsewhere", "born": "5"}))
    with pytest.raises(StoreError, match="on elsewhere"):
        Recorder(tmp_path, {})


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"pid": "x"})])
def test_a_torn_lock_is_taken_over(tmp_path, content):
    (tmp_path / "run.lock").write_text(content)
    Recorder(tmp_path, {}).close()


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from steadygrad.records import StepRecord
from steadygrad.store import Recorder
recorder = Recorder(Path(sys.argv[1]), {"script": "train.py"}, flush_steps=50, flush_seconds=1e9)
for step in range(1, 10_000):
    recorder.step(StepRecord(step, loss=1 / step, norms=np.full(100, step, np.float32)))
    if step == 1234:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
def test_a_killed_run_is_readable_to_its_last_flush_and_leaves_no_lock(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "run.lock").exists()
    for _ in range(2):
        with Run(tmp_path) as run:
            records = list(run.records())
            assert [record.step for record in records] == list(range(1, 1201))
            assert records[-1].norms.tolist() == [1200.0] * 100
            assert run.meta["steps"] == 1200
            assert run.diagnosis() is None
    Recorder(tmp_path, {}).close()
    with Run(tmp_path / "run.1.db") as run:
        assert len(list(run.records())) == 1200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_touch_the_run(tmp_path):
    recorder = Recorder(tmp_path, {}, flush_seconds=1e9)
    recorder.step(StepRecord(1))

    def child():
        recorder.step(StepRecord(2))
        recorder.finding({"from": "child"})
        recorder.flush()
        recorder.close()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    recorder.step(StepRecord(3))
    recorder.close()
    with Run(tmp_path) as run:
        assert [record.step for record in run.records()] == [1, 3]
        assert run.findings() == []


def test_missing_foreign_and_damaged_files(tmp_path):
    with pytest.raises(StoreError, match=r"run\.db.*Give the folder"):
        Run(tmp_path)
    path = tmp_path / "run.db"
    path.write_text("this is no database, " * 100)
    with pytest.raises(StoreError, match="failed: file is not a database"):
        Run(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="not one"):
        Run(tmp_path)
    path.unlink()
    sqlite3.connect(path).execute("CREATE TABLE x (y)").connection.close()
    with pytest.raises(StoreError, match="not one"):
        Run(tmp_path)


def _filled(folder, steps=2000):
    with Recorder(folder, {"script": "train.py"}) as recorder:
        for step in range(1, steps + 1):
            recorder.step(StepRecord(step, norms=np.ones(100, np.float32)))
        recorder.diagnosis(DIAGNOSIS)
    return folder / "run.db"


@pytest.mark.parametrize("keep", [100, 20_000, 300_000, -1])
def test_a_truncated_file_is_an_error_not_a_short_run(tmp_path, keep):
    path = _filled(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(StoreError, match=r"damaged|not one"), Run(tmp_path) as run:
        list(run.records())


def test_damage_in_the_middle_is_found_where_it_is_met(tmp_path):
    path = _filled(tmp_path)
    content = bytearray(path.read_bytes())
    content[200_000:400_000] = os.urandom(200_000)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="damaged"), Run(tmp_path) as run:
        list(run.records())


def test_another_version_is_named(tmp_path):
    path = _filled(tmp_path, 1)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(StoreError, match=f"version {SCHEMA_VERSION}, but .*run.db has version 99"):
        Run(tmp_path)


def test_an_unwritable_folder_is_said_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="stays writable"):
        Recorder(tmp_path / "file" / "run", {})
    with pytest.raises(StoreError, match="cannot"):
        new_run_folder(tmp_path / "file", "train.py")
    with pytest.raises(StoreError, match=r"it is a file|Not a directory"):
        new_run_folder(tmp_path / "file" / "deeper", "train.py")


@pytest.mark.parametrize("action", ["flush", "finding"])
def test_a_folder_removed_midway_is_noticed(tmp_path, action):
    folder = tmp_path / "run"
    recorder = Recorder(folder, {})
    folder.rename(tmp_path / "moved")
    recorder.step(StepRecord(1))
    with pytest.raises(StoreError, match="not removed"):
        recorder.flush() if action == "flush" else recorder.finding({})
    with pytest.raises(StoreError, match="not removed"):
        recorder.step(StepRecord(2))
    recorder.close()


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from steadygrad.errors import StoreError
from steadygrad.records import StepRecord
from steadygrad.store import Recorder
recorder = Recorder(Path(sys.argv[1]), {}, flush_seconds=1e9)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    for step in range(1, 100_000):
        recorder.step(StepRecord(step, norms=np.ones(100, np.float32)))
except StoreError as error:
    print(step, error)
recorder.close()
"""


@posix
def test_no_room_left_is_a_store_error_and_what_was_flushed_stays(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], check=True, capture_output=True, text=True)
    assert "Free some space" in done.stdout
    with Run(tmp_path) as run:
        steps = [record.step for record in run.records()]
    assert steps == list(range(1, len(steps) + 1))
    assert 64 <= len(steps) < int(done.stdout.split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in other units")
def test_memory_stays_bounded_for_long_runs(tmp_path):
    code = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        import numpy as np
        from steadygrad.records import StepRecord
        from steadygrad.store import Recorder, Run
        norms = np.ones(1000, np.float32)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = peak()
        with Recorder(Path(sys.argv[1]), {}) as recorder:
            for step in range(1, 10_001):
                recorder.step(StepRecord(step, norms=norms))
        with Run(Path(sys.argv[1])) as run:
            assert sum(1 for _ in run.events()) == 10_000
        print((peak() - before) / 1024)
    """)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert float(done.stdout) < 25  # MB, of 40 MB written
    assert (tmp_path / "run.db").stat().st_size < 10_000 * 4 * 1000 * 1.05


def test_new_folders_are_unique_and_named_after_the_script(tmp_path):
    names = [new_run_folder(tmp_path / "runs", "some/where/my train!.py").name for _ in range(3)]
    assert len(set(names)) == 3
    assert all(name.startswith("my-train-2") for name in names)
    assert new_run_folder(tmp_path, "package.module").name.startswith("package.module-")
    assert new_run_folder(tmp_path, "../..").name.startswith("run-")


def test_runs_are_listed_newest_first_and_broken_ones_with_the_reason(tmp_path):
    for number, verdict in enumerate(["healthy", "unhealthy"]):
        meta = {"script": f"{verdict}.py", "started": f"2026-01-0{number + 1}T00:00:00.000+00:00"}
        with Recorder(tmp_path / verdict, meta) as recorder:
            recorder.step(StepRecord(number + 5))
            recorder.diagnosis(Diagnosis(verdict))
            recorder.meta(exit_code=number)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.db").write_text("no database")
    (tmp_path / "unrelated").mkdir()
    broken, bad, good = list_runs(tmp_path)
    assert broken.folder.name == "broken"
    assert "not a database" in broken.problem
    assert (bad.script, bad.steps, bad.verdict, bad.exit_code) == ("unhealthy.py", 6, "unhealthy", 1)
    assert (good.script, good.started[:10], good.verdict) == ("healthy.py", "2026-01-01", "healthy")


def test_json_follows_the_published_schema():
    meta = {"script": "t.py", "exit_code": 1, "steps": 9, "overhead": {"seconds": 0.5, "share": 0.01}, "other": 1}
    result = json.loads(json.dumps(to_json(meta, DIAGNOSIS), allow_nan=False))
    assert list(result) == [
        "schema", "script", "exit_code", "steps", "verdict", "symptoms", "causes", "checks_not_run", "overhead",
        "advice",
    ]  # fmt: skip
    assert result["schema"] == "steadygrad.run/1"
    assert result["overhead"] == {"seconds": 0.5, "share": 0.01}
    assert result["symptoms"] == [
        {"code": "non-finite", "severity": "critical", "location": "fc1.weight", "first_step": 3, "last_step": 9,
         "evidence": {"share": "nan", "max": "inf"}, "message": "NaN"},
    ]  # fmt: skip
    assert result["causes"][0] == {**asdict(DIAGNOSIS.causes[0]), "evidence": ["gain 12"],
                                   "against": ["rate is small"], "remedies": ["reinit-kaiming"]}  # fmt: skip
    assert result["checks_not_run"] == [{"check": "saturated-units", "why": "no sigmoid"}]
    assert to_json({}, Diagnosis("unknown"))["exit_code"] is None


def test_paths_with_special_characters(tmp_path):
    folder = tmp_path / "100% odd? #1 été"
    with Recorder(folder, {}) as recorder:
        recorder.step(StepRecord(1))
    with Run(folder) as run:
        assert len(list(run.records())) == 1
        assert run.folder == Path(folder)
