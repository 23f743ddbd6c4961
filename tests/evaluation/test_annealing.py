"""Annealed importance sampling: weights that average to p(x), transitions that keep their target, bounds on both sides.

Budget: about 8 s.
"""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numeric import central_difference, error, make_problem

from vae_np import backends, data, noise, ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.errors import InputError
from vae_np.evaluation import annealing, held_out
from vae_np.evaluation.annealing import Annealing, BidirectionalEstimate, State, Target, annealed_log_likelihood
from vae_np.exact import quadrature
from vae_np.exact.decoder import Decoder
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.model import Model
from vae_np.parameters import Parameters

FEW = Annealing(chains=3, temperatures=6, leapfrog=3)


def target_of(arch: Architecture, parameters: Parameters, x: Array) -> Target:
    return Target(Model(ops, arch, parameters), x)


def decoder_problem(likelihood: str = "bernoulli", latent: int = 2, batch: int = 5) -> tuple[Any, ...]:
    """A tanh decoder with posteriors that are far from normal, and data that suit its likelihood."""
    p = make_problem(Architecture(6, latent, (5,), "tanh", likelihood), batch=batch)
    for name in p.parameters:
        if name.startswith("decoder"):
            p.parameters[name][...] *= 2
    return p.arch, p.parameters, p.x


def linear(latent: int = 2, features: int = 4, seed: int = 0) -> tuple[LinearGaussian, Architecture, Parameters]:
    rng = np.random.default_rng(seed)
    truth = LinearGaussian(rng.normal(size=(features, latent)), rng.normal(size=features), 0.5)
    return truth, *to_parameters(truth)


def simulate(arch: Architecture, parameters: Parameters, n: int) -> tuple[Array, Array]:
    """x (n, D) that the model simulates, and the z that each comes from, which is a draw from its posterior."""
    rng = np.random.default_rng(8)
    z = rng.normal(size=(n, arch.latent))
    noises = rng.uniform(size=(n, arch.features)) if arch.is_bernoulli else rng.normal(size=(n, arch.features))
    return Decoder.of(arch, parameters).sample(z, noises), z


def by_quadrature(arch: Architecture, parameters: Parameters, x: Array) -> Array:
    found = quadrature.log_likelihood(Decoder.of(arch, parameters), x)
    assert found.converged.all()
    return found.log_prob


# --- Weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latent", [1, 2])
@pytest.mark.parametrize("likelihood", ["bernoulli", "normal-diagonal"])
def test_the_weights_average_to_p_of_x(likelihood: str, latent: int) -> None:
    """E w = p(x) for any number of temperatures and any step size: only what is wrong would move the mean."""
    arch, parameters, x = decoder_problem(likelihood, latent)
    x = np.repeat(x[:1], 4000, axis=0)
    settings = Annealing(chains=1, temperatures=4, leapfrog=3)
    target, rows = target_of(arch, parameters, x), np.arange(len(x))
    steps = np.full((3, len(x)), 0.9 if arch.is_bernoulli else 0.5)
    log_w, chance = annealing.log_weights(target, rows, steps, settings, np.arange(1), seed=0)
    w = np.exp(log_w[0] - by_quadrature(arch, parameters, x[:1]))
    assert 0.2 < chance.mean() < 0.98
    assert abs(w.mean() - 1) < 4 * w.std() / np.sqrt(len(w))


@pytest.mark.parametrize("latent", [1, 2])
def test_one_over_the_reverse_weights_averages_to_one_over_p_of_x(latent: int) -> None:
    truth, arch, parameters = linear(latent)
    x = np.repeat(truth.sample(np.ones((1, latent)), np.zeros((1, 4))), 4000, axis=0)
    mean, covariance = truth.posterior(x)
    rng = np.random.default_rng(1)
    z = mean + rng.normal(size=mean.shape) @ np.linalg.cholesky(covariance).T
    settings = Annealing(chains=1, temperatures=5, leapfrog=3)
    target = target_of(arch, parameters, x)
    steps = np.full((4, len(x)), 0.8)
    log_w, chance = annealing.log_weights(target, np.arange(len(x)), steps, settings, np.arange(1), seed=0, start=z)
    inverse = np.exp(truth.log_prob(x) - log_w[0])
    assert 0.2 < chance.mean() < 0.98
    assert abs(inverse.mean() - 1) < 4 * inverse.std() / np.sqrt(len(inverse))


def test_one_temperature_is_the_average_over_the_prior() -> None:
    arch, parameters, x = decoder_problem()
    settings, rows = Annealing(chains=7, temperatures=1), np.arange(5)
    result = annealed_log_likelihood(Model(ops, arch, parameters), x, rows, settings, seed=3)
    z = noise.normal(
        np.tile(rows, 7), 2, seed=3, stream=noise.AIS, sample=np.repeat(3 * np.arange(7) + 1, 5), dtype=np.float64
    )
    decoder = Decoder.of(arch, parameters)
    expected = [decoder.prior_monte_carlo(x[b : b + 1], z[b::5])[0] for b in range(5)]
    assert error(result.log_likelihood, np.array(expected)) < 1e-12
    assert np.array_equal(result.acceptance, np.zeros(5))


@pytest.mark.parametrize(("likelihood", "latent"), [("bernoulli", 1), ("bernoulli", 2), ("normal-diagonal", 1)])
def test_both_sides_bracket_quadrature(likelihood: str, latent: int) -> None:
    arch, parameters, _ = decoder_problem(likelihood, latent)
    x, z = simulate(arch, parameters, 40)
    settings = Annealing(chains=16, temperatures=60, leapfrog=3)
    result = annealed_log_likelihood(Model(ops, arch, parameters), x, np.arange(40), settings, seed=0, posterior=z)
    assert isinstance(result, BidirectionalEstimate)
    truth = by_quadrature(arch, parameters, x)
    below, above = result.log_likelihood - truth, result.upper - truth
    errors = [side.std(ddof=1) / np.sqrt(40) for side in (below, above)]
    assert below.mean() < 4 * errors[0]
    assert above.mean() > -4 * errors[1]
    # And near it: what brackets anything proves nothing.
    assert max(abs(below.mean()), abs(above.mean())) < 0.1
    # The standard errors that are reported are those of the estimates.
    assert (np.abs(below) < 5 * np.maximum(result.stderr, 0.02)).all()


@pytest.mark.parametrize("latent", [1, 2])
def test_sixteen_chains_are_within_four_standard_errors(latent: int) -> None:
    arch, parameters, x = decoder_problem("bernoulli", latent)
    settings = Annealing(chains=16, temperatures=100, leapfrog=3)
    result = annealed_log_likelihood(Model(ops, arch, parameters), x, np.arange(5), settings, seed=0)
    assert (np.abs(result.log_likelihood - by_quadrature(arch, parameters, x)) < 4 * result.stderr).all()


def test_more_temperatures_close_the_gap_in_a_linear_model() -> None:
    truth, arch, parameters = linear(latent=6, features=8)
    x, z = simulate(arch, parameters, 30)
    gaps = []
    for temperatures in (3, 30, 150):
        settings = Annealing(chains=8, temperatures=temperatures, leapfrog=4)
        model, rows = Model(ops, arch, parameters), np.arange(30)
        result: Any = annealed_log_likelihood(model, x, rows, settings, seed=0, posterior=z)
        assert (result.log_likelihood - truth.log_prob(x)).mean() < 0.05
        assert (result.upper - truth.log_prob(x)).mean() > -0.05
        gaps.append((result.upper - result.log_likelihood).mean())
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2]
    assert gaps[2] < 0.2


# --- Transitions ------------------------------------------------------------------------------------------------


def test_the_gradient_is_that_of_the_log_likelihood() -> None:
    for likelihood in ("bernoulli", "normal-fixed", "normal-diagonal"):
        arch, parameters, x = decoder_problem(likelihood)
        z = np.random.default_rng(2).normal(size=(15, 2))
        target = target_of(arch, parameters, x)
        loglik, gradient = target(z)
        assert (loglik.shape, gradient.shape) == ((15,), (15, 2))
        assert error(gradient, central_difference(lambda at, t=target: float(t(at)[0].sum()), z)) < 1e-6


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal-diagonal"])
def test_no_gradient_of_a_weight_is_computed(likelihood: str) -> None:
    arch, parameters, x = decoder_problem(likelihood)
    asked: list[bool] = []

    def affine_act_backward(dy: Array, cache: Any, *, weight_gradient: bool = True, **more: Any) -> Any:
        asked.append(weight_gradient)
        return ops.affine_act_backward(dy, cache, weight_gradient=weight_gradient, **more)

    listening = SimpleNamespace(**{**vars(ops), "affine_act_backward": affine_act_backward})
    Target(Model(cast(ModuleType, listening), arch, parameters), x)(np.zeros((10, 2)))
    assert asked == [False, False]


def start_of(arch: Architecture, parameters: Parameters, x: Array) -> tuple[Target, State, Array]:
    rng = np.random.default_rng(3)
    target = target_of(arch, parameters, x)
    z = rng.normal(size=(len(x), arch.latent))
    return target, State(z, *target(z)), rng.normal(size=z.shape)


def test_a_trajectory_turned_round_comes_back() -> None:
    target, start, momentum = start_of(*decoder_problem())
    step = np.linspace(0.05, 0.4, 5)[:, None]
    end, final = annealing.leapfrog(target, start, momentum, 0.7, step, 8)
    assert np.abs(end.z - start.z).min() > 1e-3
    assert np.array_equal(end.loglik, target(end.z)[0])
    back, again = annealing.leapfrog(target, end, -final, 0.7, step, 8)
    assert error(back.z, start.z) < 1e-11
    assert error(-again, momentum) < 1e-11


def test_a_trajectory_keeps_volume() -> None:
    arch, parameters, x = decoder_problem(batch=1)
    target, start, momentum = start_of(arch, parameters, x)
    point = np.concatenate([start.z[0], momentum[0]])

    def end(at: Array) -> Array:
        z = at[None, :2]
        state, final = annealing.leapfrog(target, State(z, *target(z)), at[None, 2:], 0.6, np.full((1, 1), 0.3), 5)
        return np.concatenate([state.z[0], final[0]])

    jacobian = np.array([central_difference(lambda at, i=i: float(end(at)[i]), point) for i in range(4)])
    assert abs(np.linalg.det(jacobian) - 1) < 1e-8


def test_the_energy_error_falls_with_the_square_of_the_step() -> None:
    target, start, momentum = start_of(*decoder_problem())
    before = annealing.energy(target, start, momentum, 0.8)
    errors = []
    for steps in (20, 40):
        end, final = annealing.leapfrog(target, start, momentum, 0.8, np.full((5, 1), 1.0 / steps), steps)
        errors.append(np.abs(annealing.energy(target, end, final, 0.8) - before).sum())
    assert 3.5 < errors[0] / errors[1] < 4.5
    assert errors[1] < 0.1


def test_a_transition_leaves_its_distribution_as_it_is() -> None:
    """In a linear model p(z) p(x|z)^β is a normal: draws of it are moved, and are draws of it again."""
    truth, arch, parameters = linear()
    beta, n = 0.6, 20_000
    x = np.repeat(truth.sample(np.ones((1, 2)), np.ones((1, 4))), n, axis=0)
    precision = np.eye(2) + beta * truth.pull @ truth.weight
    covariance = np.linalg.inv(precision)
    mean = covariance @ (beta * truth.pull @ (x[0] - truth.bias))
    rng = np.random.default_rng(5)
    target = target_of(arch, parameters, x)
    z = mean + rng.normal(size=(n, 2)) @ np.linalg.cholesky(covariance).T
    state, chance = annealing.transition(
        target, State(z, *target(z)), beta, np.full(n, 0.9), rng.normal(size=(n, 5)), 3
    )
    moved = (state.z != z).any(axis=1)
    assert abs(moved.mean() - chance.mean()) < 4 * 0.5 / np.sqrt(n)
    assert 0.3 < moved.mean() < 0.95
    errors = np.sqrt(np.diag(covariance) / n)
    assert (np.abs(state.z.mean(axis=0) - mean) < 4 * errors).all()
    found = np.cov(state.z.T)
    spread = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / n)
    assert (np.abs(found - covariance) < 4 * spread).all()
    loglik, gradient = target(state.z)
    assert np.array_equal(loglik, state.loglik)
    assert np.array_equal(gradient, state.gradient)


def test_a_step_that_runs_away_is_rejected() -> None:
    target, start, _ = start_of(*decoder_problem())
    normals = np.random.default_rng(6).normal(size=(5, 5))
    for step in (1e3, 1e200):
        state, chance = annealing.transition(target, start, 0.5, np.full(5, step), normals, 30)
        assert np.array_equal(state.z, start.z)
        assert np.array_equal(chance, np.zeros(5))


# --- Schedule and step sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperatures", [1, 2, 7, 1000])
def test_the_schedule_goes_from_prior_to_posterior(temperatures: int) -> None:
    betas = Annealing(temperatures=temperatures).schedule()
    assert (len(betas), betas[0], betas[-1]) == (temperatures + 1, 0.0, 1.0)
    assert (np.diff(betas) > 0).all()
    assert error(betas + betas[::-1], np.ones(temperatures + 1)) < 1e-14
    if temperatures > 10:
        assert np.diff(betas)[0] < 0.1 * np.diff(betas)[temperatures // 2]


@pytest.mark.parametrize("acceptance", [0.5, 0.65, 0.85])
def test_the_pilot_finds_steps_that_are_accepted_as_often_as_wanted(acceptance: float) -> None:
    _, arch, parameters = linear(latent=6, features=8)
    x, _ = simulate(arch, parameters, 10)
    settings = Annealing(chains=16, temperatures=200, leapfrog=4, acceptance=acceptance)
    result = annealed_log_likelihood(Model(ops, arch, parameters), x, np.arange(10), settings, seed=0)
    assert abs(result.acceptance.mean() - acceptance) < 0.05


def test_each_example_has_its_own_steps_which_shrink_with_the_posterior() -> None:
    """Copies of one latent seen by 1 and by 64 features: the second posterior is an eighth as wide."""
    found = []
    for features in (1, 64):
        truth = LinearGaussian(np.ones((features, 1)), np.zeros(features), 0.5)
        arch, parameters = to_parameters(truth)
        target = target_of(arch, parameters, np.ones((3, features)))
        steps = annealing.adapt_steps(target, np.arange(3), Annealing(temperatures=100), seed=0)
        assert steps.shape == (99, 3)
        assert len(np.unique(steps[-1])) == 3
        found.append(steps[-1].mean())
    assert 4 < found[0] / found[1] < 12


# --- Which draws, and in which pieces ---------------------------------------------------------------------------


class Recorder:
    """The contract with a `philox_normal` that remembers what was asked of it."""

    def __init__(self) -> None:
        self.draws: list[tuple[int, int, int]] = []
        names = {name: getattr(ops, name) for name in ops.__all__}
        self.ops = cast(ModuleType, SimpleNamespace(**{**names, "philox_normal": self.philox_normal}))

    def philox_normal(self, rows: Any, columns: int, *, sample: Any, step: int, **where: Any) -> Any:
        assert where["stream"] == noise.AIS
        self.draws += [(row, number, step) for row, number in zip(rows.tolist(), sample.tolist(), strict=True)]
        return ops.philox_normal(rows, columns, sample=sample, step=step, **where)


@pytest.mark.parametrize("chunk_rows", [1, 7, 512])
@pytest.mark.parametrize("reverse", [False, True])
def test_exactly_the_chains_asked_for_are_run_and_no_draw_is_used_twice(reverse: bool, chunk_rows: int) -> None:
    arch, parameters, x = decoder_problem()
    recorder, z = Recorder(), np.zeros((5, 2)) if reverse else None
    settings = Annealing(chains=4, temperatures=210, leapfrog=1)
    annealed_log_likelihood(
        Model(recorder.ops, arch, parameters), x, np.arange(5) + 3, settings, seed=0, posterior=z, chunk_rows=chunk_rows
    )
    assert len(set(recorder.draws)) == len(recorder.draws)
    roles = [{number // 3 for _, number, _ in recorder.draws if number % 3 == role} for role in range(3)]
    assert roles[1] == set(range(4))
    assert roles[2] == (set(range(4)) if reverse else set())
    forward = [draw for draw in recorder.draws if draw[1] % 3 == 1]
    assert sorted(forward) == sorted((row, 3 * c + 1, t) for row in range(3, 8) for c in range(4) for t in range(210))


@pytest.mark.parametrize("chunk_rows", [1, 10, 512])
def test_neither_chunk_nor_batch_matters(chunk_rows: int) -> None:
    arch, parameters, _ = decoder_problem()
    x, z = simulate(arch, parameters, 5)
    rows = np.array([4, 0, 9, 2, 7])
    whole: Any = annealed_log_likelihood(Model(ops, arch, parameters), x, rows, FEW, seed=1, posterior=z)
    for part in (slice(0, 5), slice(0, 2), slice(2, 5)):
        options: Any = {"seed": 1, "posterior": z[part], "chunk_rows": chunk_rows}
        got: Any = annealed_log_likelihood(Model(ops, arch, parameters), x[part], rows[part], FEW, **options)
        for name in ("log_likelihood", "stderr", "ess", "acceptance", "upper", "upper_stderr", "upper_ess"):
            assert error(getattr(got, name), getattr(whole, name)[part]) < 1e-10


def test_a_chain_is_the_same_however_many_run_beside_it() -> None:
    arch, parameters, x = decoder_problem()
    target, steps = target_of(arch, parameters, x), np.full((5, 5), 0.4)
    many, _ = annealing.log_weights(target, np.arange(5), steps, FEW, np.arange(6), seed=2)
    few, _ = annealing.log_weights(target, np.arange(5), steps, FEW, np.arange(2, 4), seed=2)
    assert error(few, many[2:4]) < 1e-12
    other, _ = annealing.log_weights(target, np.arange(5), steps, FEW, np.arange(2, 4), seed=3)
    assert (other != few).all()


def test_progress_goes_from_nothing_to_all() -> None:
    arch, parameters, x = decoder_problem()
    heard: list[float] = []
    annealed_log_likelihood(
        Model(ops, arch, parameters), x, np.arange(5), FEW, seed=0, posterior=np.zeros((5, 2)), chunk_rows=5,
        on_progress=heard.append,
    )  # fmt: skip
    assert heard == sorted(heard)
    assert 0 < heard[0] < 0.5
    assert heard[-1] == 1


# --- Over a data set, other backends, other precision -------------------------------------------------------------


def test_over_a_data_set_each_example_meets_its_own_posterior_sample() -> None:
    arch, parameters, _ = decoder_problem()
    x, z = simulate(arch, parameters, 9)
    examples, heard, progress = held_out.Examples(x, data.BINARY, "none", 0), [], []
    settings = Annealing(chains=128, temperatures=3, leapfrog=1)
    assert settings.batch == 2
    options: Any = {"seed": 0, "posterior": z}
    result: Any = held_out.annealed_log_likelihood(
        Model(ops, arch, parameters), examples, settings, on_batch=heard.append, on_progress=progress.append, **options
    )
    whole: Any = annealed_log_likelihood(Model(ops, arch, parameters), x, np.arange(9), settings, **options)
    assert error(result.log_likelihood, whole.log_likelihood) < 1e-10
    assert error(result.upper, whole.upper) < 1e-10
    assert [len(part.ess) for part in heard] == [2, 4, 6, 8, 9]
    assert progress == sorted(progress)
    assert progress[-1] == 9
    again: Any = held_out.annealed_log_likelihood(
        Model(ops, arch, parameters), examples, settings, done=heard[2], **options
    )
    assert np.array_equal(again.upper, result.upper)


def test_a_model_without_an_encoder_and_one_without_hidden_layers() -> None:
    truth, arch, parameters = linear()
    x, _ = simulate(arch, parameters, 6)
    alone = Architecture(4, 2, (), likelihood="normal", inference="local")
    decoder = Parameters(alone.shapes(), np.float64)
    decoder.assign(parameters)
    settings = Annealing(chains=32, temperatures=60)
    result = annealed_log_likelihood(Model(ops, alone, decoder), x, np.arange(6), settings, seed=0)
    assert (np.abs(result.log_likelihood - truth.log_prob(x)) < 5 * result.stderr).all()


def test_single_precision_is_as_good() -> None:
    arch, parameters, _ = decoder_problem()
    x, z = simulate(arch, parameters, 20)
    settings = Annealing(chains=16, temperatures=60, leapfrog=3)
    single = parameters.astype("float32")
    result: Any = annealed_log_likelihood(
        Model(ops, arch, single), x, np.arange(20), settings, seed=0, posterior=z.astype(np.float32)
    )
    truth = by_quadrature(arch, parameters, x)
    assert abs((result.log_likelihood - truth).mean()) < 0.1
    assert abs((result.upper - truth).mean()) < 0.1
    state, _ = annealing.transition(
        target_of(arch, single, x),
        State(z.astype(np.float32), *target_of(arch, single, x)(z.astype(np.float32))),
        0.5,
        np.full(20, 0.3),
        np.ones((20, 5), dtype=np.float32),
        2,
    )
    assert {state.z.dtype, state.gradient.dtype} == {np.dtype(np.float32)}


@pytest.mark.skipif(backends.missing("numba") is not None, reason=str(backends.missing("numba")))
def test_the_compiled_operations_give_the_same_chains() -> None:
    arch, parameters, _ = decoder_problem()
    x, z = simulate(arch, parameters, 5)
    # Few transitions of given steps: hundreds, as a pilot makes them, amplify the rounding in which the two differ.
    steps = np.full((5, 5), 0.3)
    for start in (None, z):
        expected, got = (
            annealing.log_weights(
                Target(Model(each, arch, parameters), x), np.arange(5), steps, FEW, np.arange(4), seed=1, start=start
            )
            for each in (ops, backends.choose("numba").ops)
        )  # fmt: skip
        assert error(got[0], expected[0]) < 1e-10
        assert error(got[1], expected[1]) < 1e-10


@pytest.mark.parametrize("name", ["chains", "temperatures", "leapfrog"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_settings_that_make_no_sense_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name}: got {value!r}, expected a whole number >= 1"):
        Annealing(**{name: value})


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan")])
def test_an_acceptance_that_makes_no_sense_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="acceptance: got"):
        Annealing(acceptance=value)


def test_a_cross_entropy_on_grey_values_has_no_likelihood() -> None:
    arch, parameters, x = decoder_problem("bernoulli-grey")
    examples = held_out.Examples(x, data.UNIT, "none", 0)
    with pytest.raises(InputError, match="no log p"):
        held_out.annealed_log_likelihood(Model(ops, arch, parameters), examples, FEW, seed=0)
    with pytest.raises(InputError, match="no log p"):
        held_out.log_likelihood(Model(ops, arch, parameters), examples, samples=2, seed=0)
