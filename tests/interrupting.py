"""The ``steadygrad`` command as a terminal starts it. (What a script puts into the background ignores interrupts.)"""

from __future__ import annotations

import sys

_CODE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from steadygrad.cli import main
main()
"""
STEADYGRAD = [sys.executable, "-c", _CODE]
