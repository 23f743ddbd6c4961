"""Mistakes in learned priors and in conditional models, with exact checks: definitions, draws, and closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vae_np import data, ops
from vae_np.architecture import Architecture
from vae_np.elbo import elbo_forward, posterior_log_prob, prior_forward, prior_mixture
from vae_np.evaluation import held_out
from vae_np.evaluation.annealing import Annealing, annealed_log_likelihood
from vae_np.exact.linear_gaussian import LinearGaussian
from vae_np.model import Model, encode_forward, initialise
from vae_np.parameters import Parameters
from vae_np.priors import components
from vae_np.priors.components import Components
from vae_np.study import plain
from vae_np.verify import catalogue

from .plant import Check, Edit, Mutant

SEED = 0
_WEIGHTS = np.array([0.6, 0.3, 0.1])
_MEANS, _LOGVARS = np.array([[-3.0, 0.0], [2.0, 1.0], [0.0, -2.0]]), np.array([[0.0, -1.0], [0.5, 0.3], [-0.7, 0.9]])


def _mixture() -> Components:
    return Components(np.log(_WEIGHTS), _MEANS, _LOGVARS)


def _by_definition(z: np.ndarray) -> np.ndarray:
    parts = zip(_WEIGHTS, _MEANS, _LOGVARS, strict=True)
    return np.log(sum(w * np.exp(plain.log_normal(z, m, np.exp(0.5 * v))) for w, m, v in parts))


def _density() -> None:
    z = 2 * np.random.default_rng(SEED).standard_normal((9, 2))
    np.testing.assert_allclose(components.log_prob_forward(ops, z, _mixture())[0], _by_definition(z), rtol=1e-12)


def _draws() -> None:
    """The shares of the components, and mean and variance of what each gives."""
    random = np.random.default_rng(SEED)
    # Far apart, so that a draw shows which component it is of.
    apart = Components(np.log(_WEIGHTS), 100 * np.arange(3.0)[:, None] + np.zeros((3, 2)), _LOGVARS)
    z = components.sample(apart, random.standard_normal((30_000, 2)), random.random(30_000))
    of = np.rint(z[:, 0] / 100).astype(int)
    np.testing.assert_allclose(np.bincount(of, minlength=3) / len(z), _WEIGHTS, atol=0.01)
    for c in range(3):
        np.testing.assert_allclose(z[of == c].var(axis=0), np.exp(_LOGVARS[c]), rtol=0.1)


def _normalised() -> None:
    """A mixture's weights add up to one, whatever its logits."""
    arch = Architecture(3, 2, (), prior="mixture", components=4)
    parameters = initialise(arch, seed=1, dtype=np.float64)
    parameters["prior.logits"][...] = [2.0, -1.0, 0.5, 3.0]
    mixture = prior_mixture(ops, arch, parameters)
    assert mixture is not None
    np.testing.assert_allclose(np.exp(mixture.log_weights).sum(), 1, rtol=1e-13)


def _linear() -> tuple[Model, np.ndarray, np.ndarray]:
    """x = W z + b + noise with a mixture for z: model, x and log p(x)."""
    arch = Architecture(3, 2, (), "tanh", "normal-fixed", 0.8, prior="mixture", components=3)
    parameters = initialise(arch, seed=1, dtype=np.float64)
    for name, value in (("logits", np.log(_WEIGHTS)), ("means", _MEANS), ("logvars", _LOGVARS)):
        parameters[f"prior.{name}"][...] = value
    weight, bias = parameters["decoder.out.weight"], parameters["decoder.out.bias"]
    x, total = np.random.default_rng(3).standard_normal((4, 3)), np.zeros(4)
    for share, mean, logvar in zip(_WEIGHTS, _MEANS, _LOGVARS, strict=True):
        one = LinearGaussian((np.exp(0.5 * logvar)[:, None] * weight).T, mean @ weight + bias, 0.64)
        total += share * np.exp(one.log_prob(x))
    return Model(ops, arch, parameters), x, np.log(total)


def _chains() -> None:
    model, x, exact = _linear()
    found = annealed_log_likelihood(model, x, np.arange(4), Annealing(60, 30, 3), seed=0)
    assert (np.abs(found.log_likelihood - exact) < 5 * found.stderr).all()
    assert (found.stderr < 0.3).all()


def _starts() -> None:
    """With one temperature a chain's weight is p(x|z) at its start, whose mean is p(x)."""
    model, x, exact = _linear()
    found = annealed_log_likelihood(model, x, np.arange(4), Annealing(5000, 1), seed=0)
    assert (np.abs(found.log_likelihood - exact) < 5 * found.stderr).all()
    assert (found.stderr < 0.1).all()


def _sampled_kl() -> None:
    model, x, _ = _linear()
    eps = np.random.default_rng(2).standard_normal((8, 2))
    terms, cache = elbo_forward(*model, x, eps)
    expected = posterior_log_prob(cache.logvar, eps) - _by_definition(cache.z)
    np.testing.assert_allclose(terms.kl, expected.reshape(2, 4).mean(axis=0), rtol=1e-12)


def _vamp_box() -> None:
    """What the encoder sees of a pseudo-input lies in [0, 1]."""
    arch = Architecture(3, 2, (), prior="vamp", components=2)
    parameters = initialise(arch, seed=1, dtype=np.float64)
    parameters["prior.pseudo_inputs"][...] = [[-5, 0.3, 9], [0.2, 0.5, 1.5]]
    z = np.random.default_rng(0).standard_normal((4, 2))
    found = prior_forward(ops, arch, parameters, z, None)[0]
    parameters["prior.pseudo_inputs"][...] = [[0, 0.3, 1], [0.2, 0.5, 1]]
    np.testing.assert_allclose(found, prior_forward(ops, arch, parameters, z, None)[0], rtol=1e-13)


def _conditional() -> None:
    """At the exact posterior of a linear model every draw's ELBO is log p(x|c)."""
    random = np.random.default_rng(SEED)
    weight, shift = random.standard_normal((4, 1)), random.standard_normal((4, 3))
    exact = LinearGaussian(weight, random.standard_normal(4), 0.49)
    arch = Architecture(4, 1, (), "tanh", "normal-fixed", 0.7, conditions=3)
    parameters = Parameters(arch.shapes(), np.float64)
    gain = exact.pull.T / exact.precision
    parameters["decoder.out.weight"][...] = np.vstack([weight.T, shift.T])
    parameters["decoder.out.bias"][...] = exact.bias
    parameters["encoder.mu.weight"][...] = np.vstack([gain, -shift.T @ gain])
    parameters["encoder.mu.bias"][...] = -exact.bias @ gain
    parameters["encoder.logvar.bias"][...] = -np.log(exact.precision[0, 0])
    x, c = random.standard_normal((5, 4)), random.standard_normal((5, 3))
    terms, _ = elbo_forward(ops, arch, parameters, np.hstack([x, c]), random.standard_normal((15, 1)), form="joint")
    np.testing.assert_allclose(terms.elbo, exact.log_prob(x - c @ shift.T), rtol=1e-11)


def _exact_gradient(loss: Callable[[Any], Any], found: dict[str, Any], point: dict[str, Any]) -> None:
    """Each tensor's gradient by hand against complex steps, an entry at a time."""
    for name, value in point.items():
        stepped, expected = value.astype(complex), np.empty_like(value)
        for index in np.ndindex(value.shape):
            stepped[index] += 1e-30j
            expected[index] = loss({**point, name: stepped}).imag / 1e-30
            stepped[index] = value[index]
        np.testing.assert_allclose(found[name], expected, rtol=1e-11, atol=1e-12, err_msg=name)


def _prior_gradient(prior: str) -> Check:
    def run() -> None:
        pair = next(pair for pair in catalogue.prior_pairs(ops, SEED) if f", {prior}, bernoulli" in pair.name)
        point = dict(zip(pair.names, pair.inputs, strict=True))
        upstream = np.random.default_rng(SEED).standard_normal(len(pair.inputs[0]))
        found = pair.backward(upstream, pair.forward(*pair.inputs)[1])
        _exact_gradient(
            lambda values: (upstream * pair.forward(*values.values())[0]).sum(),
            dict(zip(pair.names, found, strict=True)),
            point,
        )

    return Check(f"gradient of log p(z), {prior}", "gradient", run)


def _model(what: str, said: str, **kind: object) -> Check:
    def run() -> None:
        arch = next(
            arch for arch in catalogue.PRIORS_AND_CONDITIONS
            if all(getattr(arch, name) == value for name, value in kind.items())
        )  # fmt: skip
        scalar = catalogue.loss_of(ops, arch, what, SEED)
        _exact_gradient(scalar.loss, scalar.gradient(scalar.point), scalar.point)

    return Check(f"gradient of the model ({said}, {what})", "gradient", run)


def _sampling_error() -> None:
    """With one component the KL is that of two normals: over seeds, the mean's distance from it is as large as told."""
    arch = Architecture(4, 2, (), prior="mixture", components=1)
    parameters, random = initialise(arch, seed=1, dtype=np.float64), np.random.default_rng(2)
    for name, view in parameters.items():
        view[...] = random.normal(0, 0.3 if name.endswith("logvars") else 1.0, view.shape)
    x = random.integers(0, 2, (12, 4)).astype(np.uint8)
    (mu, logvar), _ = encode_forward(ops, arch, parameters, x.astype(float))
    mean, spread = parameters["prior.means"][0], parameters["prior.logvars"][0]
    kl = 0.5 * (np.exp(logvar - spread) + (mu - mean) ** 2 * np.exp(-spread) - 1 + spread - logvar).sum(axis=1)
    model, examples = Model(ops, arch, parameters), held_out.Examples(x, data.BINARY, "none", 0)
    found = [held_out.elbo_terms(model, examples, seed=seed, z_samples=4) for seed in range(150)]
    off = [terms.kl.mean() - kl.mean() for terms in found]
    told = [terms.kl_sampling_stderr for terms in found]
    assert 0.7 < np.mean(np.square(off)) / np.mean(np.square(told)) < 1.4


DENSITY = Check("a mixture's density by definition", "exact", _density)
DRAWS = Check("a mixture's draws", "statistic", _draws)
NORMALISED = Check("a mixture's weights", "exact", _normalised)
STARTS = Check("where chains with a mixture start", "exact", _starts)
CHAINS = Check("chains with a mixture", "exact", _chains)
KL = Check("the KL to a mixture, draw by draw", "exact", _sampled_kl)
SAMPLING = Check("the error of a sampled KL, over seeds", "statistic", _sampling_error)
BOX = Check("pseudo-inputs' box", "exact", _vamp_box)
CONDITIONAL = Check("ELBO given c at the posterior", "exact", _conditional)
MIXTURE, VAMP = map(_prior_gradient, ("mixture", "vamp"))
WITH_MIXTURE, WITH_VAMP = (_model("joint", name, prior=name) for name in ("mixture", "vamp"))
VAMP_IWAE = _model("iwae", "vamp", prior="vamp")
GIVEN = _model("joint", "conditional", conditions=4)


def _one(mistake: str, where: str, old: str, new: str, check: Check, gradient: Check) -> Mutant:
    return Mutant(mistake, (Edit(where, old, new),), (check,), gradient)


MUTANTS = (
    _one(
        "a mean over the components where a weighted sum is due",
        "priors.components:log_prob_forward",
        " + np.log(len(means))",
        "",
        DENSITY,
        MIXTURE,
    ),
    _one(
        "log 2π left out of the components",
        "priors.components:log_prob_forward",
        "logvars + LOG_2PI",
        "logvars",
        DENSITY,
        MIXTURE,
    ),
    _one(
        "a component's variance where its precision is due",
        "priors.components:log_prob_forward",
        "precision = np.exp(-logvars)",
        "precision = np.exp(logvars)",
        DENSITY,
        MIXTURE,
    ),
    _one(
        "every component gets the whole gradient of a row",
        "priors.components:log_prob_backward",
        "shares * dlog_prob",
        "(0 * shares + 1) * dlog_prob",
        MIXTURE,
        MIXTURE,
    ),
    _one(
        "the means' gradient without the pull of the constant",
        "priors.components:log_prob_backward",
        "(dlinear - means * dconstant)",
        "dlinear",
        MIXTURE,
        MIXTURE,
    ),
    _one(
        "the log-variances' gradient without its −½",
        "priors.components:log_prob_backward",
        " - 0.5 * dconstant)",
        ")",
        MIXTURE,
        MIXTURE,
    ),
    _one(
        "logits taken for log-weights",
        "priors.mixture:Mixture.components_forward",
        'log_softmax(parameters["prior.logits"])',
        'parameters["prior.logits"]',
        NORMALISED,
        MIXTURE,
    ),
    _one(
        "the softmax's other part forgotten",
        "priors.mixture:Mixture.components_backward",
        "of.log_weights - np.exp(cache) * of.log_weights.sum()",
        "of.log_weights",
        MIXTURE,
        MIXTURE,
    ),
    _one(
        "every component drawn equally often",
        "priors.components:sample",
        "np.exp(mixture.log_weights.astype(np.float64))",
        "np.full(len(mixture.means), 1 / len(mixture.means))",
        DRAWS,
        MIXTURE,
    ),
    _one(
        "the KL to N(0, I) beside a learned prior, backward pass and all",
        "elbo:prior_forward",
        "log_prior, cache = learned.log_prob_forward(ops, parameters, z, encoder)",
        "log_prior, cache = standard_normal_log_prob(z), learned.log_prob_forward(ops, parameters, z, encoder)[1]",
        KL,
        WITH_MIXTURE,
    ),
    Mutant(
        "the error of a sampled KL from draws and examples at once",
        (Edit("evaluation.sampled_kl:stderr", "std(axis=0, ddof=1)", "std(ddof=1) * np.ones(len(q[0]))"),),
        (SAMPLING,),
    ),
    Mutant(
        "the spread of one draw for the error of the mean",
        (Edit("evaluation.sampled_kl:stderr", " / np.sqrt(samples)", ""),),
        (SAMPLING,),
    ),
    Mutant(
        "errors of examples averaged, where their squares add up",
        (Edit("elbo:Terms.kl_sampling_stderr", "np.sqrt((errors * errors).sum()) / len(errors)", "errors.mean()"),),
        (SAMPLING,),
    ),
    _one(
        "pseudo-inputs that leave [0, 1]",
        "priors.vamp:Vamp.components_forward",
        "np.where(inside, held, held.real > 1)",
        "held",
        BOX,
        VAMP,
    ),
    _one(
        "a gradient for pseudo-inputs where they are cut off",
        "priors.vamp:Vamp.components_backward",
        "encoder_cache, gradients) * inside",
        "encoder_cache, gradients)",
        VAMP,
        VAMP,
    ),
    _one(
        "the examples' gradient of the encoder written over the prior's",
        "elbo:elbo_backward",
        "add=adds_to_encoder(arch)",
        "add=False",
        WITH_VAMP,
        WITH_VAMP,
    ),
    _one(
        "the same in the bound of several samples",
        "objectives:objective_backward",
        "add=adds_to_encoder(arch)",
        "add=False",
        VAMP_IWAE,
        VAMP_IWAE,
    ),
    _one(
        "gradients that stop at the components, as if they were numbers",
        "priors.vamp:Vamp.components_backward",
        "for part in (of.means, of.logvars)",
        "for part in (0 * of.means, 0 * of.logvars)",
        WITH_VAMP,
        WITH_VAMP,
    ),
    _one(
        "chains that start at N(0, I), whatever the prior",
        "evaluation.annealing:_Chains.start",
        "return components.sample(self.target.mixture, drawn[:, :latent], u)",
        "return drawn[:, :latent]",
        STARTS,
        MIXTURE,
    ),
    _one(
        "chains whose energy has N(0, I), whatever the prior",
        "evaluation.annealing:Target.potential",
        "if self.mixture is None:",
        "if True:",
        CHAINS,
        MIXTURE,
    ),
    _one(
        "conditions stacked example-major beside draws that are sample-major",
        "model:decode_forward",
        "np.tile(given, (len(z) // len(given), 1))",
        "np.repeat(given, len(z) // len(given), axis=0)",
        CONDITIONAL,
        GIVEN,
    ),
    _one(
        "a decoder that is given zeros",
        "model:decode_forward",
        "np.tile(given, (len(z) // len(given), 1))",
        "np.tile(0 * given, (len(z) // len(given), 1))",
        CONDITIONAL,
        GIVEN,
    ),
)
