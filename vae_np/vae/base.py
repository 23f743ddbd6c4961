"""What a model is and what its data mean: construction, parameters, values; all that the other files build on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from vae_np import backends, data, display, likelihoods, model, noise
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import (
    Activation,
    BackendChoice,
    Binarization,
    Dtype,
    Inference,
    Initialisation,
    Likelihood,
    Missing,
    PosteriorFamily,
    Precision,
    PriorFamily,
    RefineGradient,
    ValuesKind,
)
from vae_np.config import Config
from vae_np.errors import DataError, InputError
from vae_np.evaluation import held_out
from vae_np.likelihoods.columns import own_numbers
from vae_np.model import Model
from vae_np.parameters import Parameters
from vae_np.precision import FULL
from vae_np.step import TrainingState
from vae_np.training.progress import Progress
from vae_np.training.trainer import Metrics, architecture
from vae_np.vae.history import History

# The widths of hidden layers: one of them may be a number.
Widths = int | tuple[int, ...] | list[int]

# NumPy's own defaults, whatever the caller has set: a number too small for its format is not an error here.
as_usual = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")


# What `features` is unless it is given: MNIST's pixels.
_FEATURES = 784


class Base:
    """Construction, parameters and values of a `VAE`, whose docstring says what the arguments are."""

    @as_usual
    def __init__(
        self,
        features: int = _FEATURES,
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
        refine_steps: int = 0,
        refine_rate: float | None = None,
        refine_gradient: RefineGradient | None = None,
        top_latent: int | None = None,
        top_hidden: Widths | None = None,
        prior: PriorFamily = "standard",
        components: int | None = None,
        conditions: int = 0,
        columns: Any = None,
        missing: Missing | None = None,
        init: Initialisation = "uniform",
        dtype: Dtype = "float32",
        precision: Precision = FULL,
        backend: BackendChoice = "auto",
        threads: int | None = None,
        seed: noise.Seed = 0,
        values: data.Values | ValuesKind | None = None,
    ) -> None:
        if columns is not None:
            columns = likelihoods.columns_of(columns)
            if features not in (_FEATURES, len(columns)):
                raise InputError(f"features: got {features} with {len(columns)} columns, expected as many, or none")
            features = len(columns)
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
            refine_steps=refine_steps,
            refine_rate=refine_rate,
            refine_gradient=refine_gradient,
            top_latent=top_latent,
            top_hidden=cast(tuple[int, ...] | None, top_hidden),
            prior=prior,
            components=components,
            columns=columns,
            missing=missing,
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
            *([] if arch.missing is None else [("missing cells", arch.missing)]),
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
        return data.UNIT if data.takes_grey(self.arch.likelihood) else data.REAL

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
        """What a conditional model's conditions are: the labels, or columns; None before `fit`, and without any. [D79]
        """
        return self._given

    def _encoded(self, given: Any, rows: int) -> Array | None:
        """Conditions as the model takes them, (rows, C); raises InputError where there are none, or too many. [D79]"""
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
        mask: ArrayLike | None = None,
        missing: bool = False,
    ) -> held_out.Examples:
        missing = missing or self.arch.missing is not None
        array = self._array(x, "x", mask, missing)
        if values is None and array.dtype == np.bool_ and self.values.is_grey:
            # True and False are neither bytes nor grey levels.
            values = data.BINARY
        examples = self._examples_of(self.values_as(values), array, binarize, seed, "x", missing)
        return replace(examples, given=self._encoded(given, len(examples)))

    def _examples_of(
        self,
        values: data.Values,
        x: Array,
        binarize: Binarization | None,
        seed: int,
        name: str,
        missing: bool,
    ) -> held_out.Examples:
        """Examples of what `_array` returned."""
        rows, _ = data.flatten(x, name)
        data.check_columns(rows, self.arch.features, name)
        # Rows of which nothing was observed have an answer, too; 0 is among the values of every kind.
        values.check(data.scan(rows, name, missing=missing, otherwise=data.Span(0, 0, True)), name)
        self._check_cells(rows, name)
        return held_out.Examples(values.convert(rows), values, self._mode(values, binarize, name), seed)

    def _array(self, x: Any, name: str, mask: ArrayLike | None, missing: bool) -> Array:
        """x as an array, a table's columns as the model reads them, and NaN where there is no value. [D66] [D67]

        Raises DataError for masked cells where the model takes none.
        """
        rows = x if self.arch.columns is None else data.rows_of(x, self.arch.columns, name)
        if missing:
            return data.with_holes(rows, mask, name)
        if mask is not None:
            raise InputError("mask: got one, but the model takes no missing cells; VAE(missing='zero') does")
        return data.unmasked(rows, name)

    def _check_cells(self, rows: Array, name: str) -> None:
        """Raise DataError where a likelihood that is composed has no density for a cell."""
        if self.arch.is_composed and self.arch.observation is not None:
            self.arch.observation.check(rows, name)

    def _own_numbers(self, x: Array) -> Array:
        """The model's x (N, D) on the data's own scale, and with a table's own levels."""
        rows = self.values.from_model(x)
        return rows if self.arch.columns is None else own_numbers(self.arch.columns, rows)


def named_values(values: data.Values | ValuesKind) -> data.Values:
    """Values, or what a kind's name stands for."""
    return values if isinstance(values, data.Values) else data.Values.named(values)
