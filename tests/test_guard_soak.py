"""A shorter form of ``python -m benchmarks --only soak``: faults at random, and SIGKILL."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import soak

STEPS = 800


@pytest.fixture(scope="module")
def faulty() -> soak.Soak:
    return soak.train(STEPS, faulty=True)


def test_a_faulty_training_ends_where_the_clean_one_does(faulty: soak.Soak) -> None:
    clean = soak.train(STEPS, faulty=False)
    assert clean.skipped == clean.damps == clean.rollbacks == 0
    assert faulty.faults > 25
    assert faulty.skipped > 0.8 * faulty.faults
    assert faulty.bad_numbers == 0
    assert faulty.loss < 1.05 * clean.loss


def test_killed_and_resumed_it_ends_at_the_same_bits(faulty: soak.Soak) -> None:
    assert soak.run_killed(STEPS, kills=1)["digest"] == faulty.digest
