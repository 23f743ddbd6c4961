"""A second stochastic layer above z: x ← z ← z₂, and the q that goes the other way. (Burda et al. 2015) [D58]

With z₁ for z, the generator is p(z₂) = N(0, I), p(z₁|z₂) a normal that a network makes of z₂, and p(x|z₁) the decoder;
the q is the encoder's q(z₁|x), and q(z₂|z₁), a normal that another network makes of z₁. So all that changes below is
the prior: instead of log N(z₁; 0, I) there is an estimate of log p(z₁) that draws z₂.

    conditional   a network from one layer's latents to a normal of the next                       [D58]
    upper         log p(z₁, z₂) − log q(z₂|z₁) and its gradient, and z₁ from standard normals       [D59] [D60]
"""

from __future__ import annotations

from vae_np.choices import Objective
from vae_np.errors import InputError
from vae_np.two_layers.conditional import ConditionalNormal
from vae_np.two_layers.upper import UpperLayer

__all__ = ["ConditionalNormal", "UpperLayer", "check_combination", "check_objective", "settings"]

# The others take ∂ log q/∂z at fixed parameters, which is written for one layer.
_OBJECTIVES = ("elbo", "iwae")


def settings(
    top_latent: int | None, top_hidden: tuple[int, ...] | None, hidden: tuple[int, ...]
) -> tuple[int, ...] | None:
    """The widths between z₁ and z₂, the encoder's `hidden` ones unless they are named; None for one layer.

    Raises InputError, which names both, for widths without a second layer.
    """
    if top_latent is not None:
        return hidden if top_hidden is None else top_hidden
    if top_hidden is not None:
        raise InputError(
            f"top_hidden: got {','.join(map(str, top_hidden)) or 'none'} without top_latent, expected both: the widths "
            "between z₁ and z₂ need a z₂"
        )
    return None


def check_combination(top_latent: int | None, posterior: str, inference: str, refine_steps: int = 0) -> None:
    """Raise InputError, which names both, for another q(z₁|x) than an encoder's diagonal normal as it comes."""
    if top_latent is None:
        return
    for name, value, expected in (
        ("posterior", posterior, "diagonal"),
        ("inference", inference, "amortized"),
        ("refine_steps", refine_steps, 0),
    ):
        if value != expected:
            raise InputError(
                f"top_latent: got {top_latent} with {name} {value!r}, expected {name} {expected!r}: with two "
                "stochastic layers q(z₁|x) is an encoder's diagonal normal"
            )


def check_objective(top_latent: int | None, objective: Objective) -> None:
    """Raise InputError, which names both, where an objective has no gradient for two layers."""
    if top_latent is not None and objective not in _OBJECTIVES:
        raise InputError(
            f"objective: got {objective!r} with top_latent {top_latent}, expected one of {', '.join(_OBJECTIVES)}: "
            "stl, dreg and score have a gradient for one stochastic layer alone"
        )
