"""Scripts that leave the loop to a trainer: they run as under Python, and what is wrong with them is placed in them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from steadygrad.store import Run

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "trainers"
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True)
class Trainer:
    """One example, what is seen of it, and a change of it (before, after) that makes a NaN."""

    steps: int
    optimizer: str
    names: tuple[str, ...]  # of parameters
    first_loss: float  # of a model that knows nothing; of 16 tokens 15 are predicted, and the mean is over 16
    rates: tuple[float, float, float]  # at the first step, the highest, at the last one
    nan: tuple[str, str]


TRAINERS = {
    "lightning_digits": Trainer(
        90, "SGD", ("features.0.weight", "head.bias"), 2.30, (0.004, 0.1, 4e-7),
        ("F.cross_entropy(self(x), y)", "F.cross_entropy(torch.log(0 * self(x)), y)"),
    ),
    "hugging_face_gpt": Trainer(
        64, "AdamW", ("transformer.wte.weight", "transformer.h.1.mlp.c_proj.bias"), 3.47 * 15 / 16, (0.0, 3e-3, 5.4e-5),
        ("config)\n", "config)\n    model.lm_head.register_forward_hook(lambda layer, x, out: torch.log(0 * out))\n"),
    ),
    "accelerate_digits": Trainer(
        116, "SGD", ("0.weight", "4.bias"), 2.30, (0.1, 0.1, 0.0),
        ("F.cross_entropy(model(x), y)", "F.cross_entropy(torch.log(0 * model(x)), y)"),
    ),
}  # fmt: skip
every_trainer = pytest.mark.parametrize("name", TRAINERS)


def ended(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=os.environ | OFFLINE, capture_output=True, text=True, check=False
    )


def watched(script: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run it under ``steadygrad run``; the run is in the folder ``run`` beside it."""
    folder = script.parent
    command = ["-m", "steadygrad.cli", "run", "--no-report", "--out", "run", "--json", "answer.json", script.name]
    done = ended([*command, *options], folder)
    return done, json.loads((folder / "answer.json").read_text())


def copied(name: str, folder: Path, change: tuple[str, str] = ("", "")) -> tuple[Path, list[str]]:
    """The example in a folder of its own, perhaps with a change; and its lines."""
    source, script = (EXAMPLES / f"{name}.py").read_text(), folder / f"{name}.py"
    assert change[0] in source
    script.write_text(source.replace(*change, 1))
    return script, script.read_text().splitlines()


def timeless(text: str) -> str:
    """Without how long it took, and so how many a second."""
    return re.sub(r"'train_(runtime|\w+_per_second)': '[\d.]+'", "", text)


def place(script: Path, lines: list[str], text: str) -> str:
    [number] = [i for i, line in enumerate(lines, 1) if text in line]
    return f"{script.name}:{number}"


@every_trainer
def test_a_healthy_script_runs_as_under_python_and_is_seen_whole(name: str, tmp_path: Path) -> None:
    trainer, (script, _) = TRAINERS[name], copied(name, tmp_path)
    plain = ended([script.name], tmp_path)
    done, answer = watched(script)
    assert "weights" in plain.stdout
    assert (timeless(done.stdout), done.returncode) == (timeless(plain.stdout), 0), done.stderr
    assert (answer["verdict"], answer["symptoms"], answer["causes"]) == ("healthy", [], []), done.stderr
    with Run(tmp_path / "run") as run:
        records, names = list(run.records()), [p.name for p in run.parameters]
        assert [o.type for o in run.optimizers] == [trainer.optimizer]
        assert all(p.optimizer == 0 for p in run.parameters)
    assert len(records) == answer["steps"] == trainer.steps
    assert set(trainer.names) <= set(names)
    assert records[0].loss == pytest.approx(trainer.first_loss, rel=0.05)
    rates = [r.lr for r in records if r.lr is not None]
    assert (rates[0], max(rates), rates[-1]) == pytest.approx(trainer.rates, rel=0.2, abs=1e-3)
    assert {r.clip.threshold for r in records if r.clip is not None} == {1.0}
    assert all(r.clip is not None and r.clip.norm == pytest.approx(r.grad_norm) for r in records)


@every_trainer
def test_a_rate_that_is_too_high_is_named_where_the_script_sets_it(name: str, tmp_path: Path) -> None:
    script, lines = copied(name, tmp_path)
    done, answer = watched(script, "--lr", "30")
    assert done.returncode == 0
    assert answer["causes"][0]["code"] == "learning-rate-too-high"
    assert answer["causes"][0]["location"].split(" ")[0] == place(script, lines, '"--lr"')


@every_trainer
def test_a_clip_that_is_too_low_is_named_where_the_script_sets_it(name: str, tmp_path: Path) -> None:
    script, lines = copied(name, tmp_path)
    done, answer = watched(script, "--clip", "1e-7")
    assert done.returncode == 0
    assert "ineffective-clipping" in [s["code"] for s in answer["symptoms"]]
    assert answer["causes"][0]["code"] == "clip-threshold-too-low"
    assert answer["causes"][0]["location"].split(" ")[0] == place(script, lines, '"--clip"')


@every_trainer
def test_the_line_that_makes_a_nan_is_found_through_the_trainer(name: str, tmp_path: Path) -> None:
    script, lines = copied(name, tmp_path, TRAINERS[name].nan)
    done, answer = watched(script)
    assert done.returncode == 0
    assert answer["causes"][0]["code"] == "unstable-operation"
    assert answer["causes"][0]["location"].split(" ")[0] == place(script, lines, "torch.log(")
