"""Writing remedies into a user's script: small changes to its text, in plain PyTorch, or a reason why not."""

from steadygrad.rewrite.hints import Hints, hints_of
from steadygrad.rewrite.proposal import REMEDIES, Rewrite, Unsupported, propose

__all__ = ["REMEDIES", "Hints", "Rewrite", "Unsupported", "hints_of", "propose"]
