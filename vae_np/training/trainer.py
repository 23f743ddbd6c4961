"""A training's data and arithmetic: order, steps, running metrics, validation, finite checks.

It prints nothing and touches no file. The loops around it, and what they tell their listeners, are in
`vae_np.training.host_loop` and `vae_np.training.device_loop`; `vae_np.training.loop` chooses between them.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from typing import Any, TypedDict

import numpy as np

from vae_np import checkpoint, data, memory, noise
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.backends import Backend, FusedStep
from vae_np.choices import Split
from vae_np.config import Config, shown
from vae_np.distributed import ALONE, Communicator, digest
from vae_np.elbo import Terms
from vae_np.errors import CheckpointError, ConfigError, NonFiniteError
from vae_np.model import Model, initialise, start_at_mean
from vae_np.optim import linear_warmup, staged_lr
from vae_np.step import Optimiser, TrainingState, first_non_finite, gradient_step, training_step
from vae_np.training.gradient_blocks import Buffers, GradientBlocks, HostBuffers
from vae_np.training.per_datapoint import LocalPosterior, local_training_step

# A metrics line comes after about METRICS_STEPS steps; after the first _LONG epochs, once per epoch.
METRICS_STEPS = 100
_LONG = 100
_DEFAULT_VALIDATION = 5000
_ENOUGH_ROWS = 10 * _DEFAULT_VALIDATION


class Metrics(TypedDict):
    """A line of `metrics.jsonl`, in nats per example; `docs/conventions.md` says what each number means.

    `objective` is None in a `validation` line.
    """

    step: int
    epoch: int
    split: Split
    elbo: float
    reconstruction: float
    kl: float
    objective: float | None
    beta: float
    seconds: float


def architecture(config: Config, features: int, conditions: int = 0) -> Architecture:
    """The architecture that `config` describes, for data of `features` columns and so many conditions.

    Raises InputError for one that does not fit into memory with its gradients and moments.
    """
    arch = Architecture(
        features=features,
        latent=config.latent,
        hidden=config.hidden,
        decoder_hidden=config.decoder_hidden,
        activation=config.activation,
        likelihood=config.likelihood,
        sigma=config.sigma,
        inference=config.inference,
        posterior=config.posterior,
        flow_steps=config.flow_steps,
        flow_hidden=config.flow_hidden,
        refine_steps=config.refine_steps,
        refine_rate=config.refine_rate,
        refine_gradient=config.refine_gradient,
        top_latent=config.top_latent,
        top_hidden=config.top_hidden,
        prior=config.prior,
        components=config.components,
        conditions=conditions,
        columns=config.columns,
        missing=config.missing,
    )
    widths = {name: max(getattr(arch, name) or (0,)) for name in ("hidden", "decoder_hidden")}
    largest = "latent" if arch.latent >= max(widths.values()) else max(widths, key=widths.__getitem__)
    # Parameters, gradients and two moments.
    needed = 4 * memory.array(arch.shapes().values(), np.dtype(config.dtype).itemsize)
    memory.check(largest, shown(getattr(arch, largest)), needed)
    return arch


def validation_rows(config: Config, rows: int) -> int:
    """How many of the last training rows are held out: what was asked for, else 5000, or a tenth of a small set."""
    if config.validation is not None:
        return config.validation
    return _DEFAULT_VALIDATION if rows >= _ENOUGH_ROWS else rows // 10


@dataclass
class Running:
    """Sums over the steps since the last metrics line, so that a resumed run writes the very same lines."""

    reconstruction: float = 0.0
    kl: float = 0.0
    objective: float = 0.0
    steps: int = 0

    def add(self, reconstruction: float, kl: float, objective: float) -> None:
        self.reconstruction += reconstruction
        self.kl += kl
        self.objective += objective
        self.steps += 1

    def means(self) -> tuple[float, float, float]:
        """Mean reconstruction, KL and objective in nats."""
        return self.reconstruction / self.steps, self.kl / self.steps, self.objective / self.steps


def _mean(values: Array) -> float:
    # `values.mean()` takes thrice as long, at a step of a third of a millisecond.
    return float(np.add.reduce(values)) / len(values)


def finite_number(progress: Mapping[str, Any], name: str) -> float:
    """A number from a checkpoint; raises CheckpointError where it is not a finite number."""
    value = progress.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CheckpointError(f"checkpoint: {name} is {value!r}, expected a finite number")
    return float(value)


@dataclass(frozen=True)
class Origin:
    """Where a training on these data began: after so many steps and epochs on others, if there were any."""

    step: int = 0
    epoch: int = 0

    def position(self, step: int, steps_per_epoch: int) -> int:
        """How many steps a training would have made by `step` if it had had these data all along."""
        return self.epoch * steps_per_epoch + step - self.step


@dataclass
class Trainer:
    """Training of one model on one data set: what to do, and how far it is.

    `rows` (N, D) are the training rows as stored, and `values` what they mean; `validation` gives the ELBO's terms of
    what is held out, as `vae_np.evaluation.held_out.validation` does. Where there is no encoder, `local` has every
    training row's mu and logvar. A conditional model has its conditions, encoded, as `given` (N, C); `given_as` says
    what they are. [D79] `state`, `local`, `running` and `seconds`, the wall time of all sittings together, are
    all that changes. `fingerprint` is what a checkpoint keeps to know the data again.

    `from_state`, where it is given, is trained on, in place. Where earlier steps were on other data, `origin`
    says at which step and epoch these began; `config.epochs` counts all epochs.

    The processes of `communicator` share each step: they call everything here together, and have the same state after
    it, but for moments, of which each keeps a part until `settle`. With gradient blocks on a device all of the state
    stays there until then.
    """

    config: Config
    backend: Backend
    rows: Array
    values: data.Values
    validation: Callable[[Model], Terms] | None = None
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    state: TrainingState = field(init=False)
    running: Running = field(default_factory=Running)
    seconds: float = 0.0
    local: LocalPosterior | None = field(init=False, default=None)
    origin: Origin = field(default_factory=Origin)
    # Whether parameters, moments and sums all belong to the same step. They do not within a step, nor while a device is
    # ahead of them.
    settled: bool = field(init=False, default=True)
    # Whether a step has been made whose metrics line nobody has been told yet.
    owes_line: bool = field(init=False, default=False)
    communicator: Communicator = ALONE
    given: Array | None = None
    given_as: data.Given | None = None
    from_state: InitVar[TrainingState | None] = None

    def __post_init__(self, from_state: TrainingState | None) -> None:
        if self.config.batch_size > len(self.rows):
            raise ConfigError(
                f"batch_size: got {self.config.batch_size}, expected at most the {len(self.rows)} training rows"
            )
        self.arch = architecture(self.config, self.rows.shape[1], 0 if self.given is None else self.given.shape[1])
        memory.check("samples", self.config.samples, self.config.samples * self.config.batch_size * self._row_bytes())
        of_steps = self.arch.refine_steps * (3 * self.arch.latent + self.config.samples * self.arch.latent)
        memory.check(
            "refine_steps", self.arch.refine_steps,
            of_steps * self.config.batch_size * np.dtype(self.config.dtype).itemsize,
        )  # fmt: skip
        if from_state is not None:
            self.state = from_state
        else:
            how: dict[str, Any] = {"seed": self.config.seed, "dtype": self.config.dtype, "scheme": self.config.init}
            self.state = TrainingState(initialise(self.arch, **how))
        if self.config.init == "glorot" and self.state.step == 0:
            whole = self.arch.missing is None
            mean = (np.mean if whole else np.nanmean)(self.rows, axis=0, dtype=np.float64)
            mean = self.values.to_model(np.asarray(mean))
            start_at_mean(self.arch, self.state.parameters, mean)
        if self.state.step == 0:
            self._start_prior()
        if self.arch.inference == "local":
            self.local = LocalPosterior.prior(len(self.rows), self.arch.latent, self.config.dtype)
        self.fused: FusedStep | None = None
        self.blocks: GradientBlocks | None = None
        objective, samples, precision = self.config.objective, self.config.samples, self.config.precision
        self.backend.check_precision(precision, self.arch, objective, samples)
        if self.backend.unfused_step(self.arch, objective, samples) is None:
            block = self.config.batch_size // self.config.gradient_blocks
            self.fused = self.backend.fused_step(
                self.arch, self.state, block, None if objective == "elbo" else samples, precision
            )
        if self.config.gradient_blocks > 1 or self.communicator.size > 1:
            terms = 3 if objective in ("iwae", "stl", "dreg") else 2
            count = self.config.gradient_blocks
            self.blocks = GradientBlocks(self._buffers(), self.state, self.config.batch_size, count, terms)

    def _buffers(self) -> Buffers:
        """Where a step of blocks has its buffers: on the backend's device, where it can be, or on the host."""
        config = self.config
        shared = None
        if self.fused is not None and config.optimizer == "adam":
            shared = self.backend.shared_step(
                self.arch, self.state, config.batch_size // config.gradient_blocks,
                None if config.objective == "elbo" else config.samples, self.communicator,
            )  # fmt: skip
        if shared is None:
            return HostBuffers(self.backend.ops, self.state, self.communicator)
        self.fused = shared
        return shared.buffers

    def _start_prior(self) -> None:
        """What of a learned prior's initial values depends on the training rows. [D78]"""
        prior = self.arch.learned_prior
        if prior is None:
            return
        if prior.uses_encoder and prior.components > len(self.rows):
            raise ConfigError(
                f"components: got {prior.components}, expected at most the {len(self.rows)} training rows, at which "
                "pseudo-inputs begin"
            )
        prior.start_at_rows(
            self.state.parameters, lambda places: self.values.to_model(self._take(places)), len(self.rows)
        )

    def _row_bytes(self) -> int:
        """The bytes that a step holds at least per row of the decoder: z, each hidden layer, and the logits."""
        widths = self.arch.latent + sum(self.arch.decoder_widths) + self.arch.outputs
        return widths * np.dtype(self.config.dtype).itemsize

    @cached_property
    def local_rows(self) -> str | None:
        """SHA-256 of the training rows, to which the λ belong; None where there is an encoder."""
        return None if self.local is None else data.digest_of_rows(self.rows)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in the training rows; an incomplete last one is dropped."""
        return len(self.rows) // self.config.batch_size

    @property
    def total_steps(self) -> int:
        """The step at which all epochs are done."""
        return self.origin.step + self.steps_per_epoch * (self.config.epochs - self.origin.epoch)

    def place(self, step: int) -> tuple[int, int]:
        """The epoch and the batch in it, both counted from 0, that come after `step` steps."""
        return divmod(self.origin.position(step, self.steps_per_epoch), self.steps_per_epoch)

    @property
    def model(self) -> Model:
        """The model as it stands."""
        return Model(self.backend.ops, self.arch, self.state.parameters)

    def order(self, epoch: int) -> Array:
        """The order (N,) in which an epoch visits the training rows."""
        return noise.order(len(self.rows), seed=self.config.seed, epoch=epoch)

    def optimiser(self, epoch: int) -> Optimiser:
        """The optimiser, with its learning rate in an epoch, from 0. [D33]"""
        config = self.config
        lr = config.lr if config.schedule == "constant" else staged_lr(epoch, first=config.lr)
        return Optimiser(config.optimizer, lr, config.adam_beta1, config.adam_beta2, config.adam_eps)

    def beta(self, step: int) -> float:
        """The KL's weight in the objective at `step`, from 0. [D24] [D33]"""
        position = self.origin.position(step, self.steps_per_epoch)
        return linear_warmup(position, steps=self.config.beta_warmup * self.steps_per_epoch, final=self.config.beta)

    def step(self, rows: Array, optimiser: Optimiser) -> None:
        """One step on the training rows with these numbers (B,).

        Raises NonFiniteError, with the tensor's name and the step, where something that it left is not finite.
        """
        beta = self.beta(self.state.step)
        self.settled = False
        # Overflow is reported by name below, so NumPy's own warning is not needed.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            if self.blocks is not None:
                terms, bad = self._blocked_step(self.blocks, rows, optimiser, beta)
            elif self.fused is not None:
                terms, bad = self._fused_step(self.fused, rows, optimiser, beta)
            else:
                terms, bad = self._composed_step(rows, optimiser, beta)
        if bad is not None:
            raise self.not_finite(self.state.step, bad)
        reconstruction, kl = _mean(terms.reconstruction), _mean(terms.kl)
        log_det = self.values.log_det_jacobian
        if self.arch.missing is not None:
            log_det = float(np.mean(self.values.log_det_of(self._take(rows))))
        objective = reconstruction - beta * kl if terms.bound is None else _mean(terms.bound)
        self.add(reconstruction + log_det, kl, objective + log_det)
        self.owes_line = self.line_is_due(self.state.step)
        # What is shared lies in parts until `settle`.
        self.settled = self.blocks is None

    def add(self, reconstruction: float, kl: float, objective: float) -> None:
        """Count a step's means, those of log-densities of the data themselves, into the next metrics line. [D51]"""
        self.running.add(reconstruction, kl, objective)

    def not_finite(self, step: int, what: str) -> NonFiniteError:
        """What to raise where `what` is not finite after `step`, from 1; the data's scale may be named as the cause."""
        remedy = "a smaller lr often helps"
        span = self.values.span or data.scan(self.rows, "data")
        if self.values.is_far_from_standard(span):
            # Before the first update the learning rate has not been used.
            also = "" if step == 1 else ", and a smaller lr may"
            remedy = (
                f"the data have {span}, and a model starts from numbers near 0 and 1: --standardize (in Python "
                f"standardize=True) helps{also}"
            )
        return NonFiniteError(f"step {step}: {what} is not finite; {remedy}")

    def _fused_step(
        self, step: FusedStep, rows: Array, optimiser: Optimiser, beta: float
    ) -> tuple[Terms, str | None]:
        x, draws = self._drawn_there(rows)
        terms = step(x, rows, seed=self.config.seed, optimiser=optimiser, beta=beta, grey=draws)
        if step.finite:
            return terms, None
        return terms, first_non_finite(self.state, terms) or "a parameter or second moment"

    def _drawn_there(self, rows: Array) -> tuple[Array, bool]:
        """What a fused step takes of these rows, and whether it draws their pixels itself."""
        draws = self.values.kind == "byte" and self.config.binarization == "dynamic"
        return (self._take(rows) if draws else self._prepare(rows)), draws

    def _blocked_step(
        self, blocks: GradientBlocks, rows: Array, optimiser: Optimiser, beta: float
    ) -> tuple[Terms, str | None]:
        def gradient(part: slice) -> Terms:
            seed = self.config.seed
            if self.fused is not None:
                x, draws = self._drawn_there(rows[part])
                return self.fused.gradients(x, rows[part], seed=seed, beta=beta, grey=draws)
            how: dict[str, Any] = {"objective": self.config.objective, "samples": self.config.samples}
            x = self._prepare(rows[part])
            return gradient_step(self.backend.ops, self.arch, self.state, x, rows[part], seed=seed, beta=beta, **how)

        terms, doubt = blocks.step(gradient, optimiser)
        return terms, first_non_finite(self.state, terms) if doubt else None

    def settle(self) -> None:
        """Bring the whole state up to date on every process that shares the training."""
        if self.blocks is not None:
            self.blocks.settle()
            self.settled = True

    def _composed_step(self, rows: Array, optimiser: Optimiser, beta: float) -> tuple[Terms, str | None]:
        ops, x = self.backend.ops, self._prepare(rows)
        how: dict[str, Any] = {"seed": self.config.seed, "optimiser": optimiser, "beta": beta}
        if self.local is None:
            how |= {"objective": self.config.objective, "samples": self.config.samples}
            terms = training_step(ops, self.arch, self.state, x, rows, **how)
        else:
            terms = local_training_step(ops, self.arch, self.state, self.local, x, rows, **how)
        return terms, first_non_finite(self.state, terms)

    def _take(self, rows: Array) -> Array:
        data.check_length(self.rows, "data")
        return self.rows[rows]

    def _prepare(self, rows: Array) -> Array:
        x = data.prepare(
            self._take(rows),
            self.values,
            self.config.binarization,
            seed=self.config.seed,
            stream=noise.BINARIZE,
            step=self.state.step,
            rows=rows,
        )
        return data.beside(x, None if self.given is None else self.given[rows])

    def line_is_due(self, step: int) -> bool:
        """Whether a metrics line follows `step`, from 1: an epoch has equal parts of about METRICS_STEPS
        steps."""
        epoch, batch = self.place(step - 1)
        if batch == self.steps_per_epoch - 1 or epoch >= _LONG:
            return batch == self.steps_per_epoch - 1
        parts = max(1, round(self.steps_per_epoch / METRICS_STEPS))
        return (batch + 1) * parts // self.steps_per_epoch > batch * parts // self.steps_per_epoch

    def train_line(self, step: int) -> Metrics:
        """The metrics line that follows `step`, from 1: means over the steps since the last line; new sums begin."""
        means, self.running = self.running.means(), Running()
        return self._line(step, "train", *means)

    def validation_line(self) -> Metrics:
        """The metrics line of what is held out; raises NonFiniteError where its terms are not finite."""
        assert self.validation is not None
        started = time.perf_counter()
        with np.errstate(over="ignore", invalid="ignore"):
            terms = self.validation(self.model)
        self.seconds += time.perf_counter() - started
        means = {name: float(getattr(terms, name).mean(dtype=np.float64)) for name in ("reconstruction", "kl")}
        for name, mean in means.items():
            if not np.isfinite(mean):
                raise self.not_finite(self.state.step, f"validation {name}")
        return self._line(self.state.step, "validation", means["reconstruction"], means["kl"], None)

    def _line(self, step: int, split: Split, reconstruction: float, kl: float, objective: float | None) -> Metrics:
        return {
            "step": step,
            "epoch": self.place(step - 1)[0] + 1,
            "split": split,
            "elbo": reconstruction - kl,
            "reconstruction": reconstruction,
            "kl": kl,
            "objective": objective,
            "beta": self.beta(step - 1),
            "seconds": self.seconds,
        }

    def moments(self) -> dict[str, Array]:
        """The optimiser's moments, and all λ where there is no encoder: what a checkpoint holds besides parameters."""
        held = self.state.moments()
        if self.local is not None:
            held |= self.local.arrays()
        return held

    def facts(self) -> dict[str, str]:
        """What processes that share the training have to agree on, for `vae_np.distributed.check_agreement`."""
        given = [] if self.given is None else [data.digest_of_rows(self.given, "given")]
        known = json.dumps([self.fingerprint, data.digest_of_rows(self.rows), *given])
        state = (array.tobytes() for array in (self.state.parameters.flat, *self.moments().values()))
        return {
            "configuration": digest(self.config.to_toml().encode()),
            "data": digest(known.encode()),
            "backend": self.backend.name,
            "model": digest(f"step {self.state.step} ".encode(), *state),
        }

    def progress(self) -> Mapping[str, Any]:
        """What a resumed run needs besides parameters, moments and the wall time."""
        return {
            "reconstruction": self.running.reconstruction,
            "kl": self.running.kl,
            "objective": self.running.objective,
            "steps": self.running.steps,
            "rows": len(self.rows),
            "local_rows": self.local_rows,
        }

    def restore(
        self,
        parameters: Mapping[str, Array],
        moments: Mapping[str, Array],
        step: int,
        progress: Mapping[str, Any],
        seconds: float,
    ) -> None:
        """Go on from where a checkpoint was written, after so many seconds.

        Raises CheckpointError, before anything is changed, for tensors and numbers that are not this training's.
        """
        for held, own in ((parameters, self.state.parameters), (moments, self.moments())):
            checkpoint.check_shapes(held, {name: array.shape for name, array in own.items()})
            checkpoint.check_dtypes(held, {name: array.dtype for name, array in own.items()})
        reconstruction, kl = finite_number(progress, "reconstruction"), finite_number(progress, "kl")
        # A checkpoint of an older version has no objective; then it was the ELBO.
        objective = finite_number(progress, "objective") if "objective" in progress else reconstruction - kl
        running = Running(reconstruction, kl, objective, int(finite_number(progress, "steps")))
        self.seconds = seconds
        self.state.parameters.assign(parameters)
        for name, array in self.moments().items():
            array[...] = moments[name]
        self.state.step, self.running = step, running
