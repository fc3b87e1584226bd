"""One training step that is right: ``stepper.step(loss)``."""

from steadygrad.stepper.core import Stepper
from steadygrad.stepper.result import StepResult

__all__ = ["StepResult", "Stepper"]
