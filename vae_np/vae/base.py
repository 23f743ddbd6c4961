"""What a model is and what its data mean: construction, parameters, values; all that the other files build on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from vae_np import backends, data, display, model, noise
from vae_np._types import Array
from vae_np.choices import (
    Activation,
    BackendChoice,
    Binarization,
    Dtype,
    Inference,
    Initialisation,
    Likelihood,
    PosteriorFamily,
    Precision,
    PriorFamily,
    ValuesKind,
)
from vae_np.config import Config
from vae_np.errors import DataError, InputError
from vae_np.evaluation import held_out
from vae_np.model import Architecture, Model, Parameters
from vae_np.precision import FULL
from vae_np.step import TrainingState
from vae_np.training.progress import Progress
from vae_np.training.trainer import Metrics, architecture
from vae_np.vae.history import History

# The widths of hidden layers: one of them may be a number.
Widths = int | tuple[int, ...] | list[int]

# NumPy's own defaults, whatever the caller has set: a number too small for its format is not an error here.
as_usual = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")


class Base:
    """Construction, parameters and values of a `VAE`, whose docstring says what the arguments are."""

    @as_usual
    def __init__(
        self,
        features: int = 784,
        *,
        hidden: Widths = (400,),
        decoder_hidden: Widths | None = None,
        latent: int = 20,
        activation: Activation = "relu",
        likelihood: Likelihood = "bernoulli",
        sigma: float = 1.0,
        inference: Inference = "amortized",
        posterior: PosteriorFamily = "diagonal",
        flow_steps: int | None = None,
        flow_hidden: int | None = None,
        top_latent: int | None = None,
        top_hidden: Widths | None = None,
        prior: PriorFamily = "standard",
        components: int | None = None,
        conditions: int = 0,
        init: Initialisation = "uniform",
        dtype: Dtype = "float32",
        precision: Precision = FULL,
        backend: BackendChoice = "auto",
        threads: int | None = None,
        seed: noise.Seed = 0,
        values: data.Values | ValuesKind | None = None,
    ) -> None:
        self.config = Config(
            hidden=cast(tuple[int, ...], hidden),  # (the configuration makes it one)
            decoder_hidden=cast(tuple[int, ...] | None, decoder_hidden),
            latent=latent,
            activation=activation,
            likelihood=likelihood,
            sigma=sigma,
            inference=inference,
            posterior=posterior,
            flow_steps=flow_steps,
            flow_hidden=flow_hidden,
            top_latent=top_latent,
            top_hidden=cast(tuple[int, ...] | None, top_hidden),
            prior=prior,
            components=components,
            init=init,
            dtype=dtype,
            precision=precision,
            backend=backend,
            seed=noise.seed_of(seed),
        )
        self.backend = backends.choose(backend, threads)
        self.backend.check_precision(self.config.precision)
        self.arch: Architecture = architecture(self.config, features, conditions)
        self._seed = self.config.seed
        self._named_values = None if values is None else named_values(values)
        self.reset()

    @as_usual
    def reset(self, *, parameters: bool = True) -> None:
        """A fresh start: forget steps, epochs, moments and history, so that `fit` begins anew.

        The parameters are drawn again from the seed that the model was made with, and the next `fit` decides anew what
        the numbers in its data mean; with `parameters=False` both stay.
        """
        fresh = model.initialise(self.arch, seed=self._seed, dtype=self.config.dtype, scheme=self.config.init)
        if parameters:
            self._values = self._named_values
            self._given: data.Given | None = None
        else:
            fresh.assign(self.parameters)
        self._state = TrainingState(fresh)
        self._progress = Progress()
        #: Every metrics line of the model's training, of all calls of `fit` since it was made, loaded or reset.
        self.history = History()

    def __repr__(self) -> str:
        kinds = f"{self.arch.activation}, {self.arch.likelihood}, {self.parameters.dtype}, {self.backend.name}"
        kinds += "" if self.config.precision == FULL else f", {self.config.precision} products"
        return f"<VAE {self.arch.sizes}, {kinds}, {self.parameters.count} parameters>"

    def _repr_html_(self) -> str:
        """What the model is and how far it is trained, as a table."""
        arch, epochs = self.arch, self.history.lines[-1]["epoch"] if self.history.lines else None
        trained = display.counted_text(self._state.step, "step")
        rows = [
            ("architecture", f"{arch.sizes}, {arch.activation}"),
            ("likelihood", arch.likelihood),
            *([] if arch.prior == "standard" else [("prior", f"{arch.prior} of {arch.components}")]),
            *([("given", str(self._given or arch.conditions))] if arch.conditions else []),
            ("inference", arch.inference),
            ("data", "not fitted yet" if self._values is None else str(self.values)),
            ("trained", trained if epochs is None else f"{trained}, {display.counted_text(epochs, 'epoch')}"),
            *((f"{line['split']} ELBO", f"{line['elbo']:.2f} nats") for line in self._last_lines()),
            ("parameters", f"{self.parameters.count} in {self.parameters.dtype}"),
            (
                "backend",
                self.backend.name if self.config.precision == FULL else f"{self.backend.name}, {self.config.precision}",
            ),
        ]
        return display.table("VAE", (), rows)

    def _last_lines(self) -> list[Metrics]:
        return list({line["split"]: line for line in self.history.lines}.values())

    @property
    def model(self) -> Model:
        """The model as the functions of `vae_np.evaluation` take it: operations, architecture and parameters."""
        return Model(self.backend.ops, self.arch, self.parameters)

    @property
    def values(self) -> data.Values:
        """What the numbers in the data mean to the model: kind, scale, the range it was fitted to, standardisation."""
        if self._values is not None:
            return self._values
        return data.UNIT if self.arch.is_bernoulli else data.REAL

    @property
    def parameters(self) -> Parameters:
        """Every tensor by name, weights (in, out); writing into one changes the model."""
        return self._state.parameters

    def _seed_or_own(self, seed: noise.Seed) -> int:
        return self.config.seed if seed is None else noise.seed_of(seed)

    def values_as(self, named: data.Values | ValuesKind | None) -> data.Values:
        """What data hold: what the model was fitted to, or what they are said to be, if that means the same pixels.

        Raises DataError where it does not.
        """
        if named is None:
            return self.values
        held = named_values(named)
        if self._values is not None and held.kind != self._values.kind and "real" in (held.kind, self._values.kind):
            raise DataError(f"values: got {held.kind!r}, but the model was fitted to {self._values.kind!r} values")
        return self.values if held.kind == "real" else held

    def _mode(
        self, values: data.Values, binarize: Binarization | None, name: str, unless_named: Binarization | None = None
    ) -> Binarization:
        """How grey is binarised: as it was named, else as the model was fitted (or, in `fit`, anew at each visit)."""
        grey = values.is_grey and self.arch.likelihood == "bernoulli"
        default = (unless_named or self.config.binarization) if grey else "none"
        mode = default if binarize is None else binarize
        data.check_values(name, values, self.arch.likelihood, mode)
        return mode

    @property
    def given(self) -> data.Given | None:
        """What a conditional model's conditions are: the labels, or columns; None before `fit`, and without any. [D83]
        """
        return self._given

    def _encoded(self, given: Any, rows: int) -> Array | None:
        """Conditions as the model takes them, (rows, C); raises InputError where there are none, or too many. [D83]"""
        if not self.arch.conditions:
            if given is not None:
                raise InputError(
                    "given: got conditions for a model that has none, expected None; VAE(conditions=C) has them"
                )
            return None
        if self._given is None:
            raise InputError("given: the model's conditions are not known before fit")
        if given is None:
            raise InputError(f"given: got None for a conditional model, expected {self._given.expected}")
        return self._given.encode(given, rows)

    def _examples(
        self,
        x: data.Rows,
        binarize: Binarization | None,
        seed: int,
        values: data.Values | ValuesKind | None = None,
        given: Any = None,
    ) -> held_out.Examples:
        array = data.unmasked(x, "x")
        if values is None and array.dtype == np.bool_ and self.values.is_grey:
            # True and False are neither bytes nor grey levels.
            values = data.BINARY
        examples = self._examples_of(self.values_as(values), array, binarize, seed, "x")
        return replace(examples, given=self._encoded(given, len(examples)))

    def _examples_of(
        self, values: data.Values, x: data.Rows, binarize: Binarization | None, seed: int, name: str
    ) -> held_out.Examples:
        rows, _ = data.flatten(x, name)
        data.check_columns(rows, self.arch.features, name)
        values.check(data.scan(rows, name), name)
        return held_out.Examples(values.convert(rows), values, self._mode(values, binarize, name), seed)


def named_values(values: data.Values | ValuesKind) -> data.Values:
    """Values, or what a kind's name stands for."""
    return values if isinstance(values, data.Values) else data.Values.named(values)
