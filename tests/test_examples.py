"""Every example runs to its end under plain Python, in a reduced form, and trains with finite losses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

#: What each example is run with, and a word of its output. The demo's point is its failure, so it stops before that.
REDUCED = {
    "actor_critic_cartpole.py": (["--steps", "8"], "value loss"),
    "char_transformer.py": (["--steps", "12"], "val loss"),
    "cnn_digits.py": (["--steps", "12"], "accuracy"),
    "demo_diverging_lm.py": (["--steps", "30"], "val loss"),
    "gan_digits.py": (["--steps", "20"], "loss D"),
    "lbfgs_regression.py": (["--steps", "3"], "test R2"),
    "lstm_language_model.py": (["--steps", "6"], "val ppl"),
    "residual_mlp_accumulation.py": (["--steps", "5"], "accuracy"),
    "stepper_accumulation.py": (["--epochs", "1"], "accuracy"),
    "stepper_amp.py": (["--steps", "30"], "accuracy"),
    "stepper_ddp.py": (["--steps", "10"], "accuracy"),
    "stepper_fsdp2.py": (["--steps", "10"], "accuracy"),
    "stepper_plain.py": (["--steps", "30"], "accuracy"),
    "vae_digits.py": (["--steps", "20"], "elbo"),
}


def run_example(name: str, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run an example by itself, warnings as errors, on one thread."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *args]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_every_example_is_listed() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == set(REDUCED)
    readme = (EXAMPLES / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in scripts)


@pytest.mark.parametrize("name", sorted(REDUCED))
def test_example_runs(name: str, tmp_path: Path) -> None:
    args, word = REDUCED[name]
    done = run_example(name, *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert word in done.stdout
    assert not re.search(r"\b(nan|inf)\b", done.stdout, re.IGNORECASE)
    assert list(tmp_path.iterdir()) == []
