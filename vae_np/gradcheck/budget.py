"""How much time a check may take, and how many calls of the subject that leaves."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

# Halvings of the step that one derivative may take, and where a call takes long.
HALVINGS, FEW_HALVINGS = 40, 3
# A check that can afford fewer calls than this is a dear one: it saves wherever it can.
DEAR = 120.0
# With fewer calls left, one difference has to do: enough to confirm a complex step.
SCARCE = 16.0


def now() -> float:
    """Return the time in seconds; every budget reads it here."""
    return time.perf_counter()


@dataclass
class Budget:
    """The time of one check; without `seconds` there is no limit. forward, backward: what one call of each takes."""

    seconds: float | None = None
    forward: float = 0.0
    backward: float = 0.0
    started: float = field(default_factory=lambda: now())

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return math.inf if self.seconds is None else self.seconds - (now() - self.started)

    @property
    def over(self) -> bool:
        return self.left <= 0.0

    def short_of(self, calls: float) -> bool:
        """Tell whether the time that is left does not suffice for so many forward calls."""
        return self.left <= calls * self.forward

    @property
    def calls(self) -> float:
        """How many forward calls the time that is left allows."""
        return max(self.left, 0.0) / self.forward if self.forward > 0.0 else math.inf

    @property
    def dear(self) -> bool:
        return self.seconds is not None and self.forward > 0.0 and self.seconds / self.forward < DEAR

    @property
    def halvings(self) -> int:
        """How often a step may be halved: few times where calls are dear, once where hardly any are left."""
        if self.seconds is None or self.calls >= DEAR:
            return HALVINGS
        return FEW_HALVINGS if self.calls >= SCARCE else 1

    def allows(self, forwards: float, backwards: float = 0.0) -> bool:
        """Tell whether so many calls leave at least half of the time that is left."""
        return forwards * self.forward + backwards * self.backward <= self.left / 2
