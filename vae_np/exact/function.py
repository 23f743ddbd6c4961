"""A decoder that is any function in Python, z → the parameters of p(x|z), for the exact tools. [D3]"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from vae_np._types import Array
from vae_np.distributions import LOG_2PI
from vae_np.errors import InputError
from vae_np.exact.latent_model import LatentModel, bernoulli_matrix, softplus_sum
from vae_np.parameters import Parameters

# Central differences of a function to 1e-10 or so: the step's square, and rounding over the step, are about as large.
_STEP = 1e-5


class FunctionDecoder(LatentModel):
    """p(z) p(x|z) with p(z) = N(0, I) and a p(x|z) whose parameters `function` computes from z.

        FunctionDecoder(lambda z: 4 * np.tanh(z), latent=1)                                     # logits (M, D)
        FunctionDecoder(lambda z: z**2, latent=1, likelihood="normal", sigma=0.3)               # means (M, D)
        FunctionDecoder(lambda z: (z**2, np.sin(z)), latent=1, likelihood="normal")             # means and log σ²

    It is called with z (M, K) in float64, and returns (M, D): logits for likelihood "bernoulli", means for "normal", or
    there a pair of means and log σ², (M, D) or what broadcasts to that. Raises InputError where it returns something
    else, and for a sigma that is not > 0 or is given although the function returns log σ². Derivatives with respect to
    z are central differences; there are none with respect to parameters.
    """

    def __init__(
        self,
        function: Callable[[Array], Any],
        latent: int,
        *,
        likelihood: Literal["bernoulli", "normal"] = "bernoulli",
        sigma: float | None = None,
    ) -> None:
        if isinstance(latent, bool) or not isinstance(latent, int | np.integer) or latent < 1:
            raise InputError(f"latent: got {latent!r}, expected a whole number > 0")
        if likelihood not in ("bernoulli", "normal"):
            raise InputError(f"likelihood: got {likelihood!r}, expected bernoulli or normal")
        if not callable(function):
            raise InputError(f"function: got {type(function).__name__}, expected a callable z (M, K) -> (M, D)")
        if sigma is not None and not (sigma > 0 and math.isfinite(sigma)):
            raise InputError(f"sigma: got {sigma!r}, expected a finite number > 0")
        self._function, self._latent, self._likelihood = function, int(latent), likelihood
        self._sigma = sigma
        self._features: int | None = None
        self._features = self.output(np.zeros((1, self._latent)))[0].shape[1]

    def __repr__(self) -> str:
        name = getattr(self._function, "__name__", type(self._function).__name__)
        return f"<FunctionDecoder {name}: {self.latent} -> {self.features}, {self.likelihood}>"

    @property
    def latent(self) -> int:
        """K, the number of latents."""
        return self._latent

    @property
    def features(self) -> int:
        """D, the number of features."""
        assert self._features is not None
        return self._features

    @property
    def likelihood(self) -> Literal["bernoulli", "normal"]:
        """The family of p(x|z)."""
        return self._likelihood

    def output(self, z: Array) -> tuple[Array, Array]:
        """Logits or means, and log σ² of a normal, (M, D) each, from z (M, K); raises InputError for anything else."""
        found = self._function(np.array(z, dtype=np.float64))
        pair = isinstance(found, tuple)
        if pair and (len(found) != 2 or self.is_bernoulli or self._sigma is not None):
            given = "" if self._sigma is None or len(found) != 2 else f" besides sigma {self._sigma:g}"
            raise InputError(f"function: returned {len(found)} arrays{given}, expected {self._expected(len(z))}")
        out, logvar = found if pair else (found, 2 * math.log(1.0 if self._sigma is None else self._sigma))
        out, logvar = np.asarray(out, dtype=np.float64), np.asarray(logvar, dtype=np.float64)
        if out.ndim != 2 or len(out) != len(z) or out.shape[1] != (self._features or out.shape[1]):
            raise InputError(f"function: returned shape {out.shape}, expected {self._expected(len(z))}")
        try:
            logvar = np.broadcast_to(logvar, out.shape)
        except ValueError:
            raise InputError(f"function: returned log σ² of shape {logvar.shape}, expected {out.shape}") from None
        if not (np.isfinite(out).all() and np.isfinite(logvar).all()):
            raise InputError(f"function: returned a value that is not finite for a z within {np.abs(z).max():g}")
        return out, logvar

    def _expected(self, count: int) -> str:
        width = "D" if self._features is None else self._features
        what = "logits" if self.is_bernoulli else "means"
        return f"{what} of shape ({count}, {width}) for {count} rows z"

    def loglik_block(self, x: Array, z: Array) -> Array:
        """log p(x_b | z_m) for every pair, (B, M) in nats, for a few thousand z (M, K). [D4] [D5]"""
        out, logvar = self.output(z)
        if self.is_bernoulli:
            return bernoulli_matrix(x, out)
        # Σ_d (x − m)²/σ², bilinear in what depends on x and on z. Both are centred, so that what cancels is small.
        centre = x.mean(axis=0)
        a, b, precision = x - centre, out - centre, np.exp(-logvar)
        squares = (a * a) @ precision.T - 2 * (a @ (b * precision).T) + (b * b * precision).sum(axis=1)
        return -0.5 * (squares + (LOG_2PI + logvar).sum(axis=1))

    def loglik_forward(self, x: Array, z: Array) -> tuple[Array, Any]:
        """log p(x_b | z_sb), (S·B,) in nats, for z (S·B, K) sample-major, and what backward needs. [D4] [D5]"""
        return self._loglik(x, z), (x, z)

    def _loglik(self, x: Array, z: Array) -> Array:
        out, logvar = self.output(z)
        stacked = out.reshape(-1, *x.shape)
        if self.is_bernoulli:
            return (x * stacked).sum(axis=2).reshape(-1) - softplus_sum(out)
        squares = (x - stacked) ** 2 * np.exp(-logvar).reshape(stacked.shape)
        return -0.5 * (squares.sum(axis=2).reshape(-1) + (LOG_2PI + logvar).sum(axis=1))

    def loglik_backward(self, dloglik: Array, cache: Any, gradients: Parameters | None) -> Array:
        """dz (S·B, K) from dloglik (S·B,), by central differences along each latent."""
        if gradients is not None:
            self.gradients()
        x, z = cache
        steps = _STEP * np.eye(self.latent)
        slopes = [(self._loglik(x, z + step) - self._loglik(x, z - step)) / (2 * _STEP) for step in steps]
        return dloglik[:, None] * np.stack(slopes, axis=1)

    def gradients(self) -> Parameters:
        """Raises InputError: a function has no parameters to differentiate with respect to."""
        raise InputError("decoder: got a function in Python, expected a decoder with parameters for their gradients")
