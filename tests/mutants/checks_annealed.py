"""Annealed chains and the KL taken apart, as named checks: in a linear-Gaussian model every answer is known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vae_np import data, noise, ops
from vae_np.errors import InputError
from vae_np.evaluation import annealing, held_out, importance
from vae_np.evaluation.annealing import Annealing, State, Target
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.model import Model

from .checks_conduct import count, rule
from .checks_exact import close, exactly
from .checks_statistics import statistic

_CHAINS = 8000
_MODEL = LinearGaussian(np.array([[1.5], [-1.0]]), np.array([0.3, 0.0]), 0.6)
_ARCH, _PARAMETERS = to_parameters(_MODEL)
_X = np.array([[1.2, 0.4]])


def _target(x: np.ndarray) -> Target:
    return Target(Model(ops, _ARCH, _PARAMETERS), x)


def _near_one(ratios: np.ndarray) -> None:
    """Its mean is 1 within 5 standard errors."""
    limit = 5 * ratios.std() / math.sqrt(len(ratios))
    assert abs(ratios.mean() - 1) <= limit, f"mean {ratios.mean()}, expected 1 within {limit:.2g}"


def _log_weights(start: np.ndarray | None) -> np.ndarray:
    settings, x = Annealing(chains=1, temperatures=4, leapfrog=2), np.repeat(_X, _CHAINS, axis=0)
    steps = np.full((3, _CHAINS), 0.7)
    log_w, _ = annealing.log_weights(
        _target(x), np.arange(_CHAINS), steps, settings, np.arange(1), seed=0, start=start
    )
    return log_w[0] - _MODEL.log_prob(_X)


@statistic
def annealed_weights_average_to_p_of_x() -> None:
    _near_one(np.exp(_log_weights(None)))


@statistic
def reverse_weights_average_to_one_over_p_of_x() -> None:
    mean, covariance = _MODEL.posterior(_X)
    z = mean + np.sqrt(covariance[0]) * np.random.default_rng(0).standard_normal((_CHAINS, 1))
    _near_one(np.exp(-_log_weights(z)))


@exactly
def a_trajectory_turned_round_comes_back() -> None:
    target, rng = _target(np.repeat(_X, 3, axis=0)), np.random.default_rng(1)
    z, momentum, step = rng.normal(size=(3, 1)), rng.normal(size=(3, 1)), np.full((3, 1), 0.4)
    end, final = annealing.leapfrog(target, State(z, *target(z)), momentum, 0.7, step, 3)
    back, again = annealing.leapfrog(target, end, -final, 0.7, step, 3)
    close(back.z, z, 1e-12)
    close(-again, momentum, 1e-12)


@exactly
def energy_is_minus_the_log_density() -> None:
    target = _target(np.repeat(_X, 2, axis=0))
    z, momentum = np.array([[0.0], [0.4]]), np.array([[1.0], [-0.3]])
    energies = annealing.energy(target, State(z, *target(z)), momentum, 0.3)
    loglik = _MODEL.log_joint(_X, z) + 0.5 * (z[:, 0] ** 2 + math.log(2 * math.pi))
    close(energies, 0.5 * z[:, 0] ** 2 - 0.3 * loglik + 0.5 * momentum[:, 0] ** 2, 1e-13)


@exactly
def a_schedule_ends_at_the_posterior() -> None:
    betas = Annealing(temperatures=2).schedule()
    close(betas, [0.0, 0.5, 1.0], 1e-15)


@exactly
def the_upper_bound_averages_one_over_the_weights() -> None:
    """At one temperature nothing moves: forward is the prior's average, reverse the likelihood at the given z."""
    z = np.array([[0.8]])
    found: Any = annealing.annealed_log_likelihood(
        Model(ops, _ARCH, _PARAMETERS), _X, np.arange(1), Annealing(chains=3, temperatures=1), seed=0, posterior=z
    )
    close(found.upper, _target(_X)(z)[0], 1e-13)
    draws = noise.normal([0] * 3, 1, seed=0, stream=noise.AIS, sample=np.array([1, 4, 7]), dtype=np.float64)
    close(found.log_likelihood, [np.log(np.exp(_target(_X)(draws)[0]).mean())], 1e-12)


@count
def every_chain_asked_for_is_run_with_noise_of_its_own() -> None:
    draws: list[tuple[int, int]] = []

    def philox_normal(rows: Any, columns: int, *, sample: Any, step: int, **address: Any) -> Any:
        draws.extend((step, number) for number in sample.tolist())
        return noise.normal(rows, columns, sample=sample, step=step, **address)

    names = {name: getattr(ops, name) for name in ops.__all__}
    recording: Any = SimpleNamespace(**{**names, "philox_normal": philox_normal})
    settings = Annealing(chains=5, temperatures=250, leapfrog=1)
    found = annealing.annealed_log_likelihood(
        Model(recording, _ARCH, _PARAMETERS), _X, np.arange(1), settings, seed=0, chunk_rows=2
    )
    assert len(set(draws)) == len(draws)
    # A start and 249 transitions for each of five chains and of the pilot's two.
    assert sorted({number for _, number in draws}) == [0, 1, 3, 4, 7, 10, 13]
    assert len(draws) == 7 * 250
    assert found.ess[0] <= 5


@rule
def annealing_does_not_depend_on_blocks() -> None:
    settings, rows = Annealing(chains=5, temperatures=3, leapfrog=1), np.arange(1)
    model, options = Model(ops, _ARCH, _PARAMETERS), {"seed": 0, "posterior": np.array([[0.8]])}
    whole, blocks = (
        annealing.annealed_log_likelihood(model, _X, rows, settings, chunk_rows=size, **options)
        for size in (512, 2)
    )
    close(blocks.log_likelihood, whole.log_likelihood, 1e-10)
    close(blocks.ess, whole.ess, 1e-10)


@count
def what_is_done_already_is_not_done_again() -> None:
    x = np.repeat(_X, 203, axis=0)
    examples, heard = held_out.Examples(x, data.REAL, "none", 0), []
    options: Any = {"samples": 2, "seed": 0}
    whole = held_out.log_likelihood(Model(ops, _ARCH, _PARAMETERS), examples, on_batch=heard.append, **options)
    again = held_out.log_likelihood(Model(ops, _ARCH, _PARAMETERS), examples, done=heard[0], **options)
    close(again.log_likelihood, whole.log_likelihood, 0.0)


@rule
def weights_that_have_collapsed_are_marked() -> None:
    log_w = np.array([[0.0, 0.0, 0.0], [-900.0, 0.0, 0.0], [-900.0, -900.0, 0.0]])
    found = importance.estimate_from_log_weights(ops, log_w)
    close(found.degenerate, [1, 0, 0], 0.0)


@exactly
def information_is_that_of_the_mixture() -> None:
    rng = np.random.default_rng(2)
    mu, logvar = rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    found = held_out.elbo_surgery(ops, mu, logvar, seed=0)
    eps = noise.normal(np.arange(300), 2, seed=0, stream=noise.EVAL_EPS, dtype=np.float64)
    z = mu + np.exp(0.5 * logvar) * eps
    pairs = (-0.5 * ((z[:, None] - mu) ** 2 / np.exp(logvar) + logvar)).sum(axis=2)
    close(found.mutual_information, np.diag(pairs) - np.log(np.exp(pairs).mean(axis=1)), 1e-10)
    close(found.mutual_information + found.marginal_kl, 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=1), 1e-12)


@rule
def a_likelihood_is_refused_to_a_cross_entropy() -> None:
    arch = held_out.Architecture(2, 1, (), likelihood="bernoulli-grey")
    grey = held_out.Examples(_X, data.UNIT, "none", 0)
    with pytest.raises(InputError, match="no likelihood"):
        held_out.log_likelihood(Model(ops, arch, _PARAMETERS), grey, samples=1, seed=0)
