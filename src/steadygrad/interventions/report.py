"""What an intervention says about itself: what it did, or why it could not."""

from __future__ import annotations

from dataclasses import dataclass, field

from steadygrad.records import RemedySpec

Notes = list[tuple[RemedySpec, str]]


@dataclass
class Report:
    """One remedy's account: said once, at the first occasion; ``waiting`` is the reason if none ever comes."""

    spec: RemedySpec
    waiting: str
    notes: Notes = field(default_factory=list)
    said: bool = False

    def applied(self, what: str) -> None:
        """It took effect."""
        self._say(f"applied: {what}")

    def refused(self, why: str) -> None:
        """It cannot take effect in this script."""
        self._say(f"refused: {why}")

    def close(self) -> None:
        """The script is over."""
        self.refused(self.waiting)

    def _say(self, text: str) -> None:
        if not self.said:
            self.said = True
            self.notes.append((self.spec, text))
