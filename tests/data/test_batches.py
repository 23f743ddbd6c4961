"""Rows from an object that has batches of them: the same training, and one line for what does not fit.

Budget: about 1 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_np import VAE, data
from vae_np.data.batches import are_batches, gathered
from vae_np.errors import DataError


class Cut:
    """An array cut into batches of 7, the last one shorter."""

    def __init__(self, x: Any, labels: Any = None) -> None:
        self.x, self.labels = x, labels

    def __len__(self) -> int:
        return -(-len(self.x) // 7)

    def __getitem__(self, index: int) -> Any:
        part = slice(7 * index, 7 * index + 7)
        return self.x[part] if self.labels is None else (self.x[part], self.labels[part])


X = data.bars(4, 40, 0)[0]


@pytest.mark.parametrize("cut", [Cut(X), Cut(X, np.arange(40)), Cut(X.reshape(40, 4, 4))], ids=["x", "x, y", "images"])
def test_a_model_is_fitted_to_batches_as_to_their_rows(cut: Cut) -> None:
    models = [VAE(16, hidden=(5,), latent=2, backend="numpy") for _ in range(2)]
    for vae, x in zip(models, (X, cut), strict=True):
        vae.fit(x, epochs=2, batch_size=10, validation=x)
    one, other = models
    assert one.parameters.flat.tobytes() == other.parameters.flat.tobytes()
    np.testing.assert_array_equal(one.elbo(X).elbo, one.elbo(cut).elbo)
    np.testing.assert_array_equal(one.encode(X), one.encode(cut))


def test_a_data_set_is_made_of_batches() -> None:
    made = data.from_arrays(Cut(X.reshape(40, 4, 4)), Cut(X[:5]))
    assert made.image_shape == (4, 4)
    np.testing.assert_array_equal(made.train, X)
    np.testing.assert_array_equal(made.test, X[:5])


def test_what_is_rows_itself_is_no_batches() -> None:
    pandas = pytest.importorskip("pandas")
    for rows in ([[0, 1]], ([0, 1],), X, pandas.DataFrame(X), {"a": 1}, "text", range(3)):
        assert not are_batches(rows)
    assert are_batches(Cut(X))
    assert not are_batches(iter([X]))
    assert not are_batches({0})


@pytest.mark.parametrize(
    ("batches", "line"),
    [
        ([], "x: got no batch, expected at least one"),
        ([X[:3], X[0]], "x: batch 1 has shape (16,), expected rows: (B, D) or (B, H, W)"),
        (
            [X[:3], X[:3, :4]],
            "x: batch 1 has rows of shape (4,) in uint8, expected (16,) in uint8, as batch 0 has",
        ),
        (
            [X[:3], X[:3] / 2],
            "x: batch 1 has rows of shape (16,) in float64, expected (16,) in uint8, as batch 0 has",
        ),
        ([np.array([["a", "b"]])], "x: got <U1, expected numbers"),
        (
            [np.full((2, 16), np.nan)],
            "x: got nan at row 0, column 0 (counted from 0), expected finite numbers; cells without a value need "
            "missing 'zero' or 'mask'",
        ),
        ([np.ones((2, 5))], "x: got shape (2, 5), expected (N, 16)"),
    ],
)
def test_batches_that_do_not_fit_are_refused_in_one_line(batches: list[Any], line: str) -> None:
    class Listed:
        def __len__(self) -> int:
            return len(batches)

        def __getitem__(self, index: int) -> Any:
            return batches[index]

    with pytest.raises(DataError) as told:
        VAE(16, latent=1, backend="numpy").fit(Listed(), epochs=1, batch_size=2)
    assert str(told.value) == line


def test_a_list_of_unequal_arrays_is_told_what_to_do() -> None:
    with pytest.raises(DataError, match=r"^x: got rows of several lengths"):
        VAE(16, latent=1, backend="numpy").fit([X[:3], X[:2]])  # type: ignore[list-item]
    assert gathered(Cut(X), "x").shape == X.shape
