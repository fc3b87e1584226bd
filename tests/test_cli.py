"""The command line from end to end, as a user meets it: in processes of its own."""

from __future__ import annotations

import html.parser
import json
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from steadygrad import __version__
from steadygrad.replay import replay
from steadygrad.store import Recorder, Run, to_json

COMMAND = [sys.executable, "-m", "steadygrad.cli"]

TRAIN = """
import sys
import torch
import torch.nn.functional as F
from torch import nn

print("arguments", sys.argv[1:])
torch.manual_seed(0)
x = torch.randn(64, 8)
y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
model = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range({steps}):
    p = F.softmax(model(x), dim=1)
    {fault}
    loss = -torch.log(p.gather(1, y[:, None])).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print("last loss", loss.item())
print("script's own words", file=sys.stderr)
{end}
"""


def train(steps: int = 60, fault: str = "pass", end: str = "") -> str:
    return TRAIN.format(steps=steps, fault=fault, end=end)


SCRIPTS = {
    "broken.py": train(fault="p = p * (step < 40)"),
    "pack/__init__.py": "",
    "pack/healthy.py": train(100),
    "spiky.py": train(100, fault="p = p * (1 if step != 70 else 1e-9)"),
    "moves.py": "import os\nos.makedirs('elsewhere', exist_ok=True)\nos.chdir('elsewhere')\n" + train(),
    "leaves.py": train(fault="p = p * (step < 40)", end="sys.exit(5)"),
    "raises.py": "import torch\nprint('before')\nraise ValueError('no data')\n",
    "idle.py": "import sys, torch\nprint(torch.ones(2).sum().item())\nsys.exit(7)\n",
    "wrong.py": "def broken(:\n",
    "binary.py": "\0\0",
    "latin.py": b"name = '\xff\xfe'\n",
}


@dataclass(frozen=True)
class Done:
    out: str
    err: str
    code: int

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out[self.out.index("{\n") :])


def call(*words: str, cwd: Path, command: list[str] = COMMAND) -> Done:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("STEADYGRAD", "PYTHON", "FORCE_COLOR", "COLUMNS"))}
    env |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
    done = subprocess.run(
        [*command, *words], cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    return Done(done.stdout, done.stderr, done.returncode)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    for name, source in SCRIPTS.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return folder


@pytest.fixture(scope="module")
def broken(home: Path) -> Done:
    """The run most tests look at: a script that turns NaN, recorded in ``run``, its answer in ``deep/answer.json``."""
    return call(
        "run", "--json", "deep/answer.json", "--out", "run", "broken.py", "--lr", "0.5", "--json", "x", "-q", cwd=home
    )


@pytest.fixture(scope="module")
def answer(home: Path, broken: Done) -> dict[str, Any]:
    return json.loads((home / "deep" / "answer.json").read_text())


@pytest.fixture(scope="module")
def healthy(home: Path) -> Done:
    """A healthy module, with JSON on stdout and nothing else said."""
    return call("run", "--quiet", "--json", "-", "-m", "pack.healthy", "--every", "3", "-q", "--out", "x", cwd=home)


# -- run: the script is left alone --------------------------------------------------------------------------------


def test_stdout_is_the_scripts_alone(home: Path, broken: Done) -> None:
    plain = call("broken.py", "--lr", "0.5", "--json", "x", "-q", cwd=home, command=[sys.executable])
    assert broken.out == plain.out
    assert "last loss nan" in plain.out
    assert broken.code == plain.code == 0
    assert "script's own words" in broken.err


def test_arguments_after_the_script_are_the_scripts(broken: Done) -> None:
    assert "arguments ['--lr', '0.5', '--json', 'x', '-q']" in broken.out


def test_arguments_after_a_module_are_the_modules(home: Path, healthy: Done) -> None:
    assert "arguments ['--every', '3', '-q', '--out', 'x']" in healthy.out
    assert not (home / "x").exists()


def test_quiet_says_nothing(healthy: Done) -> None:
    assert healthy.code == 0
    assert healthy.err == "script's own words\n"


def test_json_goes_to_stdout_after_what_the_script_printed(healthy: Done) -> None:
    assert healthy.out.startswith("arguments")
    assert healthy.json["verdict"] == "healthy"
    assert healthy.json["symptoms"] == healthy.json["causes"] == []
    assert (healthy.json["script"], healthy.json["steps"], healthy.json["exit_code"]) == ("-m pack.healthy", 100, 0)


def test_the_end_is_told_on_stderr(broken: Done) -> None:
    for words in ("UNHEALTHY", "non-finite", "unstable-operation", "broken.py:16", "run/report.html"):
        assert words in broken.err
    assert "Traceback" not in broken.err
    assert "\x1b" not in broken.err, "no colours into a pipe"


def test_a_finding_is_told_while_the_script_still_runs(broken: Done) -> None:
    assert broken.err.index("non-finite") < broken.err.index("script's own words")


# -- run: the answer as JSON --------------------------------------------------------------------------------------

TEXT, NUMBER, WORDS = (str,), (int, float), "a list of text"
SCHEMA: dict[str, Any] = {
    "schema": TEXT, "script": TEXT, "exit_code": (int,), "steps": (int,), "verdict": TEXT,
    "symptoms": [{
        "code": TEXT, "severity": TEXT, "location": TEXT, "first_step": (int,), "last_step": (int,), "evidence": {},
        "message": TEXT,
    }],
    "causes": [{
        "code": TEXT, "confidence": NUMBER, "location": TEXT, "evidence": WORDS, "against": WORDS, "remedies": WORDS,
    }],
    "checks_not_run": [{"check": TEXT, "why": TEXT}],
    "overhead": {"seconds": NUMBER, "share": NUMBER},
    "advice": [{"remedy": TEXT, "cause": TEXT, "why": TEXT, "risk": TEXT, "patch": TEXT}],
}  # fmt: skip


def conforms(value: Any, schema: Any, path: str = "$") -> None:
    """Exactly these keys, of these types."""
    if schema == WORDS:
        assert isinstance(value, list), path
        assert all(isinstance(item, str) for item in value), path
    elif isinstance(schema, list):
        assert isinstance(value, list), path
        for i, item in enumerate(value):
            conforms(item, schema[0], f"{path}[{i}]")
    elif isinstance(schema, dict) and schema:
        assert list(value) == list(schema), path
        for key, inner in schema.items():
            conforms(value[key], inner, f"{path}.{key}")
    elif isinstance(schema, dict):
        assert all(isinstance(v, NUMBER) or v in ("nan", "inf", "-inf") for v in value.values()), path
    else:
        assert isinstance(value, schema), path
        assert not isinstance(value, bool), path


def test_the_json_file_follows_the_schema(answer: dict[str, Any]) -> None:
    conforms(answer, SCHEMA)
    assert answer["schema"] == "steadygrad.run/1"
    assert answer["symptoms"]
    assert answer["causes"]
    assert answer["checks_not_run"]
    assert answer["advice"]


def test_json_on_stdout_follows_the_schema(healthy: Done) -> None:
    conforms(healthy.json, SCHEMA)


def test_the_answer_is_right(answer: dict[str, Any]) -> None:
    assert (answer["script"], answer["exit_code"], answer["steps"], answer["verdict"]) == (
        "broken.py",
        0,
        60,
        "unhealthy",
    )
    (symptom,) = [s for s in answer["symptoms"] if s["code"] == "non-finite"]
    assert (symptom["severity"], symptom["first_step"], symptom["location"]) == ("critical", 41, "broken.py:16")
    assert answer["causes"][0]["code"] == "unstable-operation"
    assert {s["severity"] for s in answer["symptoms"]} <= {"warning", "critical"}
    assert answer["overhead"]["seconds"] > 0
    assert 0 < answer["overhead"]["share"] < 1


def test_json_is_strict(home: Path, answer: dict[str, Any]) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    json.loads((home / "deep" / "answer.json").read_text(), parse_constant=refuse)


def test_a_json_file_that_cannot_be_written_is_not_lost(home: Path) -> None:
    done = call("run", "-q", "--no-report", "--json", "broken.py/answer.json", "--out", "kept", "idle.py", cwd=home)
    assert done.code == 7
    assert "cannot write" in done.err
    assert '"verdict": "unknown"' in done.err


# -- run: the folder ----------------------------------------------------------------------------------------------


def test_the_run_folder_holds_everything(home: Path, broken: Done) -> None:
    assert {p.name for p in (home / "run").iterdir()} == {"run.db", "findings.jsonl", "report.html"}
    findings = [json.loads(line) for line in (home / "run" / "findings.jsonl").read_text().splitlines()]
    assert any(f["code"] == "non-finite" and f["first_step"] == 41 for f in findings)
    with Run(home / "run") as run:
        assert run.meta["argv"] == ["--lr", "0.5", "--json", "x", "-q"]
        assert (run.meta["script"], run.meta["exit_code"], run.meta["steps"]) == ("broken.py", 0, 60)


class Links(html.parser.HTMLParser):
    """Everything a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            value or "" for key, value in attrs if key in ("src", "href", "srcset", "data", "action", "poster")
        ]


def test_the_report_is_self_contained(home: Path, broken: Done) -> None:
    page = (home / "run" / "report.html").read_text()
    links = Links()
    links.feed(page)
    assert [link for link in links.found if not link.startswith(("#", "data:"))] == []
    assert not re.search(r"@import|url\((?!['\"]?(data:|#))", re.sub(r"<script.*?</script>", "", page, flags=re.S))
    for words in ("Non-finite", "Unstable operation", "broken.py:16"):
        assert words in page


def test_a_script_that_changes_its_folder_does_not_move_the_run(home: Path) -> None:
    done = call("run", "--out", "moved", "--json", "moved.json", "moves.py", cwd=home)
    assert "not recorded" not in done.err and "stopped" not in done.err
    assert "Report: moved/report.html" in done.err
    assert json.loads((home / "moved.json").read_text())["steps"] == 60
    with Run(home / "moved") as run:
        assert run.meta["steps"] == 60
    assert sorted(path.name for path in (home / "elsewhere").iterdir()) == []


def test_runs_get_a_folder_of_their_own_by_default(home: Path, healthy: Done) -> None:
    (folder,) = (home / "steadygrad-runs").glob("pack.healthy-*")
    assert {"run.db", "report.html"} <= {p.name for p in folder.iterdir()}


# -- run: exit codes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def leaving(home: Path) -> Done:
    return call(
        "run", "-q", "--fail-on", "warning", "--no-report", "--no-trace", "--out", "left", "leaves.py", cwd=home
    )


def test_fail_on_gives_exit_code_3(home: Path) -> None:
    done = call("run", "-q", "--fail-on", "critical", "--no-report", "--out", "failing", "broken.py", cwd=home)
    assert done.code == 3
    assert "last loss" in done.out, "the script ran to its end"


def test_fail_on_critical_lets_warnings_pass(home: Path) -> None:
    done = call(
        "run", "-q", "--json", "-", "--fail-on", "critical", "--no-report", "--out", "spiky", "spiky.py", cwd=home
    )
    assert {s["severity"] for s in done.json["symptoms"]} == {"warning"}
    assert done.code == 0


def test_the_scripts_own_failure_is_not_overwritten(leaving: Done) -> None:
    assert leaving.code == 5


def test_no_report_and_no_trace_are_heard(home: Path, leaving: Done) -> None:
    assert not (home / "left" / "report.html").exists()
    with Run(home / "left") as run:
        assert run.meta["exit_code"] == 5
        assert not any(getattr(event, "kind", "") == "origin" for event in run.events())


# -- run: scripts that do not train -------------------------------------------------------------------------------


def test_a_script_that_raises_is_shown_as_python_shows_it(home: Path) -> None:
    plain = call("raises.py", cwd=home, command=[sys.executable])
    done = call("run", "--json", "-", "--out", "raised", "raises.py", cwd=home)
    assert done.code == plain.code == 1
    assert plain.err in done.err
    assert done.json["verdict"] == "unknown"
    assert done.json["exit_code"] == 1
    assert "no training" in " ".join(done.err.split())


def test_a_script_that_does_not_train_says_so_and_keeps_its_code(home: Path) -> None:
    done = call("run", "--json", "-", "--out", "idle", "idle.py", cwd=home)
    assert done.code == 7
    assert done.out.startswith("2.0\n")
    assert (done.json["verdict"], done.json["steps"], done.json["exit_code"]) == ("unknown", 0, 7)
    assert "no training" in {c["check"]: c["why"] for c in done.json["checks_not_run"]}["observation"]
    assert "no training" in " ".join(done.err.split())
    assert not (home / "idle" / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "missing.py"), "no such file"),
        (("run", "-m", "no_such_module_anywhere"), "no module named"),
        (("run", "binary.py"), "binary file"),
        (("run", "latin.py"), "not readable as Python"),
        (("run", "pack"), "__main__"),
        (("run",), "name the script"),
        (("run", "--fail-on", "fatal", "idle.py"), "fatal"),
        (("run", "--every", "0", "idle.py"), "--every"),
        (("run", "--apply", "clipnorm", "idle.py"), "Did you mean 'clip-norm'"),
        (("run", "--apply", "clip-norm:much", "idle.py"), "must be a positive number"),
        (("run", "--apply", "clip-norm:1@encoder", "idle.py"), "takes no place"),
        (("idle.py", "--lr", "1"), "steadygrad run idle.py --lr 1"),
        (("run", "--no-such-option", "idle.py"), "no-such-option"),
        (("report", "missing"), "has none"),
        (("report",), "argument"),
        (("diagnose", "missing"), "has none"),
        (("diagnose", "broken.py"), "broken.py"),
        (("nonsense",), "nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_one_message_and_exit_code_2(home: Path, words: tuple[str, ...], said: str) -> None:
    done = call(*words, cwd=home)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (home / "steadygrad-runs" / "missing").exists()


def test_a_syntax_error_is_shown_as_python_shows_it(home: Path) -> None:
    plain = call("wrong.py", cwd=home, command=[sys.executable])
    done = call("run", "--out", "never", "wrong.py", cwd=home)
    assert (done.code, done.err, done.out) == (plain.code, plain.err, plain.out)


def test_the_version_is_told(home: Path) -> None:
    assert call("--version", cwd=home).out == f"steadygrad {__version__}\n"


@pytest.mark.parametrize("command", ["run", "fix", "lr-find"])
def test_the_usage_names_the_script(home: Path, command: str) -> None:
    usage = " ".join(call(command, "--help", cwd=home).out.split())
    assert f"{command} [OPTIONS] {{SCRIPT | -m MODULE}} [ARGS]..." in usage


@pytest.mark.parametrize(
    "words",
    [("--help",), ("run", "--help"), ("report", "--help"), ("diagnose", "--help"), ("list", "--help")],
    ids=" ".join,
)
def test_help(home: Path, words: tuple[str, ...]) -> None:
    done = call(*words, cwd=home)
    assert done.code == 0
    assert "Usage" in done.out


# -- stored runs, where torch is not installed --------------------------------------------------------------------

NO_TORCH = [
    sys.executable,
    "-c",
    "import sys; sys.modules['torch'] = None; from steadygrad.cli import main; sys.argv[0] = 'steadygrad'; main()",
]


def test_diagnose_gives_the_live_answer(home: Path, answer: dict[str, Any]) -> None:
    done = call("diagnose", "run", "--json", "-", cwd=home, command=NO_TORCH)
    assert done.code == 0
    assert done.err == ""
    stored = json.loads(done.out)
    for told in (stored, answer := dict(answer)):
        told.pop("overhead")
    assert stored == answer


def test_diagnose_prints_what_the_run_printed(home: Path, broken: Done) -> None:
    done = call("diagnose", "run/run.db", cwd=home, command=NO_TORCH)
    assert (done.code, done.out) == (0, "")
    told = [line for line in done.err.splitlines() if line.strip() and "watching" not in line.lower()]
    assert [line for line in told if line not in broken.err] == []


def test_diagnose_writes_a_file_too(home: Path, answer: dict[str, Any]) -> None:
    done = call("diagnose", "--json", "again/answer.json", "run", cwd=home, command=NO_TORCH)
    assert done.code == 0
    assert "unstable-operation" in done.err
    assert json.loads((home / "again" / "answer.json").read_text())["causes"] == answer["causes"]


def test_report_writes_the_same_page_again(home: Path, broken: Done) -> None:
    done = call("report", "run", "--out", "pages.html", cwd=home, command=NO_TORCH)
    assert (done.code, done.out, done.err) == (0, "pages.html\n", "")
    assert (home / "pages.html").read_text() == (home / "run" / "report.html").read_text()


def test_a_report_that_cannot_be_written_is_one_message(home: Path, broken: Done) -> None:
    done = call("report", "run", "--out", "broken.py/page.html", cwd=home, command=NO_TORCH)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert "--out" in done.err


def test_report_of_a_run_that_was_killed_diagnoses_it(home: Path, broken: Done) -> None:
    """Nothing was stored as its diagnosis, but its steps say enough."""
    import sqlite3

    killed = home / "killed"
    killed.mkdir()
    (killed / "run.db").write_bytes((home / "run" / "run.db").read_bytes())
    with sqlite3.connect(killed / "run.db") as db:
        db.execute("DELETE FROM diagnosis")
    db.close()
    done = call("report", "killed", cwd=home, command=NO_TORCH)
    assert (done.code, done.err) == (0, "")
    assert "Unstable operation" in (killed / "report.html").read_text()


def test_list_shows_the_runs_of_a_folder(home: Path, broken: Done, healthy: Done) -> None:
    done = call("list", ".", cwd=home, command=NO_TORCH)
    assert (done.code, done.err) == (0, "")
    (line,) = [line for line in done.out.splitlines() if line.startswith("run ") and "script" not in line]
    assert line.split()[1] == "broken.py"
    assert line.split()[-2:] == ["60", "unhealthy"]
    done = call("list", cwd=home, command=NO_TORCH)
    assert "-m pack.healthy" in done.out
    assert "healthy" in done.out.split("\n")[1].split()[-1]


def test_list_shows_odd_names_and_damaged_runs(tmp_path: Path) -> None:
    odd = tmp_path / "[red]odd[bold]"
    odd.mkdir()
    (odd / "run.db").write_bytes(b"not a database")
    done = call("list", str(tmp_path), cwd=tmp_path, command=NO_TORCH)
    assert (done.code, done.err) == (0, "")
    assert "[red]odd[bold]" in done.out
    assert "damaged" in done.out


def test_what_standard_output_cannot_encode_is_escaped(tmp_path: Path) -> None:
    with Recorder(tmp_path / "größe", {"script": "größe.py"}):
        pass
    program = "import sys; sys.stdout.reconfigure(encoding='ascii'); from steadygrad.cli import main; main()"
    done = call("list", ".", cwd=tmp_path, command=[sys.executable, "-c", program])
    assert (done.code, done.err) == (0, "")
    assert r"gr\xf6\xdfe.py" in done.out


def test_remedies_say_how_they_are_written(tmp_path: Path) -> None:
    assert "Written code[:value][@place]; " in call("remedies", cwd=tmp_path).out


def test_list_of_nothing_says_how_to_make_a_run(tmp_path: Path) -> None:
    done = call("list", cwd=tmp_path, command=NO_TORCH)
    assert (done.code, done.err) == (0, "")
    assert "steadygrad run SCRIPT" in done.out


def test_replay_in_this_process_agrees(home: Path, answer: dict[str, Any]) -> None:
    with Run(home / "run") as run:
        told = to_json(run.meta, replay(run))
    assert told["causes"] == answer["causes"]
    assert told["symptoms"] == answer["symptoms"]


@pytest.mark.parametrize("command", ["run", "lr-find"])
def test_without_torch_it_is_said_what_is_missing(home: Path, command: str) -> None:
    done = call(command, "idle.py", cwd=home, command=NO_TORCH)
    assert done.code == 2
    assert "torch" in done.err
    assert "Traceback" not in done.err


# -- the package as a script in its own right ---------------------------------------------------------------------


def test_the_installed_command_is_this_one() -> None:
    pyproject = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert 'steadygrad = "steadygrad.cli:main"' in pyproject


def test_watch_inside_a_watched_script_joins_the_run(home: Path) -> None:
    script = home / "joins.py"
    script.write_text(
        textwrap.dedent("""
        import steadygrad, torch
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with steadygrad.watch(model, optimizer) as monitor:
            for _ in range(30):
                loss = model(torch.ones(8, 4)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.step(loss)
        print(monitor.history.steps)
        """)
    )
    done = call("run", "-q", "--json", "-", "--no-report", "--out", "joined", "joins.py", cwd=home)
    assert done.code == 0
    assert done.out.startswith("30\n")
    assert done.json["steps"] == 30


def test_a_watch_records_where_it_was_told_to_although_the_script_moves(tmp_path: Path) -> None:
    script = """
        import os, steadygrad, torch
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        os.mkdir("elsewhere")
        with steadygrad.watch(folder="run"):
            os.chdir("elsewhere")
            for _ in range(3):
                loss = model(torch.ones(8, 4)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    """
    done = call("-c", textwrap.dedent(script), cwd=tmp_path, command=[sys.executable])
    assert (done.code, done.err) == (0, "")
    with Run(tmp_path / "run") as run:
        assert run.meta["steps"] == 3
