"""A network from the latents of one layer to a diagonal normal over those of the next: q(z₂|z₁) and p(z₁|z₂). [D58]"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

from vae_np import layers
from vae_np._types import Array


@dataclass(frozen=True)
class ConditionalNormal:
    """Hidden layers and two linear heads; `name` is what its tensors' names begin with."""

    name: str
    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    activation: str

    def layers(self) -> list[str]:
        """The names of all layers, in the order in which they are computed, the two heads last."""
        hidden = [f"{self.name}.hidden.{index}" for index in range(len(self.hidden))]
        return [*hidden, f"{self.name}.mu", f"{self.name}.logvar"]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, in buffer order; weights are (in, out)."""
        widths = (self.inputs, *self.hidden)
        sizes = [*pairwise(widths), (widths[-1], self.outputs), (widths[-1], self.outputs)]
        shapes: dict[str, tuple[int, ...]] = {}
        for name, (inputs, outputs) in zip(self.layers(), sizes, strict=True):
            shapes |= {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}
        return shapes

    def forward(self, ops: ModuleType, parameters: Mapping[str, Array], h: Array) -> tuple[tuple[Array, Array], Any]:
        """mu and logvar (R, outputs), from h (R, inputs). [D27] [D58]"""
        hidden = [self._layer(parameters, f"hidden.{index}") for index in range(len(self.hidden))]
        h, hidden_cache = layers.mlp_forward(ops, h, hidden, self.activation)
        mu, mu_cache = ops.affine_act_forward(h, *self._layer(parameters, "mu"), "identity")
        logvar, logvar_cache = ops.affine_act_forward(h, *self._layer(parameters, "logvar"), "identity")
        return (mu, logvar), (hidden_cache, mu_cache, logvar_cache)

    def backward(
        self, ops: ModuleType, dmu: Array, dlogvar: Array, cache: Any, gradients: Mapping[str, Array] | None
    ) -> Array:
        """Returns dh (R, inputs), and writes the gradients of the network's tensors, if any are asked for. [D27]"""
        hidden_cache, mu_cache, logvar_cache = cache
        wanted = gradients is not None
        dh_mu, *of_mu = ops.affine_act_backward(dmu, mu_cache, weight_gradient=wanted)
        dh_logvar, *of_logvar = ops.affine_act_backward(dlogvar, logvar_cache, weight_gradient=wanted)
        dh, of_hidden = layers.mlp_backward(
            ops, dh_mu + dh_logvar, hidden_cache, input_gradient=True, weight_gradient=wanted
        )
        if gradients is not None:
            named = {f"hidden.{index}": pair for index, pair in enumerate(of_hidden)}
            for name, (dweight, dbias) in {**named, "mu": of_mu, "logvar": of_logvar}.items():
                gradients[f"{self.name}.{name}.weight"][...] = dweight
                gradients[f"{self.name}.{name}.bias"][...] = dbias
        assert dh is not None
        return dh

    def _layer(self, parameters: Mapping[str, Array], name: str) -> tuple[Array, Array]:
        return parameters[f"{self.name}.{name}.weight"], parameters[f"{self.name}.{name}.bias"]
