"""The whole model as one object: what the command line does, from Python."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from vae_np import backends, checkpoint, data, interchange, memory, model, noise, storage
from vae_np._types import Array
from vae_np.config import Config, counted, load_toml
from vae_np.distributions import bernoulli_sample, normal_sample
from vae_np.elbo import Terms
from vae_np.errors import CheckpointError, ConfigError, DataError, InputError, MissingFileError, WriteError
from vae_np.evaluation import held_out
from vae_np.evaluation.annealing import AnnealedEstimate, Annealing, BidirectionalEstimate
from vae_np.evaluation.importance import Estimate
from vae_np.layers import sigmoid
from vae_np.model import Architecture, Model, Parameters
from vae_np.precision import FULL
from vae_np.step import TrainingState
from vae_np.training import loop
from vae_np.training.per_datapoint import LocalPosterior
from vae_np.training.progress import Kept, Progress, StopTraining
from vae_np.training.trainer import Metrics, Trainer, architecture

# NumPy's own defaults, whatever the caller has set: a number too small for its format is not an error here.
_as_usual = np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")

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

    Inputs `x` are (N, D) or (N, H, W). What their numbers mean is a property of the model, `values`: decided by `fit`
    from all rows that it is given, or named, and kept with the model. So a row has the same ELBO whatever the other
    rows are, and an array that does not fit is refused. Before `fit`, numbers are grey in [0, 1] for a Bernoulli
    likelihood, and real for a normal one.

    Where the likelihood is Bernoulli and x is grey, pixels are drawn as 1 with their grey value's probability: anew at
    each visit in `fit`, once and for all in the other methods. With the same seed a method draws the same numbers.
    A seed is a number, or a NumPy Generator, which gives one. `VAE(seed=None)` takes one that nobody has used; in a
    method None is the model's own seed.

    `precision` is what the matrix products of `fit` do to their operands: nothing (`full`), round them to bfloat16
    (`bf16`), or split them into two of it (`bf16x3`); parameters, sums and all other methods stay in float32. Raises
    BackendError where the backend or the processor lacks it.

    In the methods, `values` names what x holds where that is not what the model was fitted to: bytes, [0, 1] and binary
    mean the same pixels. It is a kind (`binary`, `byte`, `unit`, `real`) or a `vae_np.data.Values`.

    The model's computations use at most `threads` threads, by default what NUMBA_NUM_THREADS or OMP_NUM_THREADS say, or
    as many as the process may use; results do not depend on their number. Raises InputError (a ValueError) where an
    argument cannot be used.
    """

    @_as_usual
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
        precision: str = FULL,
        backend: str = "auto",
        threads: int | None = None,
        seed: noise.Seed = 0,
        values: data.Values | str | None = None,
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
            precision=precision,
            backend=backend,
            seed=noise.seed_of(seed),
        )
        self.backend = backends.choose(backend, threads)
        self.backend.check_precision(self.config.precision)
        self.arch: Architecture = architecture(self.config, features)
        self._seed = self.config.seed
        self._named_values = None if values is None else _named(values)
        self.reset()

    @_as_usual
    def reset(self, *, parameters: bool = True) -> None:
        """A fresh start: forget steps, epochs, moments and history, so that `fit` begins anew.

        The parameters are drawn again from the seed that the model was made with, and the next `fit` decides anew what
        the numbers in its data mean; with `parameters=False` both stay.
        """
        fresh = model.initialise(self.arch, seed=self._seed, dtype=self.config.dtype, scheme=self.config.init)
        if parameters:
            self._values = self._named_values
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

    @_as_usual
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
        values: data.Values | str | None = None,
        scale: float | None = None,
        standardize: bool = False,
        seed: noise.Seed = None,
        on_metrics: Callable[[Metrics], None] | None = None,
    ) -> History:
        """Maximise the mean ELBO of x (N, D) for `epochs` more epochs, from where the model stands. [D24]

        Steps, epochs, moments, the schedule and the warm-up go on from call to call: thirty calls with `epochs=1` leave
        exactly the bits that one with `epochs=30` leaves. `reset` is a fresh start. Settings may change between calls,
        and each call uses its own; only another `optimizer` is refused, since the moments belong to the old one. With
        another number of rows or another `batch_size` a new epoch begins; where there is no encoder, the λ of other
        rows begin at the prior.

        `objective` names what else is to be maximised (`vae_np.objectives`), with `samples` draws of z per example.
        `beta` weighs the KL in the objective, after a linear warm-up over the training's first `beta_warmup` epochs.
        `validation` is other data, or how many of the last rows of x are held out; after each epoch the model's ELBO on
        it is computed, with `z_samples` draws of ε. `seed` (the model's own unless given) draws order, pixels and ε.

        With `init="glorot"` the first `fit` begins with the output's bias at the logit of x's mean, unless it has been
        set. [D40] The first `fit` decides what the numbers in x mean, as far as `values` and `scale` (the number that
        is white) do not name it; later ones read x by it. `standardize` brings each column of real data to mean 0 and
        standard deviation 1, over the rows that are trained on; samples and log-densities stay on the data's own scale.
        [D51]

        Returns this call's metrics lines, which `on_metrics` also gets as they come; `history` has those of all calls.
        `on_metrics` may end the training by raising `StopTraining`, as `EarlyStopping` does:

            vae.fit(x, validation=5000, epochs=1000, on_metrics=EarlyStopping(patience=5))

        On Ctrl-C, or an error in `on_metrics`, the model keeps the state that it has reached, at worst that of the last
        metrics line, and `fit` can go on from there. The same holds for NonFiniteError, which is raised, with the
        tensor and the step, if a value stops being finite.
        """
        kept_back = int(validation) if isinstance(validation, int | np.integer) else 0
        rows, held, kept = self._fitted_rows(x, kept_back, values, scale, standardize)
        mode = self._mode(held, binarize, "x", unless_named="dynamic")
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
                "binarize": mode if held.is_grey else binarize,
                "values": held.kind,
                "scale": held.scale if held.is_grey else None,
                "standardize": held.standardisation is not None,
                "z_samples": z_samples,
                "seed": self._seed_or_own(seed),
            }
        )
        examples = None
        if kept < len(rows):
            examples = held_out.Examples(rows[kept:], held, mode, config.seed, first=kept)
        elif validation is not None and not isinstance(validation, int | np.integer):
            examples = self._examples_of(held, validation, mode, config.seed, "validation")
        trainer = self._trainer(config, rows[:kept], held, examples)
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
            from_state=self._state,
            running=progress.running,
            seconds=progress.seconds,
            origin=progress.origin,
        )
        if progress.local is not None and trainer.local_rows == progress.local_rows:
            trainer.local = progress.local
        self._state.step = step
        return trainer

    def _run(self, trainer: Trainer, on_metrics: Callable[[Metrics], None] | None) -> History:
        """Run a trainer, and keep what it has reached, whatever ends it."""
        lines, kept, stopped = History(), Kept(trainer, self.history.lines), False

        def record(line: Metrics) -> None:
            nonlocal stopped
            lines.lines.append(line)
            kept.add(line)
            try:
                if on_metrics is not None:
                    on_metrics(line)
            except StopTraining:
                stopped = True

        try:
            loop.run(trainer, on_metrics=record, on_epoch=lambda _: kept.take(), should_stop=lambda: stopped)
        finally:
            kept.give_back()
            self._progress, self.config, self._values = Progress.after(trainer), trainer.config, trainer.values
        return lines

    @_as_usual
    def encode(
        self, x: Array, *, binarize: str | None = None, values: data.Values | str | None = None
    ) -> tuple[Array, Array]:
        """mu and logvar (log σ²) of q(z|x), (N, K) each; optimised where the model has no encoder. [D19] [D11]"""
        return held_out.posterior_moments(self.model, self._examples(x, binarize, self.config.seed, values))

    @_as_usual
    def decode(self, z: Array) -> Array:
        """E[x|z] for z (N, K), (N, D): probabilities in [0, 1] (Bernoulli), or means on the data's scale (normal). [D3]

        Grey is on the scale [0, 1], whatever that of the data was.
        """
        z = np.atleast_2d(np.asarray(data.unmasked(z, "z"), dtype=self.parameters.dtype))
        data.check_columns(z, self.arch.latent, "z")
        out, _ = model.decode_forward(*self.model, z)
        return sigmoid(out) if self.arch.is_bernoulli else self.values.from_model(out)

    @_as_usual
    def sample(self, n: int, seed: noise.Seed = 0, *, mean: bool = False) -> Array:
        """n draws from the model: z ~ N(0, I), then x ~ p(x|z), (n, D): bytes 0 or 1, or floats as in `decode`. [D6]

        `mean=True` returns E[x|z] instead of a draw, which is what pictures usually show.
        """
        seed = noise.seed_of(seed)
        z = self.prior(n, seed)
        if mean:
            return self.decode(z)
        out, _ = model.decode_forward(*self.model, z)
        rows, dtype = np.arange(n), self.parameters.dtype
        # x|z has the prior's stream too, as sample 1, so that it never shares a block with z.
        address = {"seed": seed, "stream": noise.PRIOR, "sample": 1}
        if self.arch.is_bernoulli:
            return bernoulli_sample(out, noise.uniform(rows, self.arch.features, **address))
        eps = noise.normal(rows, self.arch.features, dtype=dtype, **address)
        return self.values.from_model(normal_sample(out, self._logvar(), eps))

    def _logvar(self) -> Array:
        if self.arch.likelihood == "normal-fixed":
            return np.full(1, self.arch.sigma_logvar, dtype=self.parameters.dtype)
        return self.parameters["likelihood.logvar"]

    @_as_usual
    def prior(self, n: int, seed: noise.Seed = 0) -> Array:
        """The n draws z ~ N(0, I) that `sample` decodes, (n, K): exact samples of p(z|x) for the x it returns. [D49]"""
        rows, dtype = np.arange(self._drawn(n)), self.parameters.dtype
        return noise.normal(rows, self.arch.latent, seed=noise.seed_of(seed), stream=noise.PRIOR, dtype=dtype)

    def _seed_or_own(self, seed: noise.Seed) -> int:
        return self.config.seed if seed is None else noise.seed_of(seed)

    def _drawn(self, n: int) -> int:
        """The number of draws, checked against memory: at least 21 bytes per pixel were measured in float32."""
        count = counted("n", n)
        cells = self.arch.features + self.arch.latent
        memory.check("n", count, 5 * count * cells * self.parameters.dtype.itemsize)
        return count

    @_as_usual
    def simulated(self, n: int, seed: noise.Seed = 0) -> tuple[held_out.Examples, Array]:
        """`sample(n, seed)` as examples to evaluate, and the z (n, K) that each was decoded from. [D49]"""
        seed = noise.seed_of(seed)
        # A normal's draws of grey are not confined to [0, 1].
        values = self.values if self.values.kind == "real" else data.REAL
        values = data.BINARY if self.arch.is_bernoulli else values
        return held_out.Examples(self.sample(n, seed), values, "none", seed), self.prior(n, seed)

    @_as_usual
    def reconstruct(
        self, x: Array, *, binarize: str | None = None, values: data.Values | str | None = None
    ) -> Array:
        """E[x|z] at z = the posterior mean of x, (N, D), as in `decode`."""
        return self.decode(self.encode(x, binarize=binarize, values=values)[0])

    @_as_usual
    def elbo(
        self,
        x: Array,
        *,
        seed: noise.Seed = None,
        z_samples: int = 1,
        binarize: str | None = None,
        values: data.Values | str | None = None,
    ) -> Terms:
        """Per-example `elbo`, `reconstruction` and `kl`, (N,) each in nats, with `z_samples` draws of ε. [D21]"""
        seed = self._seed_or_own(seed)
        return held_out.elbo_terms(
            self.model,
            self._examples(x, binarize, seed, values),
            seed=seed,
            z_samples=counted("z_samples", z_samples, bits=24),
        )

    @_as_usual
    def log_likelihood(
        self,
        x: Array,
        samples: int = 5000,
        *,
        seed: noise.Seed = None,
        binarize: str | None = None,
        values: data.Values | str | None = None,
    ) -> Estimate:
        """Per-example log p(x) in nats by importance sampling, with its error and effective sample size. [D34]"""
        seed = self._seed_or_own(seed)
        examples = self._examples(x, binarize, seed, values)
        return held_out.log_likelihood(
            self.model,
            examples,
            samples=counted("samples", samples, bits=24),
            seed=seed,
            fused=self.backend.fused_log_weights(self.arch),
        )

    @_as_usual
    def annealed_log_likelihood(
        self,
        x: Array,
        annealing: Annealing | None = None,
        *,
        seed: noise.Seed = None,
        binarize: str | None = None,
        values: data.Values | str | None = None,
    ) -> AnnealedEstimate:
        """Per-example log p(x) in nats by annealed importance sampling, which needs no encoder. [D46]"""
        seed = self._seed_or_own(seed)
        examples = self._examples(x, binarize, seed, values)
        return held_out.annealed_log_likelihood(self.model, examples, annealing or Annealing(), seed=seed)

    @_as_usual
    def bidirectional(
        self, n: int = 100, annealing: Annealing | None = None, *, seed: noise.Seed = None
    ) -> BidirectionalEstimate:
        """Log p(x) from below and from above for `sample(n, seed)`, whose latents are known. [D49]"""
        seed = self._seed_or_own(seed)
        examples, z = self.simulated(n, seed)
        estimate = held_out.annealed_log_likelihood(
            self.model, examples, annealing or Annealing(), seed=seed, posterior=z
        )
        assert isinstance(estimate, BidirectionalEstimate)
        return estimate

    @_as_usual
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
            save_state(folder, self.arch, self.config, self._state, moments, extra, self._values)
            storage.write_atomic(folder / CONFIG_FILE, self.config.to_toml())

    @classmethod
    @_as_usual
    def load(
        cls,
        run: str | os.PathLike[str],
        *,
        backend: str = "auto",
        threads: int | None = None,
        seed: noise.Seed = None,
        moments: bool = True,
        values: data.Values | str | None = None,
    ) -> VAE:
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
            "dtype": str(weights.parameters["decoder.out.bias"].dtype),
            "backend": backend,
            "seed": config.seed if seed is None else noise.seed_of(seed),
        }
        vae = cls(own.pop("features"), threads=threads, **own)
        vae._values = values_of(weights, of_run, run) if values is None else _named(values)
        vae.config = replace(config, **own)
        if vae._values is not None:
            vae.config = vae.config.with_values(vae._values)
        vae.parameters.assign(weights.parameters)
        vae._state.step = weights.step
        if moments and (Path(run) / checkpoint.STATE_FILE).exists():
            vae._restore(checkpoint.load_state(run), Path(run))
        return vae

    @classmethod
    @_as_usual
    def from_torch(
        cls,
        weights: Mapping[str, Any] | str | os.PathLike[str],
        mapping: Mapping[str, str] | str | None = None,
        *,
        activation: str = "relu",
        likelihood: str = "bernoulli",
        sigma: float = 1.0,
        backend: str = "auto",
        threads: int | None = None,
        seed: noise.Seed = 0,
        values: data.Values | str | None = None,
    ) -> VAE:
        """The model of a PyTorch `state_dict`, or of a `.safetensors` file that anybody wrote.

        `mapping` says what their layers are, as {"encoder.mu": "fc21", ...}; it may be left out where the names are
        ours or those of PyTorch's own VAE example. Sizes follow from the shapes; activation, likelihood and sigma do
        not, and are given. float16 and bfloat16 become float32. Raises MissingFileError, CheckpointError for a file
        that cannot be read, and InputError where tensors and mapping do not agree.
        """
        tensors = interchange.read_weights(weights)
        arch, parameters = interchange.named(
            tensors, mapping, activation=activation, likelihood=likelihood, sigma=sigma
        )
        own: dict[str, Any] = {**arch.as_dict(), "hidden": arch.hidden}
        dtype = np.result_type(*parameters.values()).name
        vae = cls(**own, dtype=dtype, backend=backend, threads=threads, seed=seed, values=values)
        vae.parameters.assign(parameters)
        return vae

    @classmethod
    @_as_usual
    def from_jax(
        cls,
        tree: Mapping[str, Any],
        mapping: Mapping[str, str] | None = None,
        *,
        activation: str = "relu",
        likelihood: str = "bernoulli",
        sigma: float = 1.0,
        backend: str = "auto",
        threads: int | None = None,
        seed: noise.Seed = 0,
        values: data.Values | str | None = None,
    ) -> VAE:
        """The model of a nested dictionary of parameters, as Flax has them: `kernel` (in, out) and `bias` per layer.

        `mapping` says what their layers are, as {"encoder.mu": "Dense_1", ...}; it may be left out for what `to_jax`
        returned. The other arguments and errors are those of `from_torch`.
        """
        return cls.from_torch(
            interchange.from_tree(tree),
            mapping,
            activation=activation,
            likelihood=likelihood,
            sigma=sigma,
            backend=backend,
            threads=threads,
            seed=seed,
            values=values,
        )

    def to_torch(self) -> Any:
        """A plain PyTorch module with the model's weights; see `vae_np.interchange.torch.to_module`."""
        from vae_np.interchange.torch import to_module

        return to_module(self.arch, self.parameters)

    def to_jax(self) -> dict[str, Any]:
        """The parameters as a nested dictionary of arrays, `kernel` (in, out) and `bias` per layer."""
        return interchange.to_tree(self.parameters)

    def to_onnx(self, folder: str | os.PathLike[str], *, opset: int = 17) -> tuple[Path, ...]:
        """Write `encoder.onnx` and `decoder.onnx` into `folder`; see `vae_np.interchange.onnx.write_onnx`."""
        return interchange.write_onnx(Path(folder), self.arch, self.parameters, opset=opset)

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

    def _fitted_rows(
        self, x: Array, kept_back: int, values: data.Values | str | None, scale: float | None, standardize: bool
    ) -> tuple[Array, data.Values, int]:
        """x as rows, stored as the model's values say; those values, decided here if they were not before; and how many
        of the rows are trained on, all but the last `kept_back`."""
        rows, _ = data.flatten(x, "x")
        data.check_columns(rows, self.arch.features, "x")
        span = data.scan(rows, "x")
        kept, _ = data.split_validation(len(rows), kept_back)
        named = values.kind if isinstance(values, data.Values) else values
        scale = values.scale if isinstance(values, data.Values) and scale is None and values.is_grey else scale
        if standardize:
            named = "real" if named is None else named
        known = self._values
        if known is None:
            held = data.decide(span, rows.dtype, self.arch.likelihood, kind=named, scale=scale, what="x")
        else:
            wanted = known if named is None else data.Values.named(named, scale)
            if (wanted.kind, scale or wanted.scale) != (known.kind, known.scale):
                raise DataError(f"values: got {wanted}, but the model has {known}; a new VAE can be fitted to others")
            known.check(span, "x")
            held = known if known.span is not None else replace(known, span=span)
        if standardize and held.standardisation is None:
            if known is not None and known.span is not None:
                raise DataError("standardize: got True, but the model was fitted to data that are not standardized")
            held = held.standardised(rows[:kept], "x")
        return held.convert(rows), held, kept

    def values_as(self, named: data.Values | str | None) -> data.Values:
        """What data hold: what the model was fitted to, or what they are said to be, if that means the same pixels.

        Raises DataError where it does not.
        """
        if named is None:
            return self.values
        held = _named(named)
        if self._values is not None and held.kind != self._values.kind and "real" in (held.kind, self._values.kind):
            raise DataError(f"values: got {held.kind!r}, but the model was fitted to {self._values.kind!r} values")
        return self.values if held.kind == "real" else held

    def _mode(self, values: data.Values, binarize: str | None, name: str, unless_named: str | None = None) -> str:
        """How grey is binarised: as it was named, else as the model was fitted (or, in `fit`, anew at each visit)."""
        grey = values.is_grey and self.arch.likelihood == "bernoulli"
        default = (unless_named or self.config.binarization) if grey else "none"
        mode = default if binarize is None else binarize
        data.check_values(name, values, self.arch.likelihood, mode)
        return mode

    def _examples(
        self, x: Array, binarize: str | None, seed: int, values: data.Values | str | None = None
    ) -> held_out.Examples:
        array = data.unmasked(x, "x")
        if values is None and array.dtype == np.bool_ and self.values.is_grey:
            # True and False are neither bytes nor grey levels.
            values = data.BINARY
        return self._examples_of(self.values_as(values), array, binarize, seed, "x")

    def _examples_of(
        self, values: data.Values, x: Array, binarize: str | None, seed: int, name: str
    ) -> held_out.Examples:
        rows, _ = data.flatten(x, name)
        data.check_columns(rows, self.arch.features, name)
        values.check(data.scan(rows, name), name)
        return held_out.Examples(values.convert(rows), values, self._mode(values, binarize, name), seed)


def _named(values: data.Values | str) -> data.Values:
    return values if isinstance(values, data.Values) else data.Values.named(values)


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
    values: data.Values | None = None,
    fingerprint: Mapping[str, Any] | None = None,
) -> None:
    """Write both files of a checkpoint; `moments` and `extra` are what resuming needs besides the parameters."""
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
    )
