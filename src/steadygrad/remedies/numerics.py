"""Number formats, and operations at the edge of their domain."""

from __future__ import annotations

from steadygrad.records import Cause
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.fitting import has_half_precision
from steadygrad.view import View


def _precision_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "Keep parameters and sensitive operations in float32; let autocast choose half precision where it is safe.",
        "model = model.float()\nwith torch.autocast(device_type, dtype=torch.bfloat16):\n    output = model(x)\n"
        "loss = criterion(output.float(), y)",
    )


GUARDS = (
    ("log", "torch.log(p.clamp_min(1e-8))"),
    ("square root", "torch.sqrt(x + 1e-8)  # the slope at 0 is infinite"),
    (
        "slope of a",
        "torch.sqrt(x.square().sum(-1) + 1e-8)  # in place of a norm or distance: its slope at 0 is infinite",
    ),
    ("1/sqrt", "torch.rsqrt(x + 1e-8)"),
    ("division", "a / (b + 1e-8)  # b >= 0; otherwise torch.where(b.abs() > 1e-8, b, 1e-8)"),
    ("exp", "x.clamp(max=30).exp()  # or work with logarithms: torch.logsumexp"),
    ("softmax", "scores.masked_fill(mask, -1e9)  # finite, or keep one position of every row unmasked"),
    ("power", "(x + 1e-8) ** p"),
)


def _guard_words(view: View, cause: Cause) -> tuple[str, str]:
    reason = next((e for e in cause.evidence if "gave the first" in e), "the operation leaves its domain")
    lines = [line for key, line in GUARDS if key in reason.split(" in `")[0]] or [line for _, line in GUARDS[:5]]
    return (
        f"{reason[0].upper()}{reason[1:]}. Keep its input inside the domain, by a margin that float32 can hold.",
        "\n".join(lines[:1] if len(lines) < 5 else lines),
    )


def _guard_values(view: View, cause: Cause) -> list[str]:
    """Everywhere first: an operation that broke has neighbours. A wider format keeps what a clamp would cut off."""
    words = cause.location.split()
    line = next((w for w in words if w.rpartition(":")[2].isdigit()), "")
    wide = ["float64"] if any("exp" in e or "overflow" in e for e in cause.evidence) else []
    return [*wide, "", *([f"@{line}"] if line else [])]


REMEDIES = (
    Remedy(
        "full-precision",
        "float16 or bfloat16 that overflows, underflows or rounds updates away",
        "Slower and larger than half precision; where only float16 gradients vanish, a GradScaler keeps it.",
        "full-precision",
        _precision_words,
        fits=has_half_precision,
    ),
    Remedy(
        "guard-operation",
        "log of 0, division by 0, roots and norms at 0, exp that overflows, softmax of a masked row",
        "A clamp has no gradient outside its range; an added epsilon keeps one.",
        "guard-operation@train.py:42",
        _guard_words,
        _guard_values,
    ),
)
