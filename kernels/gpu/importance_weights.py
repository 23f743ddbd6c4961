"""log w = log p(x, z) − log q(z|x) of K samples per example, with the decoder, in chunks of bounded memory. [D34]

The last layer's kernel keeps only each tile's part of log p(x|z): nothing of size samples × features is ever in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.model import encode_forward

from ..arguments import ACTIVATIONS
from ._arrays import at_home, blocks, give, launch, put, tile
from ._device import device

# Rows (samples × examples) that are decoded at once: enough to fill a large device, tens of megabytes per layer.
_CHUNK_ROWS = 65_536


def log_weights(
    ops: Any, arch: Architecture, parameters: Any, x: Array, rows: Array, *, samples: int, seed: int, first: int = 0
) -> Array:
    """log w (S, B) in nats, of samples first..first+S−1 of each example; x (B, D) bytes, `rows` (B,) places. [D34]

    `parameters` is a `vae_np.parameters.Parameters`; the architecture must be one that `fused.unsupported` accepts.
    """
    home = at_home(x)
    there = {name: put(tensor, parameters.dtype) for name, tensor in parameters.items()}
    x, places = put(x, np.uint8), put(np.asarray(rows), np.uint32)
    (mu, logvar), _ = encode_forward(ops, arch, there, x)
    batch, latent, dtype = len(x), arch.latent, parameters.dtype
    log_w = device().empty((samples, batch), dtype)
    most = max(1, min(samples, _CHUNK_ROWS // batch))
    layers = arch.hidden_layers("decoder")
    # The same few buffers for every chunk.
    widths = [latent, *(there[f"{layer}.weight"].shape[1] for layer in layers)]
    values = [device().empty((most * batch, width), dtype) for width in widths]
    rows_at_once = most * batch
    edge = tile(rows_at_once, arch.features)
    tiles = blocks(arch.features, edge)
    prior, partial = device().empty((most * batch,), dtype), device().empty((most * batch, tiles), np.float64)
    for begin in range(0, samples, most):
        count = min(most, samples - begin)
        size = count * batch
        launch(
            "importance_sample", dtype, (blocks(size, 4),), (128,), mu, logvar, places, np.uint64(seed),
            np.uint32(first + begin), count, batch, latent, values[0], prior,
        )  # fmt: skip
        for layer, source, result in zip(layers, values, values[1:], strict=False):
            weight, bias = there[f"{layer}.weight"], there[f"{layer}.bias"]
            inputs, outputs = weight.shape
            narrow = tile(rows_at_once, outputs)
            launch(
                f"affine_forward_{narrow}", dtype, (blocks(outputs, narrow), blocks(size, narrow)), (256,),
                source, weight, bias, result, size, inputs, outputs, ACTIVATIONS[arch.activation],
            )  # fmt: skip
        weight, bias = there["decoder.out.weight"], there["decoder.out.bias"]
        launch(
            f"bernoulli_output_{edge}", dtype, (tiles, blocks(size, edge)), (256,), values[-1], weight, bias, x,
            size, batch, 1, widths[-1], arch.features, 0.0, None, partial,
        )  # fmt: skip
        launch(
            "importance_weights", dtype, (blocks(size, 256),), (256,),
            prior, partial, size, tiles, log_w[begin : begin + count],
        )  # fmt: skip
    return give(home, log_w)[0]
