"""Priors that are learned: mixtures of normals, and where their components come from.

    standard   N(0, I): it has no parameters, and lives in `vae_np.elbo`                        [D13]
    mixture    C normals with means, log-variances and weights of their own                     [D76] [D77]
    vamp       C normals that the encoder makes of C learned pseudo-inputs                      [D78]

Each is one file, and both have the density, the draw and the gradient of `vae_np.priors.family`.
"""

from __future__ import annotations

from vae_np.choices import Inference, Objective, PosteriorFamily, PriorFamily
from vae_np.errors import InputError
from vae_np.priors.components import Components
from vae_np.priors.family import Encoder, Prior
from vae_np.priors.mixture import Mixture
from vae_np.priors.vamp import Vamp

__all__ = ["LEARNED", "Components", "Encoder", "Prior", "check_combination", "check_objective", "settings"]

LEARNED: dict[PriorFamily, type[Prior]] = {"mixture": Mixture, "vamp": Vamp}
# What has a gradient for every prior; the others were derived for N(0, I).
_OBJECTIVES = ("elbo", "iwae")


def settings(prior: PriorFamily, components: int | None) -> int | None:
    """How many components a prior has: what is given, or the family's own number; None for the standard one.

    Raises InputError, which names both, for a number that is given to a prior without components, or is not > 0.
    """
    if components is not None and (isinstance(components, bool) or not isinstance(components, int) or components < 1):
        raise InputError(f"components: got {components!r}, expected a whole number > 0")
    if prior == "standard":
        if components is not None:
            raise InputError(
                f"components: got {components} with prior 'standard', expected none, or prior {', '.join(LEARNED)}"
            )
        return None
    return LEARNED[prior].default_components if components is None else components


def check_combination(
    prior: PriorFamily,
    posterior: PosteriorFamily,
    inference: Inference,
    *,
    given: bool,
    top_latent: int | None = None,
    refine_steps: int = 0,
    composed: bool = False,
) -> None:
    """Raise InputError, which names both, where a prior, or conditions, do not go with the rest of a model. [D78]

    `composed` says that x is read by `vae_np.likelihoods`: columns, missing cells, families beside the contract's.
    """
    if top_latent is not None and (prior != "standard" or given):
        what, expected = (f"prior {prior!r}", "prior 'standard'") if prior != "standard" else ("given", "none")
        raise InputError(
            f"top_latent: got {top_latent} with {what}, expected {expected}: the layer above z is its prior, and has "
            "no conditions"
        )
    if refine_steps and (prior != "standard" or given):
        what, expected = (f"prior {prior!r}", "prior 'standard'") if prior != "standard" else ("given", "none")
        raise InputError(
            f"refine_steps: got {refine_steps} with {what}, expected 0, or {expected}: the steps climb an ELBO with "
            "p(z) = N(0, I) and without conditions"
        )
    if prior != "vamp":
        return
    if composed:
        raise InputError(
            "prior: got 'vamp' with columns, missing cells or a composed likelihood, expected 'standard' or 'mixture': "
            "a pseudo-input is a row of pixels or of measurements"
        )
    if inference == "local":
        raise InputError(
            "prior: got 'vamp' with inference 'local', expected 'standard' or 'mixture': its components are what an "
            "encoder makes of pseudo-inputs, and there is none"
        )
    if posterior != "diagonal":
        raise InputError(
            f"prior: got 'vamp' with posterior {posterior!r}, expected posterior 'diagonal', or prior 'mixture': its "
            "components are the normals of mu and logvar"
        )
    if given:
        raise InputError(
            "prior: got 'vamp' with given, expected 'standard' or 'mixture': a pseudo-input has no condition that the "
            "encoder could be given beside it"
        )


def check_objective(prior: PriorFamily, objective: Objective) -> None:
    """Raise InputError, which names both, where an objective has no gradient for a prior."""
    if prior != "standard" and objective not in _OBJECTIVES:
        raise InputError(
            f"objective: got {objective!r} with prior {prior!r}, expected one of {', '.join(_OBJECTIVES)}: stl, dreg "
            "and score have a gradient for prior 'standard' alone"
        )
