"""The families of q(z|x): what an encoder's output means, how z is drawn from it, and that draw's gradient by hand.

    diagonal   N(mu, diag exp logvar)                                                        [D13] [D22]
    full       N(mu, L Lᵀ), its KL in closed form                                             [D53]
    planar     a normal, then z ← z + û tanh(wᵀz + b), several times; its KL by sampling      [D55]
    iaf        a normal, then z ← exp(s) z + m from masked networks; its KL by sampling       [D56]

Each is one file, forward beside backward, and composed of the contract's operations.
"""

from __future__ import annotations

from vae_np.choices import Objective, PosteriorFamily
from vae_np.errors import InputError
from vae_np.posteriors.autoregressive import Autoregressive
from vae_np.posteriors.diagonal import Diagonal
from vae_np.posteriors.family import Draw, Family, Posterior
from vae_np.posteriors.full import Full
from vae_np.posteriors.planar import Planar

__all__ = ["FAMILIES", "Draw", "Family", "Posterior", "check_objective", "settings"]

FAMILIES: dict[PosteriorFamily, type[Family]] = {
    "diagonal": Diagonal,
    "full": Full,
    "planar": Planar,
    "iaf": Autoregressive,
}
# What has a gradient for every family; the others take ∂ log q/∂z at fixed parameters, which only the diagonal has.
_OBJECTIVES = ("elbo", "iwae")


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


def check_objective(posterior: PosteriorFamily, objective: Objective) -> None:
    """Raise InputError, which names both, where an objective has no gradient for a family."""
    if posterior != "diagonal" and objective not in _OBJECTIVES:
        raise InputError(
            f"objective: got {objective!r} with posterior {posterior!r}, expected one of {', '.join(_OBJECTIVES)}: "
            "stl, dreg and score have a gradient for posterior 'diagonal' alone"
        )
