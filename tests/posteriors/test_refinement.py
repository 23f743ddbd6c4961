"""Steps on λ from the encoder's start: the gradient through them, their closed form, the gap that they close.

Other people's automatic differentiation of the same: tests/verify/test_against_autodiff.py. Budget: about 6 s.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numeric import Problem, check_gradient, error, make_problem

from vae_np import VAE, backends, data, model, noise, ops
from vae_np.architecture import Architecture
from vae_np.config import Config
from vae_np.curvature import change_of_gradient
from vae_np.elbo import posterior_elbo_backward, posterior_elbo_forward
from vae_np.errors import InputError
from vae_np.evaluation import held_out
from vae_np.exact.linear_gaussian import LinearGaussian, to_parameters
from vae_np.objectives import objective_backward, objective_forward
from vae_np.refinement import refine_forward
from vae_np.step import Optimiser, TrainingState, training_step


def problem(likelihood: str = "bernoulli", activation: str = "tanh", *, samples: int = 1, **changes: Any) -> Problem:
    kinds = {"refine_steps": 2, "refine_rate": 0.3, **changes}
    arch = Architecture(5, 2, (4,), activation, likelihood, sigma=0.7, **kinds)
    return make_problem(arch, batch=3, samples=samples * (1 + arch.refine_steps))


def gradients_of(p: Problem, beta: float = 1.0, backend: Any = ops) -> Any:
    _, cache = objective_forward(backend, p.arch, p.parameters, p.x, p.eps, beta=beta)
    gradients = p.parameters.zeros_like()
    objective_backward(backend, p.arch, cache, gradients)
    return gradients


# --- Gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("likelihood", "activation", "samples", "steps"),
    [
        ("bernoulli", "tanh", 2, 1),
        ("bernoulli-grey", "softplus", 1, 3),
        ("normal", "relu", 1, 2),
        ("normal-diagonal", "softplus", 2, 2),
        ("normal-fixed", "tanh", 1, 1),
    ],
)
def test_gradient_of_every_parameter_through_the_steps(
    likelihood: str, activation: str, samples: int, steps: int
) -> None:
    p = problem(likelihood, activation, samples=samples, refine_steps=steps)
    gradients = gradients_of(p, 0.7)
    for name, value in p.parameters.items():

        def loss(v: Any, name: str = name) -> Any:
            moved = {**p.parameters, name: v}
            return objective_forward(ops, p.arch, moved, p.x, p.eps, beta=0.7)[0].loss(0.7)

        check_gradient(loss, value, gradients[name])


@pytest.mark.parametrize("activation", ["tanh", "softplus", "relu"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "normal", "normal-diagonal", "normal-fixed"])
def test_the_change_of_a_gradient_is_its_complex_step(likelihood: str, activation: str) -> None:
    """The first-order backward pass, at λ moved by 1e-30 i along a direction, has the same change in its imaginary
    part: of dmu and dlogvar, and of each of the decoder's gradients."""
    p = problem(likelihood, activation, samples=2)
    rng = np.random.default_rng(2)
    mu, logvar, *along = 0.7 * rng.standard_normal((4, 3, 2))
    eps = p.eps[:6]
    of_lambda, of_decoder = change_of_gradient(
        ops, p.arch, p.parameters, p.x, mu, logvar, eps, (along[0], along[1]), beta=0.6
    )
    moved, buffer = (mu + 1e-30j * along[0], logvar + 1e-30j * along[1]), p.parameters.astype(complex)
    buffer.flat[...] = 0
    _, cache = posterior_elbo_forward(ops, p.arch, p.parameters, p.x, *moved, eps)
    for found, expected in zip(
        of_lambda, posterior_elbo_backward(ops, p.arch, cache, buffer, beta=0.6), strict=True
    ):
        assert error(found, expected.imag / 1e-30) < 1e-12
    names = {name for name in p.parameters if not name.startswith("encoder.")}
    assert of_decoder.keys() == names
    for name in names:
        assert error(of_decoder[name], buffer[name].imag / 1e-30) < 1e-12, name


def test_the_hessian_is_symmetric() -> None:
    p = problem("normal", samples=2)
    rng = np.random.default_rng(3)
    mu, logvar, a, b, c, d = 0.7 * rng.standard_normal((6, 3, 2))

    def times(*along: Any) -> Any:
        return change_of_gradient(ops, p.arch, p.parameters, p.x, mu, logvar, p.eps[:6], along)[0]

    ours, theirs = times(a, b), times(c, d)
    assert (c * ours[0] + d * ours[1]).sum() == pytest.approx((a * theirs[0] + b * theirs[1]).sum(), rel=1e-12)


def test_stopped_steps_are_constants_to_the_gradient() -> None:
    """The loss at λ = the encoder's output + what the steps had added at the point."""
    p = problem("normal-diagonal", samples=2, refine_gradient="stopped")
    rows = len(p.eps) // 3
    start, _ = model.encode_forward(ops, p.arch, p.parameters, p.x)
    end, _ = refine_forward(ops, p.arch, p.parameters, p.x, start, p.eps[rows:])  # type: ignore[arg-type]
    added = [after - before for before, after in zip(start, end, strict=True)]
    gradients = gradients_of(p)
    for name, value in p.parameters.items():

        def loss(v: Any, name: str = name) -> Any:
            moved = {**p.parameters, name: v}
            q, _ = model.encode_forward(ops, p.arch, moved, p.x)
            at = [part + more for part, more in zip(q, added, strict=True)]
            return posterior_elbo_forward(ops, p.arch, moved, p.x, *at, p.eps[:rows])[0].loss()

        check_gradient(loss, value, gradients[name])
    through = gradients_of(replace(p, arch=replace(p.arch, refine_gradient="through")))
    assert error(gradients.flat, through.flat) > 1e-2


# --- What the steps do ------------------------------------------------------------------------------------------


def test_steps_in_a_linear_gaussian_model_have_a_closed_form() -> None:
    """With ε = ±1 the mean over two draws is exact: mu − m shrinks by 1 − ρ σ² Λ, logvar moves by ρ (1 − σ² Λ)."""
    rng = np.random.default_rng(0)
    linear = LinearGaussian(rng.normal(size=(4, 1)), rng.normal(size=4), 0.6)
    arch, parameters = to_parameters(linear)
    arch = replace(arch, refine_steps=4, refine_rate=0.3)
    x = rng.normal(size=(3, 4))
    mu, logvar = rng.normal(size=(3, 1)), rng.normal(size=(3, 1))
    eps = np.tile(np.repeat([[1.0], [-1.0]], 3, axis=0), (4, 1))
    found, _ = refine_forward(ops, arch, parameters, x, (mu, logvar), eps)
    mean, precision = linear.posterior(x)[0], linear.precision.item()
    for _ in range(4):
        share = 0.3 * np.exp(logvar) * precision
        mu, logvar = mean + (1 - share) * (mu - mean), logvar + 0.3 - share
    assert error(found[0], mu) < 1e-12
    assert error(found[1], logvar) < 1e-12


def trained(**changes: Any) -> tuple[VAE, Any]:
    x = data.bars(4, 300, 0)[0]
    vae = VAE(16, hidden=(6,), latent=2, activation="tanh", backend="numpy", dtype="float64", **changes)
    vae.fit(x, epochs=4, batch_size=20, lr=0.02)
    return vae, x


def test_steps_close_the_amortisation_gap_and_leave_the_approximation_gap() -> None:
    """By quadrature in two latents, for one trained model whose encoder is refined by more and more steps."""
    vae, x = trained()
    gaps = []
    for steps in (0, 3, 30):
        refined = VAE(16, hidden=(6,), latent=2, activation="tanh", backend="numpy", dtype="float64",
                      refine_steps=steps)  # fmt: skip
        refined.parameters.assign(vae.parameters)
        gaps.append(refined.exact.gap(x[:12], values="binary"))
    assert all(gap.converged.all() for gap in gaps)
    means = [float(gap.amortisation.mean()) for gap in gaps]
    assert means[0] > 1.5 * means[1] > 1.5 * means[2] > 0
    for gap in gaps[1:]:
        assert np.abs(gap.approximation - gaps[0].approximation).max() < 1e-6


def test_a_refined_bound_is_a_bound() -> None:
    """The mean of many bounds, each with steps of its own noise, stays below log p(x), and so does its estimate."""
    vae, x = trained(refine_steps=3, refine_rate=0.3)
    exact = vae.exact.log_likelihood(x[:20], values="binary").log_prob
    elbo = np.stack([vae.elbo(x[:20], seed=seed, z_samples=20).elbo for seed in range(20)])
    assert (elbo.mean(axis=0) < exact + 4 * elbo.std(axis=0) / np.sqrt(20)).all()
    found = vae.log_likelihood(x[:20], 4000)
    assert (np.abs(found.log_likelihood - exact) < 5 * found.stderr + 1e-4).all()


def test_a_step_has_noise_that_the_bound_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """At evaluation the bound's ε is that of the model without steps, and each step has another address."""
    vae, x = trained(refine_steps=3)
    asked: list[tuple[int, int]] = []
    normal = ops.philox_normal

    def listening(*args: Any, **address: Any) -> Any:
        asked.append((address["stream"], address["step"]))
        return normal(*args, **address)

    monkeypatch.setattr(ops, "philox_normal", listening)
    vae.elbo(x[:2])
    assert sorted(asked) == [(noise.EVAL_EPS, step) for step in range(4)]
    asked.clear()
    arch = vae.arch
    training_step(ops, arch, TrainingState(vae.parameters), x[:2], np.arange(2), seed=0, optimiser=Optimiser())
    assert asked == [(noise.EPS, 0)]


# --- What it shares with the rest -------------------------------------------------------------------------------


def test_backends_agree_and_say_that_they_compose() -> None:
    p = problem(samples=2)
    ours = gradients_of(p)
    for name in backends.present():
        backend = backends.choose(name)
        assert error(gradients_of(p, backend=backend.ops).flat, ours.flat) < 1e-12
        why = "numpy has nothing fused" if name == "numpy" else "nothing is fused for refined inference"
        assert backend.unfused(p.arch) == why


def test_blocks_of_a_batch_give_the_whole_batch_s_training() -> None:
    x = data.bars(4, 120, 0)[0]
    ends = []
    for blocks in (1, 4):
        vae = VAE(16, hidden=(5,), latent=2, backend="numpy", dtype="float64", activation="tanh", refine_steps=2)
        vae.fit(x, epochs=1, batch_size=20, gradient_blocks=blocks)
        ends.append(vae.parameters.flat)
    assert error(*ends) < 1e-10


def test_without_steps_nothing_changes() -> None:
    p = problem(refine_steps=1)
    plain = replace(p.arch, refine_steps=0, refine_rate=None, refine_gradient=None)
    x, places = p.x, np.arange(3)
    q = held_out.posterior(model.Model(ops, plain, p.parameters), x, places, seed=0)
    assert all((a == b).all() for a, b in zip(q, model.encode_forward(ops, plain, p.parameters, x)[0], strict=True))
    assert Architecture.from_dict(plain.as_dict()) == plain
    assert not {"refine_steps", "refine_rate", "refine_gradient"} & plain.as_dict().keys()
    assert Architecture.from_dict(p.arch.as_dict()) == p.arch


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"refine_steps": 2, "posterior": "iaf"}, "refine_steps: got 2 with posterior 'iaf', expected 0, or posterior"),
        ({"refine_steps": 2, "inference": "local"}, "refine_steps: got 2 with inference 'local', expected 0: they"),
        ({"refine_rate": 0.1}, "refine_rate: got 0.1 with refine_steps 0, expected none, or refine_steps > 0"),
        ({"refine_gradient": "through"}, "refine_gradient: got through with refine_steps 0, expected none"),
        ({"refine_steps": 1, "refine_rate": 0.0}, "refine_rate: got 0.0, expected a"),
        ({"refine_steps": 1, "refine_gradient": "half"}, "refine_gradient: got 'half', expected one of through, "),
        ({"refine_steps": 1, "likelihood": "poisson"}, "refine_gradient: got 'through' with likelihood 'poisson' and"),
        ({"refine_steps": 1, "missing": "mask"}, "refine_gradient: got 'through' with likelihood 'bernoulli' and miss"),
        ({"refine_steps": -1}, "refine_steps: got -1, expected a whole number >= 0"),
    ],
)
def test_what_does_not_go_together_is_one_line_that_names_both(settings: dict[str, Any], says: str) -> None:
    for make in (Config, Architecture):
        with pytest.raises(InputError) as raised:
            make(**settings)
        assert str(raised.value).startswith(says)


@pytest.mark.parametrize("settings", [{"likelihood": "student-t"}, {"missing": "zero"}], ids=str)
def test_stopped_steps_need_no_tangent_of_the_likelihood(settings: dict[str, Any]) -> None:
    p = problem(refine_gradient="stopped", **settings)
    assert not p.arch.is_bernoulli or p.arch.missing
    (mu, logvar), _ = model.encode_forward(ops, p.arch, p.parameters, p.x)
    refined, visits = refine_forward(ops, p.arch, p.parameters, p.x, (mu, logvar), p.eps[3:])
    # The first step, by a central difference of the loss that it goes down.
    each = np.zeros((3, 3))
    for at in range(3):
        for sign in (1, -1):
            moved = mu.copy()
            moved[at, 0] += sign * 1e-6
            terms, _ = posterior_elbo_forward(ops, p.arch, p.parameters, p.x, moved, logvar, visits[0].eps)
            each[at, at] += sign * terms.loss(1.0) / 2e-6
    after = mu[:, 0] - 0.3 * 3 * np.exp(logvar[:, 0]) * each.diagonal()
    np.testing.assert_allclose(visits[1].mu[:, 0], after, rtol=1e-6)
    assert (refined[0] != visits[1].mu).all()


def test_another_objective_than_the_elbo_is_refused() -> None:
    p = problem()
    says = "objective: got 'dreg' with refine_steps 2, expected 'elbo': the steps climb the ELBO"
    with pytest.raises(InputError, match=says):
        objective_forward(ops, p.arch, p.parameters, p.x, p.eps, objective="dreg")
    with pytest.raises(InputError, match=says):
        Config(refine_steps=2, objective="dreg")
