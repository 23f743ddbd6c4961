"""`affine_act_*` and `binary_affine_act_*`: products with their bias and activation in one kernel. [D25] [D26] [D28]"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError

from ..arguments import ACTIVATIONS, check_layer
from ._arrays import at_home, blocks, empty, give, launch, precision, put, tile


def _layer(x: Any, weight: Any, bias: Any, activation: str) -> tuple[int, np.dtype[Any]]:
    check_layer(x, weight, bias, activation)
    return ACTIVATIONS[activation], precision(weight, "weight")


def affine_act_forward(x: Array, weight: Array, bias: Array, activation: str) -> tuple[Array, Any]:
    """y = activation(x W + b): x (B, I), weight (I, O), bias (O,), y (B, O). [D25] [D26]"""
    kind, dtype = _layer(x, weight, bias, activation)
    home = at_home(x, weight, bias)
    x, weight, bias = put(x, dtype), put(weight, dtype), put(bias, dtype)
    (batch, inputs), outputs = x.shape, weight.shape[1]
    y = empty((batch, outputs), dtype)
    edge = tile(batch, outputs)
    launch(
        f"affine_forward_{edge}", dtype, (blocks(outputs, edge), blocks(batch, edge)), (256,),
        x, weight, bias, y, batch, inputs, outputs, kind,
    )  # fmt: skip
    return give(home, y)[0], (x, weight, y, kind, home)


def affine_act_backward(
    dy: Array, cache: Any, *, input_gradient: bool = True, weight_gradient: bool = True
) -> tuple[Array | None, Array | None, Array | None]:
    """dx (B, I), dweight (I, O), dbias (O,), from dy (B, O); None for those not asked for. [D25] [D26]"""
    x, weight, y, kind, home = cache
    (batch, inputs), outputs, dtype = x.shape, weight.shape[1], weight.dtype
    home = home and at_home(dy)
    da = _through_activation(dy, y, kind)
    dx = None
    if input_gradient:
        edge = tile(batch, inputs)
        dx = empty((batch, inputs), dtype)
        launch(
            f"affine_input_gradient_{edge}", dtype, (blocks(inputs, edge), blocks(batch, edge)), (256,),
            da, weight, None, dx, batch, inputs, outputs, ACTIVATIONS["identity"], None, None,
        )  # fmt: skip
    return give(home, dx, *(_weight_gradient("affine_weight_gradient", x, da) if weight_gradient else (None, None)))


def binary_affine_act_forward(x: Array, weight: Array, bias: Array, activation: str) -> tuple[Array, Any]:
    """The first layer on binary x (B, I), bytes: row b sums the rows of W where x is one, plus the bias. [D28]"""
    kind, dtype = _layer(x, weight, bias, activation)
    home = at_home(x, weight, bias)
    x, weight, bias = put(x, np.uint8), put(weight, dtype), put(bias, dtype)
    (batch, inputs), outputs = x.shape, weight.shape[1]
    y = empty((batch, outputs), dtype)
    index, counts = empty((batch, inputs), np.int32), empty((batch,), np.int32)
    launch("active_columns", dtype, (batch,), (256,), x, batch, inputs, index, counts)
    launch(
        "binary_forward", dtype, (batch, blocks(outputs, 128)), (256,),
        index, counts, weight, bias, y, batch, inputs, outputs, kind,
    )  # fmt: skip
    return give(home, y)[0], (x, y, kind, home)


def binary_affine_act_backward(dy: Array, cache: Any) -> tuple[Array, Array]:
    """dweight (I, O) and dbias (O,); x is data, so it has no gradient. [D28]"""
    x, y, kind, home = cache
    home = home and at_home(dy)
    da = _through_activation(dy, y, kind)
    return give(home, *_weight_gradient("binary_weight_gradient", x, da))


def _weight_gradient(kernel: str, x: Any, da: Any) -> tuple[Any, Any]:
    (batch, inputs), outputs = x.shape, da.shape[1]
    edge = tile(inputs + 1, outputs)
    dweight, dbias = empty((inputs, outputs), da.dtype), empty((outputs,), da.dtype)
    # One row of tiles more than the weights have: the bias is the gradient of one more input, which is always one.
    launch(
        f"{kernel}_{edge}", da.dtype, (blocks(outputs, edge), blocks(inputs + 1, edge)), (256,),
        x, da, dweight, dbias, batch, inputs, outputs,
    )  # fmt: skip
    return dweight, dbias


def _through_activation(dy: Any, y: Any, kind: int) -> Any:
    if dy.shape != y.shape:
        raise InputError(f"dy: got shape {dy.shape}, expected {y.shape}")
    dy = put(dy, y.dtype)
    if kind == ACTIVATIONS["identity"]:
        return dy
    da = empty(y.shape, y.dtype)
    launch("activation_gradient_all", y.dtype, (blocks(y.size, 256),), (256,), dy, y, da, y.size, kind)
    return da
