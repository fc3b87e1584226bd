"""Every remedy, by code."""

from __future__ import annotations

from collections.abc import Callable

from steadygrad.records import Cause
from steadygrad.remedies import architecture, clipping, data, initial, numerics, plumbing, rate, regularization
from steadygrad.remedies.base import Remedy, Text
from steadygrad.view import View

FAMILIES = {
    "clipping": clipping.REMEDIES,
    "learning rate": rate.REMEDIES,
    "initialisation": initial.REMEDIES,
    "architecture": architecture.REMEDIES,
    "data and loss": data.REMEDIES,
    "numerics": numerics.REMEDIES,
    "plumbing": plumbing.REMEDIES,
    "regularisation": regularization.REMEDIES,
}
REMEDIES: dict[str, Remedy] = {remedy.code: remedy for family in FAMILIES.values() for remedy in family}
TEXTS: dict[str, Callable[[View, Cause], Text]] = {code: remedy.explain for code, remedy in REMEDIES.items()}
