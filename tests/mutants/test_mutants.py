"""Planted mistakes: a check that is named for each passes on the package as it is and fails once the mistake is in it.

Budget: about 11 s.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from mutants import checks_gradients, mistakes_public, table
from mutants.plant import Check, Edit, Mutant, function_at, planted
from mutants.table import MUTANTS, noticed
from vae_np import distributions, layers, ops

CHECKS = {check.name: check for mutant in MUTANTS for check in (*mutant.caught_by, mutant.gradient) if check}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Mutants overflow and divide by zero; what they compute is judged, not what NumPy says of it."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_the_check_passes_on_the_package_as_it_is(check: Check) -> None:
    assert noticed(check) is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.mistake)
def test_the_checks_named_for_a_mistake_notice_it(mutant: Mutant) -> None:
    table.row(mutant)


def test_the_document_has_this_table() -> None:
    assert table.written() == table.text(), "write it anew: python -m tests.mutants"


def test_mistakes_and_checks_have_names_of_their_own() -> None:
    assert len({mutant.mistake for mutant in MUTANTS}) == len(MUTANTS)
    assert all(check.run.__code__ is CHECKS[check.name].run.__code__ for m in MUTANTS for check in m.caught_by)


def test_the_gradient_check_alone_passes_a_sampler_that_is_consistently_wrong() -> None:
    """Noise scaled by exp(logvar), backward pass and all: the gradient is that of the code, and the code is wrong."""
    mutant = mistakes_public.MUTANTS[0]
    assert "exp(logvar)" in mutant.mistake
    mu, logvar, eps = np.zeros((1, 1)), np.log(np.full((1, 1), 9.0)), np.ones((1, 1))
    assert ops.reparam_kl_forward(mu, logvar, eps)[0][0].item() == pytest.approx(3.0)
    with planted(mutant):
        assert ops.reparam_kl_forward(mu, logvar, eps)[0][0].item() == pytest.approx(9.0)
        assert noticed(checks_gradients.pair("reparam_kl")) is None
        assert noticed(checks_gradients.model()) is None
        assert all(noticed(check) for check in mutant.caught_by)


def test_every_module_of_the_mathematics_has_mistakes_planted_in_it() -> None:
    planted_in = {edit.where.partition(":")[0] for mutant in MUTANTS for edit in mutant.edits}
    assert planted_in >= {
        "curvature",
        "data.dataset",
        "distributions",
        "elbo",
        "evaluation.annealing",
        "evaluation.held_out",
        "evaluation.importance",
        "exact.candidate_objectives",
        "exact.decoder",
        "exact.enumeration",
        "exact.inference",
        "exact.linear_gaussian",
        "exact.quadrature",
        "layers",
        "model",
        "noise",
        "objectives",
        "ops",
        "optim",
        "posteriors.autoregressive",
        "posteriors.full",
        "posteriors.planar",
        "refinement",
        "step",
        "training.host_loop",
        "training.per_datapoint",
        "training.trainer",
        "two_layers.conditional",
        "two_layers.upper",
        "vae.inference",
    }


# --- The planting itself ----------------------------------------------------------------------------------------


def test_a_planted_mistake_is_seen_wherever_the_function_is_held_and_is_gone_afterwards() -> None:
    held = layers.ACTIVATIONS["tanh"][1]
    mutant = Mutant("", (Edit("layers:tanh_backward", "(1 - y * y)", "(2 - y * y)"),), ())
    before = function_at("layers:tanh_backward").__code__
    with planted(mutant):
        assert held(np.ones(1), np.zeros(1)).item() == 2
    assert held(np.ones(1), np.zeros(1)).item() == 1
    assert function_at("layers:tanh_backward").__code__ is before


def test_several_edits_of_one_function_add_up() -> None:
    edits = (
        Edit("distributions:normal_entropy", "0.5 *", "2 *"),
        Edit("distributions:normal_entropy", "LOG_2PI", "0"),
    )
    with planted(Mutant("", edits, ())):
        assert distributions.normal_entropy(np.zeros((1, 1))).item() == 2


@pytest.mark.parametrize("old", ["no such text", "y"])
def test_a_snippet_that_does_not_occur_exactly_once_is_refused(old: str) -> None:
    mutant = Mutant("", (Edit("layers:tanh_backward", old, "z"),), ())
    with pytest.raises(AssertionError, match="occurs"), planted(mutant):
        pass
    assert layers.tanh_backward(np.ones(1), np.zeros(1)).item() == 1


def test_a_mutant_that_cannot_run_counts_as_a_slip_not_as_noticed() -> None:
    mutant = Mutant("", (Edit("layers:tanh_backward", "(1 - y * y)", "(1 - why * y)"),), ())
    with planted(mutant), pytest.raises(table.Slip, match="why"):
        noticed(checks_gradients.pair("tanh"))


def test_a_mistake_that_nothing_notices_fails() -> None:
    harmless = Mutant(
        "harmless",
        (Edit("layers:tanh_backward", "(1 - y * y)", "(1 - y**2)"),),
        (checks_gradients.pair("tanh"),),
    )
    with pytest.raises(AssertionError, match="not noticed by: gradient of tanh"):
        table.row(harmless)
