"""Steps that processes share, each with a device: a block's gradient stays there, and so do parameters and moments.

The kernels are those of the fused step, which leaves gradients in place of moving the parameters; what is added and
updated after it are flat buffers. `vae_np.training.gradient_blocks` says in which order. [D24] [D31] [docs/scaling.md]
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.distributed import ALONE, Communicator
from vae_np.elbo import Terms
from vae_np.step import Optimiser, TrainingState

from ._arrays import blocks as grid_of
from ._arrays import launch
from ._device import device
from .adam import constants
from .exchange import DeviceExchange
from .fused import FusedStep, Steps


class SharedStep(FusedStep):
    """The fused gradient of blocks of `batch` rows, which stays in `buffers`, on the device.

    The first one begins from the state on the host, which is up to date again after `buffers.bring_home`.
    """

    def __init__(
        self, arch: Architecture, state: TrainingState, batch: int, samples: int | None, communicator: Communicator
    ) -> None:
        super().__init__(arch, state, batch, samples)
        # NCCL is for several.
        self.buffers = DeviceBuffers(self._steps, ALONE if communicator.size == 1 else DeviceExchange(communicator))
        self._is_there = False

    def gradients(self, x: Array, rows: Array, *, seed: int, beta: float = 1.0, grey: bool = False) -> Terms:
        """Leave the gradient of the block's mean in `buffers.gradients`. [D24] [D29]"""
        self._launch((True, False), x, rows, seed, Optimiser(), beta, grey)
        return self._terms()

    def _push(self) -> None:
        if not self._is_there:
            self._steps.push()
            self._is_there = True


class DeviceBuffers:
    """The flat buffers of `steps` on the device, as `vae_np.training.gradient_blocks.Buffers`; Adam only."""

    def __init__(self, steps: Steps, communicator: Communicator) -> None:
        self._steps, self.communicator = steps, communicator
        self.parameters, self.gradients = steps.at["parameters"], steps.at["gradients"]
        self.moments = [steps.at["first"], steps.at["second"]]
        self._flag = device().empty((1,), np.uint32)

    def empty(self, entries: int) -> Any:
        return device().empty((entries,), self._steps.dtype)

    def copy(self, target: Any, source: Any) -> None:
        device().copy(target, source)

    def add(self, target: Any, other: Any) -> None:
        launch("add_into", self._steps.dtype, (grid_of(target.size, 256),), (256,), target, other, target.size)

    def update(self, total: Any, blocks: int, optimiser: Optimiser, part: slice) -> bool:
        state = self._steps.state
        state.step += 1
        buffers = [buffer[part] for buffer in (self.parameters, *self.moments)]
        adam = constants(state.step, optimiser.lr, optimiser.beta1, optimiser.beta2, optimiser.eps)
        device().write(self._flag, np.zeros(1, np.uint32))
        launch(
            "update_part", self._steps.dtype, (grid_of(total.size, 256),), (256,),
            self.gradients[part], total, 1 / blocks, *buffers, total.size, *adam, self._flag,
        )  # fmt: skip
        return not device().get(self._flag)[0]

    def bring_home(self, *, gradients: bool) -> None:
        self._steps.pull()
        if gradients:
            self._steps.state.gradients.flat[...] = device().get(self.gradients)
