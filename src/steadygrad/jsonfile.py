"""The answer as a JSON file, for CI and other programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def write_json(path: Path, answer: dict[str, Any]) -> None:
    """Write the answer, or to stdout for ``-``. A file that cannot be written is said, not raised."""
    text = json.dumps(answer, indent=2, allow_nan=False)
    if str(path) == "-":
        print(text)
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    except OSError as error:
        print(f"steadygrad: cannot write {path}: {error.strerror}; here it is instead", file=sys.stderr)
        print(text, file=sys.stderr)
