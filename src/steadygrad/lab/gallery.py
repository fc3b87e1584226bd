"""The gallery in the documentation: written from what was measured, so that its table cannot drift from the lab.

python -m steadygrad.lab.gallery docs [--seeds 5] [--folder steadygrad-lab]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from steadygrad.figures.export import write_figure
from steadygrad.lab import EXPERIMENTS, Result, perform

#: The pictures that are shown, in this order: experiment and picture.
SHOWN = (
    ("sigmoid-vs-relu", "signal"),
    ("std-10-weights", "loss"),
    ("xavier-vs-kaiming", "loss"),
    ("exploding-conditions", "signal"),
    ("clip-direction", "sweep"),
    ("threshold-sweep", "sweep"),
    ("gradient-norm", "gradient-norm"),
    ("threshold-and-rate", "sweep"),
    ("adamw-and-clipping", "loss"),
    ("cosine-then-step", "rates"),
    ("lr-decay", "rates"),
    ("batchnorm-batch-size", "sweep"),
    ("cnn-recipe", "loss"),
)
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def write_gallery(docs: Path, results: Sequence[Result]) -> None:
    """Replace what stands between the two marks of ``docs/lab.md``, and write the pictures."""
    page = docs / "lab.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    named = {result.experiment.name: result for result in results}
    sections = [table(results), *(_picture(docs, named[name], picture) for name, picture in SHOWN)]
    body = "\n\n".join(sections)
    page.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")


def table(results: Sequence[Result]) -> str:
    """Claim, verdict, and every condition with its effect, as Markdown."""
    lines = ["| claim | verdict | measured, with its 95 % interval |", "|---|---|---|"]
    for result in results:
        rows = [
            f"{'**yes**' if f.holds else 'no' if f.holds is False else 'not shown'}: {f.condition.name}: "
            f"{f.condition.what} {f.text}"
            for f in result.verdict.findings
        ]
        claim = f"{result.experiment.claim} (`{result.experiment.name}`)"
        lines.append(f"| {claim} | {result.verdict.word} | {'<br>'.join(rows)} |")
    return "\n".join(lines)


def _picture(docs: Path, result: Result, name: str) -> str:
    picture = next(p for p in result.experiment.pictures(result.runs) if p.name == name)
    path = docs / "images" / "lab" / f"{result.experiment.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(picture.figure, path, title=picture.title, width=760)
    link = f"![{picture.title}](images/lab/{path.name})"
    claim = f"{result.experiment.claim} **{result.verdict.word.capitalize()}.**"
    link = f"![{picture.title}](images/lab/{path.name})"
    return "\n\n".join((f"### {result.experiment.title}", fill(claim, 120), link, fill(picture.caption, 120)))


def main() -> None:
    """Run what is not stored, and write the gallery."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("docs", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("steadygrad-lab"))
    given = parser.parse_args()
    results = [perform(e, seeds=range(given.seeds), folder=given.folder) for e in EXPERIMENTS.values()]
    write_gallery(given.docs, results)


if __name__ == "__main__":
    main()
