"""The package on a number of threads of its own, so that the count belongs to a model and not to the process."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from .runtime.pool import check_threads, limited


class OnThreads:
    """A module's contents, with every function called on at most `count` threads. Raises InputError for a bad count.

    What is made inside, such as a fused step, keeps the count for good. Results do not depend on it.
    """

    def __init__(self, module: ModuleType, count: int) -> None:
        self._module, self._count = module, check_threads(count)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if not callable(found):
            return found

        @functools.wraps(found)
        def call(*args: Any, **options: Any) -> Any:
            with limited(self._count):
                return found(*args, **options)

        # Stored, so that the next look-up finds it at once.
        setattr(self, name, call)
        return call
