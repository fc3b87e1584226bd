"""Where a value comes from: small scripts, run, that ask for it from inside the call."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from types import FrameType

import pytest

from steadygrad import settings
from steadygrad.frames import user_frame

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
