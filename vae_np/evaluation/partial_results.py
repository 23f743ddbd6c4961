"""What an interrupted evaluation has done: a file in the run's folder, from which the same evaluation goes on.

The file is named after, and holds, everything on which the numbers depend (the checkpoint's and the data's digests
included), so that no other evaluation takes it for its own. It is gone once the evaluation is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Generic

import numpy as np

from vae_np import storage
from vae_np._types import Array
from vae_np.errors import WriteError
from vae_np.evaluation.importance import AnyEstimate

PATTERN = "eval-*.partial.npz"
# A kill loses at most this much work, and little time is spent on writing.
_SECONDS_BETWEEN = 1.0


def digest(*parts: bytes | Array) -> str:
    """SHA-256 of bytes and arrays."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).data)
    return total.hexdigest()


class PartialResults(Generic[AnyEstimate]):
    """The estimates so far of one evaluation: `done` (None at first) and the `seconds` that they took.

    `key` is what the numbers depend on, as JSON can hold it; `kind` the class of the estimates, at most `most` of them.
    Without `writes` the file is only read: of several processes one keeps it.
    """

    def __init__(
        self,
        folder: Path,
        key: Mapping[str, Any],
        kind: type[AnyEstimate],
        *,
        most: float = math.inf,
        writes: bool = True,
    ) -> None:
        self._key, self._kind, self._most = json.dumps(key, sort_keys=True), kind, most
        self.path = folder / f"eval-{digest(self._key.encode())[:16]}.partial.npz"
        self._writes = writes
        self.problem: str | None = None
        self.seconds = 0.0
        self.done = self._read()
        self._kept = self.done
        self._began, self._written = time.perf_counter() - self.seconds, time.perf_counter()

    def __len__(self) -> int:
        """How many examples are done."""
        return 0 if self.done is None else len(self.done.ess)

    def _read(self) -> AnyEstimate | None:
        """What an earlier evaluation left; None where that is nothing, damaged, or another evaluation's."""
        try:
            with np.load(self.path, allow_pickle=False) as held:
                if str(held["key"]) != self._key:
                    return None
                seconds = float(held["seconds"])
                arrays = [held[field.name] for field in fields(self._kind)]
                if not math.isfinite(seconds) or any(array.shape != (len(arrays[0]),) for array in arrays):
                    raise ValueError
                if any(array.dtype.kind != "f" for array in arrays) or len(arrays[0]) > self._most:
                    raise ValueError
                self.seconds = seconds
                return self._kind(*arrays)
        except FileNotFoundError:
            return None
        except Exception:
            # On a damaged file NumPy's and zip's readers raise a dozen unrelated classes.
            self.problem = f"{self.path}: is damaged and not used"
            return None

    def add(self, done: AnyEstimate) -> None:
        """Take the estimates so far, and write them unless that was done less than a second ago."""
        self.done, self.seconds = done, time.perf_counter() - self._began
        if time.perf_counter() - self._written > _SECONDS_BETWEEN:
            self.write()

    def write(self) -> None:
        """Write what is not yet written. Where the folder cannot be written, `problem` says so and nothing is kept."""
        if not self._writes or self.done is None or self.done is self._kept:
            return
        arrays = {field.name: getattr(self.done, field.name) for field in fields(self._kind)}
        content = io.BytesIO()
        np.savez(content, key=np.array(self._key), seconds=np.array(self.seconds), **arrays)
        try:
            storage.write_atomic(self.path, content.getvalue())
        except WriteError as error:
            self.problem = str(error)
            return
        self._kept, self._written = self.done, time.perf_counter()

    def remove(self) -> None:
        """Forget the file: the evaluation is complete."""
        if not self._writes:
            return
        # A file that cannot be removed is left where it is.
        with contextlib.suppress(OSError):
            self.path.unlink()
