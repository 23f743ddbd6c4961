"""p(z) = Σ_c w_c N(z; m_c, diag exp v_c), every number of it learned; the weights are a softmax. [D77]"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.distributions import log_softmax
from vae_np.priors.components import Components
from vae_np.priors.family import Encoder, Prior

# Deviation of the means at the start: equal components would stay equal, for they have equal gradients.
_SPREAD = 0.5


class Mixture(Prior):
    """Components of its own. One at mean 0 and log-variance 0 is the standard prior."""

    default_components = 10

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Logits of the weights (C,), means and log-variances (C, K)."""
        normals = (self.components, self.latent)
        return {"prior.logits": (self.components,), "prior.means": normals, "prior.logvars": normals}

    def start(self, parameters: Mapping[str, Array], *, seed: int, places: Mapping[str, int]) -> None:
        """Equal weights, variances of 1, and means around 0 with deviation ½."""
        rows = np.arange(self.components)
        drawn = noise.normal(rows, self.latent, seed=seed, stream=noise.INIT, step=places["prior.means"])
        parameters["prior.means"][...] = _SPREAD * drawn
        for name in ("prior.logits", "prior.logvars"):
            parameters[name][...] = 0

    def components_forward(self, parameters: Mapping[str, Array], encoder: Encoder) -> tuple[Components, Any]:
        """The means and log-variances as they are, log w = log softmax. [D77]"""
        log_weights = log_softmax(parameters["prior.logits"])
        return Components(log_weights, parameters["prior.means"], parameters["prior.logvars"]), log_weights

    def components_backward(self, of: Components, cache: Any, encoder: Encoder, gradients: Any) -> None:
        """dlogits = dlog w − w Σ dlog w; the others are what they are. [D77]"""
        gradients["prior.logits"][...] = of.log_weights - np.exp(cache) * of.log_weights.sum()
        gradients["prior.means"][...] = of.means
        gradients["prior.logvars"][...] = of.logvars
