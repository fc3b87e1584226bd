"""The exceptions a user of SteadyGrad can meet. Each message states the rule, what was received and the likely fix."""


class SteadyGradError(Exception):
    """Base of every error raised on purpose by SteadyGrad."""


class InputError(SteadyGradError, ValueError):
    """An argument, option or script that cannot be used as given."""


class StoreError(SteadyGradError):
    """A run folder that cannot be read or written: missing, corrupted, or from another version."""


class NonFiniteError(SteadyGradError, ArithmeticError):
    """Gradients that hold NaN or Inf, where an error was asked for. The message names the parameters."""


class GuardStopError(SteadyGradError, RuntimeError):
    """A guard ended the training, as nothing milder helped. The message says where the last good state is."""
