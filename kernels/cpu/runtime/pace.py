"""How many threads a step gets, by what its steps have taken so far.

Sharing a step out costs a few microseconds at each stage, so that a small one is faster alone; and where another
process keeps a core busy, a thread that is moved off its core in the middle of its work holds up all others. Neither
can be known beforehand, and the bits of a result depend on neither.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median

# Seconds that each thread adds to a shared step by being woken and waited for, measured with two. Work of t seconds
# then takes t/n + n·cost on n threads, which is least for n = √(t/cost).
_COST = 15e-6
# How many steps back the mean of shared ones and the median of those alone reach, how many either needs, and from how
# many shared ones on a stretch of them counts as a success.
_SHARED_MEMORY, _ALONE_MEMORY, _FEW, _LONG = 64, 15, 4, 64
# Seconds of steps alone before sharing is tried again: at first, and at most, after it has failed again and again.
_REST, _LONGEST_REST = 0.1, 3.2


class Pace:
    """Says on how many threads the next step is done, and is told how long each took, in seconds.

    The first steps are done alone. From then on steps are shared out while that is faster, and alone otherwise. Then
    sharing is tried again after a rest, which doubles each time that it fails.
    """

    def __init__(self) -> None:
        self.is_shared = False
        # Seconds of a step: alone when that was last seen, shared lately, and shared before the last change.
        self.alone, self._shared, self._before = math.inf, 0.0, math.inf
        self._rested = self._rest = 0.0
        self._steps = 0
        self._last: deque[float] = deque(maxlen=_ALONE_MEMORY)

    def threads(self, most: int) -> int:
        """How many threads the next step gets, of at most `most`."""
        return min(most, self._worth()) if self.is_shared else 1

    def took(self, seconds: float) -> None:
        """Take into account that the step took so many seconds."""
        self._steps += 1
        # The first one after a change finds its data in other caches, and is forgotten.
        if self._steps == 1:
            return
        if self.is_shared:
            self._shared += (seconds - self._shared) / min(self._steps - 1, _SHARED_MEMORY)
            if self._steps >= _FEW and self._shared > self.alone:
                failed = self._steps < _LONG
                self._rest = min(max(2 * self._rest, _REST), _LONGEST_REST) if failed else _REST
                self._before = self._shared
                self._change()
            return
        self._last.append(seconds)
        self._rested += seconds
        if self._steps % _FEW:
            return
        # Not the mean: it would count the moments in which this thread was off its core, and make small steps large.
        self.alone = median(self._last)
        # Where it is no faster alone than it was together, the whole machine has become slower.
        if (self._rested >= self._rest or self.alone > self._before) and self._worth() > 1:
            self._change()

    def _worth(self) -> int:
        """How many threads the work is worth."""
        return int(math.sqrt(self.alone / _COST))

    def _change(self) -> None:
        self.is_shared = not self.is_shared
        self._steps, self._rested, self._shared = 0, 0.0, 0.0
        self._last.clear()
