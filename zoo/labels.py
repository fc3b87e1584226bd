"""The labels of the zoo's scripts: one TOML table per case. Each split was written by somebody else."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent
SPLITS = {
    "core": (ROOT, ROOT / "labels" / "core.toml"),
    "heldout": (ROOT / "heldout", ROOT / "heldout" / "labels.toml"),
    "blind": (ROOT / "blind", ROOT / "blind" / "labels.toml"),
    "fresh": (ROOT / "fresh", ROOT / "fresh" / "labels.toml"),
    "outside": (ROOT / "outside", ROOT / "outside" / "labels.toml"),
    "wild": (ROOT / "wild", ROOT / "wild" / "labels.toml"),
}


@dataclass(frozen=True)
class Case:
    """One labelled script. ``causes`` are those accepted in first place; ``location`` the accepted places, if any."""

    split: str
    name: str
    kind: str  # faulty | fixed | healthy
    script: Path
    causes: tuple[str, ...] = ()
    symptoms: tuple[str, ...] = ()
    location: tuple[str, ...] = ()


def cases(split: str) -> list[Case]:
    """Every script of a split: faulty ones, their fixed variants, and healthy ones."""
    root, labels = SPLITS[split]
    found = []
    for row in tomllib.loads(labels.read_text())["case"]:
        name, kind = row["name"], row["kind"]
        accepted = tuple(row.get("causes", ())), tuple(row.get("symptoms", ())), tuple(row.get("location", ()))
        if kind == "faulty":
            found.append(Case(split, name, "faulty", root / "faulty" / f"{name}.py", *accepted))
            found.append(Case(split, name, "fixed", root / "fixed" / f"{name}.py"))
        else:
            found.append(Case(split, name, "healthy", root / "healthy" / f"{name}.py"))
    return found
