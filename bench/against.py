"""This checkout's step against another revision's, in turns, with an interval and a verdict: `--against REV`.

The other revision is a work tree of its own that git makes in a temporary folder. Its process finds that package first
and shares all libraries with ours, and both are called by this checkout's benchmark.

Two processes of one and the same code differ by a per cent or two for as long as they live: memory lies elsewhere in
each. So the unit is a block: a fresh pair of processes, in which short turns alternate. A block's figure is the median
of its pairs' log ratios, which a turn that another program disturbed does not move; the interval is Student's t over
the blocks, which are independent and whose spread has both sources of noise in it.
"""

from __future__ import annotations

import math
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev

from interleaved import BenchError, Process
from scipy import stats
from workloads import STEP

ROOT = Path(__file__).resolve().parents[1]
# A difference below it is none that anybody should act on: two builds of one source can differ by as much.
MARGIN = 0.01
# Who looks after each block may be wrong at each look: a verdict needs more confidence than the interval shown.
SHOWN, DECIDED = 0.95, 0.99
PAIRS, FEWEST_BLOCKS, MOST_BLOCKS = 20, 6, 40
TURN_SECONDS, PAUSE_SECONDS, MOST_STEPS = 0.06, 0.002, 1000

# Milliseconds that a step takes in one turn of so many.
Turn = Callable[[int], float]
Pair = Callable[[int], AbstractContextManager[tuple[Turn, Turn]]]


@dataclass(frozen=True)
class Comparison:
    """What was found: the time of a step of ours over the base's, with its 95% interval, and what follows from it."""

    ratio: float
    low: float
    high: float
    verdict: str
    blocks: int
    base_ms: list[float]
    head_ms: list[float]


def interval(estimates: list[float], confidence: float) -> tuple[float, float]:
    """Student's t interval of a mean of log ratios, as ratios."""
    middle = mean(estimates)
    half = float(stats.t.ppf(0.5 + confidence / 2, len(estimates) - 1)) * stdev(estimates) / math.sqrt(len(estimates))
    return math.exp(middle - half), math.exp(middle + half)


def verdict(estimates: list[float]) -> str:
    """`slower`, `faster` or `the same`, each by more than MARGIN or within it; else `undecided`."""
    low, high = interval(estimates, DECIDED)
    if low > 1 + MARGIN:
        return "slower"
    if high < 1 - MARGIN:
        return "faster"
    return "the same" if low > 1 - MARGIN and high < 1 + MARGIN else "undecided"


def compare(pair: Pair, note: Callable[[str], None], most_blocks: int = MOST_BLOCKS) -> Comparison:
    """Blocks of turns until there is a verdict, at most `most_blocks`; `pair(number)` opens a block's base and head."""
    estimates: list[float] = []
    base_ms: list[float] = []
    head_ms: list[float] = []
    said = "undecided"
    while said == "undecided" and len(estimates) < most_blocks:
        with pair(len(estimates)) as (base, head):
            estimate, of_base, of_head = block(base, head, _steps(base))
        estimates.append(estimate)
        base_ms += of_base
        head_ms += of_head
        if len(estimates) >= FEWEST_BLOCKS:
            said = verdict(estimates)
            low, high = interval(estimates, SHOWN)
            note(f"{len(estimates)} pairs of processes: {low:.3f} to {high:.3f}, {said}")
    ratio = math.exp(mean(estimates))
    return Comparison(ratio, *interval(estimates, SHOWN), said, len(estimates), base_ms, head_ms)


def block(base: Turn, head: Turn, steps: int) -> tuple[float, list[float], list[float]]:
    """The median log ratio of PAIRS turns of head to base, and both sides' times."""
    of_base, of_head = [], []
    for number in range(PAIRS):
        # Whoever comes second finds other caches: they change places.
        if number % 2:
            of_head.append(head(steps))
            of_base.append(base(steps))
        else:
            of_base.append(base(steps))
            of_head.append(head(steps))
    return median(math.log(h / b) for h, b in zip(of_head, of_base, strict=True)), of_base, of_head


def _steps(turn: Turn) -> int:
    """How many steps fill a turn. The first ones load code, and are not counted."""
    turn(1)
    return max(1, min(MOST_STEPS, round(1e3 * TURN_SECONDS / turn(10))))


def run(
    workload: str,
    backend: str,
    revision: str,
    threads: int,
    note: Callable[[str], None],
    most_blocks: int = MOST_BLOCKS,
) -> tuple[Comparison, str]:
    """The comparison, and the commit that the revision is. Raises BenchError where one of the two cannot be run."""
    with other_revision(revision) as (folder, commit):
        return compare(pairs(workload, backend, threads, folder, note), note, most_blocks), commit


def pairs(workload: str, backend: str, threads: int, base: Path, note: Callable[[str], None]) -> Pair:
    """What opens a pair of processes: the package in the folder `base`, and this checkout's."""

    @contextmanager
    def pair(number: int) -> Iterator[tuple[Turn, Turn]]:
        with ExitStack() as stack:
            # Whoever starts first changes as well.
            roots = (base, ROOT) if number % 2 == 0 else (ROOT, base)
            processes = [stack.enter_context(Process("alone", threads, note, root)) for root in roots]
            first, second = (
                _turn(process, root, workload, backend) for process, root in zip(processes, roots, strict=True)
            )
            yield (first, second) if number % 2 == 0 else (second, first)

    return pair


def _turn(process: Process, root: Path, workload: str, backend: str) -> Turn:
    found = process.ask("package")
    if found != str(root):
        raise BenchError(f"against: got the package in {found}, expected the one in {root}")
    process.ask("build", "step", workload, backend)

    def turn(steps: int) -> float:
        process.ask("begin", STEP, backend, workload, None)
        time.sleep(PAUSE_SECONDS)
        process.ask("call", STEP, backend, 1)
        return 1e3 * process.ask("call", STEP, backend, steps) / steps

    return turn


@contextmanager
def other_revision(revision: str) -> Iterator[tuple[Path, str]]:
    """A work tree of a revision in a temporary folder, and its commit; the tree is gone afterwards."""
    commit = commit_of(revision)
    if commit is None:
        raise BenchError(f"against: got {revision!r}, expected a revision that git knows in this checkout")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / "base"
        if _git("worktree", "add", "--detach", "--force", str(folder), commit) is None:
            raise BenchError(f"against: git could not make a work tree of {commit}")
        try:
            yield folder, commit
        finally:
            _git("worktree", "remove", "--force", str(folder))


def commit_of(revision: str) -> str | None:
    """The commit that a revision is in this checkout; None where git knows none."""
    return _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")


def _git(*arguments: str) -> str | None:
    """What git prints in this checkout; None where it fails or is missing."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
