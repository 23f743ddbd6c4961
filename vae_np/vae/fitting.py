"""Fitting a model to data, from where it stands."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vae_np import backends, data, distributed, noise
from vae_np._types import Array
from vae_np.choices import Binarization, Objective, OptimizerName, Schedule, ValuesKind
from vae_np.config import Config
from vae_np.errors import ConfigError, DataError, InputError
from vae_np.evaluation import held_out
from vae_np.likelihoods import measured_columns
from vae_np.log import LOGGER
from vae_np.training import loop
from vae_np.training.progress import Kept, Progress, StopTraining
from vae_np.training.trainer import Metrics, Trainer
from vae_np.vae.base import Base, as_usual
from vae_np.vae.history import History
from vae_np.vae.progress_bar import ProgressBar


class Fitting(Base):
    """How a `VAE` is trained."""

    @as_usual
    def fit(
        self,
        x: data.Rows,
        *,
        mask: ArrayLike | None = None,
        given: Any = None,
        validation: data.Rows | int | None = None,
        epochs: int = 10,
        batch_size: int = 128,
        lr: float = 1e-3,
        schedule: Schedule = "constant",
        optimizer: OptimizerName = "adam",
        adam_beta1: float = 0.9,
        adam_beta2: float = 0.999,
        adam_eps: float = 1e-8,
        objective: Objective = "elbo",
        samples: int = 1,
        beta: float = 1.0,
        beta_warmup: int = 0,
        binarize: Binarization | None = None,
        z_samples: int = 1,
        values: data.Values | ValuesKind | None = None,
        scale: float | None = None,
        standardize: bool = False,
        seed: noise.Seed = None,
        on_metrics: Callable[[Metrics], None] | None = None,
        progress: bool = False,
        gradient_blocks: int = 1,
        communicator: Any = None,
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

        Cells without a value are NaN, masked in one of NumPy's masked arrays, or False in `mask`, shaped as x: of them
        the likelihood takes no notice, if the model was made with `missing`. [D67]

        With `init="glorot"` the first `fit` begins with the output's bias at the logit of x's mean, unless it has been
        set. [D40] The first `fit` decides what the numbers in x mean, as far as `values` and `scale` (the number that
        is white) do not name it; later ones read x by it. `standardize` brings each column of real data to mean 0 and
        standard deviation 1, over the rows that are trained on; samples and log-densities stay on the data's own scale.
        [D51]

        A conditional model's first `fit` decides what the conditions are: `given` has a label, or C numbers, for each
        row of x. [D79] The pseudo-inputs of a prior `vamp` begin at rows of x, unless they have been set. [D78]

        The processes of `communicator`, one of mpi4py, share the steps: each calls `fit` with the same arguments on the
        same model, and has the same model afterwards. Each computes some of the `gradient_blocks` into which a batch is
        cut, at least one; the result depends on their number, and not on that of the processes. Raises InputError, on
        all of them, where they were not given the same.

        Returns this call's metrics lines, which `on_metrics` also gets as they come; `history` has those of all calls.
        `progress` shows a bar, in a terminal or a notebook. The logger `vae_np` tells of begin, epochs and end (INFO),
        and of every line (DEBUG). `on_metrics` may end the training by raising `StopTraining`, as `EarlyStopping` does:

            vae.fit(x, validation=5000, epochs=1000, on_metrics=EarlyStopping(patience=5))

        On Ctrl-C, or an error in `on_metrics`, the model keeps the state that it has reached, at worst that of the last
        metrics line, and `fit` can go on from there. The same holds for NonFiniteError, which is raised, with the
        tensor and the step, if a value stops being finite.
        """
        processes = distributed.of(communicator)
        kept_back = int(validation) if isinstance(validation, int | np.integer) else 0
        takes = self.arch.missing is not None
        rows, held, kept = self._fitted_rows(self._array(x, "x", mask, takes), kept_back, values, scale, standardize)
        given_as, encoded = self._fitted_given(given, len(rows))
        if given_as is not None and validation is not None and not isinstance(validation, int | np.integer):
            raise InputError("validation: got rows for a conditional model, expected how many of the last rows of x")
        mode = self._mode(held, binarize, "x", unless_named="dynamic")
        config = Config(
            **{
                **self.config.to_mapping(),
                "epochs": epochs,
                "batch_size": batch_size,
                "gradient_blocks": gradient_blocks,
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
            judged = None if encoded is None else encoded[kept:]
            examples = held_out.Examples(rows[kept:], held, mode, config.seed, first=kept, given=judged)
        elif validation is not None and not isinstance(validation, int | np.integer):
            array = self._array(validation, "validation", None, takes)
            examples = self._examples_of(held, array, mode, config.seed, "validation", takes)
        trained_on = None if encoded is None else encoded[:kept]
        trainer = self._trainer(config, rows[:kept], held, examples, processes, trained_on, given_as)
        return self._run(trainer, on_metrics, progress)

    def _trainer(
        self,
        config: Config,
        rows: Array,
        values: data.Values,
        examples: held_out.Examples | None,
        processes: distributed.Communicator,
        given: Array | None,
        given_as: data.Given | None,
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
            judged = held_out.validation(
                examples, seed=config.seed, z_samples=config.z_samples, communicator=processes
            )
        backend = self.backend
        if processes.size > 1 and backend.used_threads is not None and backend.threads is None:
            backend = backends.choose(backend.name, distributed.threads_of_rank(processes))
        backend.join(processes)
        trainer = Trainer(
            replace(config, epochs=done + config.epochs),
            backend,
            rows,
            values,
            judged,
            from_state=self._state,
            running=progress.running,
            seconds=progress.seconds,
            origin=progress.origin,
            communicator=processes,
            given=given,
            given_as=given_as,
        )
        distributed.check_agreement(processes, trainer.facts() if processes.size > 1 else {})
        if progress.local is not None and trainer.local_rows == progress.local_rows:
            trainer.local = progress.local
        self._state.step = step
        return trainer

    def _run(self, trainer: Trainer, on_metrics: Callable[[Metrics], None] | None, progress: bool) -> History:
        """Run a trainer, and keep what it has reached, whatever ends it."""
        lines, kept, stopped = History(), Kept(trainer, self.history.lines), False

        def record(line: Metrics) -> None:
            nonlocal stopped
            lines.lines.append(line)
            kept.add(line)
            ends_epoch = trainer.place(line["step"])[1] == 0
            LOGGER.log(logging.INFO if ends_epoch else logging.DEBUG, _said(line))
            try:
                if on_metrics is not None:
                    on_metrics(line)
            except StopTraining:
                stopped = True

        rows, width = trainer.rows.shape
        how = trainer.backend.describe("steps", trainer.arch, trainer.config.objective, trainer.config.samples)
        epochs = trainer.config.epochs - trainer.place(trainer.state.step)[0]
        LOGGER.info("fit: %d rows of %d, %d epochs, %s, %s", rows, width, epochs, trainer.backend.name, how)
        bar = ProgressBar(trainer) if progress else None
        on_step = None if bar is None else bar.step
        try:
            with contextlib.nullcontext() if bar is None else bar:
                loop.run(
                    trainer,
                    on_step=on_step,
                    on_metrics=record,
                    on_epoch=lambda _: kept.take(),
                    should_stop=lambda: stopped,
                )
        finally:
            LOGGER.info("fit: ended at step %d of %d", trainer.state.step, trainer.total_steps)
            kept.give_back()
            self._progress, self.config, self._values = Progress.after(trainer), trainer.config, trainer.values
            self._given = trainer.given_as
        return lines

    def _fitted_given(self, given: Any, rows: int) -> tuple[data.Given | None, Array | None]:
        """What the conditions are, decided here if they were not before, and they themselves, encoded (rows, C)."""
        if self.arch.conditions and self._given is None and given is not None:
            found = data.Given.of(given)
            if found.width != self.arch.conditions:
                raise InputError(
                    f"given: got {found}, but the model has {self.arch.conditions} conditions; "
                    f"VAE(conditions={found.width}) takes them"
                )
            return found, found.encode(given, rows)
        if self.arch.conditions and given is None:
            raise InputError(f"given: got None, but the model has {self.arch.conditions} conditions, expected them")
        return self._given, self._encoded(given, rows)

    def _fitted_rows(
        self,
        x: Array,
        kept_back: int,
        values: data.Values | ValuesKind | None,
        scale: float | None,
        standardize: bool,
    ) -> tuple[Array, data.Values, int]:
        """x as rows, stored as the model's values say; those values, decided here if they were not before; and how many
        of the rows are trained on, all but the last `kept_back`."""
        rows, _ = data.flatten(x, "x")
        data.check_columns(rows, self.arch.features, "x")
        span = data.scan(rows, "x", missing=self.arch.missing is not None)
        self._check_cells(rows, "x")
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
            held = held.standardised(rows[:kept], "x", measured_columns(self.arch.columns))
        return held.convert(rows), held, kept


def _said(line: Metrics) -> str:
    """A metrics line in words."""
    terms = f"ELBO {line['elbo']:.2f}, reconstruction {line['reconstruction']:.2f}, KL {line['kl']:.2f}"
    return f"epoch {line['epoch']}, step {line['step']}: {line['split']} {terms}"
