"""Every setting of a run: one frozen dataclass behind TOML, the command line and all validation messages.

A field states its default, its kind (what it accepts), its metavar and its help once, in `Config`.
`options()` hands them to the command line, which takes each option as text and gives it to `parse_field`;
`load` reads them from TOML; `Config(...)` checks them when the library is called from Python. All three raise
the same one-line `ConfigError`.

No library (pydantic, attrs) is used. What matters here is that one kind reads text, checks values and words the message
for all three; a library would only take over the bounds, for 10 MB and 0.1 s of import.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from vae_np import choices, priors
from vae_np.config.kinds import Choice, ColumnFamilies, Flag, Integer, Kind, Real, Sizes, Text, shown
from vae_np.config.option import Option
from vae_np.data import Values
from vae_np.display import settings_text
from vae_np.errors import ConfigError, DataError, InputError, did_you_mean
from vae_np.likelihoods import Columns, check_refinement, is_measured
from vae_np.optim import STAGES, stage_of, staged_epochs
from vae_np.posteriors import check_objective, check_posterior, refine_settings
from vae_np.posteriors import settings as flow_settings
from vae_np.precision import FULL
from vae_np.two_layers import check_combination
from vae_np.two_layers import check_objective as check_layers
from vae_np.two_layers import settings as top_widths


def _option(default: Any, kind: Kind, metavar: str, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"option": Option(kind, metavar, text)})


@dataclass(frozen=True, repr=False)
class Config:
    """The settings of a training run, checked when constructed; raises ConfigError.

    A list of sizes becomes a tuple, and a whole number given for a rate becomes a float, so that equal
    settings compare equal wherever they came from.
    """

    data: str = _option(
        "mnist",
        Text("the name of a built-in data set or the path of a file or folder"),
        "NAME|FILE",
        "Data: mnist, bars, xor or rings; or a .npy, .npz, IDX, CSV or other text table, .mat, HDF5, Parquet or Arrow "
        "file; or a folder of images.",
    )
    test_data: str | None = _option(
        None,
        Text("the path of a file"),
        "FILE",
        "Test images; by default the test part that comes with the data.",
    )
    labels: str | None = _option(
        None,
        Text("the name of a column"),
        "COLUMN",
        "The column of a table that holds labels, for colours and for --given labels; by default label, labels or "
        "class.",
    )
    image_shape: tuple[int, int] | None = _option(
        None,
        Sizes("a height and a width, such as 28,28", count=2),
        "H,W",
        "Shape of one image in pictures; by default a square where the columns form one.",
    )
    values: choices.ValuesKind | None = _option(
        None,
        Choice(choices.VALUES_KINDS),
        "KIND",
        "What the numbers in the data are: 0 and 1; bytes over 255; between 0 and a scale; or real, as they are. By "
        "default decided from all training rows.",
    )
    scale: float | None = _option(
        None, Real(above=0), "X", "The number that is white, such as 16 for levels from 0 to 16; bytes have 255."
    )
    standardize: bool = _option(
        False,
        Flag(),
        "",
        "Bring each column of real data to mean 0 and standard deviation 1; the model keeps both, samples are on the "
        "data's own scale, and so are log-densities.",
    )
    hidden: tuple[int, ...] = _option(
        (400,),
        Sizes("sizes >= 1, such as 400 or 500,500"),
        "N[,N...]",
        "Sizes of the encoder's hidden layers, none for a linear one; the decoder has the same in reverse, or its own.",
    )
    decoder_hidden: tuple[int, ...] | None = _option(
        None,
        Sizes("sizes >= 1, such as 400 or 500,500"),
        "N[,N...]",
        "Sizes of the decoder's hidden layers, from z to x, none for a linear one; by default the encoder's in "
        "reverse.",
    )
    latent: int = _option(20, Integer(1), "N", "Latent dimensions.")
    activation: choices.Activation = _option(
        "relu", Choice(choices.ACTIVATIONS), "NAME", "Activation of the hidden layers."
    )
    init: choices.Initialisation = _option(
        "uniform",
        Choice(choices.INITIALISATIONS),
        "NAME",
        "Initialisation: uniform in ±1/sqrt(inputs), as PyTorch's nn.Linear, or Glorot's.",
    )
    inference: choices.Inference = _option(
        "amortized",
        Choice(choices.INFERENCES),
        "NAME",
        "How q(z|x) is found: by an encoder, or local, with a mean and variance for every datapoint and no encoder.",
    )
    posterior: choices.PosteriorFamily = _option(
        "diagonal",
        Choice(choices.POSTERIORS),
        "NAME",
        "Family of q(z|x): a normal with a diagonal or a full covariance, or a flow of planar or of inverse "
        "autoregressive steps, whose KL is sampled.",
    )
    flow_steps: int | None = _option(None, Integer(1), "N", "Steps of a flow; by default 4 planar or 2 iaf ones.")
    flow_hidden: int | None = _option(
        None, Integer(1), "N", "Hidden units of each iaf step, and the width of its context; by default 64."
    )
    refine_steps: int = _option(
        0,
        Integer(0),
        "N",
        "Steps on the mean and log-variance of q(z|x) from where the encoder puts them, in training and in evaluation.",
    )
    refine_rate: float | None = _option(
        None, Real(above=0), "X", "Length of such a step, where 1 is a natural-gradient step; by default 0.1."
    )
    refine_gradient: choices.RefineGradient | None = _option(
        None,
        Choice(choices.REFINE_GRADIENTS),
        "NAME",
        "How training takes these steps: with the gradient through them, which is the default, or stopped, as "
        "constants.",
    )
    top_latent: int | None = _option(
        None,
        Integer(1),
        "N",
        "Latent dimensions of a second stochastic layer above z, whose KL is sampled; by default there is none.",
    )
    top_hidden: tuple[int, ...] | None = _option(
        None,
        Sizes("sizes >= 1, such as 100 or 100,100"),
        "N[,N...]",
        "Sizes of the hidden layers from z to the second stochastic layer, and in reverse on the way down; by default "
        "those of hidden.",
    )
    prior: choices.PriorFamily = _option(
        "standard",
        Choice(choices.PRIORS),
        "NAME",
        "Prior p(z): N(0, I); a learned mixture of normals; or vamp, the mean of q(z|u) over learned pseudo-inputs u, "
        "which begin at training rows. The KL to a learned one is sampled.",
    )
    components: int | None = _option(
        None, Integer(1), "N", "Components of a learned prior; by default 10 of a mixture, or 500 of vamp."
    )
    given: str | None = _option(
        None,
        Text("labels, or the path of a file"),
        "labels|FILE",
        "What encoder and decoder are given beside x and z, for a conditional model: the labels of the data, one-hot, "
        "or the columns of a file with a row for each row of the data, standardized. p(z) does not depend on it.",
    )
    likelihood: choices.Likelihood = _option(
        "bernoulli",
        Choice((*choices.LIKELIHOODS, *choices.COMPOSED_LIKELIHOODS)),
        "NAME",
        "Decoder: bernoulli; normal with one learned sigma, a fixed one or one per dimension; "
        "bernoulli-grey is the cross-entropy on grey values, which is not a likelihood; those for numbers in [0, 1], "
        "counts, levels of grey or outliers; columns is what a --columns file makes of it.",
    )
    columns: Columns | None = _option(
        None,
        ColumnFamilies(),
        "FILE",
        "A family for each column of a table, by name, in a TOML or JSON file; --propose-columns prints one to edit.",
    )
    missing: choices.Missing | None = _option(
        None,
        Choice(choices.MISSINGS),
        "NAME",
        "Take data with cells that have no value: the likelihood is that of the others, and the encoder sees a zero in "
        "their place, or so and with a mask that tells which they are. By default such data are refused.",
    )
    sigma: float = _option(
        1.0,
        Real(above=0),
        "X",
        "Standard deviation of a normal decoder: the fixed one, or the start of a learned one.",
    )
    binarize: choices.Binarization | None = _option(
        None,
        Choice(choices.BINARIZATIONS),
        "NAME",
        "Grey to binary: a new draw at every visit, one fixed draw, a threshold at 1/2, or none; by default "
        "dynamic for the bernoulli likelihood and none for the others.",
    )
    epochs: int = _option(10, Integer(1), "N", "Passes over the training data.")
    batch_size: int = _option(128, Integer(1), "N", "Images per step; an incomplete last batch is dropped.")
    gradient_blocks: int = _option(
        1,
        Integer(1),
        "G",
        "Blocks of equal size that a batch is cut into: their gradients are computed one by one and added in a fixed "
        "order, so that up to G processes can share a step and leave the same bits.",
    )
    optimizer: choices.OptimizerName = _option("adam", Choice(choices.OPTIMIZERS), "NAME", "Optimiser.")
    lr: float = _option(1e-3, Real(above=0), "X", "Learning rate; with a schedule, the first one.")
    schedule: choices.Schedule = _option(
        "constant",
        Choice(choices.SCHEDULES),
        "NAME",
        f"Learning rate over the epochs: constant, or falling in {STAGES} stages of 1, 3, 9, ... epochs, "
        f"{staged_epochs(STAGES)} in all.",
    )
    adam_beta1: float = _option(0.9, Real(at_least=0, below=1), "X", "Adam's decay of the first moment.")
    adam_beta2: float = _option(0.999, Real(at_least=0, below=1), "X", "Adam's decay of the second moment.")
    adam_eps: float = _option(1e-8, Real(above=0), "X", "Adam's epsilon.")
    objective: choices.Objective = _option(
        "elbo",
        Choice(choices.OBJECTIVES),
        "NAME",
        "What is maximised: the ELBO; the bound of several samples by its own gradient (iwae) or by one of less noise "
        "in the encoder (stl, dreg); the ELBO by the score function. A reported ELBO is always the ELBO.",
    )
    samples: int = _option(
        1, Integer(1, bits=24), "N", "Samples of z per image in a training step; score needs at least 2."
    )
    beta: float = _option(
        1.0, Real(at_least=0), "X", "Weight of the KL in the objective; a reported ELBO always has weight 1."
    )
    beta_warmup: int = _option(
        0, Integer(0), "N", "Epochs over which the KL's weight rises linearly from 0 to beta."
    )
    validation: int | None = _option(
        None,
        Integer(0),
        "N",
        "Last training rows held out for validation; by default 5000, or a tenth of the rows "
        "where there are fewer than 50000.",
    )
    z_samples: int = _option(1, Integer(1, bits=24), "N", "Noise draws per image when the ELBO is evaluated.")
    dtype: choices.Dtype = _option(
        "float32", Choice(choices.DTYPES), "NAME", "Precision of parameters, sums and all but products."
    )
    precision: choices.Precision = _option(
        FULL,
        Choice(choices.PRECISIONS),
        "NAME",
        "Operands of a training step's matrix products: as they are, rounded to bfloat16, or split into two of it. "
        "Sums, parameters and evaluation stay in float32.",
    )
    backend: choices.BackendChoice = _option(
        "auto", Choice(choices.BACKENDS), "NAME", "The backend that computes; auto says which one it chose and why."
    )
    seed: int = _option(
        0, Integer(0, 2**64, "2**64"), "N", "Seed of initialisation, data order, binarisation and noise."
    )

    def __post_init__(self) -> None:
        self.validate()

    def __repr__(self) -> str:
        return settings_text(self)

    def validate(self) -> None:
        """Bring every field to its own type; raises ConfigError at the first that is not allowed."""
        for option in options():
            object.__setattr__(self, option.name, option.check(getattr(self, option.name)))
        if self.decoder_hidden == tuple(reversed(self.hidden)):
            object.__setattr__(self, "decoder_hidden", None)
        self._check_columns()
        self._check_values()
        self._check_blocks()
        if self.objective == "score" and self.samples < 2:
            raise ConfigError(
                f"samples: got {self.samples}, expected at least 2 for objective score, whose baseline is the mean of "
                "an image's other samples"
            )
        if self.precision != FULL and self.dtype != "float32":
            raise ConfigError(
                f"precision: got {self.precision!r} with dtype {self.dtype!r}, expected dtype 'float32', in which its "
                "products are summed"
            )
        if self.inference == "local" and (self.objective, self.samples) != ("elbo", 1):
            raise ConfigError(
                f"objective: got {self.objective!r} with {self.samples} samples, expected elbo with 1: "
                "inference local trains on nothing else"
            )
        self._check_posterior()
        if self.schedule != "constant" and self.epochs > staged_epochs(STAGES):
            raise ConfigError(
                f"epochs: got {self.epochs}, expected at most the {staged_epochs(STAGES)} of schedule {self.schedule}"
            )

    def _check_posterior(self) -> None:
        """Families of q, steps on λ, priors and layers that do not go with the rest, and their own numbers in place of
        None."""
        try:
            check_posterior(self.posterior, self.inference, self.refine_steps)
            check_objective(self.posterior, self.objective, self.refine_steps)
            check_layers(self.top_latent, self.objective)
            check_combination(self.top_latent, self.posterior, self.inference, self.refine_steps)
            top_hidden = top_widths(self.top_latent, self.top_hidden, self.hidden)
            steps, hidden = flow_settings(self.posterior, self.flow_steps, self.flow_hidden)
            rate, gradient = refine_settings(self.refine_steps, self.refine_rate, self.refine_gradient)
            check_refinement(self.likelihood, self.missing, gradient)
            priors.check_combination(
                self.prior,
                self.posterior,
                self.inference,
                given=self.given is not None,
                top_latent=self.top_latent,
                refine_steps=self.refine_steps,
                composed=self.likelihood not in choices.LIKELIHOODS or self.missing is not None,
            )
            priors.check_objective(self.prior, self.objective)
            components = priors.settings(self.prior, self.components)
        except InputError as error:
            raise ConfigError(str(error)) from None
        object.__setattr__(self, "flow_steps", steps)
        object.__setattr__(self, "flow_hidden", hidden)
        object.__setattr__(self, "refine_rate", rate)
        object.__setattr__(self, "refine_gradient", gradient)
        object.__setattr__(self, "top_hidden", top_hidden)
        object.__setattr__(self, "components", components)

    def _check_columns(self) -> None:
        """Columns with families of their own are a likelihood by themselves."""
        if self.columns is not None:
            if self.likelihood not in ("bernoulli", "columns"):
                raise ConfigError(
                    f"likelihood: got {self.likelihood!r} with columns, expected none: each column has its family"
                )
            object.__setattr__(self, "likelihood", "columns")
        elif self.likelihood == "columns":
            raise ConfigError("columns: got none, expected a file that names each column's family (--columns FILE)")

    def _check_blocks(self) -> None:
        if self.batch_size % self.gradient_blocks:
            raise ConfigError(
                f"gradient_blocks: got {self.gradient_blocks}, expected a divisor of the batch size {self.batch_size}"
            )
        if self.gradient_blocks > 1 and self.inference == "local":
            raise ConfigError(
                f"gradient_blocks: got {self.gradient_blocks} with inference 'local', expected 1: each datapoint's own "
                "mean and variance stay with one process"
            )

    def _check_values(self) -> None:
        if self.values is not None:
            try:
                Values.named(self.values, self.scale)
            except DataError as error:
                raise ConfigError(str(error)) from None
        if not self.standardize:
            return
        if self.columns is None and not is_measured(self.likelihood):
            raise ConfigError(
                f"standardize: got true with likelihood {self.likelihood!r}, expected a normal one: its data are real"
            )
        if self.values not in (None, "real") or self.scale is not None:
            given = f"values {self.values!r}" if self.values is not None else f"scale {self.scale:g}"
            raise ConfigError(f"standardize: got true with {given}, expected values 'real', which have no scale")

    def with_values(self, values: Values) -> Config:
        """The same settings with the values that were decided, so that they are not decided again."""
        return dataclasses.replace(self, values=values.kind, scale=values.scale if values.is_grey else None)

    def shortened(self, epochs: int | None = None) -> str | None:
        """Which part of its schedule a run has after `epochs` (all it asks for, unless given); None for all of it."""
        epochs, whole = self.epochs if epochs is None else epochs, staged_epochs(STAGES)
        if self.schedule == "constant" or epochs >= whole:
            return None
        stage = stage_of(epochs)
        full = epochs == staged_epochs(stage - 1)
        stages = f"stages 1-{stage - 1}" if full and epochs else f"broken off in stage {stage}"
        return f"{stages} of {STAGES}, {epochs} of {whole} epochs"

    @property
    def binarization(self) -> choices.Binarization:
        """`binarize`, or what it is by default: dynamic for the bernoulli likelihood, none for the others."""
        return self.binarize or ("dynamic" if self.likelihood == "bernoulli" else "none")

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Config:
        """A configuration with the given keys; raises ConfigError at an unknown key or a wrong value."""
        for key in settings:
            _known(key)
        return cls(**settings)

    def to_mapping(self) -> dict[str, Any]:
        """The settings as plain values for TOML and JSON: tuples as lists, None left out."""
        values = ((option.name, getattr(self, option.name)) for option in options())
        return {name: _plain(value) for name, value in values if value is not None}

    def to_toml(self) -> str:
        """The settings as TOML; `load_toml` reads the very same values back."""
        import tomli_w

        shortened = self.shortened()
        note = "" if shortened is None else f"# Shortened: {shortened}.\n"
        return note + tomli_w.dumps(self.to_mapping())


@cache
def options() -> tuple[Option, ...]:
    """One `Option` per field of `Config`, in the order of the fields."""
    return tuple(
        dataclasses.replace(field.metadata["option"], name=field.name, default=field.default)
        for field in dataclasses.fields(Config)
    )


def parse_field(name: str, text: str) -> Any:
    """The value of field `name` that `text` on the command line stands for; raises ConfigError."""
    return _known(name).parse(text)


def merge(base: Config, overrides: Mapping[str, Any]) -> Config:
    """`base` with the given fields replaced; raises ConfigError at an unknown key or a wrong value."""
    return Config.from_mapping({**base.to_mapping(), **overrides})


def parse_stages(text: str) -> int:
    """How many stages of a schedule `1-N` asks for; raises ConfigError."""
    last = text.removeprefix("1-")
    if text == last or not last.isdecimal() or not 1 <= int(last) <= STAGES:
        raise ConfigError(f"stages: got {shown(text)}, expected 1-N with N from 1 to {STAGES}, such as 1-5")
    return int(last)


def _plain(value: Any) -> Any:
    """A value as TOML and JSON have it: tuples, and tuples in them, as lists."""
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def _known(name: Any) -> Option:
    by_name = {option.name: option for option in options()}
    if name not in by_name:
        hint = did_you_mean(name, tuple(by_name))
        expected = f"the name of a setting{hint}" if hint else f"one of {', '.join(by_name)}"
        raise ConfigError(f"key: got {shown(name)}, expected {expected}")
    return by_name[name]
