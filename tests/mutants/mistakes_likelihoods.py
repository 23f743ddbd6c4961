"""Mistakes in the families of p(x|z), in what is left out of it, and in what fills a hole, with exact checks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vae_np import ops
from vae_np.evaluation import imputation
from vae_np.exact import missing
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.gradcheck import check_vjp
from vae_np.likelihoods import FAMILIES, gamma
from vae_np.model import Model, loglik_forward
from vae_np.verify import catalogue
from vae_np.verify.observed import OBSERVED, rows_for

from .plant import Check, Edit, Mutant

SEED = 0


def _sums_to_one(name: str, levels: int = 0) -> Check:
    def run() -> None:
        rng = np.random.default_rng(SEED)
        family = FAMILIES[name](3, levels)
        out = rng.standard_normal((1, 1, 3, family.outputs))
        tensors = {key: start + 0.3 * rng.standard_normal(shape) for key, (shape, start) in family.tensors().items()}
        values = range(levels or 400)
        total = sum(np.exp(family.log_prob_forward(np.full((1, 3), float(v)), out, tensors)[0]) for v in values)
        np.testing.assert_allclose(total, 1, rtol=1e-10)

    return Check(f"{name} sums to one", "exact", run)


def _integrates_to_one(name: str, low: float, high: float) -> Check:
    def run() -> None:
        x = np.linspace(low, high, 40_001)
        family = FAMILIES[name](1)
        tensors = {key: np.full(shape, start + 0.4) for key, (shape, start) in family.tensors().items()}
        for logit in (0.3, 5.0):
            density = np.exp(
                family.log_prob_forward(x[:, None], np.full((1, len(x), 1, 1), logit), tensors)[0][0, :, 0]
            )
            np.testing.assert_allclose(np.trapezoid(density, x), 1, rtol=1e-6)

    return Check(f"{name} integrates to one", "exact", run)


def _gradient(name: str) -> Check:
    def run() -> None:
        called = f"log p(x|z), {name}"
        pair = next(pair for pair in catalogue.likelihood_pairs(SEED) if pair.name == called)
        report = check_vjp(pair.forward, pair.backward, pair.inputs, names=pair.names, wrt=pair.wrt, name=called)
        assert report.passed, str(report)

    return Check(f"gradient of log p(x|z), {name}", "gradient", run)


def _large_ratio() -> None:
    r = np.geomspace(1e6, 1e12, 4)
    np.testing.assert_allclose(gamma.log_rising(r, np.array(3.0)), np.log1p(1 / r) + np.log1p(2 / r), atol=1e-15)


def _moments(name: str, levels: int = 0) -> Check:
    def run() -> None:
        rng = np.random.default_rng(SEED)
        family = FAMILIES[name](3, levels)
        out = rng.standard_normal((1, 1, 3, family.outputs))
        tensors = {key: start + 0.3 * rng.standard_normal(shape) for key, (shape, start) in family.tensors().items()}
        values = np.arange(levels or 400, dtype=np.float64)
        p = np.exp([family.log_prob_forward(np.full((1, 3), v), out, tensors)[0][0, 0] for v in values])
        mean = values @ p
        np.testing.assert_allclose(family.mean(out, tensors)[0, 0], mean, rtol=1e-8)
        np.testing.assert_allclose(family.variance(out, tensors)[0, 0], values**2 @ p - mean**2, rtol=1e-6)

    return Check(f"moments of {name}", "exact", run)


def _whole_model(at: int) -> Check:
    arch = OBSERVED[at]

    def run() -> None:
        scalar = catalogue.loss_of(ops, arch, "iwae", SEED)
        gradient = scalar.gradient(scalar.point)
        rng = np.random.default_rng(SEED)
        for name, value in scalar.point.items():
            direction = rng.standard_normal(value.shape)
            moved = {**scalar.point, name: value + 1e-30j * direction}
            numeric = scalar.loss(moved).imag / 1e-30
            assert abs((gradient[name] * direction).sum() - numeric) < 1e-10 * (1 + np.abs(gradient[name]).sum()), name

    return Check(f"gradient of a model of {arch.likelihood} with missing cells", "gradient", run)


def _only_what_is_there() -> None:
    """log p(x|z) of some cells is the sum of those of each, and of none it is 0."""
    rng = np.random.default_rng(SEED)
    for arch in (arch for arch in OBSERVED if arch.missing is not None):
        x, _ = catalogue.example(arch, SEED)
        parameters = catalogue.loss_of(ops, arch, "joint", SEED).point
        out = rng.standard_normal((len(x), arch.outputs))
        total = np.zeros(len(x))
        for column in range(arch.features):
            alone = np.full_like(x, np.nan)
            alone[:, column] = x[:, column]
            total += loglik_forward(ops, arch, parameters, alone, out)[0]
        np.testing.assert_allclose(loglik_forward(ops, arch, parameters, x, out)[0], total, rtol=1e-12, atol=1e-12)
        assert (loglik_forward(ops, arch, parameters, np.full_like(x, np.nan), out)[0] == 0).all()


def _own_columns() -> None:
    """A row's log p(x|z) is that of each family on the columns that were named for it."""
    arch = next(arch for arch in OBSERVED if arch.columns is not None)
    assert arch.observation is not None
    rng = np.random.default_rng(SEED)
    x = rows_for(replace(arch, missing=None), 5, rng)
    parameters = catalogue.loss_of(ops, arch, "joint", SEED).point
    out, total, start = rng.standard_normal((5, arch.outputs)), np.zeros(5), 0
    for group in arch.observation.groups:
        width = len(group.columns) * group.family.outputs
        part = out[:, start : start + width].reshape(1, 5, len(group.columns), -1)
        start += width
        own = {name: parameters[f"{group.prefix}.{name}"] for name in group.family.tensors()}
        total += group.family.log_prob_forward(np.stack([x[:, c] for c in group.columns], axis=1), part, own)[0].sum(
            (0, 2)
        )
    np.testing.assert_allclose(loglik_forward(ops, arch, parameters, x, out)[0], total, rtol=1e-12)


def _zeros() -> None:
    arch = OBSERVED[-1]
    assert arch.observation is not None
    seen = arch.observation.seen(np.array([[1.0, np.nan, 3.0, np.nan]]))
    assert seen.tolist() == [[1, 0, 3, 0, 1, 0, 1, 0]]


def _conditional() -> None:
    """Values, spreads and correlations of what fills holes, against the conditional normal."""
    rng = np.random.default_rng(SEED)
    linear = LinearGaussian(0.8 * rng.standard_normal((5, 1)), rng.standard_normal(5), 0.3)
    x = np.where(rng.random((4, 5)) < 0.5, np.nan, rng.standard_normal((4, 5)))
    arch, parameters = to_parameters(linear)
    arch = replace(arch, missing="zero")
    assert arch.observation is not None
    found = imputation.impute(
        Model(ops, arch, parameters), arch.observation, x, np.arange(4), (np.zeros((4, 1)), np.full((4, 1), 0.2)),
        samples=20_000, draws=2000, seed=0,
    )  # fmt: skip
    exact, holes = missing.conditional(linear, x), np.isnan(x)
    spread = np.sqrt(np.diagonal(exact.covariance, axis1=1, axis2=2))
    assert (np.abs(found.mean - exact.mean)[holes] < 5 * found.stderr[holes]).all()
    np.testing.assert_allclose(found.spread, spread, rtol=0.06)
    assert found.draws is not None
    centred = found.draws - exact.mean
    covariance = np.einsum("mbi,mbj->bij", centred, centred) / len(centred)
    assert np.abs(covariance - exact.covariance).max() < 0.12


LEVELS = 8
POISSON, BINOMIAL = _sums_to_one("poisson"), _sums_to_one("negative-binomial")
LOGISTIC, CATEGORICAL = _sums_to_one("discretized-logistic", LEVELS), _sums_to_one("categorical", 4)
CONTINUOUS, STUDENT = _integrates_to_one("continuous-bernoulli", 0, 1), _integrates_to_one("student-t", -4000, 4000)
RATIO = Check("a ratio of large gammas", "exact", _large_ratio)
CELLS = Check("only observed cells count", "exact", _only_what_is_there)
OWN = Check("each family on its own columns", "exact", _own_columns)
ZEROS = Check("zeros and a mask for the encoder", "exact", _zeros)
CONDITIONAL = Check("imputation against the conditional normal", "exact", _conditional)
HOLED = _whole_model(-2)


def _one(mistake: str, where: str, old: str, new: str, *caught_by: Check, gradient: Check | None = None) -> Mutant:
    return Mutant(mistake, (Edit(where, old, new),), caught_by, gradient)


MUTANTS = (
    _one(
        "a continuous Bernoulli without its constant: the cross-entropy of grey as a likelihood",
        "likelihoods.continuous_bernoulli:ContinuousBernoulli.log_prob_forward",
        "distance * size - log_partition(size)",
        "distance * size - np.log1p(np.exp(size))",
        CONTINUOUS,
        gradient=_gradient("continuous-bernoulli"),
    ),
    _one(
        "the mean of a continuous Bernoulli as if it were σ(l)",
        "likelihoods.continuous_bernoulli:ContinuousBernoulli.log_prob_backward",
        "x - mean_of(logits)",
        "x - 1 / (1 + np.exp(-logits))",
        _gradient("continuous-bernoulli"),
        gradient=_gradient("continuous-bernoulli"),
    ),
    _one(
        "log x! left out of a Poisson",
        "likelihoods.poisson:Poisson.log_prob_forward",
        "log_poisson_peak(x) - deviance",
        "x * np.log(np.where(positive, x, 1)) - x - deviance",
        POISSON,
        gradient=_gradient("poisson"),
    ),
    _one(
        "a Poisson's rate where its logarithm is due",
        "likelihoods.poisson:Poisson.log_prob_backward",
        "x - np.exp(log_rate)",
        "x - log_rate",
        _gradient("poisson"),
        gradient=_gradient("poisson"),
    ),
    _one(
        "the dispersion of a negative binomial inverted",
        "likelihoods.negative_binomial:NegativeBinomial.variance",
        "np.exp(-tensors",
        "np.exp(tensors",
        _moments("negative-binomial"),
    ),
    _one(
        "x r / (r + μ) for (x + r) μ / (r + μ) in a negative binomial's gradient",
        "likelihoods.negative_binomial:NegativeBinomial.log_prob_backward",
        "share = (x + r) * sigmoid(log_mean - rho)",
        "share = x * sigmoid(log_mean - rho)",
        _gradient("negative-binomial"),
        gradient=_gradient("negative-binomial"),
    ),
    _one(
        "log Γ(r + x) − log Γ(r) as a difference",
        "likelihoods.gamma:log_rising",
        "    return total",
        "    return log_gamma(r + x) - log_gamma(r) - x * np.log(r)",
        RATIO,
        gradient=_gradient("negative-binomial"),
    ),
    _one(
        "a level's width twice too large",
        "likelihoods.discretized_logistic:DiscretizedLogistic.log_prob_forward",
        "2 / (self.levels - 1) * inverse",
        "4 / (self.levels - 1) * inverse",
        LOGISTIC,
        gradient=_gradient("discretized-logistic"),
    ),
    _one(
        "the lowest level without what lies below it",
        "likelihoods.discretized_logistic:DiscretizedLogistic.log_prob_forward",
        "lowest, highest = x == 0, x == self.levels - 1",
        "lowest, highest = x < 0, x == self.levels - 1",
        LOGISTIC,
        gradient=_gradient("discretized-logistic"),
    ),
    _one(
        "the width's part in the scale's gradient forgotten",
        "likelihoods.discretized_logistic:DiscretizedLogistic.log_prob_backward",
        "- 0.5 * width * (above + below) - ratio",
        "",
        _gradient("discretized-logistic"),
        gradient=_gradient("discretized-logistic"),
    ),
    _one(
        "½ν for ½(ν + 1) as Student's exponent",
        "likelihoods.student_t:StudentT.log_prob_forward",
        "constant - (half + 0.5) *",
        "constant - half *",
        STUDENT,
        gradient=_gradient("student-t"),
    ),
    _one(
        "the degrees of freedom without their way through r² / (ν σ²)",
        "likelihoods.student_t:StudentT.log_prob_backward",
        " + 0.5 * freedom * share)",
        ")",
        _gradient("student-t"),
        gradient=_gradient("student-t"),
    ),
    _one(
        "a missing cell counted as a zero",
        "likelihoods.observation:Observation.log_prob_forward",
        "np.where(absent, 0, log_prob)",
        "log_prob",
        CELLS,
    ),
    _one(
        "log p(x|z) divided by the share of cells that are there",
        "likelihoods.observation:Observation.log_prob_forward",
        "np.where(absent, 0, log_prob)).sum(axis=-1)",
        "np.where(absent, 0, log_prob) / (~absent).mean()).sum(axis=-1)",
        CELLS,
    ),
    _one(
        "a gradient sent back from cells that are missing",
        "likelihoods.observation:Observation.log_prob_backward",
        "dout if absent is None else np.where(absent[..., None], 0, dout)",
        "group.family.log_prob_backward(upstream, of_family)[0]",
        HOLED,
        gradient=HOLED,
    ),
    _one(
        "the mask of what is missing where that of what is there is due",
        "likelihoods.observation:Observation.seen",
        "(~missing).astype",
        "missing.astype",
        ZEROS,
    ),
    _one(
        "holes filled in with equal weights: the mean over q",
        "evaluation.imputation:_impute",
        "_, weights = ops.log_mean_exp_weights(log_w)",
        "weights = np.full_like(log_w, 1 / samples)",
        CONDITIONAL,
    ),
    _one(
        "the spread of the means for that of x: Var[x|z] forgotten",
        "likelihoods.family:Family.features",
        "self.variance(out, tensors) + mean * mean",
        "mean * mean",
        CONDITIONAL,
    ),
    _one(
        "repeated imputations from z that were not resampled",
        "evaluation.imputation:_resampled",
        "return z[chosen, np.arange(len(places))]",
        "return z[:draws]",
        CONDITIONAL,
    ),
    _one(
        "the first columns for those of a family",
        "likelihoods.observation:Observation._of",
        "x[:, group.columns]",
        "x[:, : len(group.columns)]",
        OWN,
    ),
)
