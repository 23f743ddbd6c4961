"""The whole model as one object: what the command line does, from Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from vae_np import backends, checkpoint, data, model, noise, storage
from vae_np._types import Array
from vae_np.config import Config, load_toml
from vae_np.distributions import bernoulli_sample, normal_sample
from vae_np.elbo import Terms
from vae_np.errors import CheckpointError, ConfigError, InputError, WriteError
from vae_np.evaluation import held_out
from vae_np.evaluation.annealing import AnnealedEstimate, Annealing, BidirectionalEstimate
from vae_np.evaluation.importance import Estimate
from vae_np.layers import sigmoid
from vae_np.model import Architecture, Model, Parameters
from vae_np.step import TrainingState
from vae_np.training import loop
from vae_np.training.local import LocalPosterior
from vae_np.training.progress import Kept, Progress, StopTraining
from vae_np.training.trainer import Metrics, Trainer, architecture

CONFIG_FILE = "config.toml"


@dataclass
class History:
    """The metrics lines of a training, in order; the keys are those of `metrics.jsonl`."""

    lines: list[Metrics] = field(default_factory=list)

    def split(self, name: str) -> list[Metrics]:
        """The lines of one split, `train` or `validation`."""
        return [line for line in self.lines if line["split"] == name]


class VAE:
    """A variational autoencoder: encoder q(z|x), decoder p(x|z), prior N(0, I).

    Inputs `x` are (N, D) or (N, H, W): bytes 0..255, values in [0, 1], binary, or, for a normal likelihood, any finite
    floats, which are taken as they are. Where the likelihood is Bernoulli and x is grey, pixels are drawn as 1 with
    their grey value's probability: anew at each visit in `fit`, once and for all in the other methods. All methods are
    pure in the seed they are given.

    Raises InputError (a ValueError) where an argument cannot be used.
    """

    def __init__(
        self,
        features: int = 784,
        *,
        hidden: tuple[int, ...] = (400,),
        latent: int = 20,
        activation: str = "relu",
        likelihood: str = "bernoulli",
        sigma: float = 1.0,
        inference: str = "amortized",
        init: str = "uniform",
        dtype: str = "float32",
        backend: str = "auto",
        seed: int = 0,
    ) -> None:
        self.config = Config(
            hidden=hidden,
            latent=latent,
            activation=activation,
            likelihood=likelihood,
            sigma=sigma,
            inference=inference,
            init=init,
            dtype=dtype,
            backend=backend,
            seed=seed,
        )
        self.backend = backends.choose(backend)
        self.arch: Architecture = architecture(self.config, features)
        self._seed = self.config.seed
        self.reset()

    def reset(self, *, parameters: bool = True) -> None:
        """A fresh start: forget steps, epochs, moments and history, so that `fit` begins anew.

        The parameters are drawn again from the seed that the model was made with; with `parameters=False` they stay.
        """
        fresh = model.initialise(self.arch, seed=self._seed, dtype=self.config.dtype, scheme=self.config.init)
        if not parameters:
            fresh.assign(self.parameters)
        self._state = TrainingState(fresh)
        self._progress = Progress()
        #: Every metrics line of the model's training, of all calls of `fit` since it was made, loaded or reset.
        self.history = History()

    def __repr__(self) -> str:
        sizes = "-".join(map(str, (self.arch.features, *self.arch.hidden, self.arch.latent)))
        kinds = f"{self.arch.activation}, {self.arch.likelihood}, {self.parameters.dtype}, {self.backend.name}"
        return f"<VAE {sizes}, {kinds}, {self.parameters.count} parameters>"

    @property
    def model(self) -> Model:
        """The model as the functions of `vae_np.evaluation` take it: operations, architecture and parameters."""
        return Model(self.backend.ops, self.arch, self.parameters)

    @property
    def parameters(self) -> Parameters:
        """Every tensor by name, weights (in, out); writing into one changes the model."""
        return self._state.parameters

    def fit(
        self,
        x: Array,
        *,
        validation: Array | int | None = None,
        epochs: int = 10,
        batch_size: int = 128,
        lr: float = 1e-3,
        schedule: str = "constant",
        optimizer: str = "adam",
        adam_beta1: float = 0.9,
        adam_beta2: float = 0.999,
        adam_eps: float = 1e-8,
        objective: str = "elbo",
        samples: int = 1,
        beta: float = 1.0,
        beta_warmup: int = 0,
        binarize: str | None = None,
        z_samples: int = 1,
        seed: int | None = None,
        on_metrics: Callable[[Metrics], None] | None = None,
    ) -> History:
        """Maximise the mean ELBO of x (N, D) for `epochs` more epochs, from where the model stands. [D24]

        Steps, epochs, moments, the schedule and the warm-up go on from call to call: thirty calls with `epochs=1` leave
        the very bits that one with `epochs=30` does. `reset` is a fresh start. Settings may change between calls, and
        are those of the call; only another `optimizer` is refused, since the moments are the other one's. With another
        number of rows or another `batch_size` a new epoch begins; where there is no encoder, the λ of other rows begin
        at the prior.

        `objective` names what else is to be maximised (`vae_np.objectives`), with `samples` draws of z per example.
        `beta` weighs the KL in the objective, after a linear warm-up over the training's first `beta_warmup` epochs.
        `validation` is other data, or how many of the last rows of x are held out; after each epoch it is judged by
        `z_samples` draws of ε. `seed` (the model's own unless given) draws order, pixels and ε.

        Returns this call's metrics lines, which `on_metrics` also gets as they come; `history` has those of all calls.
        `on_metrics` may end the training by raising `StopTraining`, as `EarlyStopping` does:

            vae.fit(x, validation=5000, epochs=1000, on_metrics=EarlyStopping(patience=5))

        On Ctrl-C, or an error in `on_metrics`, the model keeps the state that it has reached, at worst that of the last
        metrics line, and `fit` can go on from there. So it is with NonFiniteError, which is raised, with the tensor and
        the step, if a value stops being finite.
        """
        rows, values = self._rows(x, "x")
        mode = self._mode(rows, values, binarize, "x")
        config = Config(
            **{
                **self.config.to_mapping(),
                "epochs": epochs,
                "batch_size": batch_size,
                "lr": lr,
                "schedule": schedule,
                "optimizer": optimizer,
                "adam_beta1": adam_beta1,
                "adam_beta2": adam_beta2,
                "adam_eps": adam_eps,
                "objective": objective,
                "samples": samples,
                "beta": beta,
                "beta_warmup": beta_warmup,
                "binarize": mode,
                "z_samples": z_samples,
                "seed": self.config.seed if seed is None else seed,
            }
        )
        examples = None
        if validation is not None and not isinstance(validation, int | np.integer):
            examples = self._examples(validation, binarize, config.seed, "validation")
        elif validation:
            kept, _ = data.split_validation(len(rows), int(validation))
            examples = held_out.Examples(rows[kept:], values, mode, config.seed, first=kept)
            rows = rows[:kept]
        trainer = self._trainer(config, rows, values, examples)
        return self._run(trainer, on_metrics)

    def _trainer(
        self, config: Config, rows: Array, values: data.Values, examples: held_out.Examples | None
    ) -> Trainer:
        """A trainer that goes on from where the model stands, in the model's own buffers."""
        trained_with = self.config.optimizer
        if self._state.step and self._progress.rows is not None and config.optimizer != trained_with:
            raise InputError(
                f"optimizer: got {config.optimizer!r}, expected {trained_with!r}, whose moments the model has; "
                "reset(parameters=False) forgets them"
            )
        if config.batch_size > len(rows):
            raise ConfigError(f"batch_size: got {config.batch_size}, expected at most the {len(rows)} training rows")
        # A model of weights alone has no moments: Adam's correction has to begin at the first step.
        step = 0 if self._progress.rows is None else self._state.step
        progress, done = self._progress.resumed(step, len(rows), config.batch_size)
        judged = None
        if examples is not None:
            judged = held_out.validation(examples, seed=config.seed, z_samples=config.z_samples)
        trainer = Trainer(
            replace(config, epochs=done + config.epochs),
            self.backend,
            rows,
            values,
            judged,
            state=self._state,
            running=progress.running,
            seconds=progress.seconds,
            origin=progress.origin,
        )
        if progress.local is not None and trainer.local_rows == progress.local_rows:
            trainer.local = progress.local
        self._state.step = step
        return trainer

    def _run(self, trainer: Trainer, on_metrics: Callable[[Metrics], None] | None) -> History:
        """Run a trainer, and keep what it reaches whatever ends it."""
        lines, kept, stopped = History(), Kept(trainer), False

        def record(line: Metrics) -> None:
            nonlocal stopped
            lines.lines.append(line)
            self.history.lines.append(line)
            kept.take()
            try:
                if on_metrics is not None:
                    on_metrics(line)
            except StopTraining:
                stopped = True

        try:
            loop.run(trainer, on_metrics=record, on_epoch=lambda _: kept.take(), should_stop=lambda: stopped)
        finally:
            kept.give_back()
            self._progress, self.config = Progress.after(trainer), trainer.config
        return lines

    def encode(self, x: Array, *, binarize: str | None = None) -> tuple[Array, Array]:
        """mu and logvar (log σ²) of q(z|x), (N, K) each; solved for, where the model has no encoder. [D19] [D11]"""
        return held_out.posterior_moments(self.model, self._examples(x, binarize, self.config.seed))

    def decode(self, z: Array) -> Array:
        """E[x|z] for z (N, K): probabilities in [0, 1] (Bernoulli) or means (normal), (N, D). [D3]"""
        z = np.atleast_2d(np.asarray(z, dtype=self.parameters.dtype))
        data.check_columns(z, self.arch.latent, "z")
        out, _ = model.decode_forward(*self.model, z)
        return sigmoid(out) if self.arch.is_bernoulli else out

    def sample(self, n: int, seed: int = 0, *, mean: bool = False) -> Array:
        """n draws from the model: z ~ N(0, I), then x ~ p(x|z), (n, D): bytes 0 or 1, or floats. [D6]

        `mean=True` returns E[x|z] instead of a draw, which is what pictures usually show.
        """
        z = self.prior(n, seed)
        if mean:
            return self.decode(z)
        out, _ = model.decode_forward(*self.model, z)
        rows, dtype = np.arange(n), self.parameters.dtype
        # x|z has the prior's stream too, as sample 1, so that it never shares a block with z.
        address = {"seed": seed, "stream": noise.PRIOR, "sample": 1}
        if self.arch.is_bernoulli:
            return bernoulli_sample(out, noise.uniform(rows, self.arch.features, **address))
        return normal_sample(out, self._logvar(), noise.normal(rows, self.arch.features, dtype=dtype, **address))

    def _logvar(self) -> Array:
        if self.arch.likelihood == "normal-fixed":
            return np.full(1, self.arch.sigma_logvar, dtype=self.parameters.dtype)
        return self.parameters["likelihood.logvar"]

    def prior(self, n: int, seed: int = 0) -> Array:
        """The n draws z ~ N(0, I) that `sample` decodes, (n, K): exact samples of p(z|x) for the x it returns. [D63]"""
        rows, dtype = np.arange(_count("n", n)), self.parameters.dtype
        return noise.normal(rows, self.arch.latent, seed=seed, stream=noise.PRIOR, dtype=dtype)

    def simulated(self, n: int, seed: int = 0) -> tuple[held_out.Examples, Array]:
        """`sample(n, seed)` as examples to evaluate, and the z (n, K) that each was decoded from. [D63]"""
        values: data.Values = "binary" if self.arch.is_bernoulli else "real"
        return held_out.Examples(self.sample(n, seed), values, "none", seed), self.prior(n, seed)

    def reconstruct(self, x: Array, *, binarize: str | None = None) -> Array:
        """E[x|z] at z = the posterior mean of x, (N, D)."""
        return self.decode(self.encode(x, binarize=binarize)[0])

    def elbo(self, x: Array, *, seed: int | None = None, z_samples: int = 1, binarize: str | None = None) -> Terms:
        """Per-example `elbo`, `reconstruction` and `kl`, (N,) each in nats, with `z_samples` draws of ε. [D21]"""
        seed = self.config.seed if seed is None else seed
        return held_out.elbo_terms(
            self.model,
            self._examples(x, binarize, seed),
            seed=seed,
            z_samples=_count("z_samples", z_samples),
        )

    def log_likelihood(
        self, x: Array, samples: int = 5000, *, seed: int | None = None, binarize: str | None = None
    ) -> Estimate:
        """Per-example log p(x) in nats by importance sampling, with its error and effective sample size. [D34]"""
        seed = self.config.seed if seed is None else seed
        examples = self._examples(x, binarize, seed)
        return held_out.log_likelihood(
            self.model,
            examples,
            samples=_count("samples", samples),
            seed=seed,
            fused=self.backend.fused_log_weights(self.arch),
        )

    def annealed_log_likelihood(
        self, x: Array, annealing: Annealing | None = None, *, seed: int | None = None, binarize: str | None = None
    ) -> AnnealedEstimate:
        """Per-example log p(x) in nats by annealed importance sampling, which needs no encoder. [D60]"""
        seed = self.config.seed if seed is None else seed
        examples = self._examples(x, binarize, seed)
        return held_out.annealed_log_likelihood(self.model, examples, annealing or Annealing(), seed=seed)

    def bidirectional(
        self, n: int = 100, annealing: Annealing | None = None, *, seed: int | None = None
    ) -> BidirectionalEstimate:
        """Log p(x) from below and from above for `sample(n, seed)`, whose latents are known. [D63]"""
        seed = self.config.seed if seed is None else seed
        examples, z = self.simulated(n, seed)
        estimate = held_out.annealed_log_likelihood(
            self.model, examples, annealing or Annealing(), seed=seed, posterior=z
        )
        assert isinstance(estimate, BidirectionalEstimate)
        return estimate

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `checkpoint.safetensors`, `state.safetensors` and `config.toml` into `folder`, old or new.

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
            save_state(folder, self.arch, self.config, self._state, moments, extra)
            storage.write_atomic(folder / CONFIG_FILE, self.config.to_toml())

    @classmethod
    def load(
        cls, run: str | os.PathLike[str], *, backend: str = "auto", seed: int | None = None, moments: bool = True
    ) -> VAE:
        """The model of a run's folder, with the run's settings, or of a `checkpoint.safetensors` alone.

        `seed` is by default the run's, so that a model which was saved gives the same numbers when it is loaded. From a
        folder `fit` goes on where the run stands; with `moments=False`, or from the weights alone, it begins anew.
        Raises MissingFileError where there is none, CheckpointError where it cannot be used.
        """
        weights = checkpoint.load_weights(run)
        arch = architecture_of(weights, run)
        settings = Path(run) / CONFIG_FILE
        config = load_toml(settings) if settings.exists() else Config()
        if settings.exists():
            _check_architecture(arch, config, settings)
        own: dict[str, Any] = {
            **arch.as_dict(),
            "hidden": arch.hidden,
            "dtype": str(weights.parameters["decoder.out.bias"].dtype),
            "backend": backend,
            "seed": config.seed if seed is None else seed,
        }
        vae = cls(own.pop("features"), **own)
        vae.config = replace(config, **own)
        vae.parameters.assign(weights.parameters)
        vae._state.step = weights.step
        if moments and (Path(run) / checkpoint.STATE_FILE).exists():
            vae._restore(checkpoint.load_state(run), Path(run))
        return vae

    def _restore(self, state: checkpoint.State, run: Path) -> None:
        """Take over a run's moments and how far it is."""
        source = run / checkpoint.STATE_FILE
        if architecture_of(state, source) != self.arch:
            raise CheckpointError(f"{source}: belongs to another architecture than {checkpoint.WEIGHTS_FILE} beside it")
        own, held, local = self._state.moments(), state.moments, None
        if self.arch.inference == "local":
            local = LocalPosterior.prior(len(held.get("local.mu", ())), self.arch.latent, self.config.dtype)
            own |= local.arrays()
        try:
            progress = Progress.from_mapping(state.extra, self.config.batch_size)
            checkpoint.check_shapes(held, {name: array.shape for name, array in own.items()})
            checkpoint.check_dtypes(held, {name: array.dtype for name, array in own.items()})
        except CheckpointError as error:
            raise CheckpointError(f"{source}: {error}") from None
        # Where a kill came between the two files, the state is the newer one, and complete in itself.
        self.parameters.assign(state.parameters)
        for name, array in own.items():
            array[...] = held[name]
        self._state.step, self._progress = state.step, replace(progress, local=local)

    def _rows(self, x: Array, name: str) -> tuple[Array, data.Values]:
        array = np.asarray(x)
        rows, values = data.as_rows(array, name)
        data.check_columns(rows, self.arch.features, name)
        if array.dtype.kind == "f" and values != "real" and not self.arch.is_bernoulli:
            # A few rows of real data may be whole numbers by chance, and are no bytes for that.
            return array.reshape(rows.shape), "real"
        return rows, values

    def _mode(self, rows: Array, values: data.Values, binarize: str | None, name: str) -> str:
        grey = values in ("byte", "unit") and self.arch.likelihood == "bernoulli"
        mode = binarize if binarize is not None else ("dynamic" if grey else "none")
        data.check_values(name, (rows,), values, self.arch.likelihood, mode)
        return mode

    def _examples(self, x: Array, binarize: str | None, seed: int, name: str = "x") -> held_out.Examples:
        rows, values = self._rows(x, name)
        return held_out.Examples(rows, values, self._mode(rows, values, binarize, name), seed)


def _count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name}: got {value!r}, expected a whole number > 0")
    return int(value)


def architecture_of(weights: checkpoint.Weights | checkpoint.State, source: str | os.PathLike[str]) -> Architecture:
    """The architecture that a checkpoint names, checked against the shapes it holds.

    Raises CheckpointError, which names `source`, where the checkpoint came from.
    """
    try:
        stored = dict(weights.architecture)
        arch = Architecture(**{**stored, "hidden": tuple(stored["hidden"])})
        checkpoint.check_shapes(weights.parameters, arch.shapes())
        dtype = weights.parameters["decoder.out.bias"].dtype
        checkpoint.check_dtypes(weights.parameters, dict.fromkeys(weights.parameters, dtype))
    except CheckpointError as error:
        raise CheckpointError(f"{os.fspath(source)}: {error}") from None
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(f"{os.fspath(source)}: its architecture cannot be read ({error})") from None
    return arch


def _check_architecture(arch: Architecture, config: Config, source: Path) -> None:
    """Refuse a checkpoint beside the settings of another model: what is trained on and reported would be a third."""
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
) -> None:
    """Write both files of a checkpoint; `moments` and `extra` are what resuming needs beside the parameters."""
    checkpoint.save(
        folder,
        parameters=state.parameters,
        moments=moments,
        architecture=arch.as_dict(),
        config=config.to_mapping(),
        step=state.step,
        extra=extra,
    )
