"""VampPrior: p(z) = (1/C) Σ_c q(z|u_c), the mean of what the encoder makes of C learned pseudo-inputs u_c. [D78]

(Tomczak and Welling 2018.) The gradient goes on into the encoder's weights and, through its first layer, to the u_c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.priors.components import Components
from vae_np.priors.family import Encoder, Prior

_NAME = "prior.pseudo_inputs"


class Vamp(Prior):
    """Components that the encoder makes of pseudo-inputs, which are kept in [0, 1] where data are."""

    default_components = 500
    uses_encoder = True

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The pseudo-inputs (C, D)."""
        return {_NAME: (self.components, self.features)}

    def start(self, parameters: Mapping[str, Array], *, seed: int, places: Mapping[str, int]) -> None:
        """Zero, until the training rows are known."""
        parameters[_NAME][...] = 0

    def start_at_rows(self, parameters: Mapping[str, Array], rows: Callable[[Array], Array], count: int) -> None:
        """Training rows at equal distances, grey where they are grey; nothing where pseudo-inputs have been set."""
        held = parameters[_NAME]
        if not held.any():
            held[...] = rows(np.arange(self.components) * count // self.components)

    def components_forward(self, parameters: Mapping[str, Array], encoder: Encoder) -> tuple[Components, Any]:
        """mu and logvar at u = min(max(pseudo-inputs, 0), 1), or at the pseudo-inputs themselves; w = 1/C. [D78]"""
        held = parameters[_NAME]
        inside = (held.real >= 0) & (held.real <= 1) if self.bounded else np.ones(held.shape, dtype=bool)
        (means, logvars), cache = encoder.forward(np.where(inside, held, held.real > 1))
        log_weights = np.full(self.components, -math.log(self.components), dtype=means.dtype)
        return Components(log_weights, means, logvars), (cache, inside)

    def components_backward(self, of: Components, cache: Any, encoder: Encoder, gradients: Any) -> None:
        """Writes the encoder's gradients, and du where u moves with its pseudo-input; elsewhere 0. [D78]"""
        encoder_cache, inside = cache
        narrow = gradients[_NAME].dtype
        dmu, dlogvar = (np.ascontiguousarray(part, dtype=narrow) for part in (of.means, of.logvars))
        gradients[_NAME][...] = encoder.backward(dmu, dlogvar, encoder_cache, gradients) * inside
