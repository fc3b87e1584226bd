"""What the documentation says is true: its code runs, its commands parse, its names and links exist."""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from test_cli import SCHEMA, conforms

import steadygrad
from steadygrad.cli import app
from steadygrad.detectors import DETECTORS
from steadygrad.diagnosis import CAUSES, LATENT
from steadygrad.remedies import TEXTS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """(line, text) of the fenced blocks of a language; "" is a plain one."""
    text = page.read_text()
    found = [(text.count("\n", 0, m.start()) + 1, m[2]) for m in BLOCK.finditer(text) if m[1] == language]
    assert text.count("```") == 2 * len(BLOCK.findall(text)), "a fence that is not closed"
    return found


# -- code ---------------------------------------------------------------------------------------------------------

WITH_CODE = [page for page in PAGES if blocks(page, "python")]


def test_there_is_code_to_run() -> None:
    assert {page.name for page in WITH_CODE} >= {"README.md", "guide-run.md", "api.md", "adding-a-detector.md"}


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_python_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All blocks of a page share one namespace. ``print(x)  # text`` has to print that text."""
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "__main__"}
    for line, text in blocks(page, "python"):
        source = "\n" * line + text
        exec(compile(source, str(page), "exec"), scope)
        printed = capsys.readouterr().out
        for claimed in re.findall(r"^print\(.*\) *# (.*)$", text, re.MULTILINE):
            assert claimed in printed


MODULES = sorted(m.name for m in pkgutil.walk_packages(steadygrad.__path__, "steadygrad."))


@pytest.mark.parametrize("name", ["steadygrad", *MODULES])
def test_docstring_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
    source = Path(module.__file__ or "").read_text()
    assert (result.attempted > 0) == (">>>" in source), "an example that doctest does not find"


# -- commands -----------------------------------------------------------------------------------------------------


def commands(page: Path) -> Iterator[str]:
    """Every line of a block, and every inline code, that begins with the command."""
    text = page.read_text()
    for _, block in blocks(page, "") + blocks(page, "sh"):
        for line in block.splitlines():
            words = line.strip().removeprefix("$ ").removeprefix("python -m steadygrad.cli ")
            if words != line.strip().removeprefix("$ "):
                yield f"steadygrad {words}"
            elif words.startswith("steadygrad ") and not words.startswith("steadygrad: "):
                yield words.split("  #")[0]
    yield from re.findall(r"`(steadygrad [^`]+)`", text)


COMMANDS = sorted({command for page in PAGES for command in commands(page)})


def test_there_are_commands_to_check() -> None:
    assert {command.split()[1] for command in COMMANDS} >= {"run", "list", "diagnose", "report", "schedules"}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_shown_parse(command: str) -> None:
    group = typer.main.get_command(app)
    name, *words = shlex.split(command)[1:]
    words = words or {"list": [], "remedies": [], "run": ["train.py"]}.get(name, ["folder"])
    context = group.make_context("steadygrad", [name, *words])
    known = group.get_command(context, name)  # type: ignore[attr-defined]
    assert known is not None
    parsed = known.make_context(name, [*words], parent=context)
    if name == "run" and "-m" not in words:
        assert parsed.args, "a command without a script"
        assert not parsed.args[0].startswith("-")


@pytest.mark.parametrize("name", ["run", "fix"])
def test_every_option_is_described(name: str) -> None:
    group = typer.main.get_command(app)
    guide = (ROOT / "docs" / f"guide-{name}.md").read_text()
    for parameter in group.commands[name].params:  # type: ignore[attr-defined]
        if getattr(parameter, "hidden", False):
            continue
        flags = [*parameter.opts, *parameter.secondary_opts]
        assert any(f"`{flag}" in guide for flag in flags), flags


def test_make_targets_shown_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = "\n".join([*(b for _, b in blocks(page, "")), *re.findall(r"`([^`]+)`", page.read_text())])
        assert set(re.findall(r"^(?:\w+=\S+ )?make (\w+)", text, re.MULTILINE)) <= targets


# -- names, numbers, links ----------------------------------------------------------------------------------------


def section(title: str) -> str:
    text = (ROOT / "docs" / "symptoms-and-causes.md").read_text()
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_symptom_and_cause_has_its_paragraph() -> None:
    assert sorted(re.findall(r"^### (.+)$", section("Symptoms"), re.MULTILINE)) == sorted(
        [*(d.code for d in DETECTORS), LATENT]
    )
    assert sorted(re.findall(r"^### (.+)$", section("Causes"), re.MULTILINE)) == sorted(c.code for c in CAUSES)


def test_every_symptom_says_both_sides() -> None:
    for paragraph in section("Symptoms").split("\n### ")[1:]:
        assert re.search(r"^Fires (when|on)\b", paragraph, re.MULTILINE), paragraph[:40]
        assert re.search(r"^Stays silent (when|on|at)\b", paragraph, re.MULTILINE), paragraph[:40]


def test_the_remedies_of_each_cause_are_the_ones_proposed() -> None:
    for rule in CAUSES:
        paragraph = section("Causes").split(f"### {rule.code}\n")[1].split("\n### ")[0]
        assert tuple(re.findall(r"`([\w-]+)`", paragraph.split("Remedies:")[1])) == rule.remedies, rule.code


def test_every_remedy_is_in_the_table() -> None:
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", section("Remedies"), re.MULTILINE)) == sorted(TEXTS)


def test_the_json_shown_follows_the_schema() -> None:
    ((_, text),) = blocks(ROOT / "docs" / "guide-run.md", "json")
    conforms(json.loads(text), SCHEMA)


def test_the_api_page_lists_the_public_names() -> None:
    table = (ROOT / "docs" / "api.md").read_text().split("\n## ")[0]
    assert sorted(re.findall(r"^\| \[?`(\w+)`", table, re.MULTILINE)) == sorted(steadygrad.__all__)


def anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if fragment:
            titles = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert fragment in map(anchor, titles), link


@every_page
def test_lines_are_not_too_long_to_read(page: Path) -> None:
    prose = BLOCK.sub("", page.read_text())
    long = [line for line in prose.splitlines() if len(line) > 160 and not line.startswith("|")]
    assert not long


@every_page
def test_files_and_modules_named_exist(page: Path) -> None:
    for name in re.findall(r"`((?:src|tests|examples|docs|benchmarks|zoo)/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(steadygrad\.[a-z_.]+)", page.read_text()):
        parts = name.rstrip(".").split(".")
        module = ".".join(parts) if ".".join(parts) in MODULES else ".".join(parts[:-1])
        owner = importlib.import_module(module)
        assert ".".join(parts) == module or hasattr(owner, parts[-1]), name


def test_the_picture_of_the_layers_shows_every_module() -> None:
    text = (ROOT / "docs" / "how-it-works.md").read_text()
    shown = {name for row in re.findall(r"^\| .* \|$", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    present = {m.removeprefix("steadygrad.").split(".")[0] for m in MODULES}
    assert present <= shown, present - shown


def test_the_picture_is_small_enough_to_load() -> None:
    picture = ROOT / "docs" / "images" / "report.png"
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert picture.stat().st_size < 300_000


def test_nothing_of_one_machine_is_in_the_documentation() -> None:
    for page in {*PAGES, *ROOT.glob("*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("zoo/*.md")}:
        assert not re.search(r"(^|[\s`(])/(work|root|home|tmp|Users)/", page.read_text(), re.MULTILINE), page.name
