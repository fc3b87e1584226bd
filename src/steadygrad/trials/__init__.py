"""Trials: the user's own script, run again with a remedy in place, beside an untouched control."""

from __future__ import annotations
