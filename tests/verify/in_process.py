"""A user's file checked in this process: what starting one for each file costs is spared where it proves nothing."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vae_np.verify import isolation, worker


def run(module: str, path: Path, arguments: Sequence[str], timeout: float, stop: Any = None) -> isolation.Ended:
    """Do what `isolation.run` does, without a process and without its limits."""
    seed, _, seconds, strict, only = arguments
    events: list[dict[str, Any]] = []
    modules, search, output = dict(sys.modules), list(sys.path), io.StringIO()

    def emit(**event: Any) -> None:
        events.append(json.loads(json.dumps(event, allow_nan=False)))

    try:
        with contextlib.redirect_stdout(output):
            worker.run(path, emit, int(seed), float(seconds), strict == "strict", only)
        emit(event="done")
    finally:
        sys.path[:] = search
        for name in sys.modules.keys() - modules.keys():
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(path.parents[1])):
                del sys.modules[name]
    return isolation.Ended(0, output.getvalue(), events)


def use(patch: pytest.MonkeyPatch) -> None:
    """Let `verify_files` check its files in this process."""
    patch.setattr(isolation, "run", run)
