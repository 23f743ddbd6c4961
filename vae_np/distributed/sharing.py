"""Who does what: work in consecutive shares, and the one tree in which the gradients of blocks are added.

The tree depends on the number of blocks alone. A process has some of its leaves, which follow one another, and so adds
up whole branches; whoever adds the rest adds the same pairs in the same order. So the sum has the same bits on any
number of processes. [docs/scaling.md]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

Branch = tuple[int, int]


def share(count: int, rank: int, size: int) -> range:
    """Which of `count` pieces of work a process has: as many as the others have, or one more or less."""
    return range(rank * count // size, (rank + 1) * count // size)


def cut(entries: int, size: int, step: int) -> list[slice]:
    """`entries` of a flat buffer in `size` consecutive parts, each beginning at a multiple of `step`."""
    pieces = -(-entries // step)
    ends = [min(entries, step * (rank * pieces // size)) for rank in range(size)] + [entries]
    return [slice(first, last) for first, last in pairwise(ends)]


class Tree:
    """The order in which the gradients of blocks 0..G−1 are added; a branch (first, end) is the sum of some of them."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks

    @staticmethod
    def halves(branch: Branch) -> tuple[Branch, Branch]:
        """The two branches whose sum a branch is: the left one has a power of two of blocks, as many as there can be.

        So a branch of 6 is one of 4 and one of 2.
        """
        first, end = branch
        middle = first + (1 << (end - first - 1).bit_length() - 1)
        return (first, middle), (middle, end)

    def branches(self, blocks: range) -> list[Branch]:
        """The fewest branches that have exactly these consecutive blocks, from left to right."""

        def of(branch: Branch) -> list[Branch]:
            first, end = branch
            if blocks.start <= first and end <= blocks.stop:
                return [branch]
            if end <= blocks.start or blocks.stop <= first:
                return []
            left, right = self.halves(branch)
            return of(left) + of(right)

        return of((0, self.blocks)) if len(blocks) else []

    def sum(self, held: Mapping[Branch, Any], add: Callable[[Any, Any], None]) -> Any:
        """The sum of all blocks from branches of all processes; it is formed in place, in one of the arrays.

        `add` adds its second array to its first.
        """

        def of(branch: Branch) -> Any:
            if branch in held:
                return held[branch]
            left, right = (of(half) for half in self.halves(branch))
            add(left, right)
            return left

        return of((0, self.blocks))
