"""The families of q(z|x): what an encoder's output means, how z is drawn from it, and that draw's gradient by hand.

    diagonal   N(mu, diag exp logvar)                                                        [D13] [D22]
    full       N(mu, L Lᵀ), its KL in closed form                                             [D53]
    planar     a normal, then z ← z + û tanh(wᵀz + b), several times; its KL by sampling      [D55]
    iaf        a normal, then z ← exp(s) z + m from masked networks; its KL by sampling       [D56]

Each is one file, forward beside backward, and composed of the contract's operations.
"""

from __future__ import annotations

import math

from vae_np.choices import REFINE_GRADIENTS, Inference, Objective, PosteriorFamily, RefineGradient
from vae_np.errors import InputError
from vae_np.posteriors.autoregressive import Autoregressive
from vae_np.posteriors.diagonal import Diagonal
from vae_np.posteriors.family import Draw, Family, Posterior
from vae_np.posteriors.full import Full
from vae_np.posteriors.planar import Planar

__all__ = [
    "FAMILIES",
    "FAMILIES_OF",
    "Draw",
    "Family",
    "Posterior",
    "check_objective",
    "check_posterior",
    "refine_settings",
    "settings",
]

FAMILIES: dict[PosteriorFamily, type[Family]] = {
    "diagonal": Diagonal,
    "full": Full,
    "planar": Planar,
    "iaf": Autoregressive,
}
# Which objectives have a gradient for which families: stl and dreg take ∂ log q/∂z at fixed parameters, which is in
# closed form where a step's Jacobian is quickly inverted; score takes ∂ log q/∂(mu, logvar) at a fixed z. [D65]
FAMILIES_OF: dict[Objective, tuple[PosteriorFamily, ...]] = {
    "elbo": tuple(FAMILIES),
    "iwae": tuple(FAMILIES),
    "stl": ("diagonal", "full", "planar"),
    "dreg": ("diagonal", "full", "planar"),
    "score": ("diagonal",),
}
#: Natural-gradient steps of a tenth: each example's noise is that of one draw.
REFINE_RATE = 0.1


def settings(posterior: PosteriorFamily, steps: int | None, hidden: int | None) -> tuple[int | None, int | None]:
    """The flow's steps and width, where the family has such, with its own in place of None.

    Raises InputError, which names both, for one that is given to a family without it, or that is not a number > 0.
    """
    kind = FAMILIES[posterior]
    found = []
    for name, given, default in (
        ("flow_steps", steps, kind.default_steps),
        ("flow_hidden", hidden, kind.default_hidden),
    ):
        if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
            raise InputError(f"{name}: got {given!r}, expected a whole number > 0")
        if given is not None and not default:
            having = ", ".join(key for key, other in FAMILIES.items() if getattr(other, f"default_{name[5:]}"))
            raise InputError(f"{name}: got {given} with posterior {posterior!r}, expected none, or posterior {having}")
        found.append(given or default or None)
    return found[0], found[1]


def refine_settings(
    steps: int, rate: float | None, gradient: RefineGradient | None
) -> tuple[float | None, RefineGradient | None]:
    """The rate and the gradient of the steps on λ, with the usual ones in place of None; None where there are none.

    Raises InputError for a number that is none, and for either without steps. [D63]
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise InputError(f"refine_steps: got {steps!r}, expected a whole number >= 0")
    if rate is not None and not (rate > 0 and math.isfinite(rate)):
        raise InputError(f"refine_rate: got {rate!r}, expected a finite number > 0")
    if gradient is not None and gradient not in REFINE_GRADIENTS:
        raise InputError(f"refine_gradient: got {gradient!r}, expected one of {', '.join(REFINE_GRADIENTS)}")
    if not steps:
        for name, given in (("refine_rate", rate), ("refine_gradient", gradient)):
            if given is not None:
                raise InputError(f"{name}: got {given} with refine_steps 0, expected none, or refine_steps > 0")
        return None, None
    return REFINE_RATE if rate is None else float(rate), gradient or "through"


def check_posterior(posterior: PosteriorFamily, inference: Inference, refine_steps: int) -> None:
    """Raise InputError, which names both, where the family of q, the way it is found and steps on it do not go
    together."""
    if inference == "local" and posterior != "diagonal":
        raise InputError(
            f"posterior: got {posterior!r} with inference 'local', expected 'diagonal': without an encoder "
            "every datapoint has a mean and a variance"
        )
    if refine_steps and inference == "local":
        raise InputError(
            f"refine_steps: got {refine_steps} with inference 'local', expected 0: they begin at an encoder's output"
        )
    if refine_steps and posterior != "diagonal":
        raise InputError(
            f"refine_steps: got {refine_steps} with posterior {posterior!r}, expected 0, or posterior 'diagonal': the "
            "steps are on a mean and a variance for each latent"
        )


def check_objective(posterior: PosteriorFamily, objective: Objective, refine_steps: int = 0) -> None:
    """Raise InputError, which names both, where an objective has no gradient for a family, or for steps on its q."""
    if posterior not in FAMILIES_OF[objective]:
        having = ", ".join(name for name, families in FAMILIES_OF.items() if posterior in families)
        raise InputError(
            f"objective: got {objective!r} with posterior {posterior!r}, expected one of {having}: {objective} has a "
            f"gradient for posterior {', '.join(map(repr, FAMILIES_OF[objective]))} alone"
        )
    if refine_steps and objective != "elbo":
        raise InputError(
            f"objective: got {objective!r} with refine_steps {refine_steps}, expected 'elbo': the steps climb the ELBO"
        )
