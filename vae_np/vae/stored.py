"""A model in files: the folder that it is saved to and loaded from, and what a checkpoint says of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self

from vae_np import checkpoint, data, noise, storage
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import BackendChoice, ValuesKind
from vae_np.config import Config, load_toml
from vae_np.errors import CheckpointError, DataError, MissingFileError, WriteError
from vae_np.log import LOGGER
from vae_np.step import TrainingState
from vae_np.training.per_datapoint import LocalPosterior
from vae_np.training.progress import Progress
from vae_np.vae.base import Base, as_usual, named_values

CONFIG_FILE = "config.toml"


class Stored(Base):
    """How a `VAE` is saved and loaded."""

    @as_usual
    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the three files of a checkpoint (`vae_np.checkpoint`) and `config.toml` into `folder`, old or new.

        Raises BusyError while another process writes there, WriteError where the folder cannot be written, and
        InputError where a parameter is not finite.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"{folder}: cannot be written ({storage.reason(error)})") from error
        moments, local = self._state.moments(), self._progress.local
        if local is not None:
            moments |= local.arrays()
        extra = {**self._progress.to_mapping(), "source": checkpoint.PYTHON}
        with storage.hold(folder):
            how = self.arch, self.config, self._state, moments, extra
            save_state(folder, *how, seconds=self._progress.seconds, values=self._values, given=self._given)
            storage.write_atomic(folder / CONFIG_FILE, self.config.to_toml())
        LOGGER.info("saved: %s, at step %d", folder, self._state.step)

    @classmethod
    @as_usual
    def load(
        cls,
        run: str | os.PathLike[str],
        *,
        backend: BackendChoice = "auto",
        threads: int | None = None,
        seed: noise.Seed = None,
        moments: bool = True,
        values: data.Values | ValuesKind | None = None,
    ) -> Self:
        """The model of a run's folder, with the run's settings, or of a `checkpoint.safetensors` alone.

        `seed` is by default the run's, so that a model which was saved gives the same numbers when it is loaded. From a
        folder `fit` goes on where the run stands; with `moments=False`, or from the weights alone, it begins anew.
        `values` names what the data mean where an earlier version kept no record of it; if it is not given, the run's
        data decide. Raises MissingFileError if there is no such run, and CheckpointError if its files cannot be used.
        """
        weights = checkpoint.load_weights(run)
        arch = architecture_of(weights, run)
        settings = Path(run) / CONFIG_FILE
        of_run = load_toml(settings) if settings.exists() else None
        config = of_run or Config()
        if of_run is not None:
            _check_architecture(arch, of_run, settings)
        own: dict[str, Any] = {
            **arch.as_dict(),
            "hidden": arch.hidden,
            "decoder_hidden": arch.decoder_hidden,
            "top_hidden": arch.top_hidden,
            "dtype": str(weights.parameters["decoder.out.bias"].dtype),
            "backend": backend,
            "seed": config.seed if seed is None else noise.seed_of(seed),
        }
        vae = cls(own.pop("features"), threads=threads, **own)
        own.pop("conditions", None)
        vae._given = given_of(weights, run)
        vae._values = values_of(weights, of_run, run) if values is None else named_values(values)
        vae.config = replace(config, **own)
        if vae._values is not None:
            vae.config = vae.config.with_values(vae._values)
        vae.parameters.assign(weights.parameters)
        vae._state.step = weights.step
        if moments and (Path(run) / checkpoint.STATE_FILE).exists():
            vae._restore(checkpoint.load_state(run), Path(run))
        LOGGER.info("loaded: %s, at step %d", run, vae._state.step)
        return vae

    def _restore(self, state: checkpoint.State, run: Path) -> None:
        """Take over a run's moments and its progress."""
        source = run / checkpoint.STATE_FILE
        if architecture_of(state, source) != self.arch:
            raise CheckpointError(f"{source}: belongs to another architecture than {checkpoint.WEIGHTS_FILE} beside it")
        own, held, local = self._state.moments(), state.moments, None
        if self.arch.inference == "local":
            local = LocalPosterior.prior(len(held.get("local.mu", ())), self.arch.latent, self.config.dtype)
            own |= local.arrays()
        try:
            progress = Progress.from_mapping(state.extra, self.config.batch_size, state.seconds or 0.0)
            checkpoint.check_shapes(held, {name: array.shape for name, array in own.items()})
            checkpoint.check_dtypes(held, {name: array.dtype for name, array in own.items()})
        except CheckpointError as error:
            raise CheckpointError(f"{source}: {error}") from None
        # Where a kill came between the two files, the state is the newer one, and complete in itself.
        self.parameters.assign(state.parameters)
        for name, array in own.items():
            array[...] = held[name]
        self._state.step, self._progress = state.step, replace(progress, local=local)


def values_of(
    stored: checkpoint.Weights | checkpoint.State, config: Config | None, source: str | os.PathLike[str]
) -> data.Values | None:
    """What the data mean to a model that was stored; None where only the likelihood is known.

    An earlier version kept no record. For its files the data that `config` names decide, if they are still there and
    have the model's columns. Raises CheckpointError, which names `source`, where the record is damaged.
    """
    features = int(stored.architecture["features"])
    if stored.values is None:
        return None
    if stored.values:
        try:
            return data.Values.from_mapping(stored.values, features)
        except DataError as error:
            raise CheckpointError(f"{os.fspath(source)}: {error}") from None
    if config is None:
        return None
    try:
        implied = data.load(config.data, test=config.test_data, seed=config.seed, as_before=True)
        data.check_columns(implied.train, features)
        data.check_for(implied, config.likelihood, config.binarization)
    except (DataError, MissingFileError):
        return None
    return implied.values


def given_of(
    stored: checkpoint.Weights | checkpoint.State, source: str | os.PathLike[str]
) -> data.Given | None:
    """What a stored model's conditions are; None where it has none, or was not fitted.

    Raises CheckpointError, which names `source`, where the record is damaged.
    """
    conditions = int(stored.architecture.get("conditions", 0))
    if stored.given is None or not conditions:
        return None
    try:
        return data.Given.from_mapping(stored.given, conditions)
    except DataError as error:
        raise CheckpointError(f"{os.fspath(source)}: {error}") from None


def architecture_of(weights: checkpoint.Weights | checkpoint.State, source: str | os.PathLike[str]) -> Architecture:
    """The architecture that a checkpoint names, checked against the shapes it holds.

    Raises CheckpointError, which names `source`, where the checkpoint came from.
    """
    try:
        arch = Architecture.from_dict(weights.architecture)
        checkpoint.check_shapes(weights.parameters, arch.shapes())
        dtype = weights.parameters["decoder.out.bias"].dtype
        checkpoint.check_dtypes(weights.parameters, dict.fromkeys(weights.parameters, dtype))
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(source)}: {error}") from None
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{os.fspath(source)}: its architecture cannot be read ({error})") from None
    return arch


def _check_architecture(arch: Architecture, config: Config, source: Path) -> None:
    """Refuse a checkpoint beside the settings of another model: a mixture of the two would be trained and reported."""
    for part in fields(Architecture):
        held, wanted = getattr(arch, part.name), getattr(config, part.name, getattr(arch, part.name))
        if held != wanted:
            raise CheckpointError(
                f"run: {source.parent}: holds a checkpoint of another architecture: its {part.name} is {held!r}, but "
                f"{source.name} has {wanted!r}"
            )


def save_state(
    folder: str | os.PathLike[str],
    arch: Architecture,
    config: Config,
    state: TrainingState,
    moments: Mapping[str, Array],
    extra: Mapping[str, Any],
    *,
    seconds: float,
    values: data.Values | None = None,
    fingerprint: Mapping[str, Any] | None = None,
    given: data.Given | None = None,
) -> None:
    """Write a checkpoint, and its wall time; `moments` and `extra` are what resuming needs besides the parameters."""
    checkpoint.save(
        folder,
        parameters=state.parameters,
        moments=moments,
        architecture=arch.as_dict(),
        config=config.to_mapping(),
        step=state.step,
        extra=extra,
        values=None if values is None else values.to_mapping(),
        fingerprint=fingerprint,
        seconds=seconds,
        given=None if given is None else given.to_mapping(),
    )
