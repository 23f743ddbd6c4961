"""One training step as one compiled function: MLPs, a diagonal normal q, every likelihood. [D29] [D31] [D41]

Its objective is the ELBO, or IWAE's bound of K samples; these lie example by example, so that the decoder's rows are
one matrix. Every thread takes a slab of the batch through the whole forward pass, and, once the transposed weights are
there, back to the first hidden layer. Then the threads take units of weights: gradient, then Adam while it is in cache.
A slab whose own thread has not come is taken by another. On binary x that is sparse the first layer works on the active
pixels alone, forward and backward; on all other x it is a product. All buffers are made once.

The order of every sum is fixed by the layout, not by the threads: one thread or eight give the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.elbo import Terms
from vae_np.optim import adagrad_update
from vae_np.precision import FULL
from vae_np.step import Optimiser, TrainingState

from ... import arguments
from ...arguments import BYTE, check_batch, check_fused
from ..adam import constants as adam_constants
from ..engine.intrinsics import borrowed
from ..engine.random_words import fill_bernoulli
from ..runtime.compilation import njit
from ..runtime.pool import POOL
from ..runtime.team import (
    FIRST,
    PARTS,
    SECOND,
    THIRD,
    Team,
    called_again,
    complete,
    current,
    finish,
    take_slab,
    take_unit,
)
from .bound import weigh_samples
from .layout import Buffers, make_buffers
from .precision import product_for
from .rows import backward_rows, forward_rows, has_few_ones
from .update import active_rows, update_unit

_BINARIZE_STREAM = noise.BINARIZE


@njit()
def _step(thread: int, control: Array, *everything: Any) -> bool:
    """What one thread does of a step, and a worker of every step that follows soon; False to be called again.

    `everything` are the buffers in order.
    """
    # Put together only here: Python's call of compiled code takes twice as long with a named tuple as with its entries.
    buffers = Buffers(*borrowed(everything))
    plan, parts = buffers.plan[0], control[PARTS]
    while True:
        step = current(control)
        if step == 0:
            return True
        is_sparse = has_few_ones(buffers)
        slab = take_slab(control, thread, step, FIRST)
        while slab >= 0:
            _forward_slab(buffers, slab, parts, is_sparse)
            finish(control)
            slab = take_slab(control, thread, step, FIRST)
        if not complete(control, thread, step, FIRST):
            return False
        slab = take_slab(control, thread, step, SECOND)
        while slab >= 0:
            if is_sparse:
                active_rows(buffers, slab, parts)
            backward_rows(buffers, slab, slab * plan.batch // parts, (slab + 1) * plan.batch // parts)
            finish(control)
            slab = take_slab(control, thread, step, SECOND)
        if not complete(control, thread, step, SECOND):
            return False
        unit = take_unit(control, step)
        while unit >= 0:
            buffers.not_finite[thread] += update_unit(buffers, buffers.units[unit], thread, is_sparse)
            finish(control)
            unit = take_unit(control, step)
        if thread == 0:
            return complete(control, thread, step, THIRD)
        if not called_again(control, thread, step):
            return True


@njit(forceinline=True)
def _forward_slab(buffers: Buffers, slab: int, parts: int, is_sparse: bool) -> None:
    """The first stage: a share of the pixels drawn, and of the batch taken to its gradient."""
    plan = buffers.plan[0]
    first, last = slab * plan.batch // parts, (slab + 1) * plan.batch // parts
    if plan.draws_pixels != 0:
        fill_bernoulli(
            buffers.grey, buffers.rows, first, last, plan.features, np.uint64(plan.key0), np.uint64(plan.key1),
            _BINARIZE_STREAM, plan.step, buffers.words[slab], buffers.bits,
        )  # fmt: skip
    forward_rows(buffers, slab, first, last, is_sparse)
    if plan.weighs_samples != 0:
        weigh_samples(buffers, first, last)


def unsupported(arch: Architecture) -> str | None:
    """Why an architecture's steps are composed, not fused; None if they are fused."""
    return arguments.unsupported(arch, two_layers=True)


class FusedStep:
    """The training step of one architecture, state and batch size, with its buffers and threads.

    The objective is the ELBO, or with `samples` IWAE's bound of so many samples. It changes the same buffers as
    `vae_np.step.training_step` and returns the same terms, within the kernels' tolerance. In another `precision` than
    full, its matrix products round their operands, as `vae_np.precision` does, by the fastest instructions that the
    processor has unless they are named. Raises InputError for an architecture that has no fused step, for less than one
    sample, and for a precision that this processor lacks.
    """

    def __init__(
        self,
        arch: Architecture,
        state: TrainingState,
        batch: int,
        samples: int | None = None,
        *,
        precision: str = FULL,
        instructions: str | None = None,
    ) -> None:
        check_fused(unsupported(arch), samples)
        product = product_for(state.parameters.dtype, precision, instructions)
        self.arch, self.state, self.batch, self.samples = arch, state, batch, samples
        self._threads = POOL.threads
        # With two stochastic layers the ELBO of one sample is the bound of one.
        drawn = samples if arch.top_latent is None else samples or 1
        self._buffers = make_buffers(arch, state, batch, drawn, self._threads, product)
        self._plan, self._constants = self._buffers.plan[0], self._buffers.constants[0]
        self._adam = self._constants["adam"]
        first = self._buffers.layers[0]
        place, ld = int(first["input"]), int(first["input_ld"])
        self._x = self._buffers.work[place : place + batch * ld].reshape(batch, ld)[:, : arch.features]
        if arch.likelihood == "normal-fixed":
            self._buffers.work[self._plan["sigma"]] = arch.sigma_logvar
        results = self._buffers.reconstruction, self._buffers.kl, self._buffers.bound
        self._terms = results if samples else results[:2]
        self._team = Team(_step, self._buffers.units.size)

    def __call__(
        self,
        x: Array,
        rows: Array,
        *,
        seed: int,
        optimiser: Optimiser,
        beta: float = 1.0,
        grey: bool = False,
        keep_gradients: bool = False,
    ) -> Terms:
        """Update the state on the batch x (B, D), bytes: binary, or with `grey` 0..255, drawn from BINARIZE here.

        Likelihoods other than `bernoulli` take floats too. `rows` (B,) are the examples' places in their data set. The
        gradients of a step are left in the state only if asked for (Adagrad needs them); otherwise they never leave the
        caches. [D24] [D29] [D31]
        """
        state, buffers, plan = self.state, self._buffers, self._plan
        self._take(x, rows, seed, beta, grey)
        is_adam = optimiser.name == "adam"
        plan["keeps_gradients"], plan["applies_adam"] = keep_gradients or not is_adam, is_adam
        if is_adam:
            self._adam[:] = adam_constants(
                state.step + 1, optimiser.lr, optimiser.beta1, optimiser.beta2, optimiser.eps
            )
        try:
            self._team.run(buffers, self._threads)
        finally:
            # A step that was made counts, although an interrupt came before all was said.
            state.step += self._team.done
        if not is_adam:
            adagrad_update(state.parameters.flat, state.gradients.flat, state.second_moment.flat, lr=optimiser.lr)
            buffers.not_finite[0] = not np.isfinite(state.parameters.flat.sum() + state.second_moment.flat.sum())
        return Terms(*(term.copy() for term in self._terms))

    def gradients(self, x: Array, rows: Array, *, seed: int, beta: float = 1.0, grey: bool = False) -> Terms:
        """The part of a step that moves nothing: the gradient of the batch's mean goes into the state's. [D24] [D29]

        What follows is not the next step but an exchange with other processes, which may need the workers' cores:
        they go to sleep at once.
        """
        self._take(x, rows, seed, beta, grey)
        self._plan["keeps_gradients"], self._plan["applies_adam"] = True, False
        self._team.parks = True
        self._team.run(self._buffers, self._threads)
        return Terms(*(term.copy() for term in self._terms))

    def _take(self, x: Array, rows: Array, seed: int, beta: float, grey: bool) -> None:
        """Put a batch, and what is to be done with it, where the compiled step finds it."""
        check_batch(x, self.arch, self.batch)
        buffers, plan, constants = self._buffers, self._plan, self._constants
        plan["has_bytes"] = has_bytes = x.dtype == BYTE
        target = self._x if not has_bytes else (buffers.grey if grey else buffers.bits).reshape(x.shape)
        target[...] = x
        buffers.rows[...] = rows
        buffers.sample_rows.reshape(self.batch, -1)[...] = buffers.rows[:, None]
        plan["key1"], plan["key0"] = divmod(noise.check_seed(seed), 2**32)
        plan["step"], plan["draws_pixels"] = self.state.step, grey
        constants["share"], constants["beta_share"] = 1 / self.batch, beta / self.batch
        buffers.not_finite[:] = 0
        self._team.done = False

    @property
    def finite(self) -> bool:
        """Whether the last step's terms, and the parameters and second moments that it left, are all finite."""
        return not self._buffers.not_finite.any() and bool(np.isfinite(sum(term.sum() for term in self._terms)))
