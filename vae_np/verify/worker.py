"""Runs in a process of its own: executes one user's file, checks its pairs, writes one JSON line per event.

Started by `vae_np.verify.files` as `python -P -m vae_np.verify.worker FILE RESULTS SEED MEGABYTES SECONDS`. The events
go to the file RESULTS, so that nothing the user's code prints, closes or exits can spoil them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from vae_np.gradcheck import check_vjp

FORWARD, BACKWARD, EXAMPLE, WRT = "_forward", "_backward", "_example", "_wrt"
Emit = Callable[..., None]


def run(path: Path, emit: Emit, seed: int, seconds: float) -> None:
    """Import the file, then check each pair; every step is announced before it starts."""
    emit(event="import")
    try:
        module = load(path)
    except BaseException as error:  # sys.exit and KeyboardInterrupt included: nothing of theirs ends our report
        emit(event="unusable", message=f"does not import: {one_line(error, path)}")
        return
    names = pairs(module)
    if not names:
        emit(event="unusable", message="has no pair of functions <name>_forward and <name>_backward")
        return
    emit(event="pairs", names=names)
    for name in names:
        emit(event="pair", name=name)
        emit(event="result", name=name, **check_pair(module, name, path, seed, seconds / len(names)))


def load(path: Path) -> ModuleType:
    """Execute the file as a module of a name that no other module has."""
    name = f"checked_{path.stem}"
    loader = SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    sys.path.insert(0, str(path.parent))
    loader.exec_module(module)
    return module


def pairs(module: ModuleType) -> list[str]:
    """Return the names for which a forward or a backward is defined, in the order of the file."""
    names = []
    for key, value in vars(module).items():
        for ending in (FORWARD, BACKWARD):
            if key.endswith(ending) and len(key) > len(ending) and callable(value):
                names.append(key.removesuffix(ending))
    return list(dict.fromkeys(names))


def check_pair(module: ModuleType, name: str, path: Path, seed: int, seconds: float) -> dict[str, Any]:
    """Return status, message, report and text of one pair."""
    for ending in (FORWARD, BACKWARD, EXAMPLE):
        if not callable(getattr(module, name + ending, None)):
            return _unusable(f"{name}{ending} is missing" + ("; it gives the inputs to check at" * (ending == EXAMPLE)))
    forward, backward, example = (getattr(module, name + ending) for ending in (FORWARD, BACKWARD, EXAMPLE))
    try:
        inputs = example(np.random.default_rng(seed)) if _takes_argument(example) else example()
    except BaseException as error:
        return _unusable(f"{name}{EXAMPLE} failed: {one_line(error, path)}")
    if inputs is None or (isinstance(inputs, (tuple, list)) and not inputs):
        return _unusable(f"{name}{EXAMPLE} returned {inputs!r}, expected a tuple of inputs")
    wrt = getattr(module, name + WRT, None)
    options = f"seed={seed}" if wrt is None else f"wrt={wrt!r}, seed={seed}"
    snippet = "\n".join(
        [
            "import runpy, numpy as np; from vae_np.gradcheck import check_vjp",
            f"m = runpy.run_path({path.name!r}); inputs = m[{name + EXAMPLE!r}](np.random.default_rng({seed}))",
            f"print(check_vjp(m[{name + FORWARD!r}], m[{name + BACKWARD!r}], inputs, {options}))",
        ]
    )
    try:
        report = check_vjp(
            forward,
            backward,
            inputs,
            name=name,
            seed=seed,
            seconds=seconds,
            snippet=snippet,
            wrt=wrt,
        )
    except ValueError as error:
        return _unusable(f"{name}: {error}")
    except BaseException as error:
        return _unusable(f"{name} ended the check: {one_line(error, path)}")
    calls = [check.detail for check in report.checks if not check.passed and check.name == "call"]
    status = "passed" if report.passed else "failed"
    message = calls[0] if calls else report.headline()
    return {"status": status, "message": message, "report": report.as_dict(), "text": str(report)}


def one_line(error: BaseException, path: Path) -> str:
    """Return an exception as one line with its place in the user's file."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno})"
    if isinstance(error, SystemExit):
        what = f"it calls sys.exit({error.code!r})"
    else:
        text = str(error).strip().splitlines()
        what = type(error).__name__ + (f": {text[0][:160]}" if text else "")
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return what + (f" (line {lines[-1]})" if lines else "")


def limit_memory(megabytes: int) -> None:
    """Let allocations beyond this many megabytes fail with MemoryError, where the system can do that."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    size = megabytes * 2**20
    # Linux counts private writable memory under DATA; the address space also holds libraries and is a poor measure.
    kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        size = min(size, hard)
    resource.setrlimit(kind, (size, hard))


def _takes_argument(function: Callable[..., Any]) -> bool:
    try:
        return bool(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return True


def _unusable(message: str) -> dict[str, Any]:
    return {"status": "unusable", "message": message, "report": None, "text": ""}


def main(arguments: list[str]) -> None:
    """Check one file; see the module's docstring for the arguments."""
    path, results = Path(arguments[0]), arguments[1]
    seed, megabytes, seconds = int(arguments[2]), int(arguments[3]), float(arguments[4])
    own = os.getpid()

    def emit(**event: Any) -> None:
        if os.getpid() == own:  # a process that the user's code forked off has no say
            # Opened anew for each event, since the user's code may close what is open.
            with open(results, "a", encoding="utf-8") as file:
                file.write(json.dumps(event, allow_nan=False) + "\n")

    sys.argv = [str(path)]
    limit_memory(megabytes)
    run(path, emit, seed, seconds)
    emit(event="done")
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    # Threads and exit handlers of the user's are not waited for.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
