"""Data flows one way: the table below says who may import whom, and nothing else is allowed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "steadygrad"


@dataclass(frozen=True)
class Row:
    """What a module may import: of SteadyGrad, at the top and inside functions; of others; and whether torch."""

    may: str
    others: str = ""
    lazily: str = ""
    torch: bool = False


BASE = "records errors notices wording"
OBSERVERS = f"{BASE} stats online monitor batch probes graph timeflow origin attach launch naming frames calls settings"
OBSERVERS += " patching kinds roots"
OBSERVER = Row(OBSERVERS, "numpy", torch=True)
VIEWS = f"{BASE} store history detectors diagnosis remedies replay trials jsonfile figures report terminal"
EVERYTHING = f"{OBSERVERS} {VIEWS} guard interventions session watching runner child ranks cli"

TABLE = {
    # 0: what crosses layers
    "records": Row("", "numpy"),
    "errors": Row(""),
    "notices": Row(""),
    "values": Row("records errors"),
    "wording": Row(""),
    # 1: kernels
    "stats": Row(BASE, "numpy", torch=True),
    "online": Row(BASE, "numpy"),
    # treatments: usable without the monitor
    "schedules": Row("errors", "numpy", torch=True),
    "recipes": Row("errors clip schedules", torch=True),
    "clip": Row(BASE, "numpy", lazily="store", torch=True),
    "guard": Row(f"{BASE} clip patching", torch=True),
    "faults": Row(BASE, "numpy", torch=True),
    "stepper": Row(f"{BASE} clip guard", torch=True),
    # 2: observing
    **dict.fromkeys(["monitor", "batch", "calls", "probes", "graph", "timeflow", "origin", "attach"], OBSERVER),
    **dict.fromkeys(["patching", "frames", "naming", "kinds", "roots"], OBSERVER),
    "launch": Row("errors"),
    "settings": Row(""),
    "child": Row(f"{BASE} remedies", "numpy", torch=True),
    # treatments, usable by themselves
    "dryrun": Row("errors", "numpy", torch=True),
    "init": Row("errors dryrun", "numpy rich plotly", lazily="figures", torch=True),
    "norm": Row("errors dryrun", "numpy rich plotly", lazily="figures", torch=True),
    # 6: treating
    "interventions": Row(f"{BASE} values stats calls frames graph kinds patching", torch=True),
    # 3: keeping
    "store": Row(BASE, "numpy"),
    # 4: detecting
    "history": Row(f"{BASE} online", "numpy"),
    "curve": Row(f"{BASE} online history", "numpy"),
    "view": Row(f"{BASE} online history curve", "numpy"),
    "detectors": Row(f"{BASE} online history curve view", "numpy"),
    # 5: explaining
    "diagnosis": Row(f"{BASE} online history view detectors", "numpy"),
    # 6: advising
    "remedies": Row(f"{BASE} history view diagnosis", "numpy", lazily="interventions"),
    "rewrite": Row(f"{BASE} values history", "libcst"),
    "ranks": Row(f"{BASE} history"),
    "replay": Row(f"{BASE} store history view detectors diagnosis remedies", "numpy"),
    "trials": Row(
        f"{BASE} store history view diagnosis remedies replay rewrite", "ray", lazily="runner interventions cli"
    ),
    # 7: showing
    "jsonfile": Row(BASE),
    "figures": Row(f"{VIEWS} schedules", "numpy plotly"),
    "report": Row(VIEWS, "numpy plotly jinja2 markupsafe"),
    "terminal": Row(f"{VIEWS} schedules", "numpy rich"),
    "dashboard": Row(VIEWS, "dash werkzeug"),
    "commands": Row(f"{VIEWS} launch schedules", "rich typer", lazily="lab"),
    "lab": Row("errors clip schedules init norm figures", "plotly jinja2 markupsafe scipy sklearn", torch=True),
    "cli": Row(
        f"{VIEWS} commands __version__", "numpy rich typer click", lazily="runner launch lrfind child dashboard"
    ),
    # the front doors
    "session": Row(EVERYTHING, "numpy rich", torch=True),
    "watching": Row(EVERYTHING, "numpy rich", torch=True),
    "lrfind": Row(f"{EVERYTHING} schedules", torch=True),
    "runner": Row(EVERYTHING, "numpy rich", torch=True),
    "__init__": Row(BASE, lazily=f"{EVERYTHING} clip stepper"),
}
TORCH_FREE = [name for name, row in TABLE.items() if not row.torch and name != "__init__"]


def files(name: str) -> list[Path]:
    """Return the files of one row, a module or a package; none when it does not exist."""
    return sorted([*PACKAGE.glob(f"{name}.py"), *(PACKAGE / name).rglob("*.py")])


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield what a file imports, as absolute dotted names, and whether only in a function or for a type checker."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_type_checking(node)
        for inner in ast.walk(node)
    }
    parts = ["steadygrad", *path.relative_to(PACKAGE).with_suffix("").parts]
    for node in ast.walk(tree):
        for name in _names(node, parts[:-1]):
            yield name, id(node) in lazy


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _names(node: ast.AST, package: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = [*package[: len(package) + 1 - node.level]] if node.level else []
        base += node.module.split(".") if node.module else []
        return [".".join([*base, alias.name]) for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return [str(node.args[0].value)] if called in ("import_module", "__import__") else []
    return []


def violations(name: str, row: Row) -> Iterator[str]:
    for path in files(name):
        for imported, lazy in imports(path):
            top, _, rest = imported.partition(".")
            if top == "steadygrad":
                wanted, allowed = rest.partition(".")[0], {name, *row.may.split()}
                allowed |= set(row.lazily.split()) if lazy else set()
            elif top == "torch":
                wanted, allowed = top, {top} if row.torch else set()
            else:
                wanted, allowed = top, {*sys.stdlib_module_names, *row.others.split()}
            if wanted not in allowed:
                yield f"{path.relative_to(PACKAGE)} imports {imported}{' lazily' if lazy else ''}"


@pytest.mark.parametrize("name", TABLE)
def test_imports_only_what_its_row_allows(name: str) -> None:
    assert not list(violations(name, TABLE[name]))


def test_every_module_has_a_row_and_every_row_a_module() -> None:
    present = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in PACKAGE.rglob("*.py")}
    assert not present - TABLE.keys(), "modules that have no row in the table"
    assert not TABLE.keys() - present, "rows whose module does not exist"


def test_the_rules_see_every_way_to_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    (tmp_path / "remedies").mkdir()
    (tmp_path / "remedies" / "text.py").write_text(
        "import torch.nn\nfrom . import other\nfrom .. import store\nfrom ..errors import InputError\n"
        "from steadygrad import cli, records\nimport json, pandas\n"
        "def f():\n    import importlib\n    importlib.import_module('torch')\n"
    )
    found = [line.removeprefix("remedies/text.py imports ") for line in violations("remedies", TABLE["remedies"])]
    assert sorted(found) == ["pandas", "steadygrad.cli", "steadygrad.store", "torch lazily", "torch.nn"]


def python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_stored_runs_can_be_read_without_torch() -> None:
    modules = ", ".join(f"steadygrad.{name}" for name in TORCH_FREE if files(name))
    python(f"import sys; sys.modules['torch'] = None\nimport {modules}")


def test_importing_the_package_is_cheap() -> None:
    python("import steadygrad, sys; assert not {'torch', 'plotly', 'rich', 'typer', 'jinja2'} & sys.modules.keys()")


def test_all_is_sorted_and_equals_the_public_names() -> None:
    python(
        "import steadygrad, types\n"
        "names = list(steadygrad.__all__)\n"
        "assert names == sorted(names), names\n"
        "public = {name for name in dir(steadygrad) if not name.startswith('_')}\n"
        "public -= {n for n in public if n not in names and isinstance(getattr(steadygrad, n), types.ModuleType)}\n"
        "assert public == {n for n in names if not n.startswith('_')}, public ^ set(names)\n"
        "for turn in range(2):  # importing a module of the same name must not shadow a public name\n"
        "    for name in names:\n"
        "        assert not isinstance(getattr(steadygrad, name), types.ModuleType), name\n"
    )


def test_treatments_come_with_the_package() -> None:
    python(
        "import steadygrad\n"
        "assert steadygrad.clip.GlobalNorm and steadygrad.schedules.parse and steadygrad.init.auto_\n"
        "assert steadygrad.norm and steadygrad.recipes.cnn and steadygrad.faults\n"
    )
