"""What runs inside the process of a trial: the end after N steps, shifted seeds, and what it tells its parent."""

from __future__ import annotations

from steadygrad.child.limit import StepLimit, StepsReached
from steadygrad.child.progress import Progress
from steadygrad.child.seeding import shift_seeds
from steadygrad.child.trial import Trial, TrialOptions

__all__ = ["Progress", "StepLimit", "StepsReached", "Trial", "TrialOptions", "shift_seeds"]
