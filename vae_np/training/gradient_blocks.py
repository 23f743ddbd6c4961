"""A step whose batch is cut into blocks, and the processes that share it. [D24] [docs/scaling.md]

The loss is a mean over the batch, so its gradient is the mean of the gradients of G blocks of equal size. Each is
computed whole by one process. They are added in one tree (`vae_np.distributed.sharing`), which is cut along the flat
buffer: each process adds up and updates a part of it, and all get all parameters. So any number of processes up to G
leaves the same bits.

    own branches of the tree → everyone's parts of them → the part's sum → its update → everyone's parameters
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import ModuleType

import numpy as np

from vae_np.distributed import Communicator, Tree, check_blocks, cut, share
from vae_np.distributed.communicator import NOTHING
from vae_np.elbo import Terms
from vae_np.step import Optimiser, TrainingState, apply_gradients

# Entries of which the parts are multiples: whatever a backend computes at once is not cut.
_PIECE = 1024


class GradientBlocks:
    """Steps of `state` on batches of `batch` rows in `blocks` blocks; they return `terms` numbers per row (2 or 3).

    Moments are up to date only in the own part of the buffer, until `settle` brings the others. Raises ConfigError
    where there are more processes than blocks.
    """

    def __init__(
        self, ops: ModuleType, state: TrainingState, batch: int, blocks: int, terms: int, communicator: Communicator
    ) -> None:
        check_blocks(blocks, communicator.size)
        self._ops, self._state, self._communicator = ops, state, communicator
        rank, size, flat = communicator.rank, communicator.size, state.parameters.flat
        self._rows = batch // blocks
        self._tree = Tree(blocks)
        self._blocks = [share(blocks, other, size) for other in range(size)]
        branches = [self._tree.branches(of) for of in self._blocks]
        self._own = branches[rank]
        self._parts = cut(flat.size, size, _PIECE)
        self._part = self._parts[rank]
        # Of each own branch but the last, which stays in the state's gradients: its sum.
        self._kept = [np.empty_like(flat) for _ in self._own[1:]]
        # Of each level of the tree: the sum of a left half, while the right one is computed.
        depth = (max(end - first for first, end in self._own) - 1).bit_length()
        self._left = [np.empty_like(flat) for _ in range(depth)]
        # In one round each process gives a branch, or nothing.
        width, self._rounds = self._part.stop - self._part.start, []
        for number in range(max(map(len, branches))):
            givers = [r for r in range(size) if r != rank and number < len(branches[r])]
            received, of = np.empty(width * len(givers), flat.dtype), [NOTHING] * size
            for place, giver in enumerate(givers):
                of[giver] = slice(place * width, (place + 1) * width)
            held = {branches[giver][number]: received[of[giver]] for giver in givers}
            self._rounds.append((received, of, held))
        # What each process says of a step: whether its part is in doubt, and its rows' terms.
        self._terms = terms
        self._said = np.empty(size + batch * terms, flat.dtype)
        ends = [0, *(other + 1 + of.stop * self._rows * terms for other, of in enumerate(self._blocks))]
        self._of_rank = [slice(first, last) for first, last in pairwise(ends)]

    def step(self, gradient: Callable[[slice], Terms], optimiser: Optimiser) -> tuple[Terms, bool]:
        """Make a step; the terms of the whole batch, and whether a look for what is not finite is due.

        `gradient` leaves that of a block, of these rows of the batch, in the state's buffer, and returns its terms.
        """
        state, communicator, part = self._state, self._communicator, self._part
        found: list[Terms] = []
        for number, branch in enumerate(self._own):
            self._sum(branch, 0, gradient, found)
            if number < len(self._kept):
                np.copyto(self._kept[number], state.gradients.flat)
        sums = [*self._kept, state.gradients.flat]
        held = {branch: sum_[part] for branch, sum_ in zip(self._own, sums, strict=True)}
        to = [NOTHING if r == communicator.rank else there for r, there in enumerate(self._parts)]
        for number, (received, of, theirs) in enumerate(self._rounds):
            gives = number < len(sums)
            communicator.alltoall(sums[number if gives else 0], to if gives else [NOTHING] * len(to), received, of)
            held |= theirs
        total = self._tree.sum(held)
        np.multiply(total, 1 / self._tree.blocks, out=state.gradients.flat[part])
        apply_gradients(self._ops, state, optimiser, part)
        communicator.allgather(state.parameters.flat, self._parts)
        return self._gather(found)

    def _sum(self, branch: tuple[int, int], level: int, gradient: Callable[[slice], Terms], found: list[Terms]) -> None:
        """Leave the sum of a branch in the state's gradients."""
        first, end = branch
        if end - first == 1:
            found.append(gradient(slice(first * self._rows, end * self._rows)))
            return
        left, right = self._tree.halves(branch)
        self._sum(left, level + 1, gradient, found)
        np.copyto(self._left[level], self._state.gradients.flat)
        self._sum(right, level + 1, gradient, found)
        self._state.gradients.flat += self._left[level]

    def _gather(self, found: list[Terms]) -> tuple[Terms, bool]:
        state, part, said = self._state, self._part, self._said
        own = said[self._of_rank[self._communicator.rank]]
        gradients = state.gradients.flat[part]
        own[0] = not (np.isfinite(gradients @ gradients) and np.isfinite(state.parameters.flat[part].sum()))
        columns = own[1:].reshape(-1, self._terms)
        for number, terms in enumerate(found):
            rows = slice(number * self._rows, (number + 1) * self._rows)
            columns[rows, 0], columns[rows, 1] = terms.reconstruction, terms.kl
            if terms.bound is not None:
                columns[rows, 2] = terms.bound
        self._communicator.allgather(said, self._of_rank)
        whole = np.concatenate([said[of][1:].reshape(-1, self._terms) for of in self._of_rank]).T
        terms = Terms(*(np.ascontiguousarray(column) for column in whole))
        doubt = any(said[of.start] != 0 for of in self._of_rank) or not np.isfinite(terms.loss())
        if doubt:
            # Now they are looked for by name, on every process alike.
            self._communicator.allgather(state.gradients.flat, self._parts)
            self.settle()
        return terms, doubt

    def settle(self) -> None:
        """Bring the moments of all parts up to date on every process."""
        for moment in self._state.moments().values():
            self._communicator.allgather(moment, self._parts)

    @property
    def bytes_per_step(self) -> int:
        """What this process sends and receives in a step, besides the headers of messages."""
        size, rank, itemsize = self._communicator.size, self._communicator.rank, self._said.itemsize
        entries = self._state.parameters.flat.size
        sent = len(self._own) * (entries - (self._part.stop - self._part.start))
        received = sum(array.size for array, _, _ in self._rounds)
        parameters = (size - 1) * (self._part.stop - self._part.start) + entries - (self._part.stop - self._part.start)
        own = self._of_rank[rank].stop - self._of_rank[rank].start
        said = (size - 1) * own + self._said.size - own
        return int(itemsize * (sent + received + parameters + said))
