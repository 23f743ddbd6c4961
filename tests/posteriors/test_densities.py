"""Densities and samplers of the families of q: determinants, integrals, and draws that have the density.

Budget: about 5 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import Problem, error, make_problem
from q_cases import FLOWS, RICH, architecture, drawn, heads, jacobian
from scipy import linalg, stats

from vae_np import ops
from vae_np.architecture import Architecture
from vae_np.evaluation.importance import importance_log_likelihood
from vae_np.exact.linear_gaussian import LinearGaussian
from vae_np.model import Model, initialise
from vae_np.posteriors import autoregressive

SPACING = 0.05


@pytest.mark.parametrize("posterior", RICH)
def test_log_determinants_are_those_of_the_jacobian(posterior: str) -> None:
    p = make_problem(architecture(posterior), batch=3, samples=4)
    q = heads(p)
    draw = drawn(p, q)
    base = 0.5 * np.tile(q[1].sum(axis=1), 4)
    found = base if draw.log_det is None else base + draw.log_det
    signs, expected = np.linalg.slogdet(jacobian(p, q, p.eps))
    assert (signs == 1).all()
    assert error(found, expected) < 1e-12


@pytest.mark.parametrize("latent", [1, 2, 5])
def test_a_latent_of_a_masked_step_sees_only_what_comes_before(latent: int) -> None:
    p = make_problem(architecture("iaf", latent, flow_steps=1, flow_hidden=11), batch=2)
    found = jacobian(p, heads(p), p.eps)
    assert (np.triu(found, 1) == 0).all()
    assert (np.tril(found) != 0).sum() == 2 * latent * (latent + 1) / 2
    family = autoregressive.Autoregressive(latent, 2, 11)
    # The order of the second step is the first one's turned round.
    assert (family.masks(1)[1] == family.masks(0)[1][:, ::-1]).all()


# --- log q at a given z, from the definitions: every step is undone ------------------------------------------------


def undo_full(p: Problem, q: tuple[Any, ...], z: Any) -> tuple[Any, Any]:
    """L⁻¹ (z − mu) in place of z₀ − mu, and no determinant."""
    mu, logvar, below = q
    deviations = np.exp(0.5 * logvar[0])
    lower = np.diag(deviations)
    lower[1, 0] = below[0, 0]
    return mu + deviations * linalg.solve_triangular(lower, (z - mu).T, lower=True).T, 0


def undo_planar(p: Problem, q: tuple[Any, ...], z: Any) -> tuple[Any, Any]:
    """The root a of w·z′ = a + w·û tanh(a + b), whose right side rises, by bisection: a is w·z."""
    log_det = np.zeros(len(z))
    for step in reversed(p.arch.family.steps_of(q[2])):  # type: ignore[attr-defined]
        direction, w, b = step.direction[0], step.w[0], step.b[0]
        along, stretch = z @ w, w @ direction
        low, high = along - abs(stretch), along + abs(stretch)
        for _ in range(60):
            middle = (low + high) / 2
            below = middle + stretch * np.tanh(middle + b) < along
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        z = z - np.tanh(low + b)[:, None] * direction
        log_det = log_det + np.log(1 + stretch / np.cosh(low + b) ** 2)
    return z, log_det


def undo_iaf(p: Problem, q: tuple[Any, ...], z: Any) -> tuple[Any, Any]:
    """One latent after the other, each by what comes before it."""
    context = np.tile(q[2], (len(z), 1))
    log_det = np.zeros(len(z))
    for step in reversed(range(p.arch.flow_steps)):  # type: ignore[arg-type]
        name, (of_hidden, of_ends) = f"encoder.flow.{step}", p.arch.family.masks(step)  # type: ignore[attr-defined]
        before = np.zeros_like(z)
        for _ in range(3):
            h = np.tanh(
                np.hstack([before, context]) @ (p.parameters[f"{name}.hidden.weight"] * of_hidden)
                + p.parameters[f"{name}.hidden.bias"]
            )
            shift, log_scale = (
                h @ (p.parameters[f"{name}.{end}.weight"] * of_ends) + p.parameters[f"{name}.{end}.bias"]
                for end in ("shift", "log_scale")
            )
            before = (z - shift) * np.exp(-log_scale)
        z, log_det = before, log_det + log_scale.sum(axis=1)
    return z, log_det


UNDO = {"full": undo_full, "planar": undo_planar, "iaf": undo_iaf}


def log_q(p: Problem, z: Any) -> Any:
    """log q(z|x) of the one example of `p` at points z (M, 2)."""
    mu, logvar, *_ = q = heads(p)
    first, log_det = UNDO[p.arch.posterior](p, q, z)
    return stats.norm.logpdf(first, mu, np.exp(0.5 * logvar)).sum(axis=1) - log_det


@pytest.mark.parametrize("posterior", RICH)
def test_a_density_integrates_to_one_and_is_that_of_its_draws(posterior: str) -> None:
    """Over a lattice in z, where the draw is of no help; and marginals of the draws by Kolmogorov and Smirnov."""
    p = make_problem(architecture(posterior, 2), batch=1, samples=4000)
    axis = np.arange(-14, 14, SPACING)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(log_q(p, z)).reshape(len(axis), -1)
    assert abs(density.sum() * SPACING**2 - 1) < 1e-6
    draw = drawn(p)
    by_draw = stats.norm.logpdf(p.eps).sum(axis=1) - 0.5 * heads(p)[1].sum()
    if draw.log_det is not None:
        by_draw = by_draw - draw.log_det
    assert error(by_draw, log_q(p, draw.z)) < 1e-9
    for j in (0, 1):
        marginal = density.sum(axis=1 - j)
        cumulative = np.cumsum(marginal) / marginal.sum()
        found = stats.kstest(draw.z[:, j], lambda v, c=cumulative: np.interp(v, axis + SPACING / 2, c))
        assert found.pvalue > 1e-3


def test_draws_of_a_full_normal_have_its_distribution() -> None:
    p = make_problem(architecture("full"), batch=1, samples=4000)
    q = heads(p)
    lower = p.arch.family.strictly_lower(q[2])[0] + np.diag(np.exp(0.5 * q[1][0]))  # type: ignore[attr-defined]
    z = drawn(p, q).z
    for direction in np.vstack([np.eye(3), [1, -2, 0.5]]):
        deviation = np.sqrt(direction @ lower @ lower.T @ direction)
        assert stats.kstest((z - q[0]) @ direction / deviation, "norm").pvalue > 1e-3
    mean, logvar = p.arch.family.moments(q)  # type: ignore[misc]
    assert error(np.exp(logvar[0]), np.diag(lower @ lower.T)) < 1e-14
    assert (mean == q[0]).all()


@pytest.mark.parametrize("posterior", FLOWS)
def test_weights_of_a_flow_have_the_mean_p_of_x(posterior: str) -> None:
    """Linear-Gaussian: E_q[w] = p(x) for any q; a log-determinant with its sign turned misses it by far."""
    random = np.random.default_rng(3)
    arch = Architecture(3, 2, (), "tanh", "normal-fixed", 1.0, posterior=posterior)
    parameters = initialise(arch, seed=1, dtype=np.float64)
    x = random.standard_normal((4, 3))
    found = importance_log_likelihood(Model(ops, arch, parameters), x, np.arange(4), samples=20_000, seed=0)
    exact = LinearGaussian(parameters["decoder.out.weight"].T, parameters["decoder.out.bias"], 1.0).log_prob(x)
    assert (np.abs(found.log_likelihood - exact) < 5 * found.stderr).all()
    assert (found.stderr < 0.15).all()
