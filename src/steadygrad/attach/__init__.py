"""Zero-code attachment: process-wide hooks that feed a :class:`~steadygrad.monitor.Monitor`, removed without a trace.

Nothing is attached to the script's own objects, so its models copy, pickle and compile as before. Every hook calls the
original first or last, outside our own error handling: an error of ours is reported once, switches observation off and
never reaches the script.

Each module here holds one family of hooks; :class:`~steadygrad.attach.watch.Watch` is what they share.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from steadygrad.attach.backward import Backward
from steadygrad.attach.clipping import Clipping
from steadygrad.attach.compiling import Compiling
from steadygrad.attach.forward import Forward
from steadygrad.attach.stepping import Stepping
from steadygrad.attach.watch import Watch
from steadygrad.monitor import Monitor
from steadygrad.patching import Installed, in_forks


class Attachment:
    """The set of installed hooks. Use :func:`attached`."""

    def __init__(self, monitor: Monitor, on_error: Callable[[BaseException], None]) -> None:
        self.monitor = monitor
        self.watch = Watch(monitor, on_error)
        self._installed = Installed()

    @property
    def seconds(self) -> float:
        """Spent in our own code so far."""
        return self.watch.seconds

    def install(self) -> None:
        """Put every hook in place."""
        in_forks.add(self.watch)
        traced = Forward(self.watch).install(self._installed)
        for family in (Backward(self.watch), Clipping(self.watch), Stepping(self.watch), Compiling(self.watch, traced)):
            family.install(self._installed)

    def finish(self) -> None:
        """The script ended: close what is still open."""
        if self.watch.here():
            self.watch.call(self.monitor.finish)

    def remove(self) -> None:
        """Take every hook away again."""
        self.watch.silence()
        in_forks.discard(self.watch)
        self._installed.undo()


@contextlib.contextmanager
def attached(monitor: Monitor, on_error: Callable[[BaseException], None]) -> Iterator[Attachment]:
    """Observe everything this thread trains while the context lasts.

    Args:
        monitor: receives the events.
        on_error: called at most once, when our own code fails; observation is off from then on.
    """
    attachment = Attachment(monitor, on_error)
    attachment.install()
    try:
        yield attachment
    finally:
        attachment.remove()
