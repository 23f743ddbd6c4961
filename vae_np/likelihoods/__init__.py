"""The families of p(x|z), for whole rows or column by column, and the cells of x that are observed. [D66] [D67]

    bernoulli             0 or 1                                                       [D4]
    normal                measurements                                                 [D5]
    continuous-bernoulli  numbers in [0, 1]                                            [D68]
    categorical           one of several levels                                        [D7]
    poisson               counts                                                       [D69]
    negative-binomial     counts that spread more                                      [D70]
    discretized-logistic  levels of grey                                               [D72]
    student-t             measurements with outliers                                   [D73]

Each is one file, forward beside backward, composed of NumPy's operations. The five likelihoods that are in the
contract (`vae_np.choices.LIKELIHOODS`) are computed there as long as every cell is observed.
"""

from __future__ import annotations

from typing import Any

from vae_np.choices import LIKELIHOODS, ColumnFamily, Likelihood, Missing, RefineGradient
from vae_np.errors import InputError
from vae_np.likelihoods import columns as named
from vae_np.likelihoods.bernoulli import Bernoulli
from vae_np.likelihoods.categorical import Categorical
from vae_np.likelihoods.columns import Columns
from vae_np.likelihoods.continuous_bernoulli import ContinuousBernoulli
from vae_np.likelihoods.discretized_logistic import DiscretizedLogistic
from vae_np.likelihoods.family import Family
from vae_np.likelihoods.negative_binomial import NegativeBinomial
from vae_np.likelihoods.normal import Normal
from vae_np.likelihoods.observation import Group, Observation, generators
from vae_np.likelihoods.poisson import Poisson
from vae_np.likelihoods.student_t import StudentT

__all__ = [
    "FAMILIES",
    "Columns",
    "Family",
    "Group",
    "Observation",
    "check_refinement",
    "columns_of",
    "generators",
    "is_measured",
    "measured_columns",
    "observation_of",
    "read_columns",
]

FAMILIES: dict[ColumnFamily, type[Family]] = {
    "bernoulli": Bernoulli,
    "normal": Normal,
    "continuous-bernoulli": ContinuousBernoulli,
    "categorical": Categorical,
    "poisson": Poisson,
    "negative-binomial": NegativeBinomial,
    "discretized-logistic": DiscretizedLogistic,
    "student-t": StudentT,
}
_LEVELS: dict[str, int | None] = {name: family.default_levels for name, family in FAMILIES.items()}


def columns_of(given: Any) -> Columns:
    """Columns with their families, as `vae_np.likelihoods.columns.canonical` says; raises InputError."""
    return named.canonical(given, _LEVELS)


def read_columns(path: str) -> Columns:
    """The columns of a TOML or JSON file; raises MissingFileError or InputError."""
    return named.read_file(path, _LEVELS)


def is_measured(family: str) -> bool:
    """Whether what a likelihood or a column's family describes are measurements, which may be standardised. [D51]"""
    return family in LIKELIHOODS[2:] or (family in FAMILIES and FAMILIES[family].measured)


def measured_columns(columns: Columns | None) -> list[bool] | None:
    """Which columns are measurements; None for all, where there is one likelihood for the whole row."""
    return None if columns is None else [is_measured(column[1]) for column in columns]


def observation_of(
    likelihood: Likelihood, features: int, sigma: float, columns: Columns | None, missing: Missing | None
) -> Observation | None:
    """How a likelihood reads rows of `features` cells; None where the contract's operations do it by themselves.

    Raises InputError where there are columns without likelihood `columns`, or the reverse.
    """
    if (columns is not None) != (likelihood == "columns"):
        expected = "a family for each column" if columns is None else "likelihood 'columns'"
        raise InputError(f"likelihood: got {likelihood!r} with columns {columns!r}, expected {expected}")
    tells = missing == "mask"
    if columns is not None:
        if len(columns) != features:
            raise InputError(f"columns: got {len(columns)} of them, expected {features}, as the data have")
        return Observation(_groups(columns), features, tells, tuple(column[0] for column in columns))
    if likelihood in LIKELIHOODS and missing is None:
        return None
    return Observation((Group(_whole(likelihood, features, sigma), tuple(range(features))),), features, tells)


def check_refinement(likelihood: Likelihood, missing: Missing | None, refine_gradient: RefineGradient | None) -> None:
    """Raise InputError, which names both, where the gradient goes through steps that a likelihood has no tangent for.

    It needs the second derivative of log p(x|z), which is written for the contract's likelihoods alone. [D64]
    """
    if refine_gradient == "through" and (likelihood not in LIKELIHOODS or missing is not None):
        raise InputError(
            f"refine_gradient: got 'through' with likelihood {likelihood!r} and missing {missing!r}, expected "
            "'stopped', or a Bernoulli or normal likelihood without missing cells"
        )


def _whole(likelihood: Likelihood, features: int, sigma: float) -> Family:
    """The family of a whole row."""
    if likelihood in ("bernoulli", "bernoulli-grey"):
        return Bernoulli(features)
    if likelihood in ("normal", "normal-fixed", "normal-diagonal"):
        return Normal(features, sigma=sigma, shared=likelihood == "normal", fixed=likelihood == "normal-fixed")
    assert likelihood in FAMILIES
    kind = FAMILIES[likelihood]
    return kind(features, kind.default_levels or 0)


def _groups(columns: Columns) -> tuple[Group, ...]:
    """Columns of the same family, and of as many levels, together, in the order of their first ones."""
    places: dict[tuple[str, int], list[int]] = {}
    for place, (_, family, *levels) in enumerate(columns):
        count = 0 if not levels else len(levels) if family == "categorical" else int(levels[0])
        places.setdefault((family, count), []).append(place)
    return tuple(
        Group(FAMILIES[family](len(own), count), tuple(own), f"likelihood.{family}")  # type: ignore[index]
        for (family, count), own in places.items()
    )
