"""Where a value comes from: small scripts, run, that ask for it from inside the call."""

from __future__ import annotations

import linecache
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from steadygrad import settings
from steadygrad.frames import script_frame, user_frame

MARK = "# <- here"


def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, **others: str) -> list[str]:
    """Run a script that calls ``build(params, lr=...)``; give what was found, and the line that is marked."""
    found = []

    def build(*_: object, **__: object) -> None:
        found.append(settings.set_at(user_frame(2), "lr", 1))

    for name, text in others.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    script = tmp_path / "script.py"
    script.write_text(source)
    linecache.checkcache(str(script))
    monkeypatch.syspath_prepend(tmp_path)
    exec(compile(source, str(script), "exec"), {"build": build, "params": [], "__name__": "__main__"})
    marked = [f"script.py:{i}" for i, line in enumerate(source.splitlines(), 1) if MARK in line]
    marked += [
        f"{n}.py:{i}" for n, text in others.items() for i, line in enumerate(text.splitlines(), 1) if MARK in line
    ]
    return [*found, *(marked or [""])]


SCRIPTS = {
    "a constant": "LR = 10.0  # <- here\nbuild(params, lr=LR)\n",
    "by position": "rate = 10.0  # <- here\nbuild(params, rate)\n",
    "the last of several": "lr = 1\nlr = 2  # <- here\nbuild(params, lr=lr)\nlr = 3\n",
    "a constant by another name": "LR = 10.0  # <- here\nrate = LR\nbuild(params, lr=rate)\n",
    "several at once": "a, lr = 1, 10.0  # <- here\nbuild(params, lr=lr)\n",
    "in the call itself": "build(params, lr=0.1)\n",
    "in the call, on its own line": "build(\n    params,\n    lr=0.1,  # <- here\n)\n",
    "a default": "def main(\n    lr=10.0,  # <- here\n):\n    build(params, lr=lr)\nmain()\n",
    "what a caller passes": "def main(lr=0.1):\n    build(params, lr=lr)\nmain(\n    lr=3.0,  # <- here\n)\n",
    "what a caller's caller passes": (
        "def make(lr):\n    build(params, lr=lr)\ndef main(rate):\n    make(rate)\nRATE = 3.0  # <- here\nmain(RATE)\n"
    ),
    "argparse": (
        "import argparse\np = argparse.ArgumentParser()\n"
        "p.add_argument('--steps', default=3)\n"
        "p.add_argument('--lr', type=float, default=6.0)  # <- here\n"
        "args = p.parse_args([])\nbuild(params, lr=args.lr)\n"
    ),
    "argparse, kept by an object": (
        "import argparse\nclass Module:\n    def __init__(self, lr):\n        self.lr = lr\n"
        "    def build(self):\n        build(params, lr=self.lr)\n"
        "p = argparse.ArgumentParser()\np.add_argument('--lr', type=float, default=6.0)  # <- here\n"
        "options = p.parse_args([])\nModule(options.lr).build()\n"
    ),
    "argparse, an option of two parsers": (
        "import argparse\np, q = argparse.ArgumentParser(), argparse.ArgumentParser()\n"
        "p.add_argument('--lr', default=6.0)\nq.add_argument('--lr', default=6.0)\n"
        "options = p.parse_args([])\nbuild(params, lr=options.lr)\n"
    ),
    "a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass Config:\n    lr: float = 3.0  # <- here\n"
        "def main(cfg):\n    build(params, lr=cfg.lr)\nmain(Config())\n"
    ),
    "a dataclass built with another value": (
        "from dataclasses import dataclass\n@dataclass\nclass Config:\n    lr: float = 3.0\n"
        "cfg = Config(lr=9.0)  # <- here\nbuild(params, lr=cfg.lr)\n"
    ),
    "argparse beside another optimizer": (
        "import argparse\np = argparse.ArgumentParser()\n"
        "p.add_argument('--lr', type=float, default=6.0)  # <- here\n"
        "args = p.parse_args([])\nother = lambda *a, **k: None\nother(params, lr=0.1)\nbuild(params, lr=args.lr)\n"
    ),
    "a parameter group": (
        "build(\n    [\n        {'params': params, 'lr': 1.0},  # <- here\n"
        "        {'params': [], 'lr': 0.0},\n    ],\n)\n"
    ),
    "two parameter groups": "build(\n    [\n        {'lr': 1.0},\n        {'lr': 2.0},\n    ],\n)\n",
    "a nested dict": "C = {\n    'optim': {'lr': 1e-7},  # <- here\n}\nbuild(params, lr=C['optim']['lr'])\n",
    "dict()": "C = dict(\n    lr=1e-7,  # <- here\n)\nbuild(params, lr=C['lr'])\n",
    "keywords unpacked": "C = {\n    'lr': 1e-7,  # <- here\n}\nbuild(params, **C)\n",
    "an attribute": (
        "class Trainer:\n    def __init__(self, lr):\n        self.lr = lr\n    def make(self):\n"
        "        build(params, lr=self.lr)\nt = Trainer(\n    lr=2.0,  # <- here\n)\nt.make()\n"
    ),
    "a constant seen in a function": "LR = 1.0  # <- here\ndef main():\n    build(params, lr=LR)\nmain()\n",
    "two candidates": "a = {'lr': 1}\nb = {'lr': 2}\nc = a if a else b\nbuild(params, lr=c['lr'])\n",
    "nothing to be found": "import math\nbuild(params, lr=vars(math)['pi'])\n",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_line_that_sets_the_value(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected = ask(tmp_path, monkeypatch, SCRIPTS[name])
    assert found == expected


def test_a_constant_of_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from sg_constants import LR as RATE\nbuild(params, lr=RATE)\n"
    found, expected = ask(tmp_path, monkeypatch, source, sg_constants=f"STEPS = 3\nLR = 10.0  {MARK}\n")
    assert found == expected == "sg_constants.py:2"


def test_an_attribute_of_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import sg_constants as c\nbuild(params, lr=c.LR)\n"
    found, expected = ask(tmp_path, monkeypatch, source, sg_constants=f"LR = 10.0  {MARK}\n")
    assert found == expected


def test_the_step_that_follows_a_backward(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text("def train():\n    opt.step()\n    ask()\n    opt.step()\n    sched.step()\n")
    linecache.checkcache(str(path))
    found: list[dict[str, str]] = []
    names = {"ask": lambda: found.append(settings.places("backward", user_frame(2)))}
    exec(compile("def train():\n\n    ask()\ntrain()", str(path), "exec"), names)
    assert found[0]["step"] == "script.py:4"


def test_code_without_a_file_has_no_places() -> None:
    found: list[object] = []
    names = {"note": lambda: found.extend(everything(user_frame(2)))}
    exec(compile("note()", "<typed in>", "exec"), names)
    assert found == ["", {}, {}, {}]
    assert everything(None) == ["", {}, {}, {}]


def everything(frame: FrameType | None) -> list[object]:
    """What is found for each kind of call."""
    return [settings.set_at(frame, "lr"), *(settings.places(what, frame) for what in ("optimizer", "clip", "backward"))]


HANDED = {
    ("optimizer", "lr"): "args = TrainingArguments(\n    'out',\n    learning_rate=3.0,  # <- here\n)\nask()\n",
    ("optimizer", "lr of a constant"): "RATE = 3.0  # <- here\nmodel.train(lr0=RATE, data=d)\nask()\n",
    ("optimizer", "lr twice the same"): "RATE = 3.0  # <- here\na = A(lr=RATE)\nb = B(learning_rate=RATE)\nask()\n",
    ("optimizer", "lr of two"): "a = A(lr=1.0)\nb = B(lr=2.0)\nask()\n",
    ("optimizer", "weight_decay"): "args = TrainingArguments('out', weight_decay=5.0)  # <- here\nask()\n",
    ("clip", "max_norm"): "args = TrainingArguments('out', max_grad_norm=1e-7)  # <- here\nask()\n",
    ("clip", "max_norm under a short name"): "t = Trainer(gradient_clip_val=1e-7)  # <- here\nask()\n",
    ("clip", "clip_value"): "t = Trainer(gradient_clip_val=1e-7)  # <- here\nask()\n",
    ("clip", "max_norm that the line itself gives"): "m = 1e-7  # <- here\nask(a.clip_grad_norm_(p, m))\n",
    ("backward", "criterion"): "c = nn.MSELoss(reduction='sum')  # <- here\nt.fit(c)\nask()\n",
    ("backward", "step"): "t = Trainer()\nask()\nother.step()\n",
    ("backward", "loss"): "x = 1\nloss = f(x)  # <- here\nask(a.backward(loss))\n",
}


@pytest.mark.parametrize(("what", "name"), HANDED)
def test_what_a_package_trains_with_is_set_in_the_script(what: str, name: str, tmp_path: Path) -> None:
    """Asked from a file of a package, which the last line of the script's ``ask`` calls."""
    source = HANDED[what, name]
    script, package = tmp_path / "script.py", tmp_path / "site-packages" / "trainer.py"
    package.parent.mkdir()
    package.write_text("lr = 1\nmax_norm = 2\ndef train(*_):\n    note(lr=lr)\n")
    script.write_text(source)
    linecache.checkcache()
    found: list[dict[str, str]] = []

    def note(**_: object) -> None:
        frame = user_frame(2)
        found.append(settings.places(what, frame, script_frame(frame)))

    names: dict[str, Any] = {"note": note}
    exec(compile(package.read_text(), str(package), "exec"), names)
    lines = source.splitlines()
    at = next(i for i, line in enumerate(lines) if "ask(" in line)
    exec(compile("\n" * at + "ask()", str(script), "exec"), {"ask": names["train"]})
    marked = [f"script.py:{i}" for i, line in enumerate(lines, 1) if MARK in line]
    assert found[0].get(name.split(" ", maxsplit=1)[0], "") == (marked or [""])[0]


def test_a_script_that_is_installed_is_its_own_place(tmp_path: Path) -> None:
    path = tmp_path / "site-packages" / "tool.py"
    found: list[FrameType | None] = []
    names = {"ask": lambda: found.extend([user_frame(2), script_frame(user_frame(2))])}
    thread = threading.Thread(target=exec, args=(compile("ask()", str(path), "exec"), names))
    thread.start()  # with nothing of the tests on its stack
    thread.join()
    assert found[0] is found[1] is not None


OTHERS = {
    ("backward", "loss"): "x = 1\nloss = x  # <- here\nif x:\n    y = 2\nloss.backward()\n",
    ("optimizer", "schedule"): "sched = LambdaLR(opt, f)  # <- here\nask()\n",
    ("optimizer", "schedule by hand"): "for g in groups:\n    g['lr'] = rate(1)  # <- here\nask()\n",
    ("optimizer", "schedule twice"): "a = StepLR(opt, 1)\nb = ExponentialLR(opt, 2)\nask()\n",
    ("optimizer", "schedule_step"): "s = StepLR(opt, 1)\nopt.step()\ns.step()  # <- here\nask()\n",
    ("backward", "criterion"): "c = nn.MSELoss(reduction='sum')  # <- here\nloss = c(x, y)\nask()\n",
    ("backward", "criterion of two"): "c = nn.MSELoss()\nd = nn.L1Loss()\nask()\n",
    ("backward", "weights"): "W = draw.randn(2, 2, requires_grad=True)  # <- here\nx = randn(2)\nask()\n",
    ("backward", "weights marked later"): "W = randn(2) * 9  # <- here\nW.requires_grad_()\nask()\n",
    ("backward", "weights of two kinds"): "W = randn(2).requires_grad_()\nV = Parameter(randn(2))\nask()\n",
    ("backward", "half"): "D = torch.bfloat16  # <- here\nm = Net().to(D)\nask()\n",
    ("backward", "half by a method"): "m = Net()\nm = m.half()  # <- here\nask()\n",
    (
        "backward",
        "half for model and data",
    ): "x = x.half()\nopt = Adam(m.parameters())\nm.to(torch.bfloat16)  # <- here\nask()\n",
    ("backward", "half and not"): "a = x.half()\nb = x.bfloat16()\nask()\n",
    ("backward", "rate"): "lr = 0.3  # <- here\nfor p in ps:\n    p -= lr * p.grad\nask()\n",
    ("backward", "rate in the update"): "for p, g in ps:\n    p -= 0.3 * g  # <- here\nask()\n",
    ("backward", "rate of two kinds"): "a -= 0.3 * g\nb -= 0.1 * g\nask()\n",
}


@pytest.mark.parametrize(("what", "name"), OTHERS)
def test_other_places(what: str, name: str, tmp_path: Path) -> None:
    """Asked from a frame that stands in the last line of the file."""
    source = OTHERS[what, name]
    path = tmp_path / "script.py"
    path.write_text(source)
    linecache.checkcache(str(path))
    found: list[dict[str, str]] = []
    probe = "\n" * (source.count("\n") - 1) + "ask()"
    exec(compile(probe, str(path), "exec"), {"ask": lambda: found.append(settings.places(what, user_frame(2)))})
    marked = [f"script.py:{i}" for i, line in enumerate(source.splitlines(), 1) if MARK in line]
    assert found[0].get(name.split(" ", maxsplit=1)[0], "") == (marked or [""])[0]
