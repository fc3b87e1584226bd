"""A remedy as one word on a command line: ``code[:value][@place]``."""

from __future__ import annotations

from difflib import get_close_matches

from steadygrad.errors import InputError
from steadygrad.records import RemedySpec

#: Every remedy there is. The codes are stable: they stand in stored runs and in scripts.
CODES = (
    "clip-norm", "clip-value", "clip-adaptive", "lower-lr", "raise-lr", "warmup", "decay-schedule", "constant-lr",
    "line-search", "reinit-xavier", "reinit-kaiming", "reinit-orthogonal", "reinit-lsuv", "swap-activation",
    "add-normalization", "add-residual", "standardize-input", "skip-bad-step", "zero-grad", "full-precision",
    "loss-on-logits", "mean-reduction", "match-shapes", "guard-operation", "adaptive-optimizer", "l2-regularization",
    "l1-regularization", "reduce-weight-decay", "replace-batchnorm", "loosen-clip", "attach-parameters",
)  # fmt: skip
#: The control: the script as it is.
NO_OP = "no-op"


def parse_spec(text: str) -> RemedySpec:
    """Read ``code[:value][@place]``; the place is a module, a parameter or ``file:line``.

    Raises:
        InputError: there is no remedy of that code, or a value or place is announced but missing.

    >>> parse_spec("clip-norm:1.0")
    RemedySpec(code='clip-norm', value='1.0', place='')
    >>> parse_spec("swap-activation:relu@encoder.act").place
    'encoder.act'
    """
    head, at, place = text.strip().partition("@")
    code, colon, value = head.partition(":")
    if code not in (*CODES, NO_OP):
        near = get_close_matches(code, (*CODES, NO_OP), n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "`steadygrad remedies` lists them."
        raise InputError(f"A remedy is written code[:value][@place]; there is no remedy {code!r}. {hint}")
    for mark, given, what in ((colon, value, "value"), (at, place, "place")):
        if mark and not given:
            raise InputError(
                f"A remedy is written code[:value][@place]; {text!r} announces a {what} but gives none. "
                f"Leave out the {mark!r} to use the default."
            )
    return RemedySpec(code, value, place)


def format_spec(spec: RemedySpec) -> str:
    """Write a spec as text that `parse_spec` reads back.

    >>> format_spec(RemedySpec("reinit-kaiming", place="layers.3"))
    'reinit-kaiming@layers.3'
    """
    return spec.code + (f":{spec.value}" if spec.value else "") + (f"@{spec.place}" if spec.place else "")
