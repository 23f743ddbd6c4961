"""Both halves of a model as ONNX files: the encoder x → (mu, logvar), or (mu, logvar, below) of a full covariance, and
the decoder z → logits or mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vae_np import storage
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.errors import InputError, WriteError
from vae_np.interchange.naming import check_encoder

# From 7 on Gemm adds a bias of one row without being told to.
OLDEST, OPSET = 7, 17
_IR = 8
_OPERATORS = {"relu": "Relu", "tanh": "Tanh", "softplus": "Softplus"}


def write_onnx(
    folder: Path, arch: Architecture, parameters: Mapping[str, Array], *, opset: int = OPSET
) -> tuple[Path, ...]:
    """Write `encoder.onnx` and `decoder.onnx` into `folder`, batch sizes left open; returns their paths.

    The encoder takes x (B, D) as the model sees it, binary or grey in [0, 1] or standardised; the decoder z (B, K).
    Raises InputError where the package onnx is missing, for an opset that is too old, and for a model whose q is not
    what an encoder of normals says, and WriteError where a file cannot be written.
    """
    check_encoder("onnx", arch)
    if opset < OLDEST:
        raise InputError(f"opset: got {opset}, expected {OLDEST} or more")
    try:
        import onnx
    except ImportError:
        raise InputError("onnx: the package is not installed: pip install 'vae-np[onnx]'") from None
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise InputError(f"opset: got {opset}, expected {newest} or less, which onnx {onnx.__version__} knows")
    heads = {"mu": arch.latent, "logvar": arch.latent, **arch.family.heads()}
    output = "logits" if arch.is_bernoulli else "mean"
    halves = {
        "encoder": ("x", arch.features, heads, {name: name for name in heads}),
        "decoder": ("z", arch.latent, {output: arch.features}, {output: "out"}),
    }
    files = {}
    for half, (source, width, outputs, layers) in halves.items():
        nodes, at = [], source
        for index, name in enumerate(arch.hidden_layers(half)):
            nodes += [
                _gemm(onnx, name, at, f"pre{index}"),
                onnx.helper.make_node(_OPERATORS[arch.activation], [f"pre{index}"], [f"hidden{index}"]),
            ]
            at = f"hidden{index}"
        nodes += [_gemm(onnx, f"{half}.{layer}", at, name) for name, layer in layers.items()]
        files[folder / f"{half}.onnx"] = _model(onnx, half, nodes, (source, width), outputs, parameters, opset)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        storage.replace_all(files)
    except OSError as error:
        raise WriteError(f"{error.filename}: cannot be written ({storage.reason(error)})") from error
    return tuple(files)


def _gemm(onnx: Any, layer: str, source: str, result: str) -> Any:
    return onnx.helper.make_node("Gemm", [source, f"{layer}.weight", f"{layer}.bias"], [result])


def _model(
    onnx: Any, half: str, nodes: list[Any], source: tuple[str, int], outputs: Mapping[str, int],
    parameters: Mapping[str, Array], opset: int,
) -> bytes:  # fmt: skip
    def value(name: str, width: int) -> Any:
        return onnx.helper.make_tensor_value_info(name, kind, ["batch", width])

    held = {name: np.ascontiguousarray(tensor) for name, tensor in parameters.items() if name.startswith(f"{half}.")}
    kind = onnx.helper.np_dtype_to_tensor_dtype(next(iter(held.values())).dtype)
    graph = onnx.helper.make_graph(
        nodes,
        half,
        [value(*source)],
        [value(name, width) for name, width in outputs.items()],
        [onnx.numpy_helper.from_array(tensor, name) for name, tensor in held.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], producer_name="vae-np")
    model.ir_version = min(model.ir_version, _IR)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
