"""What the terminal shows: one live line while a script trains, findings as they come, the diagnosis at the end.

Everything goes to stderr, so that the script's stdout stays its own. There is no thread: the live line is redrawn from
the training loop itself, which cannot deadlock when the script forks.
"""

from steadygrad.terminal.ending import print_diagnosis
from steadygrad.terminal.live import LiveStatus, print_finding

__all__ = ["LiveStatus", "print_diagnosis", "print_finding"]
