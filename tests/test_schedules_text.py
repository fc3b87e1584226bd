"""Schedules as text: what is read, and what is said about text that is none."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.errors import InputError
from steadygrad.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseSqrt,
    MultiStep,
    Schedule,
    Step,
    Strict,
    Warmup,
    continued,
    one_cycle,
    parse,
    sequence,
    wsd,
)
from steadygrad.schedules.text import WORDS, usage

READ: dict[str, Schedule] = {
    "cosine(800)": Cosine(800),
    "  cosine ( 800 )\n": Cosine(800),
    "warmup(200) > cosine(800)": Warmup(200) >> Cosine(800),
    "warmup(200)>>cosine(800)": Warmup(200) >> Cosine(800),
    "warmup(10, start='0') > cosine(80, end=1/25) > constant(value=0.04)": sequence(
        Warmup(10, start=0), Cosine(80, end=0.04), Constant(value=0.04)
    ),
    "warmup(10) > (cosine(5) > step(3))": Warmup(10) >> Cosine(5) >> Step(3),
    "0.1 * step(30)": 0.1 * Step(30),
    "step(30) * 0.1": 0.1 * Step(30),
    "step(30) * warmup(10)": Step(30) * Warmup(10),
    "2 * 0.5 * (warmup(1) > step(3))": 1.0 * (Warmup(1) >> Step(3)),
    "multi_step([30, 60], gamma=0.5)": MultiStep([30, 60], gamma=0.5),
    "multistep((30, 60))": MultiStep([30, 60]),
    "MultiStep([30])": MultiStep([30]),
    "inversesqrt(100)": InverseSqrt(100),
    "exponential(rate=1e-3)": Exponential(rate=1e-3),
    "exponential(rate=None, gamma=0.5)": Exponential(gamma=0.5),
    "cosine_restarts(10, growth=2, cycles=3)": CosineRestarts(10, growth=2, cycles=3),
    "one_cycle(100, three_phase=True)": one_cycle(100, three_phase=True),
    "wsd(1_000, warmup=100, decay=100)": wsd(1000, warmup=100, decay=100),
    "strict(warmup(1) > cosine(2))": Strict(Warmup(1) >> Cosine(2)),
    "continued(cosine(100, end=0.1), step(30))": continued(Cosine(100, end=0.1), Step(30)),
    "sequence(warmup(1), cosine(2))": Warmup(1) >> Cosine(2),
}


@pytest.mark.parametrize("text", READ)
def test_text_is_read(text: str) -> None:
    assert parse(text) == READ[text]


@pytest.mark.parametrize("text", READ)
def test_what_is_printed_reads_back(text: str) -> None:
    schedule = READ[text]
    assert parse(str(schedule)) == schedule


REFUSED = {
    "warmup(200) >": ("not a schedule", 13),
    "warmup(200": ("'(' was never closed", 6),
    "cosin(800)": ("did you mean cosine?", 0),
    "warmup(20) > zzz(3)": ("there are constant, warmup", 13),
    "cosine": ("needs its arguments in brackets", 0),
    "cosine()": ("missing a required argument: 'steps'", 0),
    "cosine(800, 3)": ("it is cosine(steps, start=1.0, end=0.0)", 0),
    "cosine(800, floor=3)": ("it is cosine(steps, start=1.0, end=0.0)", 0),
    "warmup(5) > cosine(-1)": ("steps must be a finite number", 12),
    "constant() > cosine(10)": ("only the last schedule", 0),
    "warmup(200) < cosine(800)": ("something that is no schedule", 0),
    "0.5": ("perhaps constant(value=0.5)", 0),
    "0.5 > cosine(3)": ("`>` stands between schedules", 0),
    "cosine(3) / 2": ("only numbers are divided", 0),
    "cosine(3) + cosine(3)": ("something that is no schedule", 0),
    "cosine(1/0)": ("not by 0", 7),
    "cosine(-'a')": ("before a number", 8),
    "[1, 2] * cosine(3)": ("numbers and schedules are multiplied", 0),
    "cosine(*[3])": ("one by one", 0),
    "cosine(**{})": ("one by one", 0),
    "__import__('os').system('true')": ("something that is no schedule", 0),
    "(lambda: 1)()": ("something that is no schedule", 0),
    "cosine(x := 3)": ("something that is no schedule", 7),
    "cosine(b'3')": ("something that is no schedule", 7),
    "cosine(" + "9" * 3000 + ")": ("steps must be", 0),
    "(" * 300 + ")" * 300: ("not a schedule", None),
    "cosine(3)\0": ("not a schedule", None),
    "x" * 5000: ("at most 4000 characters", None),
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40].replace("\0", "NUL"))
def test_what_is_no_schedule_is_refused_at_the_place(text: str) -> None:
    rule, column = REFUSED[text]
    with pytest.raises(InputError) as refused:
        parse(text)
    assert rule in str(refused.value)
    if column is not None:
        assert str(refused.value).splitlines()[-1] == " " * (4 + column) + "^"


@pytest.mark.parametrize("text", ["", "  ", None, 3])
def test_what_is_no_text_is_refused_with_an_example(text: Any) -> None:
    with pytest.raises(InputError, match=r"reads like 'warmup\(200\) > cosine\(800\)'"):
        parse(text)


@given(st.text(alphabet="cosinewarmup(,)>*[]0123456789.=-_' \"{}", max_size=40))
def test_any_text_gives_a_schedule_or_an_input_error(text: str) -> None:
    with contextlib.suppress(InputError):
        assert isinstance(parse(text), Schedule)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_tells_how_it_is_used(word: str) -> None:
    assert usage(WORDS[word]).startswith(f"{word}(")
