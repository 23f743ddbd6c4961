"""How much memory there is, so that work which does not fit is refused before it begins, with what it would need.

A system that promises more memory than it has ends the process later, without a message; so the need is computed
first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vae_np.errors import InputError

# Where a container's limit stands: control groups of version 2, and of version 1.
_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")


def limit() -> int:
    """The bytes that this process may have: the machine's memory, or its container's where that is less."""
    # psutil can ask every system; it is imported here, since only large needs are checked.
    import psutil

    limits = [int(psutil.virtual_memory().total)]
    for path in _CONTAINER:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):
            # No such file on this system, or the word "max" in it.
            continue
    return min(limits)


def used() -> int:
    """The bytes of memory that this process has now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def check(name: str, given: Any, needed: int) -> None:
    """Refuse an argument whose work needs more bytes than there are; raises InputError with both."""
    if needed > 2**28 and needed > (there := limit()):
        raise InputError(
            f"{name}: got {given}, expected what fits into memory: it needs at least {size(needed)}, "
            f"and there are {size(there)}"
        )


def array(shapes: Iterable[tuple[int, ...]], itemsize: int) -> int:
    """The bytes of arrays of these shapes."""
    return itemsize * sum(math.prod(shape) for shape in shapes)


def size(count: int) -> str:
    """`16.4 GB`."""
    power = min(len(_UNITS) - 1, max(0, (len(str(count)) - 1) // 3))
    scaled = count / 1000**power
    return f"{scaled:.3g} {_UNITS[power]}"
