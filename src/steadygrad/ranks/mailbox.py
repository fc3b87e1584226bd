"""Files that the ranks of one training leave for each other."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

#: Older files are from a run that was killed before it could collect them.
STALE_SECONDS = 60.0
#: How long rank 0 waits at its end for ranks that are still at work, and how often it looks.
WAIT_SECONDS, LOOK_SECONDS = 10.0, 0.05


class Mailbox:
    """A folder with one file for each rank. Whatever cannot be written or read is left out: nothing here may raise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clear_stale(self) -> None:
        """Take away what an earlier run left; done by rank 0 when it begins."""
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > STALE_SECONDS:
                        path.unlink()

    def write(self, rank: int, summary: dict[str, Any]) -> None:
        """Leave a rank's summary, in place of an earlier one: readers see the old file or the new one whole."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = self.folder / f"rank-{rank}.tmp"
            draft.write_text(json.dumps(summary), encoding="utf-8")
            os.replace(draft, self.folder / f"rank-{rank}.json")

    def claim(self, what: str) -> bool:
        """Whether this rank is the first to say something; without a folder every rank is."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.folder / f"{what}.told", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        except OSError:
            return True
        return True

    def read(self) -> dict[int, dict[str, Any]]:
        """The summaries that are there, by rank."""
        found: dict[int, dict[str, Any]] = {}
        for path in sorted(self.folder.glob("rank-*.json")):
            with contextlib.suppress(OSError, ValueError):
                summary = json.loads(path.read_text(encoding="utf-8"))
                found[int(summary["rank"])] = summary
        return found

    def collect(self, world: int, *, wait: float = WAIT_SECONDS) -> dict[int, dict[str, Any]]:
        """The summaries of all ranks but 0, once all have ended or the time is up."""
        until = time.monotonic() + wait
        while True:
            found = self.read()
            ended = sum(summary.get("outcome") != "running" for rank, summary in found.items() if rank)
            if ended >= world - 1 or time.monotonic() > until:
                return found
            time.sleep(LOOK_SECONDS)

    def keep(self, folder: Path) -> None:
        """Move the files to where they stay, in the run folder."""
        if folder == self.folder:
            return
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.glob("rank-*.json"):
                shutil.move(path, folder / path.name)
            shutil.rmtree(self.folder, ignore_errors=True)
