"""A run's folder: where it lies, what is in it, and how a training fills it so that nothing finished is lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeGuard

from vae_np import checkpoint, data, storage
from vae_np.choices import COMPOSED_LIKELIHOODS
from vae_np.config import Config, load_toml
from vae_np.distributed import Communicator
from vae_np.errors import CheckpointError, DataError, InputError, MissingFileError, WriteError
from vae_np.evaluation import partial_results
from vae_np.likelihoods import observation_of
from vae_np.runs import replaced
from vae_np.runs.conditions import LABELS
from vae_np.training.trainer import Metrics, Trainer, validation_rows
from vae_np.vae import CONFIG_FILE, architecture_of, save_state, values_of

ROOT = Path("runs")
# No number in the metrics is as large; larger ones may not fit into a float.
_HUGE = 1e300
# How long a rank waits for a folder that another one has made.
_UNSEEN_SECONDS = 5.0
CONFIG, METRICS = CONFIG_FILE, "metrics.jsonl"
PICTURES = ("samples.png", "reconstructions.png", "curves.png")
LATER_PICTURES = ("kl.png", "interpolations.png", "manifold.png", "scatter.png", "density.png")
REPORT = "report.html"
_CHECKPOINT = (checkpoint.WEIGHTS_FILE, checkpoint.STATE_FILE, checkpoint.TIME_FILE)
FILES = (CONFIG, METRICS, *_CHECKPOINT, REPORT, *PICTURES, *LATER_PICTURES)
# What a resumed run may have changed: how long it trains, and where its data lie and how they are drawn.
_MAY_CHANGE = ("epochs", "data", "test_data", "labels", "image_shape")


@contextlib.contextmanager
def claim(out: str | None, *, overwrite: bool) -> Iterator[Path]:
    """The folder of a new run, created and locked: the named one, if it is empty or may be overwritten, or a new one.

    A run that is overwritten is moved out of the way; it is deleted at the end if the new run has a checkpoint by then,
    and is brought back otherwise. Raises InputError, or BusyError where another process writes there; nothing in the
    folder is changed then.
    """
    with contextlib.ExitStack() as held:
        if out is None:
            folder = _new_folder()
            held.enter_context(hold(folder))
        elif not out:
            raise InputError("out: got '', expected the name of a folder")
        else:
            folder = Path(out)
            _check_free(folder, overwrite=overwrite)
            _make_and_hold(folder, held)
            # Checked once more, now that no other process can write here: another run may have begun and ended since.
            _check_free(folder, overwrite=overwrite)
            try:
                held.enter_context(replaced.set_aside(folder, _files))
            except OSError as error:
                raise InputError(f"out: {folder}: cannot be written ({storage.reason(error)})") from None
        yield folder


def hold(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of a run's folder, and put in order what a kill has left; raises BusyError, or WriteError."""
    return replaced.hold(folder, _files)


def bring_back(folder: Path) -> bool:
    """Bring back the run that was to be overwritten, where the new one has no checkpoint; whether there was one."""
    try:
        return replaced.settle(folder, _files)
    except OSError:
        return False


def _files(folder: Path) -> list[Path]:
    """The files in a folder that are a run's."""
    known = (folder / name for name in FILES)
    return [path for path in (*known, *folder.glob(partial_results.PATTERN)) if path.exists()]


def _make_and_hold(folder: Path, held: contextlib.ExitStack) -> None:
    """Create `folder` where it is missing, and lock it; where that fails, nothing of it is left."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.enter_context(hold(folder))
    except (OSError, WriteError) as error:
        for place in made:
            with contextlib.suppress(OSError):
                place.rmdir()
        why = f"{folder}: cannot be written ({storage.reason(error)})" if isinstance(error, OSError) else str(error)
        raise InputError(f"out: {why}") from None


def _new_folder() -> Path:
    """Create a folder named after the date and time, another one for each of two runs that start together.

    Raises InputError where it cannot be created.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder, n = ROOT / stamp, 0
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            # The reason may be a file in the place of the folder above.
            if not folder.exists():
                raise InputError(f"out: {folder}: cannot be written ({ROOT} is a file)") from None
            n += 1
            folder = ROOT / f"{stamp}-{n}"
        except OSError as error:
            raise InputError(f"out: {folder}: cannot be written ({storage.reason(error)})") from None


def every() -> list[Path]:
    """The runs under `runs/` that have a checkpoint, the newest last."""
    found = sorted(ROOT.glob(f"*/{checkpoint.WEIGHTS_FILE}"), key=lambda path: path.stat().st_mtime)
    return [path.parent for path in found]


def newest() -> Path:
    """The newest run under `runs/` that has a checkpoint; raises MissingFileError if there is none."""
    found = every()
    if not found:
        raise MissingFileError(f"run: there is none under {ROOT}/; name one, or train one with: vae-np train")
    return found[-1]


def find(run: str | None) -> Path:
    """The folder of a run that was named, else the newest; raises MissingFileError where it is not there."""
    if run is None:
        return newest()
    folder = Path(run)
    if not folder.exists():
        raise MissingFileError(f"run: {run}: there is no such folder")
    if not folder.is_dir():
        raise InputError(f"run: {run}: is a file, expected the folder of a run")
    if replaced.is_due_back(folder):
        # A kill came between an earlier run and the first checkpoint of the one that was to replace it.
        with hold(folder):
            pass
    if not (folder / checkpoint.STATE_FILE).exists() and not (folder / checkpoint.WEIGHTS_FILE).exists():
        again = " --overwrite" if (folder / CONFIG).exists() else ""
        raise MissingFileError(f"run: {run}: has no checkpoint; train one with: vae-np train --out {run}{again}")
    return folder


def _check_free(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is not empty, unless it holds a run and `overwrite` says so; raises InputError.

    What a run leaves when it is killed at its very start counts as a run.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"out: {folder}: is a file, expected a folder")
    held = sorted(path.name for path in folder.iterdir() if not _is_ours_and_empty(path.name))
    if held and not overwrite:
        raise InputError(
            f"out: {folder}: exists and is not empty; add --overwrite to replace the run in it, "
            f"or go on with it: --resume {folder}"
        )
    ours = (*FILES, *replaced.FOLDERS)
    foreign = [name for name in held if name not in ours and not Path(name).match(partial_results.PATTERN)]
    if foreign and CONFIG not in held:
        raise InputError(f"out: {folder}: holds {foreign[0]} and no run, so --overwrite leaves it alone")


def _is_ours_and_empty(name: str) -> bool:
    """Whether a file is one of those that every writer of a folder makes and that hold nothing."""
    return name in (storage.LOCK, storage.HOLDER) or storage.is_temporary(name)


def start(folder: Path, config: Config) -> None:
    """Write `config.toml` into the folder of a new run."""
    storage.write_atomic(folder / CONFIG, config.to_toml())


def start_again(folder: Path, trainer: Trainer) -> None:
    """Bring a resumed run's files up to date: a changed setting, or weights that a kill left a checkpoint behind."""
    storage.write_atomic(folder / CONFIG, trainer.config.to_toml())
    save(folder, trainer)


def with_absolute_paths(config: Config) -> Config:
    """The same configuration with its data files named in full, so that the run can be used from any folder."""
    paths = {name: getattr(config, name) for name in ("data", "test_data")}
    paths["given"] = None if config.given == LABELS else config.given
    return replace(
        config,
        **{
            name: os.path.abspath(path)
            for name, path in paths.items()
            if path is not None and path not in data.BUILT_IN
        },
    )


def load_config(folder: Path) -> Config:
    """The configuration that a run was trained with; raises CheckpointError if the folder has none."""
    path = folder / CONFIG
    if not path.exists():
        raise CheckpointError(f"run: {folder}: has no {CONFIG}, so its data are not known")
    return load_toml(path)


def load_data(
    config: Config, values: data.Values | None = None, features: int | None = None
) -> data.Dataset:
    """The data that a configuration names, checked against its likelihood; raises MissingFileError or DataError.

    With a model of `features` columns, `values` says what the data mean; without one it is what the configuration
    names, or else it is decided here.
    """
    named = "real" if config.standardize else config.values
    dataset = data.load(
        config.data,
        test=config.test_data,
        labels=config.labels,
        image_shape=config.image_shape,
        seed=config.seed,
        values=named if values is None else values,
        scale=config.scale,
        likelihood=config.likelihood,
        features=features,
        columns=config.columns,
        missing=config.missing is not None,
    )
    data.check_for(dataset, config.likelihood, config.binarization)
    _check_cells(config, dataset)
    return dataset


def _check_cells(config: Config, dataset: data.Dataset) -> None:
    """Raise DataError where a likelihood that is composed has no density for a cell."""
    if config.likelihood not in COMPOSED_LIKELIHOODS:
        return
    features = dataset.train.shape[1]
    observation = observation_of(config.likelihood, features, config.sigma, config.columns, config.missing)
    assert observation is not None
    for part in ("train", "test"):
        observation.check(getattr(dataset, part), f"data {dataset.name!r}: {part}")


def load_values(folder: Path, config: Config) -> data.Values | None:
    """What the data mean to the model of a run; raises MissingFileError or CheckpointError."""
    return values_of(checkpoint.load_state(folder), config, folder / checkpoint.STATE_FILE)


def fingerprint(dataset: data.Dataset) -> dict[str, Any]:
    """What identifies a run's data: how many rows train (or validate) and test the model, and SHA-256 of each."""
    return {
        part: {"rows": len(rows), "sha256": data.digest_of_rows(rows, f"data {dataset.name!r}")}
        for part, rows in (("train", dataset.train), ("test", dataset.test))
    }


def check_unchanged(folder: Path, dataset: data.Dataset, parts: Sequence[str], remedy: str) -> None:
    """Raise DataError, with `remedy`, where the rows for these `parts` are not those that the run had.

    The run of an earlier version has no digest of its data, and passes.
    """
    if not (folder / checkpoint.STATE_FILE).exists():
        return
    kept = checkpoint.load_state(folder).fingerprint
    for part in parts:
        if part not in kept:
            continue
        rows = {"train": dataset.train, "test": dataset.test}[part]
        digest = data.digest_of_rows(rows, f"data {dataset.name!r}")
        if digest != kept[part]["sha256"]:
            raise DataError(
                f"data: {dataset.name!r} has changed since {folder} was trained: it had {kept[part]['rows']} {part} "
                f"rows with the digest {kept[part]['sha256'][:12]}, and has {len(rows)} with {digest[:12]}; {remedy}"
            )


def save(folder: Path, trainer: Trainer) -> None:
    """Write the checkpoint of a training as it stands."""
    save_state(
        folder,
        trainer.arch,
        trainer.config,
        trainer.state,
        trainer.moments(),
        trainer.progress(),
        seconds=trainer.seconds,
        values=trainer.values,
        fingerprint=trainer.fingerprint,
        given=trainer.given_as,
    )


def shared(communicator: Communicator, folder: Path | None) -> Path:
    """The folder that rank 0 holds, on every rank; raises InputError, on all, where one does not see it."""
    told = None if folder is None else [str(folder.absolute()), _holder(folder)]
    place, holder = json.loads(communicator.told_by_first(json.dumps(told)))
    found, limit = Path(place), time.monotonic() + _UNSEEN_SECONDS
    # A network's file system may show it a little later.
    while _holder(found) != holder and time.monotonic() < limit:
        time.sleep(0.1)
    seen = communicator.gather_bytes(b"" if _holder(found) == holder else platform.node().encode())
    for rank, host in enumerate(seen):
        if host:
            raise InputError(
                f"out: {place}: rank {rank} on {host.decode()} does not see this folder of rank 0; all ranks need one "
                "that they share"
            )
    return found if folder is None else folder


def _holder(folder: Path) -> str:
    """The name of the process that holds a folder, as it stands there."""
    try:
        return (folder / storage.HOLDER).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def resume(folder: Path, trainer: Trainer) -> None:
    """Bring a fresh trainer to where the run's checkpoint stands; raises MissingFileError or CheckpointError."""
    state = checkpoint.load_state(folder)
    if state.from_python:
        raise CheckpointError(f"resume: {folder}: was saved from Python; only a run of vae-np train can be resumed")
    # Filled up with defaults: settings that a later version added are not in an older file.
    wanted, trained = trainer.config.to_mapping(), Config().to_mapping() | state.config
    for name in {**trained, **wanted}:
        if name in ("values", "scale") and not state.values:
            continue
        if name not in _MAY_CHANGE and wanted.get(name) != trained.get(name):
            raise CheckpointError(
                f"{name}: {folder / CONFIG} has {wanted.get(name)!r}, but the checkpoint beside it was trained with "
                f"{trained.get(name)!r}"
            )
    if state.fingerprint.get("given") != trainer.fingerprint.get("given"):
        raise DataError(f"given: the conditions have changed since {folder} was trained; a resumed run needs the same")
    arch = architecture_of(state, folder / checkpoint.STATE_FILE)
    if arch != trainer.arch:
        raise CheckpointError(f"resume: {folder}: holds {arch}, but its {CONFIG} and data give {trainer.arch}")
    if state.step > trainer.total_steps:
        done = state.step // trainer.steps_per_epoch
        raise CheckpointError(f"epochs: got {trainer.config.epochs}, but {folder} has trained for {done} already")
    try:
        trainer.restore(state.parameters, state.moments, state.step, state.extra, state.seconds or 0.0)
    except CheckpointError as error:
        raise CheckpointError(f"resume: {folder / checkpoint.STATE_FILE}: {error}") from None


def shortened(settings: Config, rows: int, step: int) -> str | None:
    """Which part of its schedule a run has at a checkpoint's `step`, for a data set of `rows`; None for all of it.

    A run that was broken off has less than its settings ask for.
    """
    training = rows - validation_rows(settings, rows)
    return settings.shortened(min(settings.epochs, step // max(1, training // settings.batch_size)))


def read_metrics(folder: Path) -> list[Metrics]:
    """Every metrics line of `metrics.jsonl`, in order; what a crash cut short, or others put there, is left out."""
    path = folder / METRICS
    lines: list[Metrics] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            # RecursionError: brackets nested thousands deep
            with contextlib.suppress(ValueError, RecursionError):
                line = json.loads(text)
                if _is_metrics(line):
                    lines.append(line)
    return lines


def _is_metrics(line: Any) -> TypeGuard[Metrics]:
    """Whether a line has a step and a split, and numbers, or None, in all else."""
    if not isinstance(line, dict) or not isinstance(line.get("split"), str):
        return False
    counts, numbers = [line.get(name) for name in ("step", "epoch")], [line[name] for name in line if name != "split"]
    return all(isinstance(count, int) and count >= 0 for count in counts) and all(
        number is None or (isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < _HUGE)
        for number in numbers
    )


def drop_metrics_after(folder: Path, step: int) -> None:
    """Drop the lines after a checkpoint, since their steps will be made again."""
    kept = [line for line in read_metrics(folder) if line["step"] <= step]
    storage.write_atomic(folder / METRICS, "".join(json.dumps(line) + "\n" for line in kept))


class MetricsFile:
    """`metrics.jsonl`, appended to a line at a time and at once, so that it can be followed while training runs.

    Raises WriteError, with the file, where it cannot be written, or is no longer there.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / METRICS
        with self._telling():
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (closed by close)

    def write(self, line: Metrics) -> None:
        """Append a line, whole or not at all."""
        self.check()
        content = (json.dumps(line) + "\n").encode()
        before = os.fstat(self._file.fileno()).st_size
        with self._telling():
            try:
                while content:
                    content = content[self._file.write(content) :]
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(before)
                raise

    def check(self) -> None:
        """Check that this file is still in its place: a system also lets one write to a file that was removed."""
        with self._telling():
            if not os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno())):
                raise FileNotFoundError(errno.ENOENT, "another file is in its place")

    def close(self) -> None:
        self._file.close()

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WriteError(f"{self.path}: cannot be written ({storage.reason(error)})") from error
