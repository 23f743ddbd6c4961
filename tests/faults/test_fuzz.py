"""10,000 damaged files of each kind that is read: refused with one line, or read right; never a traceback, a hang, or
silently other numbers where a checksum can tell.

Budget: about 150 s, all of it slow.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import signal
import struct
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import damaged

from vae_np import VAE, checkpoint, data, runs
from vae_np._types import Array
from vae_np.config import Config, load_toml
from vae_np.data import bars
from vae_np.errors import InputError, MissingFileError, UnverifiedWarning
from vae_np.evaluation.importance import Estimate
from vae_np.evaluation.partial_results import PartialResults
from vae_np.pictures import plots

FILES = int(os.environ.get("FUZZ", 10_000))
# What no file of a few kilobytes may take: seconds, and bytes.
_SECONDS, _BYTES = 5, 200_000_000

pytestmark = pytest.mark.slow
IMAGES, _ = bars(4, 40, 0)
GREY = np.where(IMAGES == 1, 230, 25).astype(np.uint8)


@pytest.fixture(autouse=True)
def _a_hang_is_heard() -> Iterator[None]:
    if not hasattr(signal, "setitimer"):
        yield
        return

    def late(*_: object) -> None:
        raise TimeoutError(f"a file took longer than {_SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def fuzz(
    path: Path, content: bytes, read: Callable[[], Any], judge: Callable[[Any], None], seed: int
) -> dict[str, int]:
    """Read `FILES` damaged copies of a file; `judge` looks at what is read all the same."""
    how, ends = random.Random(seed), {"refused": 0, "read": 0}
    for number in range(FILES):
        path.write_bytes(damaged(content, how))
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.simplefilter("ignore", UnverifiedWarning)
                found = read()
        except (InputError, MissingFileError) as refusal:
            if not str(refusal).isprintable() or len(str(refusal)) > 1000:
                raise AssertionError(f"file {number} of seed {seed}: {refusal!r}") from refusal
            ends["refused"] += 1
        except BaseException as other:
            raise AssertionError(f"file {number} of seed {seed}: {other!r}") from other
        else:
            judge(found)
            ends["read"] += 1
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)
    print(f"{path.name}: {ends['refused']} refused, {ends['read']} read")
    return ends


# Files with checksums: what is read is what was written


def same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].tobytes() == tensor.tobytes(), name


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("saved")
    vae = VAE(16, hidden=(5,), latent=2, backend="numpy")
    vae.fit(GREY, epochs=2, batch_size=10)
    vae.save(place)
    return place


def test_weights(saved: Path, tmp_path: Path) -> None:
    path, whole = tmp_path / checkpoint.WEIGHTS_FILE, checkpoint.load_weights(saved)

    def judge(found: checkpoint.Weights) -> None:
        same(found.parameters, whole.parameters)
        assert (found.architecture, found.step) == (whole.architecture, whole.step)

    content = (saved / checkpoint.WEIGHTS_FILE).read_bytes()
    ends = fuzz(path, content, lambda: checkpoint.load_weights(path), judge, 1)
    assert ends["refused"] > 0.99 * FILES


def test_state(saved: Path, tmp_path: Path) -> None:
    path, whole = tmp_path / checkpoint.STATE_FILE, checkpoint.load_state(saved)

    def judge(found: checkpoint.State) -> None:
        same(found.parameters, whole.parameters)
        same(found.moments, whole.moments)
        assert (found.config, found.step, found.extra) == (whole.config, whole.step, whole.extra)

    content = (saved / checkpoint.STATE_FILE).read_bytes()
    ends = fuzz(path, content, lambda: checkpoint.load_state(tmp_path), judge, 2)
    assert ends["refused"] > 0.99 * FILES


def test_a_model_of_files_without_checksums(saved: Path, tmp_path: Path) -> None:
    """Older files: what is read may be other numbers, but it is a whole model of finite ones, that can be used."""
    from safetensors import safe_open
    from safetensors.numpy import save as encode

    contents = {}
    for name in (checkpoint.WEIGHTS_FILE, checkpoint.STATE_FILE):
        with safe_open(saved / name, framework="numpy") as file:
            about = json.loads(file.metadata()["vae_np"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
        del about["sha256"]
        contents[name] = encode(tensors, metadata={"vae_np": json.dumps(about | {"format_version": 1})})
        (tmp_path / name).write_bytes(contents[name])
    (tmp_path / "config.toml").write_bytes((saved / "config.toml").read_bytes())

    def judge(vae: VAE) -> None:
        assert np.isfinite(vae.parameters.flat).all()
        assert all(np.isfinite(moment).all() for moment in vae._state.moments().values())
        # What the data mean is in the header too, and may be damaged there.
        with np.errstate(all="ignore"), contextlib.suppress(InputError):
            assert vae.elbo(GREY[:2]).elbo.shape == (2,)

    for seed, (name, content) in enumerate(contents.items(), 3):
        fuzz(tmp_path / name, content, lambda: VAE.load(tmp_path, backend="numpy"), judge, seed)
        (tmp_path / name).write_bytes(content)


def test_what_an_interrupted_evaluation_left(tmp_path: Path) -> None:
    key = {"seed": 1}
    done = Estimate(np.arange(3.0), np.ones(3), np.full(3, 2.0), np.zeros(3))
    PartialResults(tmp_path, key, Estimate).add(done)
    kept = PartialResults(tmp_path, key, Estimate)
    kept.done = done
    kept.write()
    content = kept.path.read_bytes()

    def judge(found: PartialResults[Estimate]) -> None:
        if found.done is not None:
            for name, values in vars(done).items():
                np.testing.assert_array_equal(getattr(found.done, name), values)

    ends = fuzz(kept.path, content, lambda: PartialResults(tmp_path, key, Estimate), judge, 5)
    assert ends["refused"] == 0, "a damaged one is not used, and stops nothing"


# Files without


def test_configuration(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    content = Config(hidden=(500, 200), beta_warmup=3, data="bars.npy", validation=7).to_toml().encode()

    def judge(found: Config) -> None:
        assert Config.from_mapping(found.to_mapping()) == found

    fuzz(path, content, lambda: load_toml(path), judge, 6)


def test_metrics(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    vae = VAE(16, hidden=(5,), latent=2, backend="numpy")
    lines = vae.fit(GREY, validation=10, epochs=3, batch_size=10).lines
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    count = 0

    def judge(found: list[dict[str, Any]]) -> None:
        nonlocal count
        count += 1
        if count % 500 == 0:
            plots.curves(found)
        runs.drop_metrics_after(tmp_path, 3)
        for line in runs.read_metrics(tmp_path):
            assert line["step"] <= 3

    fuzz(path, content, lambda: runs.read_metrics(tmp_path), judge, 7)


def _idx(array: Array) -> bytes:
    return struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _npy(array: Array) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _npz(compressed: bool) -> bytes:
    content = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(content, train=GREY, test=GREY[:9], y_train=np.arange(40) % 3)
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("grey.npy", _npy(GREY)),
        ("real.npy", _npy(GREY / 100 - 1)),
        ("plain.npz", _npz(False)),
        ("compressed.npz", _npz(True)),
        ("images-idx3-ubyte", _idx(GREY.reshape(40, 4, 4))),
        ("images-idx3-ubyte.gz", gzip.compress(_idx(GREY.reshape(40, 4, 4)))),
    ],
)
def test_data(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name

    def judge(found: data.Dataset) -> None:
        for rows in (found.train, found.test):
            assert rows.ndim == 2
            assert np.isfinite(rows).all()

    tracemalloc.start()
    fuzz(path, content, lambda: data.load(str(path)), judge, sum(map(ord, name)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < _BYTES
    if os.path.isdir("/proc/self/fd"):
        assert len(os.listdir("/proc/self/fd")) < 200


def test_machine_code(tmp_path: Path) -> None:
    """What is read back is executed: nothing but what was written may be."""
    kept = pytest.importorskip("vae_np.kernels.code_cache")
    path, content = tmp_path / "rows.step-7.py311-0123456789abcdef", random.Random(8).randbytes(6000)
    kept.write(path, content)

    def judge(found: bytes | None) -> None:
        assert found in (None, content)

    fuzz(path, path.read_bytes(), lambda: kept.read(path), judge, 8)
    path.unlink()
    kept.write(path, content)
    assert kept.read(path) == content
