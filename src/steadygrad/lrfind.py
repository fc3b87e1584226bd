"""``steadygrad lr-find``: a learning-rate range test of an unmodified script.

The script runs as it is, with one thing changed: every update of every optimizer is made with a rate that rises from
``low`` to ``high``. Rates are put in place right before the update and the script's own are put back right after, so
its schedulers count and compute as ever, and nothing that they do is felt.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import get_ident
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from steadygrad.errors import InputError, SteadyGradError
from steadygrad.figures.export import kind_of, write_figure
from steadygrad.figures.rangetest import range_test_chart
from steadygrad.jsonfile import write_json
from steadygrad.launch import Outcome, Target, anchored, launch, seen_from
from steadygrad.records import StepRecord
from steadygrad.schedules import Geometric
from steadygrad.schedules.rangetest import Divergence, RangeTest, read_range_test
from steadygrad.session import Session, say
from steadygrad.store.summary import plain
from steadygrad.terminal.rangetest import print_range_test
from steadygrad.watching import activate

#: Exit code when the script ran but no rate can be suggested.
NO_SUGGESTION_EXIT = 3


class Enough(SystemExit):
    """Ends the script from within its last update, as ``sys.exit(0)`` would."""

    def __init__(self) -> None:
        super().__init__(0)


@dataclass(frozen=True)
class RangeTestOptions:
    """What ``steadygrad lr-find`` was asked for."""

    target: Target
    low: float = 1e-6
    high: float = 10.0
    steps: int = 100
    out: Path | None = Path("lr-find.html")
    json_file: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < float("inf"):
            raise InputError(f"rates rise from --low to --high, both above 0, not from {self.low} to {self.high}")
        if self.steps < 20:
            raise InputError(f"a range test needs at least 20 steps to be read, not {self.steps}")
        if self.out is not None:
            kind_of(self.out)


@dataclass
class Curve:
    """The sweep as one optimizer saw it: the loss that followed each of its updates, and that update's rate."""

    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    watch: Divergence = field(default_factory=Divergence)
    last: float | None = None  # the rate of its latest update

    def add(self, loss: float, rate: float) -> bool:
        """A step was made with ``rate``, and ``loss`` was computed just before. True: the sweep has diverged."""
        followed, self.last = self.last, rate
        if followed is not None:
            self.rates.append(followed)
            self.losses.append(loss)
        return self.watch.seen(loss) and followed is not None


class Sweep:
    """Overrides the rates of every optimizer that this thread steps, and says when there is nothing more to learn.

    All optimizers are swept together: the one with the most steps sets the pace. Parameter groups keep the ratios of
    their base rates; the largest gets the rate of the sweep.
    """

    def __init__(self, low: float, high: float, steps: int) -> None:
        self._rate = Geometric(steps - 1, start=low, end=high)
        self._steps = steps
        self._made: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
        self._ratios: WeakKeyDictionary[Optimizer, list[float]] = WeakKeyDictionary()
        self._own: dict[int, list[Any]] = {}
        self._session: Session | None = None
        self._here = (os.getpid(), get_ident())
        self._undo: list[Callable[[], None]] = []
        self.clock = 0  # updates made by the optimizer with the most
        self.over = False
        self.curves: dict[int, Curve] = {}

    @property
    def rate(self) -> float:
        """The rate of the update being made."""
        return self._rate(self.clock)

    def install(self, watch: Callable[[], Session]) -> None:
        """Put the hooks in place. ``watch`` is called in between: its hooks then see the rates of the sweep."""
        self._undo.append(register_optimizer_step_pre_hook(self._before).remove)
        try:
            self._session = watch()
        finally:
            self._undo.append(register_optimizer_step_post_hook(self._after).remove)

    def remove(self) -> None:
        """Take the hooks away."""
        while self._undo:
            self._undo.pop()()

    def observed(self, record: StepRecord) -> None:
        """A step was recorded."""
        if not self._made or record.loss is None or (record.amp is not None and record.amp.skipped):
            return
        curve = self.curves.setdefault(record.stream, Curve())
        if curve.add(record.loss, self.rate):
            self.over = True
        if len(curve.losses) >= self._steps:
            self.over = True

    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if (os.getpid(), get_ident()) != self._here:
            return
        groups = optimizer.param_groups
        self.clock = max(self.clock, self._made.setdefault(optimizer, 0))
        self._own[id(optimizer)] = [_copied(group.get("lr")) for group in groups]
        for group, ratio in zip(groups, self._shares(optimizer), strict=False):
            if "lr" in group:
                _put(group, self.rate * ratio)

    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if (os.getpid(), get_ident()) != self._here:
            return
        for group, own in zip(optimizer.param_groups, self._own.pop(id(optimizer), []), strict=False):
            if own is not None:
                _put(group, own)
        if self._session is not None:
            _ = self._session.history  # brings it up to date: the loss of this very step is wanted
        self._made[optimizer] = self._made.get(optimizer, 0) + 1
        if self.over and not self._own:
            raise Enough

    def _shares(self, optimizer: Optimizer) -> list[float]:
        """Base rate of each group as a share of the largest; a warm-up may have begun at 0, so the base counts."""
        known = self._ratios.get(optimizer, [])
        if len(known) != len(optimizer.param_groups):
            bases = [float(group.get("initial_lr", group.get("lr")) or 0.0) for group in optimizer.param_groups]
            largest = max(bases, default=0.0)
            known = self._ratios[optimizer] = [base / largest if largest > 0 else 1.0 for base in bases]
        return known


def _copied(rate: Any) -> Any:
    return rate.clone() if isinstance(rate, Tensor) else rate


def _put(group: dict[str, Any], rate: Any) -> None:
    """Set a group's rate; a tensor keeps its identity, which captured graphs and fused kernels rely on."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


class _Test:
    """What lives from before the script's first line until after its last."""

    def __init__(self, options: RangeTestOptions) -> None:
        self._options = replace(options, out=anchored(options.out), json_file=anchored(options.json_file))
        self._here = Path.cwd()
        self._sweep = Sweep(options.low, options.high, options.steps)
        self._session: Session | None = None
        self.found: RangeTest | None = None

    def before(self) -> None:
        """Sweep and observation on."""
        self._sweep.install(self._watch)

    def _watch(self) -> Session:
        self._session = Session(None, every=10**9, trace=False, on_step=self._sweep.observed)
        activate(self._session)
        return self._session

    def after(self, outcome: Outcome) -> None:
        """Both off; read the sweep, and answer in the terminal, as JSON and as a picture."""
        self._sweep.remove()
        session, options, curves = self._session, self._options, self._sweep.curves
        if session is None:
            return
        session.close()
        if not curves:
            say("no learning rate was tested: the script made no step of a torch optimizer with a loss that was seen")
            return
        names = {info.index: info.type for info in session.history.optimizers}
        made = max(len(curve.rates) for curve in curves.values())
        short = made if made < options.steps and not self._sweep.over else None
        tests = {_label(names, stream): _read(curve, cut=short is not None) for stream, curve in _leading(curves)}
        self.found = next(iter(tests.values()))
        print_range_test(tests, high=options.high, short=short, picture=self._draw(tests))
        if options.json_file is not None:
            write_json(options.json_file, self._as_json(tests, outcome, made))

    def _draw(self, tests: dict[str, RangeTest]) -> Path | None:
        if self._options.out is None:
            return None
        try:
            picture = write_figure(range_test_chart(tests).figure, self._options.out, title="Learning-rate range test")
        except SteadyGradError as error:
            say(str(error))
            return None
        return seen_from(self._here, picture)

    def _as_json(self, tests: dict[str, RangeTest], outcome: Outcome, made: int) -> dict[str, Any]:
        target, options = self._options.target, self._options
        found: dict[str, Any] = plain(
            {
                "schema": "steadygrad.lr-find/1",
                "script": target.script or f"-m {target.module}",
                "exit_code": outcome.exit_code,
                "low": options.low,
                "high": options.high,
                "steps": made,
                "optimizers": [_test_json(name, test) for name, test in tests.items()],
            }
        )
        return found


def _leading(curves: dict[int, Curve]) -> list[tuple[int, Curve]]:
    """The optimizer with the most updates first."""
    return sorted(curves.items(), key=lambda item: (-len(item[1].rates), item[0]))


def _label(names: dict[int, str], stream: int) -> str:
    name = names.get(stream, "optimizer")
    return name if list(names.values()).count(name) < 2 else f"{name} {stream}"


def _read(curve: Curve, *, cut: bool) -> RangeTest:
    """A curve that was cut off before it turned says where the script ended, not which rate is best."""
    test = read_range_test(curve.rates, curve.losses)
    if not cut or test.complete or test.reason:
        return test
    return replace(test, steepest=None, lowest=None, reason="the script ended while the loss was still falling")


def _test_json(name: str, test: RangeTest) -> dict[str, Any]:
    return {
        "optimizer": name,
        "suggested": test.suggested,
        "careful": test.careful,
        "lowest": test.lowest,
        "complete": test.complete,
        "reason": test.reason,
        "rates": test.rates.tolist(),
        "losses": test.losses.tolist(),
    }


def find(options: RangeTestOptions) -> int:
    """Run the script under the sweep and return the exit code: the script's own, or 3 if nothing can be suggested."""
    test = _Test(options)
    code = launch(options.target, before=test.before, after=test.after)
    suggested = test.found is not None and test.found.suggested is not None
    return code or (0 if suggested else NO_SUGGESTION_EXIT)
