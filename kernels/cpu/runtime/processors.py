"""How many processors this process may use: what the system lets it run on, and what its container is allowed."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")


def affinity() -> int:
    """The processors that this process may run on now; all of them where the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def quota() -> float | None:
    """The processors' worth of time that the container is allowed; None where there is no limit. Read once."""
    return read_quota(Path("/"))


def available() -> int:
    """How many threads can run at once, at least one: never more than the affinity or the quota."""
    allowed = quota()
    return affinity() if allowed is None else max(1, min(affinity(), int(allowed)))


def decided_by(asked: int | None) -> tuple[int, str]:
    """How many threads work uses, and what decided that; `asked` is what Python or an option said."""
    count, why = available(), "the processors that this process may run on"
    if count < affinity():
        why = f"the container's quota of {quota():g} processors"
    wanted, wanted_by = (asked, "asked for") if asked is not None else from_environment(os.environ.get)
    return (count, why) if wanted is None or wanted > count else (wanted, wanted_by)


def from_environment(get: Callable[[str], str | None]) -> tuple[int | None, str]:
    """What the variables ask for, and which of them; one that holds no whole number above 0 counts as not set."""
    for name in VARIABLES:
        # OpenMP's own may have a number for each level of nesting.
        text = (get(name) or "").partition(",")[0].strip()
        if text.isdecimal() and int(text) > 0:
            return int(text), name
    return None, ""


def read_quota(root: Path) -> float | None:
    """The least quota of the process's control group and all above it, from the files below `root`."""
    found = []
    for folder, is_unified in _groups(root):
        try:
            if is_unified:
                amount, period = (folder / "cpu.max").read_text().split()
            else:
                amount = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text().strip()
            # `max`, or −1, is no limit.
            if amount.isdecimal() and int(amount) > 0 and int(period) > 0:
                found.append(int(amount) / int(period))
        except (OSError, ValueError):
            continue
    return min(found, default=None)


def _groups(root: Path) -> Iterator[tuple[Path, bool]]:
    """The folders of the group and of all above it, as far as they can be seen, and whether they are of version 2."""
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = [line.split() for line in (root / "proc/self/mountinfo").read_text().splitlines()]
    except OSError:
        return
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        for mount in mounts:
            end = mount.index("-") if "-" in mount else len(mount)
            kind, options = mount[end + 1 : end + 2], ",".join(mount[end + 3 : end + 4]).split(",")
            is_unified = kind == ["cgroup2"] and controllers == ""
            if not is_unified and not (kind == ["cgroup"] and "cpu" in options and "cpu" in controllers.split(",")):
                continue
            top = root / mount[4].lstrip("/")
            # Inside a container the path may be the host's, of which the mount shows the part below its own root.
            shown, group = PurePosixPath(mount[3]), PurePosixPath(path)
            below = group.relative_to(shown) if group.is_relative_to(shown) and ".." not in group.parts else None
            here = top if below is None else top / below
            yield from ((folder, is_unified) for folder in (here, *here.parents) if folder.is_relative_to(top))
