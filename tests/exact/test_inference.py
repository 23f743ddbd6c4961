"""Variational inference per datapoint: solved λ against closed forms and quadrature, the two KLs, nested and joint
optimisation, the gap split, λ_1..λ_n, and the refitted encoder.

Budget: about 12 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize

from vae_np import model, noise, ops
from vae_np.architecture import Architecture
from vae_np.distributions import full_normal_log_prob_backward, full_normal_log_prob_forward
from vae_np.elbo import elbo_forward, posterior_elbo_backward, posterior_elbo_forward
from vae_np.errors import InputError
from vae_np.exact import amortisation, enumeration, inference, quadrature
from vae_np.exact.decoder import Decoder
from vae_np.exact.inference import ELBO, ClosedFormELBO, Family, Rule, maximise, maximise_best
from vae_np.exact.linear_gaussian import LinearGaussian, from_parameters, ppca_log_likelihood, to_parameters
from vae_np.exact.nested_and_joint import joint_ascent, nested_ascent
from vae_np.model import Model
from vae_np.optim import adam_update
from vae_np.step import Optimiser, TrainingState
from vae_np.training.per_datapoint import LOCAL_LR, LocalPosterior, infer, local_training_step


def _linear(features: int = 5, latent: int = 3, n: int = 12) -> tuple[LinearGaussian, np.ndarray]:
    rng = np.random.default_rng(7)
    m = LinearGaussian(rng.normal(size=(features, latent)), rng.normal(size=features), rng.uniform(0.1, 0.5, features))
    return m, m.sample(rng.normal(size=(n, latent)), rng.normal(size=(n, features)))


def _decoder(features: int = 4, latent: int = 1, *, scale: float = 2.0, seed: int = 1) -> Decoder:
    arch = Architecture(features=features, latent=latent, hidden=(6,), activation="tanh")
    parameters = model.initialise(arch, seed=seed, dtype=np.float64)
    for name in ("decoder.hidden.0.weight", "decoder.out.weight"):
        parameters[name][...] *= scale
    return Decoder.of(arch, parameters)


def _lattice_kl(decoder: Decoder, x: np.ndarray, family: Family, lam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """KL(q ‖ p(z|x)) and its gradient in μ, L by a fixed trapezoid lattice on [−24, 24] (one latent), from the density
    of q and ∇ log q alone: ∇ D = E_q[∇ log q (log q − log p(z|x))]."""
    z = np.linspace(-24, 24, 32_001)[:, None]
    joint_ = decoder.log_joint_matrix(x, z)
    top = joint_.max(axis=1, keepdims=True)
    log_posterior = joint_ - top - np.log(np.exp(joint_ - top).sum(axis=1, keepdims=True) * 0.0015)
    mu, chol = family.unpack(lam)
    value, gradient = np.empty(len(x)), np.empty_like(lam)
    for i in range(len(x)):
        many = (np.repeat(mu[i : i + 1], len(z), axis=0), np.repeat(chol[i : i + 1], len(z), axis=0))
        log_q, cache = full_normal_log_prob_forward(z, *many)
        mass = 0.0015 * np.exp(log_q)
        excess = log_q - log_posterior[i]
        value[i] = mass @ excess
        _, dmu, dchol = full_normal_log_prob_backward(mass * excess, cache)
        gradient[i] = family.backward(dmu.sum(axis=0)[None], dchol.sum(axis=0)[None], chol[i : i + 1])[0]
    return value, gradient


# --- λ -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_pack_unpack_and_the_number_of_numbers(kind: str) -> None:
    rng = np.random.default_rng(0)
    family = Family(kind, 3)
    assert family.size == {"diagonal": 6, "full": 3 + 3 * 4 // 2}[kind]
    lam = rng.normal(size=(4, family.size))
    mu, _ = family.unpack(lam)
    np.testing.assert_allclose(family.pack(mu, family.covariance(lam)), lam, atol=1e-12)
    np.testing.assert_array_equal(family.unpack(family.prior(2))[1], np.broadcast_to(np.eye(3), (2, 3, 3)))


@pytest.mark.parametrize("kind", ["diagonal", "full"])
@pytest.mark.parametrize("own_noise", [False, True])
def test_bound_gradient_equals_common_noise_differences(kind: str, own_noise: bool) -> None:
    rng = np.random.default_rng(1)
    decoder, family = _decoder(5, 2), Family(kind, 2)
    x = (rng.random((3, 5)) < 0.5).astype(np.float64)
    eps = rng.normal(size=(7, 3, 2) if own_noise else (7, 2))
    bound = ELBO(decoder, x, Rule.common_noise(eps), family)
    lam, rows, h = 0.5 * rng.normal(size=(3, family.size)), np.arange(3), 1e-5
    _, gradient = bound.value_and_gradient(lam, rows)
    for j in range(family.size):
        step = h * (np.arange(family.size) == j)
        sides = [bound.value_and_gradient(lam + sign * step, rows)[0] for sign in (1, -1)]
        np.testing.assert_allclose(gradient[:, j], (sides[0] - sides[1]) / (2 * h), rtol=1e-6, atol=1e-8)
    one, _ = bound.value_and_gradient(lam[2:], rows[2:])
    assert one[0] == pytest.approx(bound.value_and_gradient(lam, rows)[0][2], rel=1e-13)


@pytest.mark.parametrize("quadrature", [False, True])
def test_solved_full_covariance_is_the_linear_gaussian_posterior(quadrature: bool) -> None:
    m, x = _linear(latent=2 if quadrature else 3)
    family = Family("full", m.latent)
    decoder = Decoder.of(*to_parameters(m))
    bound = (
        ELBO(decoder, x, Rule.gauss_hermite(2, 3), family) if quadrature else ClosedFormELBO(m, x, family)
    )
    found = maximise(bound, family.prior(len(x)))
    assert found.converged.all()
    assert m.kl_to_posterior(x, found.mu, found.covariance).max() < 1e-10
    assert np.abs(m.log_prob(x) - found.elbo).max() < 1e-10
    # The mean depends on x; the covariance does not.
    assert np.abs(found.mu[0] - found.mu[1]).max() > 0.1
    np.testing.assert_allclose(found.covariance, np.tile(found.covariance[0], (len(x), 1, 1)), atol=1e-7)


def test_solved_diagonal_has_the_closed_form_gap_and_both_kls_their_variances() -> None:
    m, x = _linear(latent=2)
    family, decoder = Family("diagonal", 2), Decoder.of(*to_parameters(m))
    found = maximise(ELBO(decoder, x, Rule.gauss_hermite(2, 3), family), family.prior(len(x)))
    _, variances, gap = m.best_diagonal(x)
    assert found.converged.all()
    np.testing.assert_allclose(m.log_prob(x) - found.elbo, gap, atol=1e-9)
    np.testing.assert_allclose(np.diagonal(found.covariance, axis1=1, axis2=2), np.tile(variances, (12, 1)), rtol=1e-6)
    np.testing.assert_allclose(variances, 1 / np.diag(m.precision))
    forward = inference.forward_kl_optimum(quadrature.posterior(decoder, x), family)
    inverse = np.diag(np.linalg.inv(m.precision))
    np.testing.assert_allclose(np.exp(forward[:, 2:]), np.tile(inverse, (12, 1)), rtol=1e-9)
    np.testing.assert_allclose(forward[:, :2], found.mu, atol=1e-6)
    assert (inverse > variances * 1.01).all()


def test_batched_solver_equals_scipy_one_at_a_time() -> None:
    decoder, x = _decoder(6, 2, scale=4), enumeration.states(6)[::9].astype(np.float64)
    for kind in ("diagonal", "full"):
        family = Family(kind, 2)
        bound = ELBO(decoder, x, Rule.gauss_hermite(2, 12), family)
        found = maximise(bound, family.prior(len(x)))
        assert found.converged.all()
        assert len(set(found.iterations.tolist())) > 1
        for i in range(0, len(x), 3):

            def negative(lam: np.ndarray, i: int = i, bound: ELBO = bound) -> tuple[float, np.ndarray]:
                value, gradient = bound.value_and_gradient(lam[None], np.array([i]))
                return -value[0], -gradient[0]

            scipys = optimize.minimize(negative, found.lam[i] + 0.1, jac=True, method="BFGS", options={"gtol": 1e-8})
            assert found.elbo[i] == pytest.approx(-scipys.fun, abs=1e-9)
            np.testing.assert_allclose(found.lam[i], scipys.x, atol=1e-5)


def test_a_solve_that_does_not_converge_is_flagged_example_by_example() -> None:
    decoder, x = _decoder(scale=4), enumeration.states(4).astype(np.float64)
    family = Family("diagonal", 1)
    bound = ELBO(decoder, x, Rule.gauss_hermite(1, 20), family)
    solved = maximise(bound, family.prior(16))
    start = family.prior(16)
    start[0] = solved.lam[0]
    hurried = maximise(bound, start, iterations=1)
    assert hurried.converged[0]
    assert not hurried.converged[1:].all()
    assert (hurried.gradient[~hurried.converged] > 1e-7).all()
    best = maximise_best(bound, [family.prior(16), solved.lam], iterations=1)
    assert best.converged.all()
    np.testing.assert_allclose(best.elbo, solved.elbo, rtol=1e-12)


def test_best_of_two_starts_takes_the_higher_mode() -> None:
    arch = Architecture(features=1, latent=1, hidden=(2,), activation="softplus", likelihood="normal-fixed", sigma=0.1)
    parameters = model.initialise(arch, seed=0, dtype=np.float64)
    parameters["decoder.hidden.0.weight"][...] = [[1.0, -1.0]]
    parameters["decoder.hidden.0.bias"][...] = [0.0, -0.4]
    parameters["decoder.out.weight"][...] = 1
    parameters["decoder.out.bias"][...] = 0
    family = Family("diagonal", 1)
    bound = ELBO(Decoder.of(arch, parameters), np.array([[2.5]]), Rule.gauss_hermite(1, 20), family)
    sides = [family.diagonal(np.array([[m]]), np.array([[-4.0]])) for m in (2.5, -2.5)]
    found = [maximise(bound, side) for side in sides]
    assert all(solution.converged.all() for solution in found)
    assert found[0].mu[0, 0] * found[1].mu[0, 0] < 0
    best = maximise_best(bound, sides)
    assert best.elbo[0] == max(solution.elbo[0] for solution in found)
    assert abs(found[0].elbo[0] - found[1].elbo[0]) > 0.01


# --- ELBO = log p − KL -------------------------------------------------------------------------------------------


def test_bound_log_p_and_kl_are_three_quadratures_that_agree() -> None:
    rng = np.random.default_rng(2)
    decoder, family = _decoder(scale=1.5), Family("diagonal", 1)
    x = np.repeat(enumeration.states(4)[[3]], 100, axis=0).astype(np.float64)
    lam = family.diagonal(rng.uniform(-3, 3, (100, 1)), 2 * np.log(rng.uniform(0.1, 2, (100, 1))))
    elbo, gradient = ELBO(decoder, x, Rule.trapezoid(1, 0.05), family).value_and_gradient(lam, np.arange(100))
    log_p = quadrature.posterior(decoder, x[:1]).log_prob[0]
    kl, kl_gradient = _lattice_kl(decoder, x, family, lam)
    np.testing.assert_allclose(elbo + kl, log_p, atol=1e-8)
    assert (kl >= 0).all()
    assert (elbo <= log_p).all()
    own = inference.kl_to_posterior(decoder, x, np.full(100, log_p), family, lam, spacing=0.06)
    np.testing.assert_allclose(own, kl, atol=1e-9)
    np.testing.assert_allclose(kl_gradient, -gradient, atol=1e-10 * np.abs(gradient).max())


# --- nested and joint --------------------------------------------------------------------------------------------


def _logit_decoder() -> tuple[Decoder, np.ndarray, np.ndarray]:
    """A decoder without hidden layers at a random start, all x of four pixels, their probabilities under another."""
    arch = Architecture(features=4, latent=1, hidden=())
    true = model.initialise(arch, seed=0, dtype=np.float64)
    true["decoder.out.weight"][...] = [2.0, -1.5, 1.0, 0.5]
    weights = np.exp(enumeration.marginal(Decoder.of(arch, true)).log_prob)
    start = Decoder.of(arch, model.initialise(arch, seed=2, dtype=np.float64))
    return start, enumeration.states(4).astype(np.float64), weights


def test_nested_and_joint_reach_the_same_optimum_and_never_step_down() -> None:
    decoder, x, weights = _logit_decoder()
    rule = Rule.gauss_hermite(1, 40)
    one, other = nested_ascent(decoder, x, rule, weights=weights), joint_ascent(decoder, x, rule, weights=weights)
    assert one.elbo == pytest.approx(other.elbo, abs=1e-4)
    np.testing.assert_allclose(one.lam, other.lam, atol=1e-2)
    for optimum in (one, other):
        assert optimum.converged
        assert optimum.rule_error < 1e-8
        assert (np.diff(optimum.trace) >= -1e-10).all()
        assert optimum.trace[-1] - optimum.trace[0] > 0.2
        # No model scores above the entropy of what it is fitted to.
        assert optimum.elbo < weights @ np.log(weights)
    assert one.solves == one.evaluations > 1
    assert one.inner_steps > 10 * one.solves
    assert other.solves == 1


def test_a_climb_that_exploits_a_coarse_rule_is_flagged() -> None:
    decoder, x, _ = _logit_decoder()
    found = joint_ascent(decoder, x[[3, 12]], Rule.gauss_hermite(1, 2), weights=np.array([0.5, 0.5]), iterations=200)
    assert found.elbo > -np.log(2) + 0.1  # above what any model of two equally frequent x can score
    assert found.rule_error > 1e-6
    assert not found.converged
    assert np.isnan(joint_ascent(decoder, x, Rule.common_noise(np.array([[0.3], [-1.0]])), iterations=2).rule_error)


def test_nested_with_a_family_that_holds_the_posterior_raises_log_p_to_ppcas() -> None:
    m, x = _linear(4, 1, n=60)
    arch, parameters = to_parameters(LinearGaussian(m.weight * 0.3, m.bias * 0, 1.0))
    decoder = Decoder.of(arch, parameters)
    log_p: list[float] = []

    def note(there: Decoder, lam: np.ndarray) -> None:
        log_p.append(float(from_parameters(there.arch, there.parameters).log_prob(x).mean()))

    found = nested_ascent(decoder, x, Rule.gauss_hermite(1, 3), on_step=note)
    assert found.converged
    assert (np.diff(log_p) >= -1e-10).all()
    assert log_p[-1] == pytest.approx(ppca_log_likelihood(x, 1), abs=1e-6)
    np.testing.assert_allclose(found.trace[1:], log_p, atol=1e-9)


def test_envelope_theorem_total_derivative_is_the_partial_one() -> None:
    decoder, x = _decoder(3, scale=3), enumeration.states(3).astype(np.float64)
    family, rule = Family("diagonal", 1), Rule.gauss_hermite(1, 20)
    weights = np.full(8, 1 / 8)

    def solved(there: Decoder) -> tuple[float, np.ndarray]:
        found = maximise(ELBO(there, x, rule, family), family.prior(8), tolerance=1e-10)
        return float(found.elbo.mean()), found.lam

    _, lam = solved(decoder)
    _, _, partial = ELBO(decoder, x, rule, family).parameter_gradient(lam, weights)
    rng, h = np.random.default_rng(0), 1e-5
    for _ in range(5):
        direction = rng.normal(size=decoder.parameters.flat.size)
        sides = [solved(decoder.moved(decoder.parameters.flat + sign * h * direction))[0] for sign in (1, -1)]
        assert partial.flat @ direction == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-6)


# --- amortisation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["diagonal", "full"])
def test_gap_splits_into_two_non_negative_parts(kind: str) -> None:
    rng = np.random.default_rng(6)
    decoder = _decoder(6, 2, scale=2)
    x = (rng.random((10, 6)) < 0.5).astype(np.uint8)
    posterior = quadrature.posterior(decoder, x)
    mu = posterior.mean() + 0.3 * rng.normal(size=(10, 2))
    gap = amortisation.split_gap(
        decoder, x, mu, 0.5 * rng.normal(size=(10, 2)) - 1.5, kind=kind, nodes=60, solver_nodes=30
    )
    assert gap.converged.all()
    assert (gap.approximation > -1e-9).all()
    assert (gap.amortisation > 1e-4).all()
    assert np.abs(gap.residual).max() < 1e-6
    assert gap.total.min() > 0.01
    np.testing.assert_allclose(gap.log_prob, posterior.log_prob, atol=1e-9)


def test_a_linear_encoder_at_ppca_leaves_no_amortisation_gap() -> None:
    m, x = _linear(latent=2)
    arch, parameters = to_parameters(LinearGaussian(m.weight, m.bias, 0.3))
    (mu, logvar), _ = model.encode_forward(ops, arch, parameters, x)
    gap = amortisation.split_gap(Decoder.of(arch, parameters), x, mu, logvar)
    expected = from_parameters(arch, parameters).best_diagonal(x)[2]
    np.testing.assert_allclose(gap.approximation, expected, atol=1e-9)
    np.testing.assert_allclose(gap.amortisation, 0, atol=1e-9)


def test_a_refitted_encoder_recovers_the_bound_and_leaves_the_decoder_bit_for_bit() -> None:
    m, x = _linear(5, 2, n=400)
    arch, parameters = to_parameters(LinearGaussian(m.weight, m.bias, 0.5))
    eps = noise.normal(np.arange(400), 2, seed=5, stream=noise.EVAL_EPS, dtype=np.float64)
    before = elbo_forward(ops, arch, parameters, x, eps)[0].elbo.mean()

    def batch(step: int) -> tuple[np.ndarray, np.ndarray]:
        rows = noise.order(400, seed=0, epoch=step)[:100]
        return x[rows], rows

    fresh = amortisation.refit_encoder(
        Model(ops, arch, parameters), batch, steps=1500, seed=1, optimiser=Optimiser(lr=0.01)
    )
    for name, view in parameters.items():
        if name.startswith("encoder."):
            assert not np.array_equal(fresh[name], view)
        else:
            np.testing.assert_array_equal(fresh[name], view)
    assert elbo_forward(ops, arch, fresh, x, eps)[0].elbo.mean() == pytest.approx(before, abs=0.05)


# --- λ_1 .. λ_n --------------------------------------------------------------------------------------------------


def test_local_gradients_equal_finite_differences_of_the_loss() -> None:
    rng = np.random.default_rng(8)
    arch = Architecture(features=4, latent=2, hidden=(5,), activation="tanh")
    parameters = model.initialise(arch, seed=0, dtype=np.float64)
    x, eps = (rng.random((3, 4)) < 0.5).astype(np.uint8), rng.normal(size=(6, 2))
    at = [rng.normal(size=(3, 2)), rng.normal(size=(3, 2))]

    def loss() -> float:
        return float(posterior_elbo_forward(ops, arch, parameters, x, *at, eps)[0].loss(0.7))

    _, cache = posterior_elbo_forward(ops, arch, parameters, x, *at, eps)
    gradients = parameters.zeros_like()
    dmu, dlogvar = posterior_elbo_backward(ops, arch, cache, gradients, beta=0.7)
    places = [(at[0], dmu), (at[1], dlogvar)]
    places += [(parameters[name], gradients[name]) for name in parameters if name.startswith("decoder")]
    for array, gradient in places:
        for i in np.ndindex(array.shape):
            kept = array[i]
            sides = []
            for sign in (1, -1):
                array[i] = kept + sign * 1e-5
                sides.append(loss())
            array[i] = kept
            assert gradient[i] == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-6, abs=1e-9)


def test_parameters_move_along_the_gradient_of_the_last_local_step() -> None:
    arch, x = Architecture(features=4, latent=2, hidden=(5,), activation="tanh"), enumeration.states(4)
    rows = np.arange(16)

    def start() -> tuple[TrainingState, LocalPosterior]:
        return TrainingState(model.initialise(arch, seed=0, dtype=np.float64)), LocalPosterior.prior(16, 2, float)

    two, one = start(), start()
    options: Any = {"seed": 3, "optimiser": Optimiser(), "beta": 0.8}
    local_training_step(ops, arch, *two, x, rows, local_steps=2, **options)
    # The first of two steps is the noise's sample 1, and moves λ alone.
    eps = noise.normal(rows, 2, seed=3, stream=noise.EPS, sample=1, dtype=np.float64)
    _, cache = posterior_elbo_forward(ops, arch, one[0].parameters, x, one[1].mu, one[1].logvar, eps)
    dmu, dlogvar = posterior_elbo_backward(ops, arch, cache, None, beta=0.8)
    one[1].update(rows, dmu * 16, dlogvar * 16, optimiser=Optimiser(lr=LOCAL_LR))
    local_training_step(ops, arch, *one, x, rows, local_steps=1, **options)
    np.testing.assert_array_equal(two[0].gradients.flat, one[0].gradients.flat)
    np.testing.assert_array_equal(two[0].parameters.flat, one[0].parameters.flat)
    np.testing.assert_array_equal(two[1].mu, one[1].mu)
    assert two[0].gradients.flat.any()


def test_local_update_is_adam_row_by_row_and_touches_no_other_row() -> None:
    rng = np.random.default_rng(9)
    local = LocalPosterior.prior(5, 2, np.float64)
    own = np.zeros((5, 4)), np.zeros((5, 4)), np.zeros((5, 4))
    visits = np.zeros(5, dtype=int)
    for rows in ([0, 1], [1, 3], [1, 0], [3, 4]):
        gradient = rng.normal(size=(2, 4))
        for row, g in zip(rows, gradient, strict=True):
            visits[row] += 1
            adam_update(own[0][row], g, own[1][row], own[2][row], step=int(visits[row]), lr=0.3)
        local.update(np.array(rows), gradient[:, :2], gradient[:, 2:], optimiser=Optimiser(lr=0.3))
    np.testing.assert_allclose(np.hstack([local.mu, local.logvar]), own[0], rtol=1e-12)
    np.testing.assert_array_equal(local.visits, visits)
    assert not local.mu[2].any()


def test_training_without_an_encoder_approaches_ppca() -> None:
    m, x = _linear(5, 1, n=100)
    arch, parameters = to_parameters(LinearGaussian(m.weight * 0.1, m.bias, 1.0))
    state, local = TrainingState(parameters), LocalPosterior.prior(100, 1, np.float64)
    encoder = parameters["encoder.mu.weight"].copy()
    for step in range(4000):
        rows = noise.order(100, seed=0, epoch=step // 5)[step % 5 * 20 :][:20]
        rate = 0.02 * max(0.02, 1 - step / 4000)
        local_training_step(
            ops,
            arch,
            state,
            local,
            x[rows],
            rows,
            seed=0,
            optimiser=Optimiser(lr=rate),
            local_lr=5 * rate,
            local_steps=1,
        )
    trained = from_parameters(arch, parameters)
    elbo = trained.elbo(x, local.mu, np.exp(local.logvar)[..., None])
    best = ppca_log_likelihood(x, 1)
    assert best - 0.05 < elbo.mean() <= best
    assert trained.log_prob(x).mean() == pytest.approx(best, abs=0.02)
    np.testing.assert_array_equal(parameters["encoder.mu.weight"], encoder)
    held_out = m.sample(np.ones((6, 1)), np.zeros((6, 5)))
    q = infer(Model(ops, arch, parameters), held_out, np.arange(6), steps=300, seed=0, lr=0.1, samples=8)
    reached = trained.elbo(held_out, q.mu, np.exp(q.logvar)[..., None])
    assert (trained.log_prob(held_out) - reached < 0.05).all()


def test_local_steps_are_deterministic_in_the_seed() -> None:
    m, x = _linear(5, 1, n=10)
    runs = []
    for seed in (0, 0, 1):
        arch, parameters = to_parameters(LinearGaussian(m.weight, m.bias, 1.0))
        state, local = TrainingState(parameters), LocalPosterior.prior(10, 1, np.float64)
        local_training_step(
            ops, arch, state, local, x, np.arange(10), seed=seed, optimiser=Optimiser(), local_steps=3
        )
        assert local.visits.tolist() == [3] * 10
        assert state.step == 1
        runs.append(local.mu.copy())
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


# --- bad input ---------------------------------------------------------------------------------------------------


def test_bad_input_is_one_clear_line() -> None:
    decoder, family = _decoder(latent=3), Family("full", 3)
    x = enumeration.states(4).astype(np.float64)
    bound = ELBO(_decoder(), x, Rule.gauss_hermite(1, 5), Family("diagonal", 1))
    for call, message in (
        (lambda: Family("lowrank", 2), "family: got 'lowrank'"),
        (lambda: Rule.gauss_hermite(3, 4), "latent: got 3"),
        (lambda: family.pack(np.zeros((1, 3)), -np.eye(3)[None]), "positive definite"),
        (lambda: inference.kl_to_posterior(decoder, x, np.zeros(16), family, family.prior(16)), "latent: got 3"),
        (lambda: amortisation.split_gap(decoder, x, np.zeros((16, 3)), np.zeros((16, 3))), "latent: got 3"),
        (lambda: maximise(bound, np.zeros((16, 3))), "start: got shape"),
        (lambda: maximise(bound, np.full((16, 2), 900.0)), "start"),
        (lambda: nested_ascent(_decoder(), x, bound.rule, weights=np.ones(3)), "weights: got shape"),
        (lambda: LocalPosterior(np.zeros((2, 1)), np.zeros((2, 2))), "mu, logvar"),
    ):
        with np.errstate(all="ignore"), pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
