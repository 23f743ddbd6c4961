"""Inverse autoregressive flow: z ← exp(s) z + m, where s_j and m_j see only what comes before z_j. [D56]

The two come from a masked network (MADE, Germain et al. 2015) of z and of a context that the encoder makes of x. The
order is turned round from step to step. (Kingma et al. 2016)
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.posteriors.family import Draw, Family, Posterior, repeated, stacked


class Autoregressive(Family):
    """`steps` autoregressive steps with one hidden layer of `hidden` units; the encoder's context is as wide.

    Where the last layers are zero, m = s = 0, and q is the diagonal normal to the bit.
    """

    analytic = False
    default_steps = 2
    default_hidden = 64

    def heads(self) -> dict[str, int]:
        """`context`: what the masked networks know of x."""
        return {"context": self.hidden}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """For each step a hidden layer of z and context, and two layers on top of it."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, inputs, outputs in self._layers():
            shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (inputs, outputs), (outputs,)
        return shapes

    def _layers(self) -> list[tuple[str, int, int]]:
        found = []
        for step in range(self.steps):
            found.append((f"encoder.flow.{step}.hidden", self.latent + self.hidden, self.hidden))
            found += [(f"encoder.flow.{step}.{end}", self.hidden, self.latent) for end in ("shift", "log_scale")]
        return found

    def masks(self, step: int) -> tuple[Array, Array]:
        """Which weights of a step there are: of its hidden layer (K + C, H), and of those on top (H, K). [D56]

        Latent j has the place j, or K − 1 − j in every other step. Hidden units have the numbers 0, …, K − 1 in turn;
        one of number n sees the context and the places before n, and is seen by the places from n on.
        """
        places = np.arange(self.latent)
        places = places[::-1] if step % 2 else places
        numbers = np.arange(self.hidden) % self.latent
        of_z = places[:, None] < numbers
        return np.vstack([of_z, np.ones((self.hidden, self.hidden), dtype=bool)]), numbers[:, None] <= places

    def start(self, parameters: Mapping[str, Array]) -> None:
        """Weights that are not there become zero; their gradient is, too, so they stay it."""
        for step in range(self.steps):
            of_hidden, of_ends = self.masks(step)
            for end, mask in (("hidden", of_hidden), ("shift", of_ends), ("log_scale", of_ends)):
                parameters[f"encoder.flow.{step}.{end}.weight"][...] *= mask

    def draw_forward(
        self, ops: ModuleType, parameters: Mapping[str, Array], q: Posterior, eps: Array
    ) -> tuple[Draw, Any]:
        """z after all steps, and Σ_t Σ_j s_tj. [D56]"""
        mu, logvar, context = q
        (z, kl), cache = ops.reparam_kl_forward(mu, logvar, eps)
        seen = repeated(context, len(eps) // len(mu))
        log_det, states = np.zeros(len(eps), dtype=z.dtype), []
        for step in range(self.steps):
            of_hidden, of_ends = self.masks(step)
            h, hidden_cache = self._affine(
                ops, parameters, f"{step}.hidden", np.concatenate([z, seen], axis=1), of_hidden, self.activation
            )
            shift, shift_cache = self._affine(ops, parameters, f"{step}.shift", h, of_ends, "identity")
            log_scale, scale_cache = self._affine(ops, parameters, f"{step}.log_scale", h, of_ends, "identity")
            scale = np.exp(log_scale)
            states.append((z, scale, hidden_cache, shift_cache, scale_cache))
            z = scale * z + shift
            log_det = log_det + log_scale.sum(axis=-1)
        return Draw(z, kl, log_det), (cache, states)

    def draw_backward(
        self,
        ops: ModuleType,
        dout: tuple[Array, Array, Array],
        cache: Any,
        gradients: Mapping[str, Array] | None,
    ) -> Posterior:
        """dmu, dlogvar (B, K) and dcontext (B, C), last step first; writes the masked networks' gradients. [D56]"""
        dz, dkl, dlog_det = dout
        of_normal, states = cache
        dseen = np.zeros((len(dz), self.hidden), dtype=dz.dtype)
        for step in reversed(range(self.steps)):
            z, scale, hidden_cache, shift_cache, scale_cache = states[step]
            dlog_scale = dz * z * scale + dlog_det[:, None]
            dh_shift, *of_shift = ops.affine_act_backward(dz, shift_cache)
            dh_scale, *of_scale = ops.affine_act_backward(dlog_scale, scale_cache)
            dinputs, *of_hidden = ops.affine_act_backward(dh_shift + dh_scale, hidden_cache)
            dz = dz * scale + dinputs[:, : self.latent]
            dseen = dseen + dinputs[:, self.latent :]
            if gradients is not None:
                masked, ends = self.masks(step)
                for name, (dweight, dbias), mask in (
                    ("hidden", of_hidden, masked),
                    ("shift", of_shift, ends),
                    ("log_scale", of_scale, ends),
                ):
                    gradients[f"encoder.flow.{step}.{name}.weight"][...] = dweight * mask
                    gradients[f"encoder.flow.{step}.{name}.bias"][...] = dbias
        dmu, dlogvar = ops.reparam_kl_backward((dz, dkl), of_normal)
        return dmu, dlogvar, stacked(dseen, len(dkl)).sum(axis=0)

    def _affine(
        self, ops: ModuleType, parameters: Mapping[str, Array], name: str, x: Array, mask: Array, activation: str
    ) -> tuple[Array, Any]:
        weight = parameters[f"encoder.flow.{name}.weight"]
        return ops.affine_act_forward(
            np.ascontiguousarray(x), weight * mask, parameters[f"encoder.flow.{name}.bias"], activation
        )
