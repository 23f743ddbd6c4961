"""`vae-np convert`: weights of another program in, ONNX out.

Budget: about 5 s.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commandline import good, vae_np
from safetensors.numpy import save_file

from vae_np import VAE
from vae_np.interchange import MAPPINGS


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A file with the names of PyTorch's example, of the weights of a model of ours."""
    vae = VAE(16, hidden=(8,), latent=2, seed=3, backend="numpy")
    tensors = {}
    for ours, layer in MAPPINGS["pytorch-examples"].items():
        tensors[f"{layer}.weight"] = np.ascontiguousarray(vae.parameters[f"{ours}.weight"].T)
        tensors[f"{layer}.bias"] = vae.parameters[f"{ours}.bias"]
    save_file(tensors, tmp_path / "theirs.safetensors")
    return tmp_path / "theirs.safetensors"


def test_from_another_program_to_eval_in_two_commands(theirs: Path, tmp_path: Path) -> None:
    told = good("convert", theirs, "--out", tmp_path / "run").out
    assert "model    16-8-2 relu, bernoulli: 340 parameters" in told
    for name in ("config.toml", "checkpoint.safetensors", "state.safetensors"):
        assert f"wrote    {tmp_path / 'run' / name}" in told
    ours, again = VAE(16, hidden=(8,), latent=2, seed=3), VAE.load(tmp_path / "run", backend="numpy")
    np.testing.assert_array_equal(again.parameters.flat, ours.parameters.flat)
    np.save(tmp_path / "bits.npy", (np.random.default_rng(0).random((20, 16)) < 0.5).astype(np.uint8))
    content = good("eval", tmp_path / "run", "--data", tmp_path / "bits.npy", "--samples", 2, "--json", "-").json
    assert -20 < content["test"]["elbo"]["mean"] < -8


def test_a_run_as_onnx(theirs: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    good("convert", theirs, "--out", tmp_path / "run")
    told = good("convert", tmp_path / "run", "--to", "onnx", "--out", tmp_path / "onnx").out
    for half in ("encoder", "decoder"):
        assert f"wrote    {tmp_path / 'onnx' / half}.onnx" in told
    refused = vae_np("convert", tmp_path / "run", "--to", "onnx", "--out", tmp_path / "onnx")
    line = f"vae-np: out: {tmp_path / 'onnx'}: is there already, expected a new folder\n"
    assert (refused.code, refused.err) == (2, line)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "tflite"), "to: got 'tflite', expected onnx"),
        (("--to", "onnx", "--sigma", "2"), "sigma: got '2', but with --to a run is written, which says this itself"),
        (("--mapping", "keras"), "mapping: got 'keras', expected one of pytorch-examples, or layers by our names"),
        (("--likelihood", "normal"), "weights: have no likelihood.logvar, which likelihood 'normal' needs"),
        (("--sigma", "-1"), "sigma: got -1.0, expected a number > 0"),
    ],
)
def test_refused(theirs: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    refused = vae_np("convert", theirs, "--out", tmp_path / "run", *options)
    assert (refused.code, refused.err.splitlines()) == (2, [f"vae-np: {message}"])
    assert not (tmp_path / "run").exists()
