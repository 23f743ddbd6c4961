"""The training step: what it draws, what it changes, that it learns, and what it does with values that are not finite.

Budget: about 2 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numeric import error

from vae_np import noise, ops
from vae_np.architecture import Architecture
from vae_np.choices import LIKELIHOODS
from vae_np.elbo import Terms, elbo_backward, elbo_forward
from vae_np.model import initialise
from vae_np.objectives import OBJECTIVES, objective_backward, objective_forward
from vae_np.step import Optimiser, TrainingState, apply_gradients, first_non_finite, training_step

ARCH = Architecture(13, 3, (9,))
ROWS = np.array([5, 0, 12, 7, 3])


def images(arch: Architecture = ARCH, rows: int = 5) -> np.ndarray:
    rng = np.random.default_rng(8)
    prototypes = rng.integers(0, 2, (2, arch.features))
    flips = rng.uniform(size=(rows, arch.features)) < 0.1
    x = (prototypes[np.arange(rows) % 2] ^ flips).astype(np.uint8)
    return x if arch.likelihood == "bernoulli" else x.astype(np.float32)


def train(
    steps: int, arch: Architecture = ARCH, dtype: str = "float32", optimiser: Optimiser | None = None, **options: Any
) -> tuple[TrainingState, list[Terms]]:
    state = TrainingState(initialise(arch, seed=1, dtype=dtype))
    chosen = optimiser or Optimiser(lr=1e-2)
    terms = [
        training_step(ops, arch, state, images(arch), ROWS, **{"seed": 1, "optimiser": chosen, **options})
        for _ in range(steps)
    ]
    return state, terms


def test_a_new_state_has_taken_no_step() -> None:
    state = TrainingState(initialise(ARCH, seed=1))
    buffers = (state.gradients, state.first_moment, state.second_moment)
    assert state.step == 0
    assert not any(buffer.flat.any() for buffer in buffers)
    assert all(buffer.flat.shape == state.parameters.flat.shape for buffer in buffers)
    assert not any(np.shares_memory(buffer.flat, state.parameters.flat) for buffer in buffers)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_step_is_noise_forward_backward_and_update(likelihood: str, dtype: str) -> None:
    """Recomputed from the parts for two steps: ε comes from EPS at the rows and at the steps taken before."""
    arch = Architecture(13, 3, (9,), likelihood=likelihood)
    optimiser = Optimiser(lr=3e-3, beta1=0.8, beta2=0.95, eps=1e-4)
    state, returned = train(2, arch, dtype, optimiser, seed=7, beta=0.4)
    other = TrainingState(initialise(arch, seed=1, dtype=dtype))
    for step in range(2):
        eps = noise.normal(ROWS, 3, seed=7, stream=noise.EPS, step=step, dtype=dtype)
        terms, cache = elbo_forward(ops, arch, other.parameters, images(arch), eps)
        elbo_backward(ops, arch, cache, other.gradients, beta=0.4)
        ops.adam_update(
            other.parameters.flat, other.gradients.flat, other.first_moment.flat, other.second_moment.flat,
            step=step + 1, lr=3e-3, beta1=0.8, beta2=0.95, eps=1e-4,
        )  # fmt: skip
        assert np.array_equal(returned[step].elbo, terms.elbo)
    assert state.step == 2
    for name in ("parameters", "gradients", "first_moment", "second_moment"):
        assert np.array_equal(getattr(state, name).flat, getattr(other, name).flat)
        assert getattr(state, name).flat.dtype == dtype


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_step_for_an_objective_draws_its_samples_and_no_more(objective: str) -> None:
    """Sample number s of a row has the address (row, s): the first samples do not depend on how many there are."""
    optimiser = Optimiser(lr=3e-3)
    state, returned = train(2, dtype="float64", optimiser=optimiser, beta=0.4, objective=objective, samples=3)
    other = TrainingState(initialise(ARCH, seed=1, dtype="float64"))
    for step in range(2):
        drawn = [
            noise.normal(ROWS, 3, seed=1, stream=noise.EPS, step=step, sample=s, dtype="float64") for s in range(3)
        ]
        eps = np.concatenate(drawn)
        terms, cache = objective_forward(ops, ARCH, other.parameters, images(), eps, objective=objective, beta=0.4)
        objective_backward(ops, ARCH, cache, other.gradients)
        apply_gradients(ops, other, optimiser)
        assert np.array_equal(returned[step].elbo, terms.elbo)
        assert returned[step].loss(0.4) == terms.loss(0.4)
    for name in ("parameters", "gradients", "first_moment", "second_moment"):
        assert np.array_equal(getattr(state, name).flat, getattr(other, name).flat)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains(objective: str) -> None:
    """By the ELBO of the same images before and after, whatever was climbed."""
    state = TrainingState(initialise(ARCH, seed=1))
    eps = noise.normal(ROWS, 3, seed=9, stream=noise.EVAL_EPS)
    before, _ = elbo_forward(ops, ARCH, state.parameters, images(), eps)
    state, _ = train(150, objective=objective, samples=4)
    after, _ = elbo_forward(ops, ARCH, state.parameters, images(), eps)
    assert after.elbo.mean() > before.elbo.mean() + 1


def test_the_same_run_gives_the_same_bits() -> None:
    first, again = train(10)[0], train(10)[0]
    assert np.array_equal(first.parameters.flat, again.parameters.flat)
    assert np.array_equal(first.second_moment.flat, again.second_moment.flat)


def test_another_seed_or_other_rows_give_another_step() -> None:
    usual = train(1)[0].parameters.flat
    assert not np.array_equal(usual, train(1, seed=2)[0].parameters.flat)
    state = TrainingState(initialise(ARCH, seed=1))
    training_step(ops, ARCH, state, images(), ROWS + 1, seed=1, optimiser=Optimiser(lr=1e-2))
    assert not np.array_equal(usual, state.parameters.flat)


@pytest.mark.parametrize("optimiser", [Optimiser(lr=1e-2), Optimiser("adagrad", lr=5e-2)])
@pytest.mark.parametrize("likelihood", ["bernoulli", "normal", "normal-diagonal"])
def test_training_lowers_the_loss(likelihood: str, optimiser: Optimiser) -> None:
    _, terms = train(150, Architecture(13, 3, (9,), likelihood=likelihood), optimiser=optimiser)
    losses = [float(each.loss()) for each in terms]
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 1


def test_a_step_returns_the_terms_from_before_the_update() -> None:
    state = TrainingState(initialise(ARCH, seed=1))
    eps = noise.normal(ROWS, 3, seed=1, stream=noise.EPS)
    expected, _ = elbo_forward(ops, ARCH, state.parameters, images(), eps)
    terms = training_step(ops, ARCH, state, images(), ROWS, seed=1, optimiser=Optimiser(), beta=0.5)
    assert np.array_equal(terms.elbo, expected.elbo)
    assert np.array_equal(terms.elbo, terms.reconstruction - terms.kl)


@pytest.mark.parametrize("optimiser", [Optimiser(), Optimiser("adagrad", lr=0.1)])
@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
def test_the_padding_stays_zero(likelihood: str, optimiser: Optimiser) -> None:
    arch = Architecture(13, 3, (9, 5), likelihood=likelihood)
    state, _ = train(20, arch, optimiser=optimiser)
    for buffer in (state.parameters, state.gradients, state.first_moment, state.second_moment):
        everything = buffer.flat.copy()
        for view in buffer.values():
            view[...] = 0
        assert not buffer.flat.any()
        assert everything.size > buffer.count


def test_adagrad_sums_squares_in_the_second_moment() -> None:
    state, _ = train(1, optimiser=Optimiser("adagrad", lr=0.1))
    assert np.array_equal(state.second_moment.flat, state.gradients.flat**2)
    assert not state.first_moment.flat.any()
    moved = initialise(ARCH, seed=1).flat - state.parameters.flat
    assert (
        np.abs(moved[state.gradients.flat != 0] / np.sign(state.gradients.flat[state.gradients.flat != 0])).max()
        < 0.1001
    )


def test_the_batch_is_not_changed() -> None:
    x, rows = images(), ROWS.copy()
    x.flags.writeable = rows.flags.writeable = False
    training_step(ops, ARCH, TrainingState(initialise(ARCH, seed=1)), x, rows, seed=1, optimiser=Optimiser())
    assert np.array_equal(x, images())


def test_apply_gradients_counts_the_step_and_moves_downhill() -> None:
    state = TrainingState(initialise(ARCH, seed=1, dtype="float64"))
    before = state.parameters.flat.copy()
    state.gradients["encoder.mu.bias"][...] = [1.0, -1.0, 0.0]
    apply_gradients(ops, state, Optimiser(lr=0.25))
    change = state.parameters["encoder.mu.bias"] - initialise(ARCH, seed=1, dtype="float64")["encoder.mu.bias"]
    assert state.step == 1
    assert np.abs(change - [-0.25, 0.25, 0.0]).max() < 1e-7
    assert (state.parameters.flat != before).sum() == 2


def test_first_steps_in_single_and_double_precision_are_close() -> None:
    arch = Architecture(13, 3, (9,), "tanh")
    single, double = train(5, arch, "float32")[0], train(5, arch, "float64")[0]
    for name in double.gradients:
        assert error(single.gradients[name], double.gradients[name]) < 1e-3
        assert error(single.parameters[name], double.parameters[name]) < 1e-4


# --- Values that are not finite ---------------------------------------------------------------------------------


def test_a_good_step_has_nothing_to_report() -> None:
    state, terms = train(3)
    assert first_non_finite(state, terms[-1]) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["encoder.hidden.0.weight", "encoder.logvar.bias", "decoder.out.weight"])
def test_a_bad_parameter_or_gradient_is_named(name: str, bad: float) -> None:
    state, terms = train(1)
    state.parameters[name].flat[-1] = bad
    assert first_non_finite(state, terms[0]) == name
    state.gradients[name].flat[0] = bad
    assert first_non_finite(state, terms[0]) == f"gradient of {name}"


def test_opposite_infinities_do_not_hide_each_other() -> None:
    state, terms = train(1)
    state.parameters["encoder.mu.bias"][:2] = [np.inf, -np.inf]
    with np.errstate(invalid="ignore"):
        assert first_non_finite(state, terms[0]) == "encoder.mu.bias"


@pytest.mark.parametrize("name", ["reconstruction", "kl"])
def test_a_bad_term_is_named(name: str) -> None:
    state, _ = train(1)
    values = {"reconstruction": np.zeros(5), "kl": np.zeros(5)}
    values[name][3] = np.nan
    assert first_non_finite(state, Terms(**values)) == name


def test_a_bad_bound_is_named() -> None:
    state, _ = train(1)
    assert first_non_finite(state, Terms(np.zeros(5), np.zeros(5), np.full(5, -np.inf))) == "bound"


def test_terms_that_are_infinite_together_are_not_finite() -> None:
    state, _ = train(1)
    with np.errstate(invalid="ignore"):
        assert first_non_finite(state, Terms(np.full(5, np.inf), np.full(5, np.inf))) == "reconstruction"


def test_finite_values_with_a_sum_that_overflows_are_finite() -> None:
    state, terms = train(1)
    with np.errstate(over="ignore"):
        state.parameters["encoder.mu.weight"][...] = 3e38
        assert first_non_finite(state, terms[0]) is None


def test_an_overflowing_logvar_is_noticed_at_once() -> None:
    """No clamp hides it: the KL and the gradient overflow together, and the first of them is named."""
    state = TrainingState(initialise(ARCH, seed=1))
    state.parameters["encoder.logvar.bias"][...] = 200
    with np.errstate(over="ignore", invalid="ignore"):
        terms = training_step(ops, ARCH, state, images(), ROWS, seed=1, optimiser=Optimiser())
        assert first_non_finite(state, terms) in ("reconstruction", "kl")
