"""How many threads a step gets, by what its steps have taken so far.

Sharing a step out costs a few microseconds at each stage, so that a small one is faster alone; and where another
process keeps a core busy, a thread that is moved off its core in the middle of its work holds up all others. Neither
can be known beforehand, and the bits of a result depend on neither.
"""

from __future__ import annotations

# Seconds of work that a thread's share of a step has to have.
_GRAIN = 100e-6
# Steps that a mean goes back, steps that it needs, and how many a good stretch of shared steps has.
_MEMORY, _FEW, _LONG = 16, 4, 64
# Seconds of steps alone before sharing is tried again: at first, and at most, after it has failed again and again.
_REST, _LONGEST_REST = 0.1, 3.2


class Pace:
    """Tells whether the next step is shared out, and hears how long each took, in seconds.

    The first steps are done alone. From then on steps are shared out while that is faster, and alone otherwise, where
    it is tried again after a rest that doubles each time in vain.
    """

    def __init__(self) -> None:
        self.is_shared = False
        # Seconds of a step alone, the last time it was seen, and how many threads that is worth.
        self.alone, self.worth = 0.0, 1
        self._recent = self._before = self._rested = self._rest = 0.0
        self._steps = 0

    def threads(self, most: int) -> int:
        """How many of at most so many threads the next step gets."""
        return min(most, self.worth) if self.is_shared else 1

    def took(self, seconds: float) -> None:
        """A step on `threads` threads took so long."""
        self._steps += 1
        # The first one after a change finds its data in other caches, and is forgotten.
        weight = 1 / min(max(1, self._steps - 1), _MEMORY)
        self._recent += (seconds - self._recent) * weight
        if self.is_shared:
            if self._steps >= _FEW and self._recent > self.alone:
                failed = self._steps < _LONG
                self._rest = min(max(2 * self._rest, _REST), _LONGEST_REST) if failed else _REST
                self._change()
            return
        self.alone = self._recent
        self._rested += seconds
        self.worth = int(self.alone / _GRAIN)
        # Where it is no faster alone than it was together, the whole machine has become slower.
        has_rested = self._rested >= self._rest or self.alone > self._before > 0
        if self._steps >= _FEW and has_rested and self.worth > 1:
            self._change()

    def _change(self) -> None:
        self.is_shared = not self.is_shared
        self._before = 0.0 if self.is_shared else self._recent
        self._steps, self._rested = 0, 0.0
