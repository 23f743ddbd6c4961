"""A step whose batch is cut into blocks, and the processes that share it. [D24] [docs/scaling.md]

The loss is a mean over the batch, so its gradient is the mean of the gradients of G blocks of equal size. Each is
computed whole by one process. They are added in one tree (`vae_np.distributed.sharing`), which is cut along the flat
buffer: each process adds up and updates a part of it, and all get all parameters. So any number of processes up to G
leaves the same bits.

    own branches of the tree → everyone's parts of them → the part's sum → its update → everyone's parameters
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from vae_np._types import Array
from vae_np.distributed import Communicator, Tree, check_blocks, cut, share
from vae_np.distributed.communicator import NOTHING
from vae_np.elbo import Terms
from vae_np.step import Optimiser, TrainingState, apply_gradients

# Entries of which the parts are multiples: whatever a backend computes at once is not cut.
_PIECE = 1024


class Buffers(Protocol):
    """A step's flat buffers where they lie, in the host's memory or on a device, and the arithmetic on them there.

    `communicator` exchanges them as well as arrays of the host. Slices of a buffer are views.
    """

    communicator: Communicator

    @property
    def parameters(self) -> Any: ...

    @property
    def gradients(self) -> Any: ...

    @property
    def moments(self) -> Sequence[Any]: ...

    def empty(self, entries: int) -> Any:
        """One more buffer, of so many entries."""

    def copy(self, target: Any, source: Any) -> None: ...

    def add(self, target: Any, other: Any) -> None:
        """target += other."""

    def update(self, total: Any, blocks: int, optimiser: Optimiser, part: slice) -> bool:
        """Leave a part's mean gradient, from the sum of `blocks` blocks, count the step and move the part along it.

        Whether nothing that it left seems to be other than finite.
        """

    def bring_home(self, *, gradients: bool) -> None:
        """Bring the state of the host up to date; with `gradients`, these too."""


class HostBuffers:
    """The buffers of `state` themselves."""

    def __init__(self, ops: ModuleType, state: TrainingState, communicator: Communicator) -> None:
        self._ops, self._state, self.communicator = ops, state, communicator
        self.parameters, self.gradients = state.parameters.flat, state.gradients.flat
        self.moments = list(state.moments().values())

    def empty(self, entries: int) -> Array:
        return np.empty(entries, self.parameters.dtype)

    def copy(self, target: Array, source: Array) -> None:
        np.copyto(target, source)

    def add(self, target: Array, other: Array) -> None:
        target += other

    def update(self, total: Array, blocks: int, optimiser: Optimiser, part: slice) -> bool:
        gradients = self.gradients[part]
        np.multiply(total, 1 / blocks, out=gradients)
        apply_gradients(self._ops, self._state, optimiser, part)
        return bool(np.isfinite(gradients @ gradients) and np.isfinite(self.parameters[part].sum()))

    def bring_home(self, *, gradients: bool) -> None:
        return


class GradientBlocks:
    """Steps of `state` on batches of `batch` rows in `blocks` blocks; they return `terms` numbers per row (2 or 3).

    Between steps the state is up to date only after `settle`: moments may be so only in the own part of the buffer, and
    all of it on a device. Raises ConfigError where there are more processes than blocks.
    """

    def __init__(self, buffers: Buffers, state: TrainingState, batch: int, blocks: int, terms: int) -> None:
        self._communicator = communicator = buffers.communicator
        check_blocks(blocks, communicator.size)
        self._buffers, self._state = buffers, state
        rank, size, entries = communicator.rank, communicator.size, state.parameters.flat.size
        self._rows = batch // blocks
        self._tree = Tree(blocks)
        self._blocks = [share(blocks, other, size) for other in range(size)]
        branches = [self._tree.branches(of) for of in self._blocks]
        self._own = branches[rank]
        self._parts = cut(entries, size, _PIECE)
        self._part = self._parts[rank]
        # Of each own branch but the last, which stays in the gradients' buffer: its sum.
        self._kept = [buffers.empty(entries) for _ in self._own[1:]]
        # Of each level of the tree: the sum of a left half, while the right one is computed.
        depth = (max(end - first for first, end in self._own) - 1).bit_length()
        self._left = [buffers.empty(entries) for _ in range(depth)]
        # In one round each process gives a branch, or nothing.
        width, self._rounds = self._part.stop - self._part.start, []
        for number in range(max(map(len, branches)) if size > 1 else 0):
            givers = [r for r in range(size) if r != rank and number < len(branches[r])]
            received, of = buffers.empty(width * len(givers)), [NOTHING] * size
            for place, giver in enumerate(givers):
                of[giver] = slice(place * width, (place + 1) * width)
            held = {branches[giver][number]: received[of[giver]] for giver in givers}
            self._rounds.append((received, of, held))
        # What each process says of a step: whether its part is in doubt, and its rows' terms.
        self._is_settled, self._terms = True, terms
        self._said = np.empty(size + batch * terms, state.parameters.dtype)
        ends = [0, *(other + 1 + of.stop * self._rows * terms for other, of in enumerate(self._blocks))]
        self._of_rank = [slice(first, last) for first, last in pairwise(ends)]

    def step(self, gradient: Callable[[slice], Terms], optimiser: Optimiser) -> tuple[Terms, bool]:
        """Make a step; the terms of the whole batch, and whether a look for what is not finite is due.

        `gradient` leaves that of a block, of these rows of the batch, in the gradients' buffer, and returns its terms.
        """
        buffers, communicator, part = self._buffers, self._communicator, self._part
        found: list[Terms] = []
        self._is_settled = False
        for number, branch in enumerate(self._own):
            self._sum(branch, 0, gradient, found)
            if number < len(self._kept):
                buffers.copy(self._kept[number], buffers.gradients)
        sums = [*self._kept, buffers.gradients]
        held = {branch: sum_[part] for branch, sum_ in zip(self._own, sums, strict=True)}
        to = [NOTHING if r == communicator.rank else there for r, there in enumerate(self._parts)]
        for number, (received, of, theirs) in enumerate(self._rounds):
            gives = number < len(sums)
            communicator.alltoall(sums[number if gives else 0], to if gives else [NOTHING] * len(to), received, of)
            held |= theirs
        total = self._tree.sum(held, buffers.add)
        is_finite = buffers.update(total, self._tree.blocks, optimiser, part)
        communicator.allgather(buffers.parameters, self._parts)
        return self._gather(found, is_finite)

    def _sum(self, branch: tuple[int, int], level: int, gradient: Callable[[slice], Terms], found: list[Terms]) -> None:
        """Leave the sum of a branch in the gradients' buffer."""
        first, end = branch
        if end - first == 1:
            found.append(gradient(slice(first * self._rows, end * self._rows)))
            return
        left, right = self._tree.halves(branch)
        self._sum(left, level + 1, gradient, found)
        self._buffers.copy(self._left[level], self._buffers.gradients)
        self._sum(right, level + 1, gradient, found)
        self._buffers.add(self._buffers.gradients, self._left[level])

    def _gather(self, found: list[Terms], is_finite: bool) -> tuple[Terms, bool]:
        said = self._said
        own = said[self._of_rank[self._communicator.rank]]
        own[0] = not is_finite
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
            self._communicator.allgather(self._buffers.gradients, self._parts)
            self._settle(gradients=True)
        return terms, doubt

    def settle(self) -> None:
        """Bring the whole state up to date on every process."""
        self._settle(gradients=False)

    def _settle(self, *, gradients: bool) -> None:
        if self._is_settled:
            return
        for moment in self._buffers.moments:
            self._communicator.allgather(moment, self._parts)
        self._buffers.bring_home(gradients=gradients)
        self._is_settled = True

    @property
    def bytes_per_step(self) -> int:
        """What this process sends and receives in a step, besides the headers of messages."""
        size, rank, itemsize = self._communicator.size, self._communicator.rank, self._said.itemsize
        entries, part = self._state.parameters.flat.size, self._part.stop - self._part.start
        sent = len(self._own) * (entries - part)
        received = sum(array.size for array, _, _ in self._rounds)
        parameters = (size - 1) * part + entries - part
        own = self._of_rank[rank].stop - self._of_rank[rank].start
        said = (size - 1) * own + self._said.size - own
        return int(itemsize * (sent + received + parameters + said))
