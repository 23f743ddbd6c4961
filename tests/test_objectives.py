"""What training can maximise: each gradient against differences and the complex step, each estimator's mean against
quadrature, the bound of K samples against its theory.

Other people's automatic differentiation of the same objectives: tests/verify/test_against_autodiff.py.
Budget: about 6 s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numeric import Problem, as_read_only, check_gradient, error, make_problem
from scipy import stats

from vae_np import backends, model, ops
from vae_np.architecture import Architecture
from vae_np.choices import LIKELIHOODS
from vae_np.elbo import elbo_backward, elbo_forward
from vae_np.errors import InputError
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.objectives import OBJECTIVES, objective_backward, objective_forward
from vae_np.parameters import Parameters
from vae_np.verify.catalogue import objective_loss

pytestmark = pytest.mark.core

BOUNDS = ("iwae", "stl", "dreg")
FEATURES, LATENT = 5, 2


def problem(likelihood: str = "bernoulli", activation: str = "tanh", **sizes: Any) -> Problem:
    arch = Architecture(FEATURES, LATENT, (4,), activation, likelihood, sigma=0.7)
    return make_problem(arch, **{"batch": 3, "samples": 3, **sizes})


def gradients_of(p: Problem, objective: str, beta: float = 1.0, backend: Any = ops) -> Parameters:
    _, cache = objective_forward(backend, p.arch, p.parameters, p.x, p.eps, objective=objective, beta=beta)
    gradients = p.parameters.zeros_like()
    objective_backward(backend, p.arch, cache, gradients)
    return gradients


def loss_of(p: Problem, objective: str, beta: float = 1.0, values: Mapping[str, Any] | None = None) -> Any:
    terms, _ = objective_forward(ops, p.arch, values or p.parameters, p.x, p.eps, objective=objective, beta=beta)
    return terms.loss(beta)


def part(gradients: Parameters, *names: str) -> np.ndarray:
    """The gradients of all tensors whose name begins like one of `names`, in one array."""
    return np.concatenate([value.ravel() for name, value in gradients.items() if name.startswith(names)])


# --- The gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "samples", "beta"), [(1, 1, 1.0), (3, 1, 0.3), (1, 4, 2.0), (3, 4, 1.0), (3, 2, 0)])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_gradient_of_every_parameter(objective: str, likelihood: str, batch: int, samples: int, beta: float) -> None:
    p = problem(likelihood, batch=batch, samples=samples)
    gradients = gradients_of(p, objective, beta)
    for name, value in p.parameters.items():
        check_gradient(
            lambda v, name=name: loss_of(p, objective, beta, {**p.parameters, name: v}), value, gradients[name]
        )


@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_gradient_through_the_other_activations(activation: str) -> None:
    p = problem(activation=activation)
    gradients = gradients_of(p, "iwae")
    for name, value in p.parameters.items():
        check_gradient(
            lambda v, name=name: loss_of(p, "iwae", values={**p.parameters, name: v}), value, gradients[name]
        )


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("objective", ["stl", "dreg", "score"])
def test_an_estimate_is_the_derivative_of_what_it_does_not_freeze(objective: str, likelihood: str, beta: float) -> None:
    """Weights, and what the path leaves out, held still at the point: a scalar, from the densities alone."""
    arch = Architecture(FEATURES, LATENT, (4,), "tanh", likelihood, 0.7)
    scalar = objective_loss(ops, arch, objective, 5, beta)
    gradients = scalar.gradient(scalar.point)
    for name, value in scalar.point.items():
        check_gradient(lambda v, name=name: scalar.loss({**scalar.point, name: v}), value, gradients[name])


@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_backend_gives_the_reference_s_gradient(objective: str, likelihood: str, beta: float) -> None:
    """Composed, in both precisions; a device has a suite of its own."""
    for name in set(backends.present()) - {"numpy", "cupy"}:
        for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
            p = problem(likelihood, samples=4)
            wanted = gradients_of(p, objective, beta)
            x = p.x if p.x.dtype == np.uint8 else p.x.astype(dtype)
            typed = Problem(p.arch, p.parameters.astype(dtype), x, p.eps.astype(dtype))
            got = gradients_of(typed, objective, beta, backends.choose(name).ops)
            assert got.dtype == dtype
            # The terms that cancel are as large as the encoder's whole gradient, not as a single tensor of it.
            for tensors in ("encoder", "decoder"):
                assert error(part(got, tensors), part(wanted, tensors)) < 4 * tolerance


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_single_precision_is_close_to_double(objective: str) -> None:
    arch = Architecture(40, 6, (30,), "tanh")
    single = make_problem(arch, batch=16, samples=4, dtype="float32")
    single.parameters.flat[...] *= np.float32(0.3)
    double = Problem(arch, single.parameters.astype("float64"), single.x, single.eps.astype(np.float64))
    got, wanted = gradients_of(single, objective), gradients_of(double, objective)
    assert got.dtype == np.float32
    for name in wanted:
        assert error(got[name], wanted[name]) < 1e-5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_inputs_are_read_and_backward_repeats_itself(objective: str) -> None:
    p = problem()
    frozen = as_read_only({**p.parameters, "x": p.x, "eps": p.eps})
    terms, cache = objective_forward(ops, p.arch, frozen, frozen["x"], frozen["eps"], objective=objective)
    gradients = [p.parameters.zeros_like() for _ in range(2)]
    for gradient in gradients:
        objective_backward(ops, p.arch, cache, gradient)
    assert np.array_equal(gradients[0].flat, gradients[1].flat)
    assert np.array_equal(gradients[0].flat, gradients_of(p, objective).flat)
    assert terms.loss() == loss_of(p, objective)


# --- Where they coincide ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_with_one_sample_the_bound_is_the_elbo_in_its_joint_form(beta: float) -> None:
    p = problem(samples=1)
    joint, cache = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps, form="joint")
    wanted = p.parameters.zeros_like()
    elbo_backward(ops, p.arch, cache, wanted, beta=beta)
    terms, _ = objective_forward(ops, p.arch, p.parameters, p.x, p.eps, objective="iwae", beta=beta)
    assert error(terms.bound, joint.reconstruction - beta * joint.kl) < 1e-14
    assert error(gradients_of(p, "iwae", beta).flat, wanted.flat) < 1e-13


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_with_one_sample_both_paths_are_one(beta: float) -> None:
    p = problem(samples=1)
    stl, dreg, iwae = (gradients_of(p, name, beta) for name in ("stl", "dreg", "iwae"))
    assert np.array_equal(stl.flat, dreg.flat)
    assert np.array_equal(part(stl, "decoder"), part(iwae, "decoder"))
    assert error(part(stl, "encoder"), part(iwae, "encoder")) > 1e-2


def test_the_decoder_s_gradient_is_the_same_for_every_path() -> None:
    p = problem(likelihood="normal-diagonal", samples=4)
    wanted = part(gradients_of(p, "iwae"), "decoder", "likelihood")
    for objective in ("stl", "dreg"):
        assert np.array_equal(part(gradients_of(p, objective), "decoder", "likelihood"), wanted)
    mean = part(gradients_of(p, "elbo"), "decoder", "likelihood")
    assert error(part(gradients_of(p, "score"), "decoder", "likelihood"), mean) < 1e-13
    assert error(mean, wanted) > 1e-2


def test_without_a_kl_dreg_is_iwae() -> None:
    """beta = 0: nothing of log q is left in the weights, so there is no score to be rewritten."""
    p = problem()
    for objective in ("stl", "dreg"):
        assert error(gradients_of(p, objective, 0.0).flat, gradients_of(p, "iwae", 0.0).flat) < 1e-13


# --- Values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_bound_is_the_log_of_the_mean_weight(beta: float) -> None:
    """From scipy's densities, one example and one sample at a time, summed exactly."""
    p = problem(samples=4)
    (mu, logvar), _ = model.encode_forward(ops, p.arch, p.parameters, p.x)
    sigma = np.exp(logvar / 2)
    expected = []
    for b in range(3):
        weights = []
        for eps in p.eps[b::3]:
            z = mu[b] + sigma[b] * eps
            out, _ = model.decode_forward(ops, p.arch, p.parameters, z[None])
            probability = 1 / (1 + np.exp(-out[0]))
            log_ratio = stats.norm.logpdf(z).sum() - stats.norm.logpdf(z, mu[b], sigma[b]).sum()
            weights.append(math.exp(stats.bernoulli.logpmf(p.x[b], probability).sum() + beta * log_ratio))
        expected.append(math.log(math.fsum(weights) / 4))
    for objective in BOUNDS:
        terms, _ = objective_forward(ops, p.arch, p.parameters, p.x, p.eps, objective=objective, beta=beta)
        assert error(terms.bound, np.array(expected)) < 1e-13
        assert terms.loss(beta) == -np.mean(terms.bound)


@pytest.mark.parametrize("beta", [1.0, 0.2])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_is_called_elbo_is_the_elbo(objective: str, beta: float) -> None:
    p = problem()
    elbo, _ = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps)
    terms, _ = objective_forward(ops, p.arch, p.parameters, p.x, p.eps, objective=objective, beta=beta)
    assert np.array_equal(terms.elbo, elbo.elbo)
    assert np.array_equal(terms.kl, elbo.kl)
    assert (terms.bound is None) == (objective in ("elbo", "score"))


def test_the_bound_of_k_samples_lies_between_their_mean_and_their_largest() -> None:
    p = problem(samples=7)
    terms, _ = objective_forward(ops, p.arch, p.parameters, p.x, p.eps, objective="iwae")
    joint, _ = elbo_forward(ops, p.arch, p.parameters, p.x, p.eps, form="joint")
    single = [
        objective_forward(ops, p.arch, p.parameters, p.x, p.eps[3 * s : 3 * s + 3], objective="iwae")[0].bound
        for s in range(7)
    ]
    assert (terms.bound > joint.elbo).all()
    assert (terms.bound < np.max(single, axis=0)).all()
    assert error(np.mean(single, axis=0), joint.elbo) < 1e-13


# --- Theory -----------------------------------------------------------------------------------------------------


def linear_problem(shift: float, widen: float, batch: int, samples: int, seed: int = 0) -> tuple[Problem, float, float]:
    """One x, `batch` times, in a model whose posterior N(m, c) is known, and q = N(m + shift, c·widen²).

    Returns the problem, log p(x) and χ² of the posterior against q.
    """
    rng = np.random.default_rng(seed)
    linear = LinearGaussian(rng.normal(size=(4, 1)), rng.normal(size=4), 0.6)
    arch, parameters = to_parameters(linear)
    parameters["encoder.mu.bias"][...] += shift
    parameters["encoder.logvar.bias"][...] += 2 * math.log(widen)
    x = rng.normal(size=(1, 4))
    c, s2 = linear.posterior(x)[1].item(), linear.posterior(x)[1].item() * widen**2
    chi2 = s2 / math.sqrt(c * (2 * s2 - c)) * math.exp(shift**2 / (2 * s2 - c)) - 1
    p = Problem(arch, parameters, np.tile(x, (batch, 1)), rng.normal(size=(samples * batch, 1)))
    return p, float(linear.log_prob(x).item()), chi2


def test_the_bound_rises_with_k_and_its_gap_is_chi_squared_over_2k() -> None:
    """E[δ − log(1 + δ)] is the gap without the noise of δ, whose mean is 0: every draw is positive."""
    gaps: dict[int, float] = {}
    for k in (1, 2, 4, 16, 64, 256):
        p, log_p, chi2 = linear_problem(0.2, 1.3, 500_000 // k, k, seed=3)
        bound = objective_forward(ops, p.arch, p.parameters, p.x, p.eps, objective="iwae")[0].bound
        assert bound is not None
        delta = np.expm1(bound - log_p)
        gaps[k] = float((delta - (bound - log_p)).mean())
        if k >= 16:
            # The next order is 1/K of this one, and half of δ² has the relative variance 2.
            assert gaps[k] == pytest.approx(chi2 / (2 * k), rel=1 / k + 4 * math.sqrt(2 / len(bound)))
    assert chi2 > 0.2
    assert all(gap > 0 for gap in gaps.values())
    assert list(gaps.values()) == sorted(gaps.values(), reverse=True)


@pytest.mark.parametrize("samples", [1, 2, 8])
def test_where_q_is_the_posterior_the_paths_have_no_variance(samples: int) -> None:
    p, log_p, chi2 = linear_problem(0.0, 1.0, 5, samples)
    assert abs(chi2) < 1e-12
    spread = np.abs(part(gradients_of(p, "iwae"), "encoder")).max()
    assert spread > 0.05
    for objective in ("stl", "dreg"):
        terms, _ = objective_forward(ops, p.arch, p.parameters, p.x, p.eps, objective=objective)
        assert error(terms.bound, np.full(5, log_p)) < 1e-13
        assert np.abs(part(gradients_of(p, objective), "encoder")).max() < 1e-13 * spread


def expected_gradient(p: Problem, objective: str, beta: float, nodes: int = 45) -> Parameters:
    """E over two samples' ε of the estimate, by the trapezoid rule; p has one example and one latent."""
    points = np.linspace(-8, 8, nodes)
    weights = stats.norm.pdf(points) * (points[1] - points[0])
    total = p.parameters.zeros_like()
    for i, j in np.ndindex(nodes, nodes):
        eps = np.array([[points[i]], [points[j]]])
        drawn = gradients_of(Problem(p.arch, p.parameters, p.x, eps), objective, beta)
        total.flat[...] += weights[i] * weights[j] * drawn.flat
    return total


@pytest.fixture(scope="module")
def one_latent() -> Problem:
    """A curved decoder, and a q that is off: one example, one latent."""
    return make_problem(Architecture(4, 1, (3,), "tanh"), batch=1, samples=2, seed=1)


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_dreg_has_the_mean_of_the_bound_s_gradient_and_stl_has_not(one_latent: Problem, beta: float) -> None:
    wanted = expected_gradient(one_latent, "iwae", beta)
    assert error(expected_gradient(one_latent, "dreg", beta).flat, wanted.flat) < 1e-8
    stl = expected_gradient(one_latent, "stl", beta)
    assert error(part(stl, "encoder"), part(wanted, "encoder")) > 1e-3
    assert error(part(stl, "decoder"), part(wanted, "decoder")) < 1e-12


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_score_function_has_the_mean_of_the_elbo_s_gradient(one_latent: Problem, beta: float) -> None:
    wanted = expected_gradient(one_latent, "elbo", beta)
    assert error(expected_gradient(one_latent, "score", beta).flat, wanted.flat) < 1e-8


def test_dreg_shakes_the_encoder_less_than_the_bound_s_own_gradient() -> None:
    """Near the posterior, 16 samples: over 300 draws of the encoder's gradient."""
    p, _, _ = linear_problem(0.05, 1.05, 1, 16)
    rng = np.random.default_rng(7)
    drawn = {name: [] for name in ("iwae", "dreg", "score")}
    for _ in range(300):
        eps = rng.normal(size=(16, 1))
        for name, values in drawn.items():
            values.append(part(gradients_of(Problem(p.arch, p.parameters, p.x, eps), name), "encoder"))
    spread = {name: np.std(values, axis=0).max() for name, values in drawn.items()}
    assert spread["dreg"] < 0.2 * spread["iwae"]
    assert spread["dreg"] < 0.2 * spread["score"]


# --- Bad input --------------------------------------------------------------------------------------------------


def test_an_unknown_objective_is_refused() -> None:
    p = problem()
    with pytest.raises(InputError, match=r"^objective: got 'vimco', expected one of elbo, iwae, stl, dreg, score$"):
        loss_of(p, "vimco")


def test_the_score_function_needs_a_second_sample() -> None:
    with pytest.raises(InputError, match=r"^samples: got 1, expected at least 2: score's baseline is the mean of"):
        loss_of(problem(samples=1), "score")
