"""Random numbers as a pure function of where they are used: counter-based Philox4x32-10 [D37].

Every draw is addressed by (seed, stream, step, sample, row, column), so noise does not depend on how the rows
were split into batches, on their order, on how many samples or columns were asked for, or on the number of
workers.

    key     = (seed mod 2^32, seed div 2^32)
    counter = (column div 4, row of the example in its data set, step, stream + 256 * sample)
    lane    = column mod 4: which of the block's four words the column takes

Everything here uses integer operations and the float64 operations + - * / sqrt in a fixed order, so that
compiled code without fused multiply-add gives the same bits. (`numpy.random.Philox` is Philox4x64,
another stream.)
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from vae_np._types import Array
from vae_np.errors import InputError

INIT, ORDER, BINARIZE, EPS, EVAL_BINARIZE, EVAL_EPS, PRIOR, FIXED_BINARIZE, AIS, IMPUTE = range(10)

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)

LN2 = float.fromhex("0x1.62e42fefa39efp-1")
HALF_PI = float.fromhex("0x1.921fb54442d18p+0")
SQRT_HALF_BITS = 0x3FE6A09E667F3BCD

# Taylor coefficients, lowest power first; on the reduced range the next term would be below 7e-17 of the sum.
LOG_SERIES = tuple(2.0 / (2 * k + 1) for k in range(10))
SIN_SERIES = tuple((-1.0) ** k / math.factorial(2 * k + 1) for k in range(8))
COS_SERIES = tuple((-1.0) ** k / math.factorial(2 * k) for k in range(9))

# Blocks computed at once in `words`: the few uint64 temporaries of 128 KiB each stay in a core's cache, and
# the cost of NumPy's calls is spread over enough blocks (measured: 4,096 at once take 1.6 times as long).
_CHUNK_BLOCKS = 16384


Seed = int | np.random.Generator | None


def seed_of(seed: Seed) -> int:
    """The seed that an argument stands for: a number itself, a Generator's next draw, for None one nobody has used."""
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**63))
    if seed is None:
        return int(np.random.default_rng().integers(2**63))
    return seed


def check_seed(seed: int) -> int:
    """Return the seed as a plain int; raises InputError unless it is an integer with 0 <= seed < 2^64."""
    return _check_integer("seed", seed, 2**64)


def philox(
    counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: tuple[int, int]
) -> tuple[Array, Array, Array, Array]:
    """Encrypt counters with Philox4x32-10 and return the block's four words [D37; Salmon et al. 2011].

    The four counter words are uint32 arrays that broadcast together, the key is two uint32; the result is
    four uint32 arrays of the broadcast shape. Words are held in uint64, where 32 x 32 bit products are exact.
    """
    # Counters are not broadcast first: while a word is still the same along an axis, its rounds cost less.
    c0, c1, c2, c3 = (np.asarray(word, dtype=np.uint32).astype(np.uint64) for word in counter)
    m0, m1 = (np.uint64(multiplier) for multiplier in MULTIPLIERS)
    high, low = np.uint64(32), np.uint64(2**32 - 1)
    for i in range(ROUNDS):
        k0, k1 = (np.uint64((k + i * step) % 2**32) for k, step in zip(key, KEY_STEPS, strict=True))
        product0, product1 = c0 * m0, c2 * m1
        c0, c1 = (product1 >> high) ^ c1 ^ k0, product1 & low
        c2, c3 = (product0 >> high) ^ c3 ^ k1, product0 & low
    return c0.astype(np.uint32), c1.astype(np.uint32), c2.astype(np.uint32), c3.astype(np.uint32)


def words(
    rows: ArrayLike, columns: int, *, seed: int, stream: int, step: int = 0, sample: int | Array = 0
) -> Array:
    """Return the random words of these rows, columns 0 to columns - 1: uint32 (len(rows), columns) [D37].

    `rows` (N,) holds each example's row in its data set; `sample` is one integer below 2^24 for all rows, or
    one for each row (N,). Raises InputError for a value outside its counter word.
    """
    seed = check_seed(seed)
    step = _check_integer("step", step, 2**32)
    stream = _check_integer("stream", stream, 2**8)
    columns = _check_integer("columns", columns, 2**34)
    row = check_integers("rows", rows, 2**32)
    samples = check_integers("sample", sample, 2**24)
    if samples.size not in (1, row.size):
        raise InputError(f"sample: got {samples.size} integers, expected one, or one for each of {row.size} rows")
    last = np.uint32(256) * samples + np.uint32(stream)

    blocks = -(-columns // 4)
    block = np.arange(blocks, dtype=np.uint32)
    result = np.empty((row.size, blocks, 4), dtype=np.uint32)
    chunk = max(1, _CHUNK_BLOCKS // max(1, blocks))
    for start in range(0, row.size, chunk):
        part = slice(start, start + chunk)
        # One sample for all rows stays one word, which `philox` works through once instead of once per row.
        c3 = last if last.size == 1 else last[part, None]
        lanes = philox((block, row[part, None], step, c3), (seed % 2**32, seed // 2**32))
        for lane, word in enumerate(lanes):
            result[part, :, lane] = word
    return np.ascontiguousarray(result.reshape(row.size, 4 * blocks)[:, :columns])


def uniform(
    rows: ArrayLike, columns: int, *, seed: int, stream: int, step: int = 0, sample: int | Array = 0
) -> Array:
    """Return uniform numbers in [0, 1), float32 (len(rows), columns): u = (word >> 8) 2^-24, exact [D38]."""
    drawn = words(rows, columns, seed=seed, stream=stream, step=step, sample=sample)
    drawn >>= np.uint32(8)
    result = drawn.astype(np.float32)
    result *= np.float32(2.0**-24)
    return result


def bernoulli(
    grey: Array, *, seed: int, stream: int, step: int, rows: ArrayLike, sample: int | Array = 0
) -> Array:
    """Draw each pixel as 1 with its grey value's probability: uint8 (B, D) [D38].

    A pixel is 1 iff u < p in float32, with p = grey / 255 for uint8 `grey` (B, D) and p = grey for floats in
    [0, 1]; so p = 0 never gives 1 and p = 1 always does. Raises InputError for another type, shape or range.
    """
    probability = grey_probability(grey)
    drawn = uniform(rows, grey.shape[1], seed=seed, stream=stream, step=step, sample=sample)
    if drawn.shape != grey.shape:
        raise InputError(f"rows: got {drawn.shape[0]} rows, expected one for each of {grey.shape[0]} examples")
    return (drawn < probability).view(np.uint8)


def normal(
    rows: ArrayLike,
    columns: int,
    *,
    seed: int,
    stream: int,
    step: int = 0,
    sample: int | Array = 0,
    dtype: DTypeLike = np.float32,
) -> Array:
    """Return standard normal numbers (len(rows), columns) by Box and Muller's transform [D38].

    Columns (0, 1) of a block come from its words (0, 1), columns (2, 3) from its words (2, 3):

        u_i = (w_i + 1/2) 2^-32,   r = sqrt(-2 ln u_0),   first = r cos(2 pi u_1),   second = r sin(2 pi u_1).

    They are computed in float64 and rounded to float32; `dtype` float64 casts that value, so that runs in
    either precision see the same noise. No magnitude exceeds sqrt(66 ln 2) = 6.76. Raises InputError for
    another dtype and for what `words` refuses.
    """
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise InputError(f"dtype: got {np.dtype(dtype)}, expected float32 or float64")
    columns = _check_integer("columns", columns, 2**34)
    drawn = words(rows, columns + columns % 2, seed=seed, stream=stream, step=step, sample=sample)
    radius = np.sqrt(-2.0 * _log_unit(drawn[:, 0::2]))
    cos, sin = _cos_sin_turn(drawn[:, 1::2])
    result = np.empty(drawn.shape, dtype=np.float32)
    result[:, 0::2] = radius * cos
    result[:, 1::2] = radius * sin
    return np.ascontiguousarray(result[:, :columns], dtype=dtype)


def every_sample(rows: ArrayLike, numbers: ArrayLike) -> tuple[Array, Array]:
    """Return the row and the number of each sample, (S * N,) both, where each of `rows` (N,) has all `numbers` (S,).

    Sample-major: entry s * N + i is sample numbers[s] of rows[i]. These are the arguments of `normal` and of a
    backend's `philox_normal`.
    """
    every, samples = np.asarray(rows), np.asarray(numbers)
    return np.tile(every, samples.size), np.repeat(samples, every.size)


def order(rows_count: int, *, seed: int, epoch: int) -> Array:
    """Return the order in which an epoch visits the rows: an int64 permutation (rows_count,) [D39].

    It is the stable argsort of the rows' ORDER words (column 0, step = epoch), so equal words keep row order.
    """
    rows = np.arange(_check_integer("rows_count", rows_count, 2**32))
    epoch = _check_integer("epoch", epoch, 2**32)
    drawn = words(rows, 1, seed=seed, stream=ORDER, step=epoch)[:, 0]
    return np.argsort(drawn, kind="stable").astype(np.int64, copy=False)


def _log_unit(word: Array) -> Array:
    """Return ln((word + 1/2) 2^-32) in float64 [D38].

    u = 2^e m with m in [sqrt(1/2), sqrt(2)) is read off the bits: once the bits of sqrt(1/2) are subtracted, the
    exponent field changes exactly at the ends of that interval. So ln u = e ln 2 + 2 artanh(s), with
    s = (m - 1) / (m + 1) and |s| < 0.172.
    """
    bits = ((word.astype(np.float64) + 0.5) * 2.0**-32).view(np.int64)
    exponent = (bits - SQRT_HALF_BITS) >> 52
    m = (bits - (exponent << 52)).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    return exponent.astype(np.float64) * LN2 + s * _horner(s * s, LOG_SERIES)


def _cos_sin_turn(word: Array) -> tuple[Array, Array]:
    """Return cos and sin of 2 pi (word + 1/2) 2^-32 in float64 [D38].

    With word + 2^29 = 2^30 q + f modulo 2^32, the angle is q quarter turns and (f - 2^29 + 1/2) 2^-30 of
    another, a remainder in (-1/2, 1/2) that is exact; so the Taylor series are evaluated at pi/4 at most.
    """
    shifted = word + np.uint32(2**29)
    quarter = shifted >> np.uint32(30)
    fraction = (shifted & np.uint32(2**30 - 1)).astype(np.float64)
    theta = (fraction - (2.0**29 - 0.5)) * 2.0**-30 * HALF_PI
    square = theta * theta
    cos, sin = _horner(square, COS_SERIES), theta * _horner(square, SIN_SERIES)
    odd = (quarter & np.uint32(1)).astype(bool)
    turned_cos, turned_sin = np.where(odd, sin, cos), np.where(odd, cos, sin)
    np.negative(turned_cos, out=turned_cos, where=(quarter == 1) | (quarter == 2))
    np.negative(turned_sin, out=turned_sin, where=quarter >= 2)
    return turned_cos, turned_sin


def _horner(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Return sum_k coefficients[k] x^k, each step rounded as one product and one sum."""
    result = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result *= x
        result += coefficient
    return result


def grey_probability(grey: Array) -> Array:
    """Return grey values as float32 probabilities; raises InputError for what cannot be read as such."""
    if grey.ndim != 2:
        raise InputError(f"grey: got shape {grey.shape}, expected (B, D)")
    if grey.dtype == np.uint8:
        return grey.astype(np.float32) / np.float32(255)
    if not np.issubdtype(grey.dtype, np.floating):
        raise InputError(f"grey: got {grey.dtype}, expected uint8 or floating point")
    # Written so that NaN fails too.
    if grey.size and not (grey.min() >= 0 and grey.max() <= 1):
        raise InputError(f"grey: got {grey.dtype} from {grey.min()} to {grey.max()}, expected numbers in [0, 1]")
    return grey.astype(np.float32, copy=False)


def _check_integer(name: str, value: Any, limit: int) -> int:
    """Return the value as an int; raises InputError unless it is an integer (no bool), 0 <= value < limit."""
    try:
        number = -1 if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number < limit:
        raise InputError(f"{name}: got {value!r}, expected an integer from 0 to {limit - 1}")
    return number


def check_integers(name: str, values: ArrayLike, limit: int) -> Array:
    """Return integers as uint32 (N,); raises InputError unless 0 <= value < limit for each, limit <= 2^32."""
    array = np.atleast_1d(np.asarray(values))
    if array.ndim != 1 or not (array.size == 0 or np.issubdtype(array.dtype, np.integer)):
        raise InputError(f"{name}: got {array.dtype} of shape {array.shape}, expected integers of shape (N,)")
    if array.size and not (array.min() >= 0 and array.max() < limit):
        raise InputError(f"{name}: got {array.min()} to {array.max()}, expected integers from 0 to {limit - 1}")
    return array.astype(np.uint32)
