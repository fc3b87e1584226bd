"""Remedies: changes that may help a cause, explained, filled in with the run's own numbers, and tried."""

from __future__ import annotations

from steadygrad.remedies.spec import CODES, format_spec, parse_spec

__all__ = ["CODES", "format_spec", "parse_spec"]
