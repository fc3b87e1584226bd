"""``steadygrad run`` must be ``python``: the same scripts are run by both, and all that they show is compared."""

from __future__ import annotations

import os
import py_compile
import re
import signal
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from steadygrad.errors import InputError
from steadygrad.launch import Target, resolve
from steadygrad.launch.ending import cut_our_frames

# As unfriendly as a command-line framework: what leaks out of `launch` is caught and turned into something else.
DRIVER = """
import sys
from steadygrad.launch import Target, launch, resolve

def main(words):
    target = Target(None, words[1], tuple(words[2:])) if words[0] == "-m" else Target(words[0], None, tuple(words[1:]))
    try:
        resolve(target)
        {tweak}
        return launch(target, before={before}, after={after})
    except (KeyboardInterrupt, EOFError, OSError, ImportError) as leaked:
        print("leaked", repr(leaked), file=sys.stderr)
        return 99

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Case:
    files: dict[str, str]
    words: tuple[str, ...] = ("main.py",)
    options: tuple[str, ...] = ()
    stdin: str = ""
    folder: str = "."
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ending:
    out: str
    err: str
    code: int


def script(source: str, **more: object) -> Case:
    return Case({"main.py": source}, **more)  # type: ignore[arg-type]


PACKAGE = {
    "pack/__init__.py": "import sys\nprint('init', __name__, sys.argv, sys.path[0])\n",
    "pack/__main__.py": """
        import sys
        from . import tools
        print(__name__, __package__, __spec__.name, sys.argv, sys.path, tools.name, list(globals()))
    """,
    "pack/tools.py": "name = __name__\nif name == '__main__':\n    print('ran', __spec__.name, __file__)\n    1 / 0\n",
    "empty/__init__.py": "",
    "broken/__init__.py": "import no_such_module_at_all",
    "interrupted.py": "import atexit\natexit.register(print, 'exit handler')\nraise KeyboardInterrupt",
    "leaves.py": "print('buffered')\nraise SystemExit('leaving')",
}

# Until the interpreter has begun to shut down: whatever the load, the thread outlives the script.
OUTLIVE = "while threading.main_thread().is_alive(): time.sleep(0.01)"

CASES = {
    "what a script can see": script(
        """
        "The docstring."
        import sys, os
        print(list(globals()), __name__, __doc__, __file__, __spec__, __package__, __cached__, __annotations__)
        print(type(__loader__), __loader__.name, __loader__.path, __builtins__ is sys.modules["builtins"])
        print(sys.argv, sys.orig_argv, sys.path, sys.flags, sys.modules["__main__"].__dict__ is globals())
        print(sys.excepthook is sys.__excepthook__, sys.stdout.line_buffering, sys.exc_info(), os.getcwd())
        """,
        words=("main.py", "--lr", "0.1", "-m", "", "--", "-c"),
    ),
    "interpreter options": script(
        "import sys; print(sys.orig_argv, sys.flags, sys._xoptions, sys.warnoptions, __debug__); assert 0",
        options=("-X", "dev", "-O", "-W", "ignore", "-u"),
    ),
    "safe path": script("import sys; print(sys.path)", options=("-P",)),
    "isolated": script("import sys; print(sys.path[1:], sys.flags)", options=("-I",)),
    "dot slash": script("print(__file__, __import__('sys').argv); 1 / 0", words=("./main.py",)),
    "from below": Case({"main.py": "print(__file__); 1 / 0", "below/x": ""}, ("../main.py",), folder="below"),
    "imports a neighbour": Case(
        {"src/main.py": "import neighbour", "src/neighbour.py": "print(__name__, __file__)\n{}['key']"},
        ("src/main.py",),
    ),
    "no main guard, no newline": script("print('alone')"),
    "empty": script(""),
    "windows line ends, tabs and form feeds": script("if 1:\r\n\tprint('x')\r\n\x0c\r\nprint(2)\r\n1 / 0"),
    "another encoding": script("# -*- coding: latin-1 -*-\nprint(ascii('\u00c3\u00a9'))\n1 / 0 # \u00e9"),
    "byte order mark": script("\ufeffprint('marked')\n1 / 0"),
    # --- exceptions ---
    "exception in a call": script("def f(x):\n    return 1 / x\n\nprint('before')\nf(0)\n"),
    "chain": script(
        """
        def low():
            raise KeyError("low")
        def middle():
            try:
                low()
            except KeyError as error:
                raise ValueError("middle") from error
        try:
            middle()
        except ValueError:
            raise TypeError("high")
        """
    ),
    "suppressed chain and notes": script(
        """
        try:
            {}["x"]
        except KeyError:
            error = RuntimeError("shown")
            error.add_note("a note")
            raise error from None
        """
    ),
    "group": script(
        """
        def fail(n):
            try:
                [][n]
            except IndexError as error:
                raise ValueError(n) from error
        def caught(n):
            try:
                fail(n)
            except ValueError as error:
                return error
        raise ExceptionGroup("several", [caught(1), ExceptionGroup("inner", [caught(2), OSError("x")])])
        """
    ),
    "did you mean": script("import sys\nvalue = 1\nprint(valeu)"),
    "long lines and carets": script("x = {'a': {'b': None}}\nprint(x['a']['b']['c'] + (\n    1 +\n    2))"),
    "failing str": script("class E(Exception):\n    def __str__(self): raise ValueError\nraise E(1)"),
    "base exception": script("class Stop(BaseException): pass\nraise Stop('now')"),
    "exception in a generator and a comprehension": script("print(sum(1 / x for x in [2, 1, 0]))"),
    "syntax error at run time": script("compile('a b', 'inner.py', 'exec')"),
    "exception in exec": script("exec('1 / 0')"),
    "traceback printed by the script": script(
        "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError as e:\n"
        "    print(''.join(traceback.format_exception(e)[-1:]))\n    print(traceback.extract_tb(e.__traceback__)[-1])"
    ),
    "deletes itself, changes folder, then fails": script(
        "import os\nos.remove(__file__)\nos.mkdir('new'); os.chdir('new')\nprint(__file__)\n1 / 0"
    ),
    "changes its source, then fails": script("open(__file__, 'w').write('# new first line\\n# second')\n1 / 0"),
    # --- what does not compile ---
    "syntax error": script("print('never')\nfor x in\n"),
    "bad indentation": script("if 1:\n  a = 1\n   b = 2\n"),
    "mixed tabs": script("if 1:\n        a = 1\n\tb = 2\n"),
    "unclosed bracket": script("x = (1,\n\ny = 2\n"),
    "unfinished string": script("x = '''abc\n\n"),
    "return outside function": script("x = 1\nreturn x\n"),
    "future too late": script("x = 1\nfrom __future__ import annotations\n"),
    "syntax warning": script("x = 1\nprint(x is 1)\n"),
    "syntax warning as error": script("x = 1\nprint(x is 1)\n", options=("-W", "error")),
    "syntax error after non-ascii text": script("x = '\u00e9\u00e8\u4e2d' +* 2\n"),
    # --- leaving ---
    **{
        f"sys.exit({code})": script(f"import sys\nprint('out')\nsys.exit({code})")
        for code in ("", "0", "3", "-1", "256", "2**40", "True", "'message'", "('a', 1)", "3.5", "b'x'", "[None]")
    },
    "exit subclass": script("class Bye(SystemExit):\n    code = 7\nraise Bye('x')"),
    "exit while handling": script("try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise SystemExit(4)"),
    "quit and exit": script("print(quit, exit)\nquit(3)"),
    "os._exit": script("import os\nprint('lost in the buffer')\nos._exit(7)"),
    "killed": script("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)"),
    "stderr is None": script("import sys\nsys.stderr = None\nraise SystemExit(3)"),
    "stdout is closed": script("import sys\nprint('x')\nsys.stdout.close()\n"),
    "exit handlers": script(
        """
        import atexit, sys
        def last():
            print("last", sys.exc_info(), hasattr(sys, "last_value"), sorted(globals()))
        atexit.register(last)
        atexit.register(print, "first")
        atexit.register(lambda: 1 / 0)
        """
    ),
    "exit handlers after an exception": script(
        "import atexit, sys\natexit.register(lambda: print(repr(sys.last_value), sorted(globals())))\n[].pop()"
    ),
    "exit handlers after sys.exit": script(
        "import atexit, sys\natexit.register(lambda: print(hasattr(sys, 'last_value'), sorted(globals())))\nsys.exit(2)"
    ),
    "objects die in the same order": script(
        """
        import atexit, sys
        class Loud:
            def __init__(self, name): self.name = name
            def __del__(self): print("bye", self.name)
        kept = Loud("global")
        def leave():
            inner = Loud("local of the frame that exits")
            sys.exit(1)
        atexit.register(print, "exit handler")
        leave()
        """
    ),
    # --- Ctrl-C ---
    "interrupt raised": script("print('x')\nraise KeyboardInterrupt"),
    "interrupt by signal": script(
        f"""
        import atexit, os, signal, sys, threading, time
        class Loud:
            def __del__(self, out=sys.stdout): print("bye", file=out)
        def outlive():
            {OUTLIVE}
            print("thread ends")
        loud = Loud()
        atexit.register(print, "exit handler")
        threading.Thread(target=outlive).start()
        def work():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        work()
        """
    ),
    "interrupt while ignored": script(
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nraise KeyboardInterrupt"
    ),
    "interrupt subclass": script("class Mine(KeyboardInterrupt): pass\nraise Mine"),
    "interrupt handled": script("try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt:\n    print('saved')"),
    "interrupt with a hook that exits": script(
        "import sys\nsys.excepthook = lambda *a: sys.exit(5)\nraise KeyboardInterrupt"
    ),
    "interrupt in asyncio": script(
        """
        import asyncio, os, signal
        async def main():
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(5)
        asyncio.run(main())
        """
    ),
    # --- hooks ---
    "own excepthook": script(
        """
        import sys
        def hook(kind, value, traceback):
            lines = []
            while traceback:
                lines.append((traceback.tb_frame.f_code.co_name, traceback.tb_lineno))
                traceback = traceback.tb_next
            print(kind, value, lines, value.__traceback__ is sys.last_traceback, sys.exc_info())
        sys.excepthook = hook
        def f(): raise ValueError("mine")
        f()
        """
    ),
    "broken excepthook": script("import sys\ndef hook(*a):\n    1 / 0\nsys.excepthook = hook\nraise ValueError('x')"),
    "excepthook is no function": script("import sys\nsys.excepthook = 3\nraise ValueError('x')"),
    "excepthook deleted": script("import sys\ndel sys.excepthook\nraise ValueError('x')"),
    "excepthook exits": script("import sys\nsys.excepthook = lambda *a: sys.exit('bye')\nraise ValueError('x')"),
    "audit hook": script(
        "import sys\nsys.addaudithook(lambda e, a: e == 'sys.excepthook' and print(e, len(a), a[1]))\n1 / 0"
    ),
    "unraisable": script("class A:\n    def __del__(self): raise ValueError\na = A()\ndel a\nprint('on')"),
    # --- threads and processes ---
    "sys.exit in a thread": script(
        "import sys, threading\nt = threading.Thread(target=sys.exit, args=(3,))\nt.start(); t.join()\nprint('on')"
    ),
    "exception in a thread": script(
        "import threading\nt = threading.Thread(target=int, args=('x',), name='T')\nt.start(); t.join()\nprint('on')"
    ),
    "thread outlives main": script(
        f"""
        import threading, time
        def work():
            {OUTLIVE}
            print("still here")
        threading.Thread(target=work).start()
        print("main ends")
        """
    ),
    "thread outlives an exception": script(
        f"""
        import threading, time
        def work():
            {OUTLIVE}
            print("late")
        threading.Thread(target=work).start()
        1 / 0
        """
    ),
    "idle thread pool": script(
        "from concurrent.futures import ThreadPoolExecutor as P\np = P(2)\nprint(p.submit(pow, 2, 3).result())"
    ),
    "fork, both leave": script(
        """
        import os, sys
        child = os.fork()
        if child == 0:
            print("child")
            sys.exit(3)
        print("parent", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    ),
    "fork, child fails": script(
        "import os\nc = os.fork()\nif not c:\n    1 / 0\nprint(os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]))"
    ),
    "multiprocessing fork": script(
        """
        import multiprocessing, sys
        def work(x):
            return x * x, __name__
        context = multiprocessing.get_context("fork")
        with context.Pool(2) as pool:
            print(pool.map(work, [1, 2, 3]))
        p = context.Process(target=sys.exit, args=(9,)); p.start(); p.join()
        print(p.exitcode)
        """
    ),
    "multiprocessing spawn": script(
        """
        import multiprocessing, os
        from dataclasses import dataclass
        @dataclass
        class Point:
            x: int
        def work(point):
            return Point(point.x + 1), __name__
        if __name__ == "__main__":
            os.chdir("/")
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(work, [Point(1), Point(2)]))
        """
    ),
    "multiprocessing spawn without a guard": script(
        "import multiprocessing as m\nm.set_start_method('spawn')\np = m.Process(target=print)\np.start(); p.join()\n"
        "print(p.exitcode)"
    ),
    "multiprocessing spawn from a module": Case(
        {
            "pack/__init__.py": "",
            "pack/go.py": "import multiprocessing as m\ndef f(x): return x, __name__\nif __name__ == '__main__':\n"
            "    with m.get_context('spawn').Pool(1) as pool: print(pool.map(f, [1]))",
        },
        ("-m", "pack.go"),
    ),
    # --- introspection ---
    "getsource, pickle, dataclasses, typing": script(
        """
        import copyreg, inspect, pickle, typing, __main__
        from dataclasses import dataclass
        @dataclass
        class Config:
            lr: float = 0.1
            name: "str" = "x"
        def double(x):
            # a comment
            return 2 * x
        print(inspect.getsource(Config), inspect.getsource(double), inspect.getfile(Config), double.__module__)
        print(pickle.loads(pickle.dumps(Config(0.2))), pickle.loads(pickle.dumps(double)) is double)
        print(typing.get_type_hints(Config), __main__.Config is Config, inspect.getmodule(double) is __main__)
        """
    ),
    "our future flags are not inherited": script("def f(x: undefined_name): pass"),
    "own future flags": script(
        "from __future__ import annotations\ndef f(x: undefined): pass\nprint(f.__annotations__)"
    ),
    "main replaced": script("import sys\nsys.modules['__main__'] = None\nprint('on')\n1 / 0"),
    "main deleted": script("import sys\ndel sys.modules['__main__']\nx = 1\nprint(x)"),
    "warnings": script(
        "import warnings\nwarnings.warn('plain')\nwarnings.warn('old', DeprecationWarning)\nimport sys\n"
        "def f(): warnings.warn('deeper', stacklevel=2)\nf()\nprint(__warningregistry__.keys())"
    ),
    "warnings as errors": script("import warnings\nwarnings.warn('x')", options=("-W", "error")),
    "unclosed file": script("f = open(__file__)\ndel f", options=("-X", "dev")),
    # --- standard input and output ---
    "reads lines": script("print(input('name? '), input())\nprint(input())", stdin="a\nb\n"),
    "reads all": script("import sys\nprint(len(sys.stdin.read()))", stdin="abc\n" * 5000),
    "unbuffered": script("print('a', end='')\n1 / 0", env={"PYTHONUNBUFFERED": "1"}),
    # --- folders, archives, modules ---
    "folder": Case(
        {
            "app/__main__.py": "import sys, other\nprint(sys.argv, sys.path, __file__, __spec__)\n1 / 0",
            "app/other.py": "print(__name__)",
        },
        ("app", "--flag"),
    ),
    "folder in safe mode": Case({"app/__main__.py": "import sys\nprint(sys.path)"}, ("app",), options=("-P",)),
    "folder with a syntax error": Case({"app/__main__.py": "a b"}, ("app",)),
    "module": Case(PACKAGE, ("-m", "pack", "--lr", "1")),
    "module in a package, failing": Case(PACKAGE, ("-m", "pack.tools")),
    "module without main": Case(PACKAGE, ("-m", "empty")),
    "module missing in a package": Case(PACKAGE, ("-m", "pack.missing")),
    "module whose package fails": Case(PACKAGE, ("-m", "broken.x")),
    "module interrupted": Case(PACKAGE, ("-m", "interrupted")),
    "module leaves": Case(PACKAGE, ("-m", "leaves", "x")),
    "module of the standard library": Case({}, ("-m", "json.tool"), stdin='{"a": 1}'),
    "module in safe mode": Case({}, ("-m", "calendar", "2024", "1"), options=("-P",)),
}
if sys.version_info < (3, 12):  # later versions leave the error pending, to surface wherever something looks next
    CASES["exit message that cannot be made"] = script("class X:\n    def __str__(self): 1 / 0\nraise SystemExit(X())")


def write(folder: Path, files: dict[str, str]) -> None:
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        encoding = "latin-1" if "latin-1" in source else "utf-8"
        path.write_bytes(textwrap.dedent(source).lstrip("\n").encode(encoding))


def run(command: list[str], case: Case, folder: Path, *, merged: bool = False) -> Ending:
    done = subprocess.run(
        command,
        input=case.stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        cwd=folder / case.folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **case.env},
        text=True,
        timeout=60,
        check=False,
    )
    return Ending(_no_addresses(done.stdout), _no_addresses(done.stderr or ""), done.returncode)


def _no_addresses(text: str) -> str:
    return re.sub(r"\b0x[0-9a-f]{6,}", "0x", text)


def driver(folder: Path, *, before: str = "lambda: None", after: str = "lambda outcome: None", tweak: str = "") -> str:
    path = folder / "driver" / "driver.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(DRIVER.format(before=before, after=after, tweak=tweak))
    return str(path)


def both(case: Case, tmp_path: Path, *, merged: bool = False) -> tuple[Ending, Ending]:
    """Run the case by Python and by `launch`, each in a fresh folder of the same name."""
    own, work = driver(tmp_path), tmp_path / "work"
    endings = []
    for command in ([sys.executable, *case.options], [sys.executable, *case.options, own]):
        work.mkdir()
        write(work, case.files)
        endings.append(run([*command, *case.words], case, work, merged=merged))
        work.rename(tmp_path / f"done{len(endings)}")
    return endings[0], endings[1]


@pytest.mark.parametrize("name", CASES)
def test_is_python(name: str, tmp_path: Path) -> None:
    plain, ours = both(CASES[name], tmp_path)
    assert ours.out == plain.out
    assert ours.err == plain.err
    assert ours.code == plain.code


def test_the_table_is_not_vacuous(tmp_path: Path) -> None:
    plain, ours = both(CASES["interrupt raised"], tmp_path)
    assert ours == plain
    assert ours.code == -signal.SIGINT
    assert ours.err.endswith("    raise KeyboardInterrupt\nKeyboardInterrupt\n")


@pytest.mark.parametrize(
    "case",
    [CASES["exception in a call"], CASES["sys.exit('message')"], CASES["module leaves"], CASES["interrupt by signal"]],
    ids=["exception", "exit", "module", "interrupt"],
)
def test_output_and_errors_come_in_the_same_order(case: Case, tmp_path: Path) -> None:
    plain, ours = both(case, tmp_path, merged=True)
    assert ours == plain


def compare(tmp_path: Path, words: list[str], folder: Path) -> Ending:
    plain = run([sys.executable, *words], Case({}), folder)
    ours = run([sys.executable, driver(tmp_path), *words], Case({}), folder)
    assert ours == plain
    return ours


def test_symlinked_script(tmp_path: Path) -> None:
    write(
        tmp_path, {"real/code/main.py": "import sys, other\nprint(sys.path, __file__)\n1 / 0", "real/code/other.py": ""}
    )
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "absolute.py").symlink_to(tmp_path / "real" / "code" / "main.py")
    (tmp_path / "links" / "relative.py").symlink_to("../real/code/main.py")
    (tmp_path / "links" / "twice.py").symlink_to("relative.py")
    (tmp_path / "linked_folder").symlink_to("real/code", target_is_directory=True)
    for name in (
        "links/absolute.py",
        "links/relative.py",
        "links/twice.py",
        "linked_folder/main.py",
        "linked_folder/./main.py",
    ):
        assert "ZeroDivisionError" in compare(tmp_path, [name], tmp_path).err


@pytest.mark.parametrize("prefix", [b"", b"#!/usr/bin/env python3\n"], ids=["zip", "zipapp"])
def test_archive(tmp_path: Path, prefix: bytes) -> None:
    archive = tmp_path / "app.pyz"
    archive.write_bytes(prefix)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(
            "__main__.py", "import sys, part\nprint(sys.argv, sys.path, __file__, __spec__.name)\npart.fail()"
        )
        file.writestr("part.py", "def fail():\n    raise ValueError('in the archive')\n")
    assert "in the archive" in compare(tmp_path, ["app.pyz", "x"], tmp_path).err


def test_compiled_script(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": "print(__file__, __cached__, type(__loader__))\n1 / 0"})
    py_compile.compile(str(tmp_path / "main.py"), str(tmp_path / "main.pyc"))
    assert "main.pyc" in compare(tmp_path, ["main.pyc"], tmp_path).out


@pytest.mark.parametrize("source", ["print('x' * 100_000)", "print('small')", "import sys\nprint('x')\nsys.exit(3)"])
def test_broken_pipe(tmp_path: Path, source: str) -> None:
    write(tmp_path, {"main.py": source})
    endings = []
    for command in ([], [driver(tmp_path)]):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [sys.executable, *command, "main.py"], stdout=writing, stderr=subprocess.PIPE, cwd=tmp_path, check=False
        )
        os.close(writing)
        endings.append((done.returncode, done.stderr))
    assert endings[0] == endings[1]
    assert endings[0][0] in (1, 120)


# --- before and after ---

LOG = "lambda *outcome: print(*(('after', *outcome) if outcome else ['before']), file=sys.stderr)"


def watched(tmp_path: Path, source: str, **parts: str) -> Ending:
    case = script(source)
    write(tmp_path, case.files)
    return run([sys.executable, driver(tmp_path, **{"before": LOG, "after": LOG, **parts}), "main.py"], case, tmp_path)


@pytest.mark.parametrize(
    ("source", "outcome", "code"),
    [
        ("pass", "Outcome(kind='finished', exit_code=0, error=None)", 0),
        ("1 / 0", "Outcome(kind='error', exit_code=1, error=ZeroDivisionError('division by zero'))", 1),
        ("raise SystemExit", "Outcome(kind='exit', exit_code=0, error=SystemExit())", 0),
        ("raise SystemExit(4)", "Outcome(kind='exit', exit_code=4, error=SystemExit(4))", 4),
        ("raise SystemExit('no')", "Outcome(kind='exit', exit_code=1, error=SystemExit('no'))", 1),
        ("raise KeyboardInterrupt", "Outcome(kind='interrupt', exit_code=130, error=KeyboardInterrupt())", -2),
    ],
)
def test_before_and_after_surround_the_script(tmp_path: Path, source: str, outcome: str, code: int) -> None:
    ending = watched(tmp_path, f"import sys\nprint('script', file=sys.stderr)\n{source}")
    lines = ending.err.splitlines()
    assert lines[:3] == ["before", "script", f"after {outcome}"]
    assert sum(line.startswith("after") for line in lines) == 1
    assert ending.code == code


def test_neither_is_called_when_the_script_does_not_compile(tmp_path: Path) -> None:
    ending = watched(tmp_path, "a b")
    assert ending.err.splitlines()[0].endswith('main.py", line 1')
    assert "before" not in ending.err
    assert "after" not in ending.err
    assert ending.code == 1


def test_after_stays_in_the_process_that_launched(tmp_path: Path) -> None:
    source = """
        import os, sys
        child = os.fork()
        if child == 0:
            sys.exit(3)
        os.waitpid(child, 0)
        sys.exit(4)
    """
    ending = watched(tmp_path, source)
    assert ending.err.count("after") == 1
    assert "SystemExit(4)" in ending.err
    assert ending.code == 4


def test_after_waits_for_threads(tmp_path: Path) -> None:
    source = f"""
        import atexit, sys, threading, time
        say = lambda *words: print(*words, file=sys.stderr)
        def work():
            {OUTLIVE}
            say("thread")
        atexit.register(say, "exit handler")
        threading.Thread(target=work).start()
        say("main")
    """
    lines = [line.split()[0] for line in watched(tmp_path, source).err.splitlines()]
    assert lines == ["before", "main", "thread", "after", "exit"]


@pytest.mark.parametrize("failure", ["1 / 0", "sys.exit(9)", "exec('raise KeyboardInterrupt')"])
def test_failing_after_changes_nothing(tmp_path: Path, failure: str) -> None:
    ending = watched(
        tmp_path, "print('out')\nraise ValueError('mine')", before="lambda: None", after=f"lambda o: {failure}"
    )
    first, _, rest = ending.err.partition("\n")
    assert first.startswith("steadygrad: could not finish watching, the script is not affected (")
    assert rest.startswith("Traceback (most recent call last):\n")
    assert rest.count("Traceback") == 1
    assert (ending.out, ending.code) == ("out\n", 1)


@pytest.mark.parametrize("failure", ["1 / 0", "sys.exit(9)"])
def test_failing_before_changes_nothing(tmp_path: Path, failure: str) -> None:
    ending = watched(
        tmp_path, "print('out')\nraise ValueError('mine')", before=f"lambda: {failure}", after="lambda o: None"
    )
    first, _, rest = ending.err.partition("\n")
    assert first.startswith("steadygrad: could not start watching, the script runs without it (")
    assert rest.count("Traceback") == 1
    assert rest.endswith("ValueError: mine\n")
    assert "other exception occurred" not in rest
    assert (ending.out, ending.code) == ("out\n", 1)


def test_typers_excepthook_is_not_the_scripts(tmp_path: Path) -> None:
    tweak = "import typer.main; sys.excepthook = typer.main.except_hook"
    ending = watched(tmp_path, "import sys\nprint(sys.excepthook is sys.__excepthook__)", tweak=tweak)
    assert ending.out == "True\n"


def test_our_frames_are_cut_everywhere() -> None:
    ours: dict[str, object] = {"__name__": "steadygrad.attach"}
    exec("def backward(f):\n    return f()\n", ours)
    theirs: dict[str, object] = {"__name__": "__main__", "backward": ours["backward"]}
    exec(
        "def low():\n    [].pop()\n"
        "def middle():\n    try:\n        backward(low)\n    except IndexError as e:\n        raise ValueError from e\n"
        "def high():\n    try:\n        backward(middle)\n    except ValueError as e:\n"
        "        raise ExceptionGroup('g', [e])\n",
        theirs,
    )
    with pytest.raises(ExceptionGroup) as caught:
        theirs["backward"](theirs["high"])  # type: ignore[operator]
    cut_our_frames(caught.value)
    value = caught.value.exceptions[0]
    assert names(caught.value)[1:] == ["high"]
    assert names(value) == ["high", "middle"]
    assert names(value.__cause__) == ["middle", "low"]


def names(error: BaseException | None) -> list[str]:
    found, traceback = [], error.__traceback__ if error else None
    while traceback is not None:
        found.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    return found


# --- what cannot be run ---


@pytest.mark.parametrize(
    ("files", "words", "message"),
    [
        ({}, "missing.py", "there is no such file"),
        ({"folder/x": ""}, "folder", "it has no __main__.py"),
        ({"main.py": "x = '\0'"}, "main.py", "it is a binary file"),
        ({"main.py": "# coding: nonsense\n"}, "main.py", "unknown encoding"),
        ({"main.py": "# coding: ascii\nx = '\u00e9'\n"}, "main.py", "not readable as Python source"),
        ({}, "-m no_such_module_here", "no module named 'no_such_module_here'"),
        ({}, "-m no_such_module_here.part", "no module named 'no_such_module_here'"),
        ({}, "-m .relative", "no module named ''"),
    ],
)
def test_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], words: str, message: str
) -> None:
    write(tmp_path, files)
    monkeypatch.chdir(tmp_path)
    target = Target(None, words[3:], ()) if words.startswith("-m ") else Target(words, None, ())
    with pytest.raises(InputError, match="Cannot run") as caught:
        resolve(target)
    assert message in str(caught.value)


def test_refuses_two_targets_and_none() -> None:
    for target in (Target("a.py", "b", ()), Target(None, None, ())):
        with pytest.raises(InputError, match="Give one script or one module"):
            resolve(target)


def test_accepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path,
        {"main.py": "a b", "pack/__init__.py": "raise SystemExit('must not be imported')", "app/__main__.py": ""},
    )
    monkeypatch.chdir(tmp_path)
    for target in (Target("main.py", None), Target("app", None), Target(None, "pack.part"), Target(None, "json.tool")):
        assert resolve(target) is target


# --- torch ---


def test_interrupt_with_torch_loaded(tmp_path: Path) -> None:
    ending = watched(tmp_path, "import torch\ntorch.ones(3).sum()\nraise KeyboardInterrupt")
    assert ending.code == -signal.SIGINT
    assert ending.err.count("after Outcome(kind='interrupt'") == 1


def test_data_loader_with_spawned_workers(tmp_path: Path) -> None:
    source = """
        import sys
        import torch
        from torch.utils.data import DataLoader, Dataset

        class Squares(Dataset):
            def __len__(self): return 4
            def __getitem__(self, i): return torch.tensor(i * i), __name__

        if __name__ == "__main__":
            for values, names in DataLoader(Squares(), batch_size=2, num_workers=1, multiprocessing_context="spawn"):
                print(values.tolist(), names)
            assert "steadygrad" in sys.modules
    """
    ending = watched(tmp_path, source, before="lambda: None", after="lambda outcome: None")
    assert ending == Ending("[0, 1] ('__mp_main__', '__mp_main__')\n[4, 9] ('__mp_main__', '__mp_main__')\n", "", 0)
