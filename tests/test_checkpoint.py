"""Checkpoints: exact round trips, what a kill or a full disk leaves behind, and files that are none.

Budget: about 1.5 s, and 2 s more where torch is installed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save as encode

from vae_np import checkpoint, storage
from vae_np._types import Array
from vae_np.errors import CheckpointError, InputError, MissingFileError, UnverifiedWarning, WriteError

WEIGHTS, STATE = checkpoint.WEIGHTS_FILE, checkpoint.STATE_FILE
SHAPES = {
    "encoder.hidden.0.weight": (6, 4),
    "encoder.hidden.0.bias": (4,),
    "encoder.mu.weight": (4, 2),
    "encoder.mu.bias": (2,),
    "encoder.logvar.weight": (4, 2),
    "encoder.logvar.bias": (2,),
    "decoder.hidden.0.weight": (2, 4),
    "decoder.hidden.0.bias": (4,),
    "decoder.out.weight": (4, 6),
    "decoder.out.bias": (6,),
    "likelihood.logvar": (1,),
}


class Killed(BaseException):
    """Stands for a signal: nothing in the library may catch it for good."""


def made(step: int = 7, dtype: str = "float64") -> dict[str, Any]:
    """A whole set of arguments for `save`, all of whose numbers depend on `step`."""
    rng = np.random.default_rng(step)
    return {
        "parameters": {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()},
        "moments": {"m": rng.standard_normal(90).astype(dtype), "v": rng.random(90).astype(dtype)},
        "architecture": {"features": 6, "hidden": [4], "latent": 2, "sigma": 1 / 3},
        "config": {"seed": 2**64 - 1, "lr": 0.1 + 0.2, "data": "mnist"},
        "step": step,
        "extra": {"elbo": -103.70000000000002, "tiny": 5e-324, "nested": {"sum": [1e300, 0.1]}, "none": None},
    }


def assert_same_bits(got: dict[str, Array], expected: dict[str, Array]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (got[name].dtype, got[name].shape) == (tensor.dtype, tensor.shape), name
        assert got[name].tobytes() == tensor.tobytes(), name


def assert_state_is(folder: Path, expected: dict[str, Any]) -> None:
    state = checkpoint.load_state(folder)
    assert_same_bits(state.parameters, expected["parameters"])
    assert_same_bits(state.moments, expected["moments"])
    for name in ("architecture", "config", "step", "extra"):
        assert getattr(state, name) == expected[name]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_is_exact(tmp_path: Path, dtype: str) -> None:
    original = made(dtype=dtype)
    (tmp_path / "runs" / "new").mkdir(parents=True)
    checkpoint.save(tmp_path / "runs" / "new", **original)
    weights = checkpoint.load_weights(tmp_path / "runs" / "new")
    assert_same_bits(weights.parameters, original["parameters"])
    assert (weights.architecture, weights.step) == (original["architecture"], 7)
    assert_state_is(tmp_path / "runs" / "new", original)
    by_file = checkpoint.load_weights(tmp_path / "runs" / "new" / WEIGHTS)
    assert_same_bits(by_file.parameters, weights.parameters)


def test_odd_values_and_layouts_keep_their_bits(tmp_path: Path) -> None:
    odd = np.array([-0.0, 5e-324, np.finfo(float).max, np.finfo(float).min])
    table = np.arange(24.0).reshape(6, 4)
    original = made() | {
        "parameters": {"a.weight": table.T, "b.weight": table[::2, 1:], "c.bias": odd[::-1], "d.weight": odd},
        "moments": {
            "strided": table[:, ::2],
            "scalar": np.array(2.5),
            "empty": np.zeros((0, 3)),
            "count": np.arange(3),
        },
    }
    checkpoint.save(tmp_path, **original)
    assert_state_is(tmp_path, original)
    assert_same_bits(checkpoint.load_weights(tmp_path).parameters, original["parameters"])


def test_what_was_loaded_can_be_trained_on(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, **made())
    state = checkpoint.load_state(tmp_path)
    for tensor in (*state.parameters.values(), *state.moments.values()):
        tensor += 1
    for tensor in checkpoint.load_weights(tmp_path).parameters.values():
        tensor += 1
    assert_state_is(tmp_path, made())


def test_numpy_scalars_and_tuples_become_plain(tmp_path: Path) -> None:
    extra = {"mean": np.float32(0.1), "count": np.int64(3), "shape": (28, 28)}
    checkpoint.save(tmp_path, **made() | {"extra": extra, "step": np.int64(7)})
    state = checkpoint.load_state(tmp_path)
    assert state.extra == {"mean": float(np.float32(0.1)), "count": 3, "shape": [28, 28]}
    assert type(state.step) is int


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    # in two processes, since the order of a hash map may change between them
    code = "import sys, test_checkpoint as t; t.checkpoint.save(sys.argv[1], **t.made())"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    subprocess.run([sys.executable, "-c", code, tmp_path / "a"], cwd=Path(__file__).parent, check=True)
    checkpoint.save(tmp_path / "b", **made())
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_file_has_torch_layout_and_versions(tmp_path: Path) -> None:
    original = made()
    checkpoint.save(tmp_path, **original)
    with safe_open(tmp_path / WEIGHTS, framework="numpy") as file:
        about = json.loads(file.metadata()["vae_np"])
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert about["format_version"] == 2
    assert about["step"] == 7
    assert about["architecture"] == original["architecture"]
    assert about["vae_np_version"]
    assert stored.keys() == SHAPES.keys()
    for name, tensor in stored.items():
        expected = (
            original["parameters"][name].T if name.endswith(".weight") else original["parameters"][name]
        )
        np.testing.assert_array_equal(tensor, expected)


def test_loads_into_a_plain_torch_module(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    nn = torch.nn
    module = nn.ModuleDict(
        {
            "encoder": nn.ModuleDict(
                {
                    "hidden": nn.ModuleList([nn.Linear(6, 4)]),
                    "mu": nn.Linear(4, 2),
                    "logvar": nn.Linear(4, 2),
                }
            ),
            "decoder": nn.ModuleDict({"hidden": nn.ModuleList([nn.Linear(2, 4)]), "out": nn.Linear(4, 6)}),
            "likelihood": nn.ParameterDict({"logvar": nn.Parameter(torch.zeros(1))}),
        }
    ).double()
    original = made()
    checkpoint.save(tmp_path, **original)
    module.load_state_dict(load_file(tmp_path / WEIGHTS), strict=True)
    x, p = np.random.default_rng(0).standard_normal((3, 6)), original["parameters"]
    with torch.no_grad():
        hidden = module["encoder"]["hidden"][0](torch.from_numpy(x)).numpy()
    expected = x @ p["encoder.hidden.0.weight"] + p["encoder.hidden.0.bias"]
    np.testing.assert_allclose(hidden, expected, rtol=1e-13, atol=1e-13)


def test_kill_between_the_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, **made(step=1))
    replace, calls = os.replace, []

    def second_is_too_late(source: Path, target: Path) -> None:
        calls.append(Path(target).name)
        if len(calls) == 2:
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_is_too_late)
    with pytest.raises(Killed):
        checkpoint.save(tmp_path, **made(step=2))
    monkeypatch.undo()
    assert calls == [STATE, WEIGHTS]
    assert contents(tmp_path).keys() == {STATE, WEIGHTS}
    assert_state_is(tmp_path, made(step=2))
    assert_same_bits(checkpoint.load_weights(tmp_path).parameters, made(step=1)["parameters"])


@pytest.mark.parametrize(("calls", "state_step"), [(1, 1), (2, 2)])
def test_death_without_any_cleaning_up(tmp_path: Path, calls: int, state_step: int) -> None:
    checkpoint.save(tmp_path, **made(step=1))
    code = f"""
import os, sys, test_checkpoint as t
replace, left = os.replace, [{calls}]
def dying(source, target):
    left[0] -= 1
    if not left[0]:
        os._exit(9)
    replace(source, target)
os.replace = dying
t.checkpoint.save(sys.argv[1], **t.made(step=2))
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=Path(__file__).parent, check=False)
    assert done.returncode == 9
    assert_state_is(tmp_path, made(step=state_step))
    assert checkpoint.load_weights(tmp_path).step == 1
    checkpoint.save(tmp_path, **made(step=3))
    # What the kill left has a name of its own; whoever holds the folder's lock next clears it away.
    left = contents(tmp_path).keys() - {STATE, WEIGHTS}
    assert len(left) == (2 if calls == 1 else 1)
    assert all(storage.is_temporary(name) for name in left)
    with storage.hold(tmp_path):
        pass
    assert contents(tmp_path).keys() - {storage.LOCK} == {STATE, WEIGHTS}
    assert checkpoint.load_weights(tmp_path).step == 3


def test_kill_in_the_very_first_checkpoint_says_to_resume(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, **made())
    (tmp_path / WEIGHTS).unlink()
    assert_state_is(tmp_path, made())
    with pytest.raises(
        MissingFileError, match=r"^.*checkpoint\.safetensors: there is no such file; .* resuming"
    ):
        checkpoint.load_weights(tmp_path)


@pytest.mark.parametrize("failing_write", [1, 2])
def test_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_write: int
) -> None:
    checkpoint.save(tmp_path, **made(step=1))
    before, sync, calls = contents(tmp_path), os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing_write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError) as error:
        checkpoint.save(tmp_path, **made(step=2))
    monkeypatch.undo()
    file = tmp_path / (STATE, WEIGHTS)[failing_write - 1]
    assert str(error.value) == f"{file}: cannot be written at step 2 (No space left on device)"
    assert contents(tmp_path) == before
    assert_state_is(tmp_path, made(step=1))


def test_a_write_cut_short_by_the_system_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    checkpoint.save(tmp_path, **made(step=1))
    before, limits = contents(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"state\.safetensors: cannot be written at step 2 \(File too large\)"):
            checkpoint.save(tmp_path, **made(step=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path) == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for place, why in (("file", "Not a directory"), ("nowhere", "No such file or directory")):
        with pytest.raises(WriteError) as error:
            checkpoint.save(tmp_path / place, **made())
        assert str(error.value) == f"{tmp_path / place / STATE}: cannot be written at step 7 ({why})"
    assert contents(tmp_path) == {"file": b"in the way"}


def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="ndarray cannot be kept in a checkpoint's metadata"):
        checkpoint.save(tmp_path, **made() | {"extra": {"sums": np.zeros(3)}})
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["parameters", "moments"])
def test_what_is_not_finite_is_not_written(tmp_path: Path, where: str, value: float) -> None:
    checkpoint.save(tmp_path, **made(step=1))
    before, broken = contents(tmp_path), made(step=2)
    name = {"parameters": "encoder.mu.weight", "moments": "v"}[where]
    broken[where][name].flat[3] = value
    with pytest.raises(InputError) as error:
        checkpoint.save(tmp_path, **broken)
    place = [1, 1] if where == "parameters" else [3]
    assert str(error.value) == (
        f"{tmp_path}: the checkpoint of step 2 is not written: {where[:-1]}.{name} has the value {value} at {place}"
    )
    assert contents(tmp_path) == before


def test_a_truncated_file_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, **made())
    for name, load in ((WEIGHTS, checkpoint.load_weights), (STATE, checkpoint.load_state)):
        whole = (tmp_path / name).read_bytes()
        for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 8, len(whole) - 1):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(CheckpointError) as error:
                load(tmp_path)
            assert str(error.value).startswith(f"{tmp_path / name}: is truncated or not a safetensors file (")
            assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04" * 50, "is truncated or not a safetensors file"),
        (b"\x80\x04\x95" + b"pickle" * 50, "is truncated or not a safetensors file"),
        (encode({"encoder.mu.bias": np.zeros(2)}), "is a safetensors file, but not one that vae_np wrote"),
        (encode({}, metadata={"format": "pt"}), "is a safetensors file, but not one that vae_np wrote"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / WEIGHTS
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        checkpoint.load_weights(path)
    assert str(error.value).startswith(f"{path}: {reason}")


def test_the_two_files_are_not_mistaken_for_each_other(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, **made())
    with pytest.raises(CheckpointError, match="holds the state of a run, expected its weights"):
        checkpoint.load_weights(tmp_path / STATE)
    (tmp_path / STATE).write_bytes((tmp_path / WEIGHTS).read_bytes())
    with pytest.raises(CheckpointError, match="holds the weights of a run, expected its state"):
        checkpoint.load_state(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 3)
    checkpoint.save(tmp_path, **made())
    monkeypatch.undo()
    for load in (checkpoint.load_weights, checkpoint.load_state):
        with pytest.raises(
            CheckpointError, match=r"has format version 3, expected at most 2; it was written by"
        ):
            load(tmp_path)


# Checksums


def rewritten(path: Path, *, without: Sequence[str] = (), **header: Any) -> None:
    """Change a file's header, and its tensors where `tensors` are given, as another program would: without checksums
    unless the header names some."""
    with safe_open(path, framework="numpy") as file:
        about = json.loads(file.metadata()["vae_np"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors |= header.pop("tensors", {})
    for key in (*without, *(() if "sha256" in header else ("sha256",))):
        about.pop(key, None)
    path.write_bytes(encode(tensors, metadata={"vae_np": json.dumps(about | header)}))


def loaders(folder: Path) -> list[tuple[Path, Callable[[Path], Any]]]:
    return [(folder / WEIGHTS, checkpoint.load_weights), (folder / STATE, checkpoint.load_state)]


def test_every_tensor_and_the_header_have_a_checksum_that_others_can_compute(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, **made())
    for path, _ in loaders(tmp_path):
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["vae_np"])
            checksums = about.pop("sha256")
            assert checksums["tensors"].keys() == set(file.keys())
            for name, checksum in checksums["tensors"].items():
                tensor = file.get_tensor(name)
                said = f"{tensor.dtype} {tensor.shape}\n".encode() + tensor.tobytes()
                assert checksum == hashlib.sha256(said).hexdigest()
        assert checksums["header"] == hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def test_every_one_of_300_bit_flips_in_the_tensors_is_refused_and_named(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, **made())
    rng = np.random.default_rng(0)
    for path, load in loaders(tmp_path):
        whole = path.read_bytes()
        first = 8 + int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8:first])
        for byte, bit in zip(rng.integers(first, len(whole), 300), rng.integers(0, 8, 300), strict=True):
            damaged = bytearray(whole)
            damaged[byte] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError) as error:
                load(tmp_path)
            (name,) = (
                name
                for name, entry in header.items()
                if name != "__metadata__" and entry["data_offsets"][0] <= byte - first < entry["data_offsets"][1]
            )
            assert str(error.value) == f"{path}: is damaged, {name} does not agree with its checksum"
        path.write_bytes(whole)


def test_every_bit_flip_in_the_header_is_refused(tmp_path: Path) -> None:
    """The length, names, shapes, number formats, step, settings, and the checksums themselves."""
    checkpoint.save(tmp_path, **made())
    rng = np.random.default_rng(1)
    for path, load in loaders(tmp_path):
        whole = path.read_bytes()
        first = 8 + int.from_bytes(whole[:8], "little")
        for byte, bit in zip(rng.integers(0, first, 300), rng.integers(0, 8, 300), strict=True):
            damaged = bytearray(whole)
            damaged[byte] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError) as error:
                load(tmp_path)
            assert len(str(error.value).splitlines()) == 1
        path.write_bytes(whole)
        load(tmp_path)


def test_a_file_without_checksums_loads_with_a_note_where_it_is_old_enough(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, **made())
    for path, load in loaders(tmp_path):
        rewritten(path, format_version=1, vae_np_version="0.1.0")
        with pytest.warns(UnverifiedWarning) as told:
            load(tmp_path)
        assert [str(one.message) for one in told] == [
            f"{path}: has no checksums (vae_np 0.1.0 wrote it), so damage to it would not be seen"
        ]
        rewritten(path, format_version=2)
        with pytest.raises(CheckpointError, match=r"is damaged, its header has no checksums$"):
            load(tmp_path)
        rewritten(path, sha256="all")
        with pytest.raises(CheckpointError, match=r"is damaged, its header has no checksums$"):
            load(tmp_path)


def test_what_a_file_says_of_itself_moves_no_cursor(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, **made())
    rewritten(tmp_path / WEIGHTS, format_version=9, vae_np_version="1\x1b[2J\n\r\x7f\ud800" + "9" * 500)
    with pytest.raises(CheckpointError) as error:
        checkpoint.load_weights(tmp_path)
    assert str(error.value).isprintable()
    assert r"it was written by vae_np 1\x1b[2J \x7f\ud8009999" in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.filterwarnings("ignore::vae_np.errors.UnverifiedWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_loaded(tmp_path: Path, value: float) -> None:
    checkpoint.save(tmp_path, **made())
    for path, load, name in (
        (tmp_path / WEIGHTS, checkpoint.load_weights, "encoder.mu.bias"),
        (tmp_path / STATE, checkpoint.load_state, "moment.v"),
    ):
        rewritten(path, format_version=1, tensors={name: np.array([1.0, value])})
        with pytest.raises(CheckpointError) as error:
            load(tmp_path)
        assert str(error.value) == f"{path}: {name} has the value {value} at [1], expected finite numbers"


@pytest.mark.filterwarnings("ignore::vae_np.errors.UnverifiedWarning")
@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"format_version": "x"}, "its header has the format version 'x', expected a whole number"),
        ({"format_version": 0}, "its header has the format version 0, expected a whole number"),
        ({"format_version": True}, "its header has the format version True, expected a whole number"),
        ({"step": "9"}, "its header has the step '9', expected a whole number >= 0 and < 2**32"),
        ({"step": -1}, "its header has the step -1, expected a whole number >= 0 and < 2**32"),
        ({"step": 1.5}, "its header has the step 1.5, expected a whole number >= 0 and < 2**32"),
        ({"architecture": [1]}, "its header has the architecture [1], expected a table"),
        ({"extra": 3}, "its header has the extra 3, expected a table"),
        ({"config": None}, "its header has the config None, expected a table"),
    ],
)
def test_a_header_of_the_wrong_kinds_is_refused(tmp_path: Path, header: dict[str, Any], message: str) -> None:
    checkpoint.save(tmp_path, **made())
    rewritten(tmp_path / STATE, **{"format_version": 1, **header})
    with pytest.raises(CheckpointError) as error:
        checkpoint.load_state(tmp_path)
    assert str(error.value) == f"{tmp_path / STATE}: is damaged, {message}"


# What the data mean


def test_what_the_data_mean_and_are_known_by_comes_back(tmp_path: Path) -> None:
    values, fingerprint = {"kind": "real", "scale": 1.0, "mean": [0.1, 1e300]}, {"rows": 3, "sha256": "ab"}
    checkpoint.save(tmp_path, **made(), values=values, fingerprint=fingerprint)
    assert checkpoint.load_weights(tmp_path).values == checkpoint.load_state(tmp_path).values == values
    assert checkpoint.load_state(tmp_path).fingerprint == fingerprint


@pytest.mark.filterwarnings("ignore::vae_np.errors.UnverifiedWarning")
def test_files_of_version_1_kept_no_record_of_the_data(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, **made())
    assert checkpoint.load_weights(tmp_path).values is None
    for path, _ in loaders(tmp_path):
        rewritten(path, without=("values", "fingerprint"), format_version=1)
    assert checkpoint.load_weights(tmp_path).values == checkpoint.load_state(tmp_path).values == {}
    assert checkpoint.load_state(tmp_path).fingerprint == {}
    assert_state_is(tmp_path, made())


def test_missing_files(tmp_path: Path) -> None:
    for load, path in (
        (checkpoint.load_weights, tmp_path / WEIGHTS),
        (checkpoint.load_state, tmp_path / STATE),
    ):
        with pytest.raises(MissingFileError) as error:
            load(tmp_path)
        assert str(error.value) == f"{path}: there is no such file"
    with pytest.raises(MissingFileError, match="nowhere: there is no such file"):
        checkpoint.load_weights(tmp_path / "nowhere")


def test_check_shapes() -> None:
    parameters = made()["parameters"]
    checkpoint.check_shapes(parameters, SHAPES)
    with pytest.raises(CheckpointError) as shape:
        checkpoint.check_shapes(parameters, SHAPES | {"decoder.out.weight": (4, 784)})
    assert str(shape.value) == (
        "checkpoint: belongs to another architecture: decoder.out.weight has shape (4, 6), expected (4, 784)"
    )
    without = {name: shape for name, shape in SHAPES.items() if name != "likelihood.logvar"}
    with pytest.raises(CheckpointError) as names:
        checkpoint.check_shapes(parameters, without | {"encoder.hidden.1.bias": (4,)})
    assert str(names.value) == (
        "checkpoint: belongs to another architecture: lacks encoder.hidden.1.bias and has no use for "
        "likelihood.logvar"
    )


def test_import_is_light() -> None:
    code = "import sys, vae_np.checkpoint; print('safetensors' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
