"""The package's own verification, row by row, and that nothing with a backward is left out of it.

Budget: about 55 s of processor time, most of it the models on the reference; those on the kernels are marked slow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from vae_np import distributions, layers, ops
from vae_np.choices import LIKELIHOODS
from vae_np.errors import InputError
from vae_np.verify import catalogue, closed_forms, runner

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def rows() -> list[runner.Row]:
    """What `vae-np verify` shows, with two models only on each backend but the reference."""
    models = catalogue.models

    def few(backend: ModuleType, seed: int, *, full: bool) -> Iterator[catalogue.Scalar]:
        return itertools.islice(models(backend, seed, full=full), None if backend is ops else 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "models", few)
        return list(runner.rows())


def test_every_check_passes(rows: list[runner.Row]) -> None:
    failed = [f"{row.name} ({row.backend}): {row.detail}" for row in rows if not row.passed]
    assert not failed, "\n".join(failed)
    assert all(math.isfinite(row.max_rel_error) for row in rows)


@pytest.mark.slow
def test_every_model_passes_on_every_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CLOSED_FORMS", ())
    failed = [f"{row.name} ({row.backend}): {row.detail}" for row in runner.rows() if not row.passed]
    assert not failed, "\n".join(failed)


def test_smooth_functions_agree_with_the_complex_step_to_1e_12(rows: list[runner.Row]) -> None:
    smooth = [row for row in rows if row.backend == "numpy" and row.method == "complex step" and "relu" not in row.name]
    assert max(row.max_rel_error for row in smooth) <= 1e-12
    models = [row.name for row in smooth if row.name.startswith("model")]
    for activation in ("tanh", "softplus"):
        for likelihood in ("bernoulli", "bernoulli-grey", "normal", "normal-fixed", "normal-diagonal"):
            for form in ("analytic", "joint"):
                assert f"model 7-5-4-2 {activation}, {likelihood}, {form} form" in models
    by_complex_step = {row.name for row in smooth}
    for family in (catalogue.layer_pairs, catalogue.distribution_pairs, catalogue.likelihood_pairs):
        assert {pair.name for pair in family(0) if pair.smooth} <= by_complex_step


def test_relu_is_checked_too(rows: list[runner.Row]) -> None:
    names = {row.name for row in rows}
    assert {"relu", "mlp, relu", "affine_act, relu", "binary_affine_act, relu"} <= names
    assert {f"model 7-5-4-2 relu, {likelihood}, joint form" for likelihood in LIKELIHOODS} <= names


def test_every_pair_of_the_package_is_in_the_catalogue() -> None:
    pairs = [*catalogue.layer_pairs(0), *catalogue.distribution_pairs(0), *catalogue.operation_pairs(ops, 0)]
    names = {pair.name.split(",")[0] for pair in pairs}
    for module in (layers, distributions, ops):
        own = {
            name.removesuffix("_backward")
            for name, value in vars(module).items()
            if name.endswith("_backward") and value.__module__ == module.__name__
        }
        assert own
        assert own <= names, own - names


def test_every_closed_form_is_a_row(rows: list[runner.Row]) -> None:
    names = {row.name for row in rows if row.method == "closed form" and row.backend == "numpy"}
    assert names == {form.__name__.replace("_", " ") for form in closed_forms.CLOSED_FORMS}


def test_full_checks_more_points_and_depths() -> None:
    full = list(catalogue.models(ops, 0, full=True))
    observed = {arch.sizes for arch in catalogue.OBSERVED}
    sizes = {"7-5-4-2", "7-2", "7-5-2", "7-5-3", "7-5-3/4-2", "7-5-4-2/3", *observed}
    assert {scalar.name.split()[1] for scalar in full} == sizes
    layers = (*catalogue.TWO_LAYERS, *catalogue.PRIORS_AND_CONDITIONS)
    beside = (*catalogue.RICH, *catalogue.REFINED, *layers)
    of_families = sum(len(catalogue.losses_of(arch)) for arch in beside)
    of_families += len(catalogue.OBSERVED) * len(catalogue.OBSERVED_LOSSES)
    assert len(full) == 3 * 3 * 5 * len(catalogue.LOSSES) + of_families
    few = [scalar.name for scalar in catalogue.models(ops, 0, full=False)]
    for objective in ("iwae", "stl", "dreg", "score"):
        for likelihood in ("bernoulli", "normal-diagonal"):
            assert f"model 7-5-4-2 tanh, {likelihood}, {objective}" in few


@pytest.mark.parametrize(
    ("value", "exact", "passed"),
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0, 2.0 + 1e-13], [1.0, 2.0], True),
        ([1.0, 2.0 + 1e-11], [1.0, 2.0], False),
        ([1.0, math.nan], [1.0, 2.0], False),
        ([0.0, 0.0], [0.0, 1e-30], False),
        ([0.0, 1e-30], [0.0, 0.0], False),
        ([0.0, 0.0], [0.0, 0.0], True),
        ([1.0], [1.0, 1.0], False),
    ],
)
def test_a_comparison_is_relative_and_lets_nothing_through(
    value: list[float], exact: list[float], passed: bool
) -> None:
    row = runner._compared("x", "numpy", "compare", np.array(value), np.array(exact), 1e-12)
    assert row.passed is passed
    assert bool(row.detail) is not passed
    assert set(row.as_dict()) == {"name", "backend", "method", "max_rel_error", "passed", "detail"}


def test_an_unknown_library_is_refused() -> None:
    with pytest.raises(InputError, match="torch, jax"):
        next(runner.rows(library="theano"))
