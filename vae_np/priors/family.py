"""What every learned prior has: its tensors, where they start, and its components with their backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

from vae_np._types import Array
from vae_np.priors import components
from vae_np.priors.components import Components


class Encoder(NamedTuple):
    """The model's encoder as a prior sees it.

    `forward(x)` gives ((mu, logvar), cache); `backward(dmu, dlogvar, cache, gradients)` writes the encoder's gradients
    and returns dx.
    """

    forward: Callable[[Array], tuple[tuple[Array, ...], Any]]
    backward: Callable[[Array, Array, Any, Any], Array]


@dataclass(frozen=True)
class Prior:
    """A mixture of `components` normals over `latent` dimensions, for data of `features` columns.

    `bounded` says that data lie in [0, 1].
    """

    latent: int
    components: int
    features: int
    bounded: bool = True

    #: How many components a prior of this kind has unless they are given.
    default_components: ClassVar[int]
    #: Whether the prior's gradient reaches the encoder.
    uses_encoder: ClassVar[bool] = False

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The prior's tensors, in buffer order."""
        raise NotImplementedError

    def start(self, parameters: Mapping[str, Array], *, seed: int, places: Mapping[str, int]) -> None:
        """The initial values, in place; a tensor's draws are the INIT stream's at its place. [D40]"""
        raise NotImplementedError

    def start_at_rows(self, parameters: Mapping[str, Array], rows: Callable[[Array], Array], count: int) -> None:
        """What of the initial values depends on the `count` training rows, of which `rows` gives those of a number."""

    def components_forward(self, parameters: Mapping[str, Array], encoder: Encoder) -> tuple[Components, Any]:
        """The components as they stand, and what backward needs."""
        raise NotImplementedError

    def components_backward(self, of: Components, cache: Any, encoder: Encoder, gradients: Any) -> None:
        """Writes the gradients of the prior's tensors, and of the encoder's where it `uses_encoder`."""
        raise NotImplementedError

    def log_prob_forward(
        self, ops: ModuleType, parameters: Mapping[str, Array], z: Array, encoder: Encoder
    ) -> tuple[Array, Any]:
        """log p(z), (R,) in nats, at z (R, K). [D76]"""
        mixture, of_components = self.components_forward(parameters, encoder)
        log_prob, of_density = components.log_prob_forward(ops, z, mixture)
        return log_prob, (of_density, of_components)

    def log_prob_backward(
        self, ops: ModuleType, dlog_prob: Array, cache: Any, encoder: Encoder, gradients: Any
    ) -> Array:
        """dz (R, K) from dlog_prob (R,); writes the other gradients, unless `gradients` is None. [D76]"""
        of_density, of_components = cache
        wanted = gradients is not None
        dz, of = components.log_prob_backward(ops, dlog_prob, of_density, component_gradient=wanted)
        if of is not None:
            self.components_backward(of, of_components, encoder, gradients)
        return dz
