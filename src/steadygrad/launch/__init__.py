"""Run a script or module in this process as ``python script.py`` or ``python -m module`` would run it.

What the user sees must be what plain Python shows: the same output, traceback, exit code and ``__main__``. The code
therefore follows CPython's ``Modules/main.c`` and ``Python/pythonrun.c`` step by step, not what would be tidiest.

What remains different: our callers' frames lie below the script's, so a warning whose ``stacklevel`` points above the
script names one of them, recursion reaches its limit some frames earlier, and ``sys._getframe`` can see them; modules
that we have imported are already in ``sys.modules``, so a file of the same name beside the script is not imported.
"""

from steadygrad.launch.paths import anchored, seen_from
from steadygrad.launch.running import Outcome, launch
from steadygrad.launch.targets import Target, resolve

__all__ = ["Outcome", "Target", "anchored", "launch", "resolve", "seen_from"]
