"""The conditions of a conditional run: the labels of its data, or a file with a row for each row of the data. [D79]"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vae_np import data
from vae_np._types import Array
from vae_np.config import Config
from vae_np.errors import DataError, InputError, MissingFileError
from vae_np.vae import VAE

LABELS = "labels"
# More labels than this have no column of pictures each.
_IN_A_ROW = 16


@dataclass(frozen=True, eq=False)
class Conditions:
    """What conditions are, and those of the training and the test rows, as they were given: (N,) and (M,), or (N, C)
    and (M, C)."""

    given: data.Given
    train: Array
    test: Array

    @property
    def encoded_train(self) -> Array:
        """Those of the training rows as the model takes them, (N, C)."""
        return self.given.encode(self.train, len(self.train), "given: train")

    @property
    def encoded_test(self) -> Array:
        """Those of the test rows as the model takes them, (M, C)."""
        return self.given.encode(self.test, len(self.test), "given: test")

    def of_draws(self, count: int) -> Array:
        """Conditions of `count` draws: every label in turn, or those of the test rows."""
        known = self.test if self.given.names is None else np.array(self.given.names)
        return known[np.arange(count) % len(known)]

    @property
    def in_a_row(self) -> int | None:
        """How many pictures show every label once; None where they would not fit in a row, or there are no labels."""
        count = len(self.given.names or ())
        return count if 1 < count <= _IN_A_ROW else None

    def fingerprint(self) -> dict[str, str]:
        """What a checkpoint keeps to know the conditions again."""
        return {"given": data.digest_of_rows(np.concatenate([self.encoded_train, self.encoded_test]), "given")}


def load_given(settings: Config, dataset: data.Dataset, known: data.Given | None = None) -> Conditions | None:
    """The conditions that a configuration names, for the rows of its data; None where it names none.

    `known` is what a trained model's are; else it is decided from the training rows. Raises DataError where the data
    have no labels, the file has other rows than the data, or a label was never trained with; and MissingFileError.
    """
    if settings.given is None:
        return None
    if settings.given == LABELS:
        train, test = dataset.train_labels, dataset.test_labels
        if train is None or test is None:
            raise DataError(
                f"given: got 'labels', but data {dataset.name!r} has none; name a file with a row for each of its rows"
            )
    else:
        found = _file(settings.given, dataset)
        train, test = found.train, found.test
        for part, own, of_data in (("training", train, dataset.train), ("test", test, dataset.test)):
            if len(own) != len(of_data):
                raise DataError(
                    f"given: {found.name!r} has {len(own)} {part} rows, expected the {len(of_data)} of data "
                    f"{dataset.name!r}"
                )
    return Conditions(data.Given.of(train) if known is None else known, train, test)


def _file(path: str, dataset: data.Dataset) -> data.Dataset:
    try:
        return data.load(path, values="real", likelihood="normal")
    except MissingFileError:
        raise MissingFileError(
            f"given: got {path!r}, expected 'labels', or an existing file with a row for each row of data "
            f"{dataset.name!r}"
        ) from None
    except DataError as error:
        raise DataError(f"given: {error}") from None


def conditions_of(vae: VAE, settings: Config, dataset: data.Dataset) -> Conditions | None:
    """The conditions of these data for a trained model; None where it has none.

    Raises InputError where the settings do not say where they are, and what `load_given` raises.
    """
    if not vae.arch.conditions:
        return None
    found = load_given(settings, dataset, vae.given)
    if found is None:
        raise InputError(
            f"given: the model has {vae.arch.conditions} conditions, and its settings do not say where those of data "
            f"{dataset.name!r} are: given is missing"
        )
    return found
