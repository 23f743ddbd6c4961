"""From stored rows to what the model sees: grey drawn as pixels, thresholded or left, as suits the likelihood."""

from __future__ import annotations

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.choices import BINARIZATIONS, COMPOSED_LIKELIHOODS
from vae_np.data.values import Values, takes_grey
from vae_np.errors import ConfigError, DataError


def check_values(what: str, values: Values, likelihood: str, binarize: str) -> None:
    """Refuse, with the remedy, a likelihood that does not suit what `binarize` makes of data of these values.

    Binary data suit every likelihood and every binarisation. Grey values (`byte`, `unit`) are binarised for
    `bernoulli`, and only for it. Real values take a normal likelihood and are never binarised. Raises
    DataError.
    """
    _check_mode(binarize)
    if values.kind != "real" and likelihood in COMPOSED_LIKELIHOODS and not takes_grey(likelihood):
        raise DataError(
            f"{what}: likelihood {likelihood!r} takes numbers as they are, but values {values.kind!r} were named; use "
            "values 'real'"
        )
    if values.kind == "binary":
        return
    if values.kind == "real":
        if takes_grey(likelihood):
            raise DataError(f"{what}: {_not_grey(values, likelihood)}")
        if binarize != "none":
            raise DataError(f"{what}: real values cannot be binarised by {binarize!r}; use binarize 'none'")
    elif likelihood == "bernoulli" and binarize == "none":
        raise DataError(
            f"{what}: likelihood 'bernoulli' is not one for grey values; use binarize 'dynamic', 'fixed' or "
            "'threshold', or ask for likelihood 'normal' or 'bernoulli-grey' by name"
        )
    elif likelihood != "bernoulli" and binarize != "none":
        raise DataError(
            f"{what}: likelihood {likelihood!r} takes the grey values, but binarize {binarize!r} "
            "removes them; use binarize 'none', or likelihood 'bernoulli'"
        )


def _not_grey(values: Values, likelihood: str) -> str:
    has = "real values" if values.span is None else str(values.span)
    scale = ""
    if values.span is not None and values.span.low >= 0:
        scale = f", or name the scale on which 1 is white, such as scale {values.span.high:.6g}"
    return (
        f"likelihood {likelihood!r} takes values in [0, 1] or whole numbers in [0, 255], but the data have {has}; use "
        f"likelihood 'normal' with binarize 'none'{scale}"
    )


def prepare(
    batch: Array, values: Values, mode: str, *, seed: int, stream: int, step: int, rows: Array
) -> Array:
    """What the model sees of the rows `batch` (B, D): uint8 0/1, or floats where nothing is binarised.

    `dynamic` draws x ~ Bernoulli(grey) [D38] at (seed, stream, step, rows), `rows` (B,) being the rows'
    places in their data set; `fixed` does the same, except that training rows (stream BINARIZE) always get their one
    FIXED_BINARIZE draw of step 0; `threshold` is grey >= 1/2; `none` gives grey as float32 in [0, 1], real values as
    they are or standardised. Binary data stay as they are in every mode and draw nothing. Raises DataError if real
    values are to be binarised. A cell without a value, NaN, stays one, and the others are drawn as without it.
    """
    _check_mode(mode)
    batch = np.asarray(batch)  # or a memory-mapped slice would pass its class on to all that follows
    if values.kind == "real" and mode != "none":
        raise DataError(f"binarize: got {mode!r} for real values, expected 'none'")
    if mode == "none" or not values.is_grey:
        return values.to_model(batch)
    if batch.dtype.kind == "f" and (missing := np.isnan(batch)).any():
        whole = np.where(missing, 0, batch)
        drawn = prepare(whole, values, mode, rows=rows, seed=seed, step=step, stream=stream)
        return np.where(missing, np.float32(np.nan), drawn.astype(np.float32))
    if mode == "threshold":
        return (values.to_model(batch) >= 0.5).astype(np.uint8)
    if mode == "fixed" and stream == noise.BINARIZE:
        stream, step = noise.FIXED_BINARIZE, 0
    # Bytes are compared as bytes, by the one division that every backend makes.
    grey = batch if batch.dtype == np.uint8 and values.kind == "byte" else values.to_model(batch)
    return noise.bernoulli(grey, seed=seed, stream=stream, step=step, rows=rows)


def _check_mode(mode: str) -> None:
    if mode not in BINARIZATIONS:
        raise ConfigError(f"binarize: got {mode!r}, expected one of {', '.join(BINARIZATIONS)}")
