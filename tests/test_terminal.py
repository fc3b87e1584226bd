"""The terminal: the script's own output survives the live line, and the ending says what to do."""

import io
import os
import re
import subprocess
import sys
import textwrap
import time

import pytest

from steadygrad.records import Advice, Cause, Diagnosis, NotRun, Symptom
from steadygrad.terminal import LiveStatus, print_diagnosis, print_finding
from steadygrad.terminal.text import sparkline

SYMPTOM = Symptom(
    "loss-spike", "warning", "fc1.weight", 12, 14, {"ratio": 9.0}, "The loss jumped\nto 9 times its level."
)
SICK = Diagnosis(
    "unhealthy",
    (SYMPTOM, Symptom("non-finite", "critical", "", 20, 20, {}, "[red]NaN[/red] in the loss")),
    (
        Cause("learning-rate-too-high", 0.87, "optimizer 0", ("update ratio 0.2",), ("gains near 1",), ("lower-lr",)),
        Cause("missing-warmup", 0.3, "", ("early spike",), (), ("warmup",)),
    ),
    (Advice("lower-lr", "learning-rate-too-high", "Steps are large.", "Slower.", f"if x:\n    {'y' * 120} = 1"),),
    (NotRun("dead-units", "no ReLU"),),
)


def screen(data, columns=80):
    """The lines a terminal would show: enough of one for carriage returns, clearing and colours."""
    lines, x = [""], 0
    for part in re.split(r"(\x1b\[[0-9;]*[A-Za-z]|\r\n|\r|\n)", data):
        if part == "\r":
            x = 0
        elif part in ("\n", "\r\n"):
            lines.append("")
            x = 0
        elif part == "\x1b[2K":
            lines[-1] = ""
        elif not part.startswith("\x1b") and part:
            line = lines[-1].ljust(x)
            lines[-1] = line[:x] + part + line[x + len(part) :]
            x += len(part)
            assert x < columns, f"line would wrap: {part!r}"
    return [line.rstrip() for line in lines]


def on_a_terminal(code, **environment):
    """Run code with stdout and stderr on a pseudo-terminal; returns everything written to it."""
    pty = pytest.importorskip("pty")
    leader, follower = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "PYTHONIOENCODING": "utf-8", **environment}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=env)
    os.close(follower)
    data = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:  # Linux ends a pseudo-terminal with EIO
            break
        if not chunk:
            break
        data += chunk
    os.close(leader)
    assert process.wait() == 0, data.decode()
    return data.decode()


LOOP = """
import sys
from steadygrad.records import Symptom
from steadygrad.terminal import LiveStatus, print_finding
write = sys.stdout.write
with LiveStatus(interval=0) as status:
    for step in range(1, 8):
        status.update(step=step, loss=1 / step, grad_norm=0.5, lr=1e-3, note="calm")
        if step % 3 == 0:
            print("epoch", step)
        if step == 5:
            print_finding(Symptom("loss-spike", "warning", "fc", 5, 5, {}, "It jumped."))
            print("half a line", end="")
        if step == 6:
            print(", the rest")
assert sys.stdout.write == write and "write" not in vars(sys.stdout)
print("after")
"""


def test_the_live_line_leaves_no_trace_in_the_scripts_output():
    data = on_a_terminal(LOOP)
    assert [line for line in screen(data) if line] == [
        "epoch 3",
        "steadygrad: warning loss-spike at fc, step 5: It jumped.",
        "half a lineepoch 6",
        ", the rest",
        "after",
    ]
    assert "step 2  loss 0.5" in data
    assert "calm" in data
    assert "\x1b[32m●\x1b[0m steadygrad" in data


def test_no_color_is_honoured():
    data = on_a_terminal(LOOP, NO_COLOR="1")
    assert "\x1b[3" not in data
    assert "● steadygrad" in data


def test_a_progress_bar_keeps_the_last_line():
    data = on_a_terminal("""
        import sys
        from steadygrad.records import Symptom
        from steadygrad.terminal import LiveStatus, print_finding
        with LiveStatus(interval=0) as status:
            for step in range(1, 5):
                sys.stderr.write(f"\\r{step * 25}%|####|")
                sys.stderr.flush()
                status.update(step=step, loss=1.0)
                if step == 2:
                    print_finding(Symptom("loss-spike", "critical", "", 2, 2, {}, "Up."))
            sys.stderr.write("\\n")
            status.update(step=9)
    """)
    assert [line for line in screen(data) if line] == ["steadygrad: critical loss-spike, step 2: Up.", "100%|####|"]
    assert "step 4" not in data
    assert "step 9" in data


def test_a_long_line_is_cut_at_the_width_of_the_terminal():
    screen(
        on_a_terminal("""
        from steadygrad.terminal import LiveStatus
        with LiveStatus(interval=0) as status:
            for step in range(9):
                status.update(step=step, loss=float(step), grad_norm=1.0, lr=0.1, note="words " * 50 + "\\x1b[31m\\n")
    """)
    )


def test_an_ascii_terminal_gets_ascii():
    data = on_a_terminal(LOOP, PYTHONIOENCODING="ascii:strict")
    assert data.isascii()
    assert "* " not in data.replace("\x1b[32m*\x1b[0m ", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_draws_nothing():
    data = on_a_terminal("""
        import os
        from steadygrad.terminal import LiveStatus
        with LiveStatus(interval=0) as status:
            pid = os.fork()
            status.update(step=7 if pid else 666)
            if pid == 0:
                print("child", flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
    """)
    assert "step 7" in data
    assert "666" not in data
    assert "child" in data


def test_a_pipe_gets_findings_and_now_and_then_a_plain_line(capsys):
    with LiveStatus() as status:
        for step in range(1000):
            status.update(step=step, loss=0.5)
        print_finding(SYMPTOM)
    out, err = capsys.readouterr()
    assert out == ""
    assert err == ("steadygrad: warning loss-spike at fc1.weight, step 12: The loss jumped to 9 times its level.\n")
    with LiveStatus(plain_interval=0.0) as status:
        status.update(step=3, loss=float("nan"), grad_norm=2.0, lr=0.1, note="probe")
    assert capsys.readouterr().err == "steadygrad: step 3, loss nan, grad norm 2, lr 0.1 (probe)\n"


def test_a_closed_stream_never_disturbs_the_script():
    stream = io.StringIO()
    with LiveStatus(stream, plain_interval=0.0) as status:
        status.update(step=1, loss=1.0)
        stream.close()
        status.update(step=2, loss=1.0)
        status.update(step=3, loss=1.0)


def test_a_throttled_update_costs_next_to_nothing():
    best = float("inf")
    with LiveStatus() as status:
        for _ in range(5):
            start = time.perf_counter()
            for step in range(2000):
                status.update(step=step, loss=0.5, grad_norm=1.0, lr=0.1, state="healthy")
            best = min(best, (time.perf_counter() - start) / 2000)
    assert best < 10e-6  # under 1 microsecond where it was measured; slower machines are given room


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([1.0], "▁"),
        ([2.0, 2.0], "▁▁"),
        ([0.0, 1.0], "▁█"),
        ([float("nan"), float("inf")], "××"),
        ([0.0, 5e-324], "▁█"),
        ([-1e308, 1e308], "▁▁"),
        ([float(i) for i in range(32)], sparkline([float(i) for i in range(16)])),
    ],
)
def test_sparklines(values, drawn):
    assert sparkline(values) == drawn


def test_the_ending_of_a_sick_run(capsys):
    meta = {"script": "train.py", "steps": 20, "overhead": {"seconds": 0.5, "share": 0.02}}
    print_diagnosis(SICK, meta, "runs/a b/report.html")
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    lines = err.splitlines()
    assert "UNHEALTHY  train.py, 20 steps: 2 findings, 2 possible causes" in lines
    assert "  warning  loss-spike at fc1.weight, steps 12 to 14" in lines
    assert "           [red]NaN[/red] in the loss" in lines
    assert any(line.startswith("  1. learning-rate-too-high at optimizer 0") and line.endswith("87%") for line in lines)
    assert "     + update ratio 0.2" in lines
    assert "     - gains near 1" in lines
    assert "     lower-lr: Steps are large. Risk: Slower." in lines
    assert "         if x:" in lines
    assert f"             {'y' * 120} = 1" in lines  # code is not wrapped
    assert "     try: warmup" in lines
    assert "Not checked: dead-units (no ReLU)." in lines
    assert "Watching took 0.5 s (2.0%)." in lines
    assert lines[-1] == "Report: runs/a b/report.html"
    assert max(len(line) for line in lines if "yyy" not in line) <= 80


def test_a_healthy_run_is_quiet(capsys):
    meta = {"script": "train.py", "steps": 500, "overhead": {"seconds": 0.1, "share": 0.01}}
    print_diagnosis(Diagnosis("healthy", checks_not_run=SICK.checks_not_run), meta, "report.html")
    err = capsys.readouterr().err
    assert len(err.splitlines()) <= 3
    assert "healthy. train.py, 500 steps, nothing wrong found, 1 check did not" in err


def test_an_unknown_run_says_what_was_not_checked(capsys):
    print_diagnosis(Diagnosis("unknown", checks_not_run=(NotRun("stalled-loss", "only 3 steps"),)), {})
    err = capsys.readouterr().err
    assert "too little to judge by" in err
    assert "stalled-loss (only 3 steps)" in err


def test_checks_that_were_not_made_for_the_same_reason_are_named_together(capsys):
    missing = (NotRun("a", "too short"), NotRun("b", "no ReLU"), NotRun("c", "too short"))
    print_diagnosis(Diagnosis("unknown", checks_not_run=missing), {"script": "train.py", "steps": 1})
    err = capsys.readouterr().err
    assert "train.py, 1 step, too little to judge by." in err
    assert "Not checked: a, c (too short); b (no ReLU)." in err


def test_where_no_training_was_seen_that_is_all_there_is_to_say(capsys):
    meta = {"script": "prepare.py", "steps": 0, "overhead": {"seconds": 5e-5, "share": 0.05}}
    print_diagnosis(Diagnosis("unknown", checks_not_run=(NotRun("observation", "no training was seen"),)), meta)
    assert capsys.readouterr().err == "steadygrad: unknown. prepare.py, 0 steps, no training was seen.\n"


def test_a_script_that_failed_was_healthy_until_then(capsys):
    print_diagnosis(Diagnosis("healthy"), {"script": "train.py", "steps": 40, "exit_code": 1})
    assert "nothing wrong found before it ended with exit code 1." in " ".join(capsys.readouterr().err.split())


def test_many_findings_are_cut_short(capsys):
    print_diagnosis(Diagnosis("unhealthy", (SYMPTOM,) * 30), {})
    assert "and 22 more in the report" in capsys.readouterr().err
