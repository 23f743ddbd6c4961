"""Planar flow: z ← z + û tanh(wᵀz + b), step after step, û, w and b from the encoder. (Rezende, Mohamed 2015) [D55]"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from vae_np._types import Array
from vae_np.layers import sigmoid
from vae_np.posteriors.family import Draw, Family, Posterior, over_sigma, stacked

_E = math.e


def bounded(a: Array) -> Array:
    """m(a) = log(1 + (e − 1) eᵃ) − 1: rises from −1 to infinity, and m(0) is exactly 0. [D55]"""
    positive = a.real > 0
    # Both are m(a); each is used where its exponential cannot overflow.
    left = np.log1p((1 - 1 / _E) * np.expm1(np.where(positive, 0, a)))
    right = a + np.log1p(np.expm1(np.where(positive, -a, 0)) / _E)
    return np.where(positive, right, left)


def bounded_slope(a: Array) -> Array:
    """m′(a) = σ(a + log(e − 1)). [D55]"""
    return sigmoid(a + math.log(_E - 1))


class Step(NamedTuple):
    """One step's numbers, from the encoder: u, w (B, K), b (B,), and what follows from them. [D55]"""

    u: Array
    w: Array
    b: Array
    dot: Array
    squared: Array
    m: Array
    direction: Array


def step_of(u: Array, w: Array, b: Array) -> Step:
    """û = u + (m(wᵀu) − wᵀu) w / |w|², so that wᵀû = m(wᵀu) > −1 and the step can be inverted. [D55]"""
    dot, squared = (w * u).sum(axis=-1), (w * w).sum(axis=-1)
    m = bounded(dot)
    return Step(u, w, b, dot, squared, m, u + ((m - dot) / squared)[:, None] * w)


def step_backward(step: Step, ddirection: Array, dm: Array) -> tuple[Array, Array]:
    """du and dw (B, K), from dû (B, K) and dm (B,). [D55]"""
    scale = (step.m - step.dot) / step.squared
    along = (ddirection * step.w).sum(axis=-1) / step.squared
    ddot = (dm + along) * bounded_slope(step.dot) - along
    du = ddirection + ddot[:, None] * step.w
    dw = ddot[:, None] * step.u + scale[:, None] * ddirection - (2 * scale * along)[:, None] * step.w
    return du, dw


class Planar(Family):
    """`steps` planar steps; where the head is zero they are the identity, and q is the diagonal normal to the bit."""

    analytic = False
    default_steps = 4

    def heads(self) -> dict[str, int]:
        """`planar`: for each step u and w (K each), and b."""
        return {"planar": self.steps * (2 * self.latent + 1)}

    def steps_of(self, head: Array) -> list[Step]:
        """The steps, from the head (B, T (2K + 1)).

        The head says how far w is from (1, …, 1) / √K: û divides by |w|², and a head that is zero must have one.
        """
        k = self.latent
        found = []
        for part in np.split(head, self.steps, axis=1):
            found.append(step_of(part[:, :k], part[:, k : 2 * k] + 1 / math.sqrt(k), part[:, 2 * k]))
        return found

    def draw_forward(
        self, ops: ModuleType, parameters: Mapping[str, Array], q: Posterior, eps: Array
    ) -> tuple[Draw, Any]:
        """z after all steps, and Σ log(1 + (1 − t²) wᵀû), t = tanh(wᵀz + b). [D55]"""
        mu, logvar, head = q
        (z, kl), cache = ops.reparam_kl_forward(mu, logvar, eps)
        at, steps, states = stacked(z, len(mu)), self.steps_of(head), []
        log_det = np.zeros(at.shape[:2], dtype=at.dtype)
        for step in steps:
            t = np.tanh((at * step.w).sum(axis=-1) + step.b)
            states.append((at, t))
            log_det = log_det + np.log1p((1 - t * t) * step.m)
            at = at + t[..., None] * step.direction
        return Draw(at.reshape(z.shape), kl, log_det.reshape(-1)), (cache, steps, states)

    def draw_backward(
        self,
        ops: ModuleType,
        dout: tuple[Array, Array, Array],
        cache: Any,
        gradients: Mapping[str, Array] | None,
    ) -> Posterior:
        """dmu, dlogvar (B, K) and the head's gradient, last step first. [D55]"""
        dz, dkl, dlog_det = dout
        of_normal, steps, states = cache
        dz, dlog_det = stacked(dz, len(dkl)), stacked(dlog_det, len(dkl))
        of_head: list[Array] = []
        for step, (at, t) in zip(reversed(steps), reversed(states), strict=True):
            slope = 1 - t * t
            inside = dlog_det / (1 + slope * step.m)
            dt = (dz * step.direction).sum(axis=-1) - 2 * t * step.m * inside
            dpre = dt * slope
            du, dw = step_backward(step, (t[..., None] * dz).sum(axis=0), (slope * inside).sum(axis=0))
            dw = dw + (dpre[..., None] * at).sum(axis=0)
            of_head = [du, dw, dpre.sum(axis=0)[:, None], *of_head]
            dz = dz + dpre[..., None] * step.w
        dmu, dlogvar = ops.reparam_kl_backward((dz.reshape(dout[0].shape), dkl), of_normal)
        return dmu, dlogvar, np.concatenate(of_head, axis=1)

    def slope_of_log_q(self, logvar: Array, eps: Array, cache: Any) -> Array:
        """−ε / σ of the first normal, carried through the steps: J⁻ᵀ (slope − ∂ log |det J|/∂z) at each. [D65]

        J = I + û h wᵀ with h = 1 − t², so J⁻ᵀ r = r − w h (ûᵀ r) / (1 + h m).
        """
        _, steps, states = cache
        slope = -stacked(over_sigma(eps, logvar), len(logvar))
        for step, (_, t) in zip(steps, states, strict=True):
            h = 1 - t * t
            stretch = 1 + h * step.m
            slope = slope + (2 * t * h * step.m / stretch)[..., None] * step.w
            along = (slope * step.direction).sum(axis=-1)
            slope = slope - (h * along / stretch)[..., None] * step.w
        return slope.reshape(eps.shape)
