"""Inputs for a function or class without given inputs, found by trial from names, defaults, and what is accepted.

Only what matches a convention is called, in an empty folder, and never for long.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vae_np.verify import sample_inputs
from vae_np.verify.facts import Facts, facts
from vae_np.verify.sample_inputs import SCENES, Scene

# The trials of one subject and their processor time, so that other work on the machine does not decide. Once something
# runs, MORE_TRIALS and MORE_SECONDS follow. ONE_TRIAL is the time of one trial.
TRIALS, MORE_TRIALS = 1500, 150
SECONDS, MORE_SECONDS = 8.0, 3.0
ONE_TRIAL = 6.0
# So many calls are tried in every scene before any scene's other calls.
FEW = 12
KINDS = ("normal", "unit", "simplex")
# Values that are tried for one argument in one scene.
MOST_VALUES = 6
Making = tuple[tuple[Any, ...], dict[str, Any]]
_KINDS = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class TooLong(BaseException):
    """A call took longer than it may; no `except Exception` in the user's code stops this exception."""


@dataclass
class Guess:
    """Arguments that a subject takes; `score` is 0 if its gradients fit, 1 if their shapes do, 2 if it runs."""

    arguments: tuple[Any, ...]
    making: tuple[tuple[Any, ...], dict[str, Any]]
    scene: str
    score: int


@contextlib.contextmanager
def quiet(seconds: float | None = None) -> Iterator[None]:
    """Run what is inside without its output, in an empty working folder, and stop it after so many seconds."""
    here = os.getcwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, contextlib.redirect_stdout(io.StringIO()):
        os.chdir(folder)
        try:
            with limited(seconds), np.errstate(all="ignore"):
                yield
        finally:
            os.chdir(here)


@contextlib.contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Raise TooLong after this number of seconds of processor time, or after ten times as many on the clock.

    Other work on the machine therefore does not decide, and a call that only waits ends as well. There is no limit
    where the system cannot interrupt a call.
    """
    if seconds is None or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise TooLong(f"stopped after {seconds:g} s")

    timers = ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, 10 * seconds))
    before = [(number, signal.signal(number, stop)) for _, number, _ in timers]
    for timer, _, most in timers:
        signal.setitimer(timer, most)
    try:
        yield
    finally:
        for timer, _, _ in timers:
            signal.setitimer(timer, 0.0)
        for number, handler in before:
            signal.signal(number, handler)


def guess(
    function: Callable[..., Any],
    score: Callable[[tuple[Any, ...], tuple[tuple[Any, ...], dict[str, Any]]], tuple[int, int]],
    maker: Any = None,
    seed: int = 0,
    hint: str = "",
    also: Callable[..., Any] | None = None,
) -> Guess | None:
    """Return the arguments with the best score among those tried, or None where nothing runs.

    `score(arguments, making)` returns 0 for the best and 3 where the subject does not run. It also returns the number
    of tensors that were judged, since a guess that fits because it judges fewer of them would hide a mistake. `maker`
    is a class whose constructor's arguments are guessed as well. `hint` is a name that says what kind of input is
    meant. `also` is a function whose source says more about the same arguments.
    """
    needed = _parameters(function)
    known = facts(function)
    for name, fact in (facts(also) if also is not None else {}).items():
        if name in known and not known[name].keys:
            known[name].keys = fact.keys
    search = _Search(score)
    choices: dict[tuple[str, str], Iterator[Call]] = {}
    for few in (FEW, None):
        for scene in _ordered(needed, known, hint):
            for kind in KINDS:
                # In a scene of fewer axes, a missing sum over the batch is no mistake.
                if (search.best is not None and scene.low) or search.ran.get(scene.name, kind) != kind:
                    continue
                made = _choices(needed, known, maker, scene, kind, seed)
                for call in itertools.islice(choices.setdefault((scene.name, kind), made), few):
                    if search.over:
                        return search.best
                    search.look(call, scene.name, kind)
    return search.best


Call = tuple[tuple[Any, ...], Making]


@dataclass
class _Search:
    """The search for arguments: `best` is what fits best so far, `ran` the kind of numbers each scene runs with."""

    score: Callable[[tuple[Any, ...], Making], tuple[int, int]]
    best: Guess | None = None
    ran: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.process_time)
    judged: int = 0
    count: int = 0
    found_at: tuple[int, float] = (0, 0.0)

    @property
    def over(self) -> bool:
        """True where the search may end, because the best fits or enough was tried."""
        spent = time.process_time() - self.started
        if self.best is None:
            return self.count > TRIALS or spent > SECONDS
        count, at = self.found_at
        return self.best.score == 0 or self.count - count > MORE_TRIALS or spent - at > MORE_SECONDS

    def look(self, call: Call, scene: str, kind: str) -> None:
        """Try arguments, and keep them where they fit better and judge no fewer tensors."""
        # Another setting may hide what the first one shows: a stride of one, a single head.
        if self.best is not None and self.best.score == 1 and _other_settings(call, self._call):
            return
        self.count += 1
        found, judged = self.score(*call)
        if found < 3:
            self.ran[scene] = kind
            if judged >= self.judged and (self.best is None or found < self.best.score):
                self.best, self.judged = Guess(*call, scene, found), judged
                self.found_at = self.count, time.process_time() - self.started

    @property
    def _call(self) -> Call:
        assert self.best is not None
        return self.best.arguments, self.best.making


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p for p in parameters if p.kind in _KINDS and p.name != "self"]


def _ordered(parameters: list[inspect.Parameter], known: dict[str, Facts], hint: str) -> list[Scene]:
    """Return the scenes, the most likely first, by the axes that the source unpacks and by what names say."""
    names = " ".join([hint, *(p.name for p in parameters)]).lower()
    wanted = []
    if any(word in names for word in ("embed", "lookup", "token", "word")):
        wanted.append("words")
    if any(word in names for word in ("conv", "pool", "im2col", "spatial", "image", "img", "filter", "kernel")):
        wanted += ["images", "images, channels last", "one image of channels", "one image"]
    if any(word in names for word in ("rnn", "lstm", "gru", "attention", "temporal", "sequence", "seq", "transformer")):
        wanted += ["sequences", "sequences, 4 gates", "rows", "rows, 4 gates", "columns", "columns, 4 gates"]
    if any(word in names for word in ("a_prev", "dropout_keep", "hparameters", "caches")):
        wanted.append("columns")
    first = parameters[sample_inputs.main_position([p.name for p in parameters])] if parameters else None
    fact = known.get(first.name) if first is not None else None
    order = {name: position for position, name in enumerate(dict.fromkeys(wanted))}
    possible = [s for s in SCENES if fact is None or fact.axes is None or len(s.x) == fact.axes]
    possible = [s for s in possible if fact is None or len(s.x) >= fact.least]
    return sorted(possible or SCENES, key=lambda scene: order.get(scene.name, 50))


def _labels_wanted(parameter: inspect.Parameter) -> bool:
    """Tell whether an argument is labels, without which a model returns its scores and not its loss."""
    return parameter.default is None and sample_inputs.role(parameter.name) == "labels"


def _other_settings(one: Call, other: Call) -> bool:
    """Tell whether two calls differ in a setting, which is something that is not an array in either of them."""

    def plain(value: Any) -> bool:
        return not isinstance(value, (np.ndarray, np.random.Generator))

    pairs = zip((*one[0], *one[1][1].values()), (*other[0], *other[1][1].values()), strict=False)
    return any(plain(a) and plain(b) and repr(a) != repr(b) for a, b in pairs)


def _choices(
    needed: list[inspect.Parameter], known: dict[str, Facts], maker: Any, scene: Scene, kind: str, seed: int
) -> Iterator[tuple[tuple[Any, ...], Making]]:
    """Yield arguments (and a constructor's, by keyword), those that differ least from the likeliest first."""
    rng = np.random.default_rng([seed, 11])
    calls = [p for p in needed if p.default is inspect.Parameter.empty]
    calls += [p for p in needed[len(calls) : len(calls) + 1] if _labels_wanted(p)]
    names = [p.name for p in calls]
    main = sample_inputs.main_position(names)
    columns: list[list[Any]] = []
    for position, parameter in enumerate(calls):
        first = position == main
        name, fact = sample_inputs.alias(parameter.name, names), known.get(parameter.name)
        found = list(
            itertools.islice(sample_inputs.values(name, parameter, fact, scene, rng, kind, first), MOST_VALUES)
        )
        if name != parameter.name and not first:  # one of equals may be a bias all the same
            own = sample_inputs.values(parameter.name, parameter, fact, scene, rng, kind, first)
            found += list(itertools.islice(own, MOST_VALUES))
        if parameter.default is None:
            columns.append([*found, None])
            continue
        # Whatever its name, it may be a number.
        lone = not first and not (fact is not None and (fact.keys or fact.least or fact.axes))
        columns.append(found + ([0.7] if not found or (lone and not any(np.ndim(v) == 0 for v in found)) else []))
    made = list(_makings(maker, scene, rng)) if maker is not None else [((), {})]
    for places in nearest_first([len(column) for column in (*columns, made)]):
        *places_of_arguments, place = places
        yield tuple(column[i] for column, i in zip(columns, places_of_arguments, strict=True)), made[place]


def makings_of(maker: Any) -> Iterator[Making]:
    """Yield arguments for a constructor in every scene."""
    for scene in SCENES:
        yield from _makings(maker, scene, np.random.default_rng(0))


def _makings(maker: Any, scene: Scene, rng: np.random.Generator) -> Iterator[Making]:
    """Yield keyword arguments for a constructor; lengths are given also where they have defaults, to keep it small."""
    parameters = _parameters(maker)
    known = facts(maker.__init__) if "__init__" in vars(maker) else {}
    columns: list[list[Any]] = []
    names: list[str] = []
    for position, parameter in enumerate(parameters):
        has_default = parameter.default is not inspect.Parameter.empty
        length = sample_inputs.size(parameter.name, scene)
        default = parameter.default
        options: list[Any] = sample_inputs.lengths(parameter.name, default, scene)
        whole = isinstance(default, int) and not isinstance(default, bool) and default >= 1
        if has_default and not options and (length is None or not whole):
            continue
        if not has_default and (given := sample_inputs.function(parameter.name)) is not None:
            options.append(given)
        array_like = sample_inputs.role(parameter.name) in ("weight", "bias", "scale", "input weight", "hidden weight")
        if array_like and len(parameter.name) <= 7 and not has_default:
            options += list(sample_inputs.array(parameter.name, scene, rng, "normal", first=False))[:3]
        if length is not None:
            options.append(length)
        if not has_default and not options:
            fact = known.get(parameter.name)
            options += sample_inputs.number(parameter.name, ())
            options += list(
                itertools.islice(sample_inputs.values(parameter.name, parameter, fact, scene, rng, "normal", False), 3)
            )
        if len(scene.x) >= 3 and re_kernel(parameter.name) and not has_default:
            options = list(sample_inputs.number(parameter.name, (sample_inputs.KERNEL,)))
            options = [2] if len(scene.x) == 3 else options
        if not has_default and length is not None and position == 0:
            options += [sample_inputs.UNITS, sample_inputs.FEATURES]
        if options:
            names.append(parameter.name)
            columns.append(list(options[:4]))
    for places in itertools.islice(nearest_first([len(column) for column in columns]), 24):
        yield (), {name: column[i] for name, column, i in zip(names, columns, places, strict=True)}


def nearest_first(lengths: list[int]) -> Iterator[tuple[int, ...]]:
    """Yield all choices of one place from each list, those that differ least from the first of each first."""

    def choices(left: int, rest: list[int]) -> Iterator[tuple[int, ...]]:
        if not rest:
            if left == 0:
                yield ()
            return
        for place in range(min(left, rest[0] - 1) + 1):
            for others in choices(left - place, rest[1:]):
                yield (place, *others)

    for total in range(sum(length - 1 for length in lengths) + 1):
        yield from choices(total, lengths)


def re_kernel(name: str) -> bool:
    """Tell whether an argument is the size of a window."""
    return any(word in name.lower() for word in ("kernel", "filter_size", "pool", "stride", "pad", "window"))
