"""The live page: a run as it goes on, in a browser, read from the run folder that the training writes.

The training knows nothing of it: the page reads what is stored anyway, so it can be opened and closed at any time, on a
run of long ago as well. Needs the extra ``steadygrad[dashboard]``.
"""

from __future__ import annotations

from steadygrad.dashboard.following import Follower, Shown
from steadygrad.dashboard.serving import Serving, serve

__all__ = ["Follower", "Serving", "Shown", "serve"]
