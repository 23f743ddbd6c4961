"""How much time a check may take, and how many calls of the subject that leaves."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

# How often one derivative may halve its step, and how often where calls are slow.
HALVINGS, FEW_HALVINGS = 40, 3
# A check that can afford fewer calls than this saves calls wherever it can.
DEAR = 120.0
# With fewer calls left, a single difference has to suffice. It still confirms a complex step.
SCARCE = 16.0
# What a complex call costs beside a real one until one has been timed: four real products make a complex one.
COMPLEX_CALLS = 4.0
# Forward calls that a tensor takes at the least: one derivative from differences at two steps.
FEWEST_CALLS = 4.0


def now() -> float:
    """Return the time in seconds. Every budget reads the clock here, so that a test can replace it."""
    return time.perf_counter()


@dataclass
class Budget:
    """The time that one check may take, and what has been learnt about its calls.

    There is no limit where `seconds` is None. `forward` and `backward` are the seconds that one call of each takes, and
    `complex` those of a forward call with complex numbers, or zero until one has been timed. `lowest` is the lowest
    price per forward call of a whole derivative. `reserved` is the number of forward calls kept for the tensors
    whose turn comes later.
    """

    seconds: float | None = None
    forward: float = 0.0
    backward: float = 0.0
    complex: float = 0.0
    lowest: float = math.inf
    reserved: float = 0.0
    started: float = field(default_factory=lambda: now())

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return math.inf if self.seconds is None else self.seconds - (now() - self.started)

    @property
    def over(self) -> bool:
        return self.left <= 0.0

    @property
    def complex_calls(self) -> float:
        """How many forward calls one with complex numbers is worth."""
        return self.complex / self.forward if self.complex and self.forward else COMPLEX_CALLS

    def short_of(self, calls: float, complex_calls: float = 0.0) -> bool:
        """Tell whether the time that is left does not suffice for this number of forward and of complex calls.

        What is reserved for later tensors is not available.
        """
        return self.left <= (self.reserved + calls + complex_calls * self.complex_calls) * self.forward

    def learn(self, started: float, calls: int) -> None:
        """Correct the price of a forward call by what several took together with the work on their results.

        The lowest of these prices counts, so that a call that was interrupted does not decide what is looked at.
        """
        if calls:
            self.lowest = min(self.lowest, (now() - started) / calls)
            self.forward = max(self.forward, self.lowest)

    def learn_complex(self, started: float) -> None:
        """Note what a forward call with complex numbers took."""
        took = now() - started
        self.complex = min(self.complex, took) if self.complex else took

    @property
    def calls(self) -> float:
        """How many forward calls the time that is left allows."""
        return max(self.left, 0.0) / self.forward if self.forward > 0.0 else math.inf

    @property
    def dear(self) -> bool:
        return self.seconds is not None and self.forward > 0.0 and self.seconds / self.forward < DEAR

    @property
    def halvings(self) -> int:
        """How often a step may be halved: less often where calls are slow, and once where hardly any are left."""
        if self.seconds is None or self.calls >= DEAR:
            return HALVINGS
        return FEW_HALVINGS if self.calls >= SCARCE else 1

    def allows(self, forwards: float, backwards: float = 0.0) -> bool:
        """Tell whether so many calls leave at least half of the time that is left."""
        return forwards * self.forward + backwards * self.backward <= self.left / 2
