"""A remedy as one word: what is written is read back, and what cannot be read is explained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadygrad.errors import InputError
from steadygrad.interventions import APPLY
from steadygrad.records import RemedySpec
from steadygrad.remedies import CODES, format_spec, parse_spec

words = st.text(st.characters(blacklist_characters="@:", blacklist_categories=("Cs", "Cc", "Zs")), max_size=12)
places = st.lists(words, max_size=2).map(":".join)  # a module, or file:line


@given(st.sampled_from(CODES), words, places)
def test_what_is_written_is_read_back(code: str, value: str, place: str) -> None:
    spec = RemedySpec(code, value, place)
    assert parse_spec(format_spec(spec)) == spec


def test_a_place_may_be_a_line() -> None:
    assert parse_spec("guard-operation:clamp@train.py:12") == RemedySpec("guard-operation", "clamp", "train.py:12")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clip-nrom:1", "Did you mean 'clip-norm'"),
        ("", "steadygrad remedies"),
        ("clip-norm:", "announces a value"),
        ("reinit-kaiming@", "announces a place"),
    ],
)
def test_what_cannot_be_read_is_explained(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_spec(text)


def test_every_code_can_be_applied() -> None:
    assert set(APPLY) == set(CODES)
