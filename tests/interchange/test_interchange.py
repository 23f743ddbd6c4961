"""Other libraries' weights in and ours out: the same outputs, and one line for what does not fit.

Budget: about 8 s, most of it for importing PyTorch and ONNX Runtime.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_np import VAE
from vae_np.errors import CheckpointError, InputError, MissingFileError
from vae_np.interchange import MAPPINGS
from vae_np.layers import sigmoid

NAMES = MAPPINGS["pytorch-examples"]


def theirs(features: int = 30, hidden: int = 12, latent: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """A state_dict with the names and shapes of PyTorch's VAE example."""
    rng = np.random.default_rng(seed)
    sizes = {
        "fc1": (hidden, features),
        "fc21": (latent, hidden),
        "fc22": (latent, hidden),
        "fc3": (hidden, latent),
        "fc4": (features, hidden),
    }
    tensors = {}
    for name, shape in sizes.items():
        tensors[f"{name}.weight"] = (rng.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32)
        tensors[f"{name}.bias"] = rng.standard_normal(shape[0]).astype(np.float32) / 10
    return tensors


def outputs(tensors: dict[str, np.ndarray], x: np.ndarray, z: np.ndarray) -> list[np.ndarray]:
    """mu, logvar and E[x|z] of PyTorch's VAE example, by its own formulas in float64."""
    wide = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}

    def dense(name: str, rows: np.ndarray) -> np.ndarray:
        return rows @ wide[f"{name}.weight"].T + wide[f"{name}.bias"]

    h = np.maximum(dense("fc1", x), 0)
    return [dense("fc21", h), dense("fc22", h), sigmoid(dense("fc4", np.maximum(dense("fc3", z), 0)))]


def check_outputs(vae: VAE, expected: list[np.ndarray], x: np.ndarray, z: np.ndarray, tolerance: float = 1e-5) -> None:
    for found, true in zip((*vae.encode(x), vae.decode(z)), expected, strict=True):
        np.testing.assert_allclose(found, true, atol=tolerance * np.abs(true).max())


def safetensors_bytes(kind: str, tensors: dict[str, np.ndarray]) -> bytes:
    """A safetensors file: the length of its head, the head as JSON, and the numbers."""
    head, content = {}, b""
    for name, tensor in tensors.items():
        place = [len(content), len(content) + tensor.nbytes]
        head[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": place}
        content += tensor.tobytes()
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + content


X = (np.random.default_rng(1).random((7, 30)) < 0.4).astype(np.uint8)
Z = np.random.default_rng(2).standard_normal((7, 3)).astype(np.float32)


class TestIn:
    @pytest.mark.parametrize("mapping", [None, "pytorch-examples", dict(NAMES)], ids=["found", "by name", "given"])
    def test_a_state_dict_of_the_pytorch_example(self, mapping: Any) -> None:
        tensors = theirs()
        vae = VAE.from_torch(tensors, mapping)
        assert (vae.arch.features, vae.arch.hidden, vae.arch.latent) == (30, (12,), 3)
        check_outputs(vae, outputs(tensors, X, Z), X, Z)

    @pytest.mark.parametrize("kind", ["F64", "F32", "F16", "BF16"])
    def test_a_safetensors_file_of_every_precision(self, tmp_path: Path, kind: str) -> None:
        tensors = theirs()
        if kind == "BF16":
            # bfloat16 is the upper half of a float32.
            halves = {name: (tensor.view(np.uint32) >> 16).astype(np.uint16) for name, tensor in tensors.items()}
            tensors = {name: (half.astype(np.uint32) << 16).view(np.float32) for name, half in halves.items()}
        else:
            dtype = {"F64": np.float64, "F32": np.float32, "F16": np.float16}[kind]
            halves = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
            tensors = halves
        (tmp_path / "x.safetensors").write_bytes(safetensors_bytes(kind, halves))
        vae = VAE.from_torch(tmp_path / "x.safetensors")
        assert vae.parameters.dtype == (np.float64 if kind == "F64" else np.float32)
        for ours, name in NAMES.items():
            np.testing.assert_array_equal(vae.parameters[f"{ours}.weight"], tensors[f"{name}.weight"].T)

    def test_our_own_checkpoint_saved_again_without_our_metadata(self, tmp_path: Path) -> None:
        from safetensors.numpy import load_file, save_file

        vae = VAE(30, hidden=(12, 9), latent=3, likelihood="normal", activation="tanh", backend="numpy")
        vae.save(tmp_path / "run")
        save_file(load_file(tmp_path / "run" / "checkpoint.safetensors"), tmp_path / "again.safetensors")
        with pytest.raises(CheckpointError, match=r"again\.safetensors: .*not one that vae_np wrote"):
            VAE.load(tmp_path / "again.safetensors")
        again = VAE.from_torch(tmp_path / "again.safetensors", activation="tanh", likelihood="normal")
        assert again.arch == vae.arch
        np.testing.assert_array_equal(again.parameters.flat, vae.parameters.flat)

    def test_a_tree_of_jax_goes_there_and_back(self) -> None:
        vae = VAE(30, hidden=(12,), latent=3, backend="numpy")
        tree = vae.to_jax()
        assert tree["encoder"]["hidden_0"]["kernel"].shape == (30, 12)
        for held in (tree, {"params": tree}):
            np.testing.assert_array_equal(VAE.from_jax(held).parameters.flat, vae.parameters.flat)
        flax = {"params": {f"Dense_{i}": layer for i, layer in enumerate(
            (tree["encoder"]["hidden_0"], tree["encoder"]["mu"], tree["encoder"]["logvar"],
             tree["decoder"]["hidden_0"], tree["decoder"]["out"]))}}  # fmt: skip
        layers = dict(zip(NAMES, (f"Dense_{i}" for i in range(5)), strict=True))
        np.testing.assert_array_equal(VAE.from_jax(flax, layers).parameters.flat, vae.parameters.flat)


class TestRefused:
    def refuse(self, match: str, weights: Any, mapping: Any = None, **own: Any) -> None:
        with pytest.raises(InputError, match=match) as caught:
            VAE.from_torch(weights, mapping, **own)
        assert "\n" not in str(caught.value)

    def test_tensors_and_mapping(self) -> None:
        tensors = theirs()
        short = {name: tensor for name, tensor in tensors.items() if name != "fc21.bias"}
        self.refuse(r"weights: have no fc21\.bias, which is encoder\.mu\.bias", short, "pytorch-examples")
        self.refuse(r"weights: nothing of ours is fc5\.weight", {**tensors, "fc5.weight": Z}, "pytorch-examples")
        self.refuse(r"mapping: the names are not ours, nor those of pytorch-examples; got fc1", {"fc1.weight": Z})
        self.refuse(r"mapping: got 'keras', expected one of pytorch-examples", tensors, "keras")
        self.refuse(r"mapping: got the layer 'encoder\.z'", tensors, {"encoder.z": "fc21"})
        layers = {ours: layer for ours, layer in NAMES.items() if layer != "fc4"}
        self.refuse(r"weights: nothing of ours is fc4\.weight, fc4\.bias; the mapping is", tensors, layers)
        left = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc4")}
        self.refuse(r"mapping: has no layer for decoder\.out", left, layers)

    def test_shapes_and_values(self) -> None:
        tensors = theirs()
        narrow = {**tensors, "fc3.weight": tensors["fc3.weight"][:5], "fc3.bias": tensors["fc3.bias"][:5]}
        self.refuse(r"decoder\.out\.weight has shape \(30, 12\), expected \(30, 5\)", narrow)
        self.refuse(r"encoder\.logvar\.bias has shape \(2,\)", {**tensors, "fc22.bias": tensors["fc22.bias"][:2]})
        self.refuse(r"fc1\.bias has values that are not finite", {**tensors, "fc1.bias": np.full(12, np.nan)})
        self.refuse(r"fc1\.bias holds int64", {**tensors, "fc1.bias": np.zeros(12, np.int64)})
        self.refuse(r"have no likelihood\.logvar, which likelihood 'normal' needs", tensors, likelihood="normal")

    def test_files(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError, match=r"gone\.safetensors: there is no such file"):
            VAE.from_torch(tmp_path / "gone.safetensors")
        for content, match in (
            (b"PK\x03\x04", r"x\.pt: is a pickle, .* safetensors\.torch\.save_file"),
            (b"\x80\x02}", r"x\.pt: is a pickle"),
            (b"no tensors", r"x\.pt: is truncated or not a safetensors file"),
            (b"", r"x\.pt: is truncated or not a safetensors file"),
        ):
            (tmp_path / "x.pt").write_bytes(content)
            self.refuse(match, tmp_path / "x.pt")


def test_a_model_trained_in_pytorch_has_the_same_elbo_terms_here_and_goes_back() -> None:
    """A model of PyTorch's example, trained there for a few steps; then both compute the terms on given noise."""
    torch = pytest.importorskip("torch")
    from torch import nn

    torch.manual_seed(0)
    layers = {name: nn.Linear(*reversed(t.shape)) for name, t in theirs().items() if name.endswith(".weight")}
    module = nn.ModuleDict({name.removesuffix(".weight"): layer for name, layer in layers.items()})

    def terms(x: Any, eps: Any) -> tuple[Any, Any]:
        h = torch.relu(module["fc1"](x))
        mu, logvar = module["fc21"](h), module["fc22"](h)
        logits = module["fc4"](torch.relu(module["fc3"](mu + torch.exp(0.5 * logvar) * eps)))
        log_likelihood = -nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        return log_likelihood, -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)

    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    x = torch.tensor(X, dtype=torch.float32)
    for _ in range(30):
        optimiser.zero_grad()
        reconstruction, kl = terms(x, torch.randn(7, 3))
        (kl - reconstruction).mean().backward()
        optimiser.step()

    vae = VAE.from_torch(module.state_dict())
    from vae_np.elbo import elbo_forward

    eps = np.random.default_rng(5).standard_normal((7, 3)).astype(np.float32)
    found = elbo_forward(vae.model.ops, vae.arch, vae.parameters, X, eps)[0]
    with torch.no_grad():
        reconstruction, kl = terms(x, torch.tensor(eps))
        np.testing.assert_allclose(found.reconstruction, reconstruction.numpy(), rtol=1e-5)
        np.testing.assert_allclose(found.kl, kl.numpy(), rtol=1e-5)
        back = vae.to_torch()
        logits, mu, logvar = back(x, torch.tensor(eps))
        for ours, true in zip(vae.encode(X), (mu, logvar), strict=True):
            np.testing.assert_allclose(ours, true.numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            vae.decode((mu + torch.exp(0.5 * logvar) * torch.tensor(eps)).numpy()), torch.sigmoid(logits), atol=1e-6
        )
    for name, layer in NAMES.items():
        assert torch.equal(back.state_dict()[f"{name}.weight"], module[layer].weight)


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
def test_onnx_runs_elsewhere_to_the_same_outputs(tmp_path: Path, activation: str, likelihood: str) -> None:
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    vae = VAE(30, hidden=(12, 9), latent=3, activation=activation, likelihood=likelihood, backend="numpy", seed=4)
    encoder, decoder = (runtime.InferenceSession(path) for path in vae.to_onnx(tmp_path / "onnx"))
    x = X.astype(np.float32)
    for found, true in zip(encoder.run(["mu", "logvar"], {"x": x}), vae.encode(x), strict=True):
        np.testing.assert_allclose(found, true, rtol=1e-5, atol=1e-6)
    (out,) = decoder.run(None, {"z": Z})
    np.testing.assert_allclose(sigmoid(out) if likelihood == "bernoulli" else out, vae.decode(Z), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", [{"missing": "mask"}, {"likelihood": "poisson"}], ids=str)
def test_what_other_libraries_do_not_say_is_refused(tmp_path: Path, settings: dict[str, str]) -> None:
    vae = VAE(30, hidden=(12,), latent=3, backend="numpy", **settings)
    says = r": got a model with likelihood '\w+' and missing .*, expected a Bernoulli or normal one"
    for library, export in (("torch", vae.to_torch), ("onnx", lambda: vae.to_onnx(tmp_path))):
        with pytest.raises(InputError, match=library + says):
            export()


def test_onnx_refuses_an_opset_that_is_too_old(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    vae = VAE(30, hidden=(12,), latent=3, backend="numpy")
    with pytest.raises(InputError, match="opset: got 6, expected 7 or more"):
        vae.to_onnx(tmp_path, opset=6)
    with pytest.raises(InputError, match=r"opset: got 999, expected \d+ or less"):
        vae.to_onnx(tmp_path, opset=999)
