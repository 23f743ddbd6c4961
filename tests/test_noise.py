"""The noise contract: published vectors, addressing, distributions, and the same bits from compiled code.

Budget: about 4 s, half of it compiling the C and Numba versions.
"""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from vae_np import noise
from vae_np.errors import InputError

ROWS = np.arange(40)
WHERE = {"seed": 2026, "stream": noise.EPS, "step": 17}

# Random123's published known answers for philox4x32-10: counter, key, output.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def _hex_words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def _philox_integers(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 in Python integers, written from the paper and sharing nothing with the module."""
    mask = 0xFFFFFFFF
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (right >> 32) ^ b ^ k0, right & mask, (left >> 32) ^ d ^ k1, left & mask
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return [a, b, c, d]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_answers(counter: str, key: str, expected: str) -> None:
    c, k = _hex_words(counter), _hex_words(key)
    assert [int(word) for word in noise.philox((c[0], c[1], c[2], c[3]), (k[0], k[1]))] == _hex_words(
        expected
    )
    assert _philox_integers(c, k) == _hex_words(expected)


def test_philox_of_broadcast_counters_equals_python_integers() -> None:
    a, b = np.array([[0, 5, 2**32 - 1]], dtype=np.uint32), np.array([[7], [2**31]], dtype=np.uint32)
    key = (0xDEADBEEF, 0x01234567)
    lanes = noise.philox((a, b, 3, 0xFFFFFF08), key)
    assert all(lane.shape == (2, 3) and lane.dtype == np.uint32 for lane in lanes)
    for i, j in np.ndindex(2, 3):
        expected = _philox_integers([int(a[0, j]), int(b[i, 0]), 3, 0xFFFFFF08], list(key))
        assert [int(lane[i, j]) for lane in lanes] == expected


def test_the_streams_are_numbered_as_written_in_the_contract() -> None:
    named = (noise.INIT, noise.ORDER, noise.BINARIZE, noise.EPS, noise.EVAL_BINARIZE)
    assert (*named, noise.EVAL_EPS, noise.PRIOR, noise.FIXED_BINARIZE, noise.AIS) == tuple(range(9))


def test_words_lie_where_the_counter_layout_says() -> None:
    seed, step, stream, sample, rows = 0x89ABCDEF01234567, 2**32 - 1, noise.AIS, 2**24 - 1, [0, 9, 2**32 - 1]
    drawn = noise.words(rows, 11, seed=seed, stream=stream, step=step, sample=sample)
    assert drawn.shape == (3, 11)
    assert drawn.dtype == np.uint32
    for (i, column), word in np.ndenumerate(drawn):
        counter = [column // 4, rows[i], step, stream + 256 * sample]
        assert word == _philox_integers(counter, [0x01234567, 0x89ABCDEF])[column % 4]


def test_words_longer_than_one_chunk_equal_their_parts() -> None:
    columns = 4 * noise._CHUNK_BLOCKS // 3
    one, each = noise.words(range(8), columns, **WHERE), np.arange(100, 108)
    many = noise.words(range(8), columns, sample=each, **WHERE)
    for row in range(8):
        assert np.array_equal(one[row], noise.words([row], columns, **WHERE)[0])
        assert np.array_equal(many[row], noise.words([row], columns, sample=100 + row, **WHERE)[0])


def _grey(rows: np.ndarray, columns: int) -> np.ndarray:
    """Grey values that depend on row and column only, so that any part of them can be drawn alone."""
    return ((37 * rows[:, None] + 11 * np.arange(columns)) % 256).astype(np.uint8)


DRAWS = {
    "words": noise.words,
    "uniform": noise.uniform,
    "normal": noise.normal,
    "bernoulli": lambda rows, columns, **where: noise.bernoulli(_grey(rows, columns), rows=rows, **where),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_do_not_depend_on_split_order_or_number_of_columns(name: str) -> None:
    draw = DRAWS[name]
    whole = draw(ROWS, 23, **WHERE)
    assert whole.flags.c_contiguous
    assert np.array_equal(np.concatenate([draw(ROWS[:7], 23, **WHERE), draw(ROWS[7:], 23, **WHERE)]), whole)
    shuffled = np.random.default_rng(0).permutation(40)
    assert np.array_equal(draw(shuffled, 23, **WHERE), whole[shuffled])
    for columns in range(1, 23):
        assert np.array_equal(draw(ROWS, columns, **WHERE), whole[:, :columns])


@pytest.mark.parametrize("name", DRAWS)
def test_every_part_of_the_address_changes_the_draw(name: str) -> None:
    draw = DRAWS[name]
    whole = draw(ROWS, 24, **WHERE)
    others = ({"seed": 2027}, {"seed": 2026 + 2**32}, {"stream": noise.PRIOR}, {"step": 18}, {"sample": 1})
    for other in others:
        # Two independent Bernoulli draws still agree in many pixels; the same address agrees in all.
        assert np.mean(draw(ROWS, 24, **{**WHERE, **other}) == whole) < (0.8 if name == "bernoulli" else 1e-3)
    assert not np.array_equal(draw(ROWS + 40, 24, **WHERE), whole)


def test_words_of_different_addresses_do_not_repeat() -> None:
    parts = [
        noise.words(range(50), 20, seed=seed, stream=stream, step=step, sample=sample)
        for seed in (0, 1, 2**32)
        for stream in (noise.EPS, noise.PRIOR)
        for step in (0, 1)
        for sample in (0, 1)
    ]
    every = np.concatenate(parts).ravel()
    # n draws of 2^32 words hold n^2 / 2^33 equal pairs on average: 0.07 here; a shared block would give four.
    assert every.size - np.unique(every).size < 4


def test_every_sample_of_every_row_is_addressed_sample_by_sample() -> None:
    rows, samples = noise.every_sample(ROWS, 3 + np.arange(5))
    drawn = noise.normal(rows, 7, sample=samples, **WHERE)
    assert drawn.shape == (5 * 40, 7)
    for s in range(5):
        assert np.array_equal(drawn[s * 40 : (s + 1) * 40], noise.normal(ROWS, 7, sample=3 + s, **WHERE))


def test_normal_in_float64_is_the_float32_value() -> None:
    single, double = noise.normal(ROWS, 5, **WHERE), noise.normal(ROWS, 5, dtype=np.float64, **WHERE)
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    assert np.array_equal(single.astype(np.float64), double)


def test_empty_requests_have_the_right_shapes() -> None:
    assert noise.words([], 5, **WHERE).shape == (0, 5)
    assert noise.normal(ROWS, 0, **WHERE).shape == (40, 0)
    assert [address.shape for address in noise.every_sample(ROWS, [])] == [(0,), (0,)]


def test_uniform_is_the_upper_24_bits_of_the_word() -> None:
    drawn, word = noise.uniform(ROWS, 30, **WHERE), noise.words(ROWS, 30, **WHERE)
    assert drawn.dtype == np.float32
    assert [float(u) * 2**24 for u in drawn.ravel()] == [int(w) // 256 for w in word.ravel()]


def test_uniform_has_the_uniform_distribution() -> None:
    u = noise.uniform(range(1000), 200, **WHERE).astype(np.float64)
    n = u.size
    assert 0 <= u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    # Standard errors: of the mean sqrt(1/12n), of the second moment sqrt((1/5 - 1/9)/n).
    assert abs(u.mean() - 1 / 2) < 4 * math.sqrt(1 / 12 / n)
    assert abs(np.mean(u**2) - 1 / 3) < 4 * math.sqrt((1 / 5 - 1 / 9) / n)
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3


def test_normal_has_the_normal_distribution_in_every_lane() -> None:
    drawn = noise.normal(range(25_000), 8, **WHERE).astype(np.float64)
    n = drawn.size
    # var(x^k) = E x^2k - (E x^k)^2 for a standard normal x.
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(drawn**power) - moment) < 4 * math.sqrt(variance / n)
    for column in range(8):
        assert stats.kstest(drawn[:, column], "norm").pvalue > 1e-3
    correlation = drawn.T @ drawn / 25_000 - np.eye(8)
    assert np.abs(correlation).max() < 4.5 * math.sqrt(2 / 25_000)
    assert np.abs(np.mean(drawn[:-1] * drawn[1:])) < 4 / math.sqrt(n)


# Words at the ends, around the powers of two, and around the places where u crosses sqrt(1/2) 2^-k.
EDGES = np.unique(
    np.concatenate(
        [np.array([0, 1, 2, 3, 2**32 - 1, 2**32 - 2])]
        + [2**k + np.array([-2, -1, 0, 1]) for k in range(3, 32)]
        + [3 * 2**k + np.array([-2, -1, 0, 1]) for k in range(3, 31)]
        + [int(math.sqrt(0.5) * 2**k) + np.array([-1, 0, 1, 2]) for k in range(3, 33)]
        + [5 * 2**29 + np.array([-1, 0, 1]), 7 * 2**29 + np.array([-1, 0, 1])]
    ).astype(np.uint32)
)


def test_logarithm_agrees_with_numpy_also_at_the_edges() -> None:
    word = np.concatenate([EDGES, noise.words([0], 200_000, **WHERE)[0]])
    expected = np.log((word + 0.5) * 2.0**-32)
    assert np.abs(noise._log_unit(word) / expected - 1).max() < 8e-16


def test_cosine_and_sine_agree_with_numpy_also_at_the_edges() -> None:
    word = np.concatenate([EDGES, noise.words([0], 200_000, **WHERE)[0]])
    # First from the exact rest of a quarter turn, so that the reference itself has no rounded multiple of pi.
    turn = (word.astype(np.float64) + 0.5) * 2.0**-32
    quarter = np.round(4 * turn)
    c, s = np.cos((4 * turn - quarter) * (np.pi / 2)), np.sin((4 * turn - quarter) * (np.pi / 2))
    q = quarter.astype(int) % 4
    cos, sin = noise._cos_sin_turn(word)
    assert np.abs(cos / np.choose(q, [c, -s, -c, s]) - 1).max() < 8e-16
    assert np.abs(sin / np.choose(q, [s, c, -s, -c]) - 1).max() < 8e-16
    # And the whole turn at once, where the reference's angle carries an absolute error of about 1e-15.
    assert np.abs(cos - np.cos(2 * np.pi * turn)).max() < 2e-15
    assert np.abs(sin - np.sin(2 * np.pi * turn)).max() < 2e-15


def test_normal_is_within_one_ulp_of_the_mathematical_functions() -> None:
    word = noise.words(range(10_000), 40, **WHERE).astype(np.float64)
    radius = np.sqrt(-2 * np.log((word[:, 0::2] + 0.5) * 2.0**-32))
    angle = 2 * np.pi * ((word[:, 1::2] + 0.5) * 2.0**-32)
    expected = np.empty((10_000, 40), dtype=np.float32)
    expected[:, 0::2], expected[:, 1::2] = radius * np.cos(angle), radius * np.sin(angle)
    drawn = noise.normal(range(10_000), 40, **WHERE)
    assert (np.abs(drawn - expected) <= np.spacing(np.abs(expected))).all()
    assert np.mean(drawn != expected) < 1e-6


def test_normal_is_finite_and_bounded_at_every_pair_of_extreme_words(monkeypatch: pytest.MonkeyPatch) -> None:
    extreme = np.array([0, 1, 2**30 - 1, 2**30, 2**31, 3 * 2**30, 2**32 - 1], dtype=np.uint32)
    pairs = np.stack(np.meshgrid(extreme, extreme), axis=-1).reshape(-1, 2)
    monkeypatch.setattr(noise, "words", lambda *_, **__: pairs)
    drawn = noise.normal(range(len(pairs)), 2, **WHERE)
    assert np.isfinite(drawn).all()
    assert (drawn != 0).all()
    assert np.abs(drawn).max() == pytest.approx(math.sqrt(66 * math.log(2)), rel=1e-6)
    assert np.hypot(*drawn.T).min() == pytest.approx(2**-16, rel=1e-6)


def test_order_is_the_stable_permutation_by_words_and_changes_with_epoch_and_seed() -> None:
    first = noise.order(3000, seed=5, epoch=0)
    assert first.dtype == np.int64
    assert np.array_equal(np.sort(first), np.arange(3000))
    word = [int(noise.words([i], 1, seed=5, stream=noise.ORDER, step=0)[0, 0]) for i in range(3000)]
    assert first.tolist() == sorted(range(3000), key=word.__getitem__)
    # A random permutation has one fixed point on average, and agrees with another in one place.
    for other in (np.arange(3000), noise.order(3000, seed=5, epoch=1), noise.order(3000, seed=6, epoch=0)):
        assert np.sum(first == other) < 10


def test_order_keeps_the_row_order_of_equal_words(monkeypatch: pytest.MonkeyPatch) -> None:
    tied = np.array([7, 3] * 20, dtype=np.uint32)[:, None]
    monkeypatch.setattr(noise, "words", lambda *_, **__: tied)
    assert noise.order(40, seed=0, epoch=0).tolist() == [*range(1, 40, 2), *range(0, 40, 2)]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_bernoulli_is_exact_at_zero_and_one(dtype: type[np.generic]) -> None:
    one = 255 if dtype is np.uint8 else 1
    grey = np.zeros((500, 200), dtype=dtype)
    grey[:, 1::2] = one
    drawn = noise.bernoulli(grey, rows=range(500), **WHERE)
    assert drawn.dtype == np.uint8
    assert np.array_equal(drawn, np.tile(np.array([0, 1], dtype=np.uint8), (500, 100)))


def test_bernoulli_at_the_neighbours_of_a_drawn_uniform() -> None:
    u = noise.uniform(ROWS, 50, **WHERE)
    assert not noise.bernoulli(u, rows=ROWS, **WHERE).any()
    assert noise.bernoulli(np.nextafter(u, np.float32(2)), rows=ROWS, **WHERE).all()


def test_bernoulli_on_bytes_compares_with_grey_over_255_in_float32() -> None:
    grey = _grey(ROWS, 300)
    u = noise.uniform(ROWS, 300, **WHERE)
    expected = [[u[i, j] < np.float32(grey[i, j]) / np.float32(255) for j in range(300)] for i in range(40)]
    assert np.array_equal(noise.bernoulli(grey, rows=ROWS, **WHERE), expected)


@pytest.mark.parametrize("grey", [1, 40, 128, 254])
def test_bernoulli_frequency(grey: int) -> None:
    p, n = grey / 255, 500 * 400
    drawn = noise.bernoulli(np.full((500, 400), grey, dtype=np.uint8), rows=range(500), **WHERE)
    assert abs(drawn.mean() - p) < 4 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1, np.uint64(2**64 - 1), np.int32(5)])
def test_check_seed_returns_a_plain_integer(seed: int) -> None:
    assert type(noise.check_seed(seed)) is int
    assert noise.check_seed(seed) == int(seed)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "1", None, True, np.float64(3), np.array([1, 2])])
def test_check_seed_refuses_what_is_no_seed(seed: object) -> None:
    with pytest.raises(InputError, match=r"seed: got .*, expected an integer from 0 to 18446744073709551615"):
        noise.check_seed(seed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, "seed: got -1, expected an integer"),
        ({"step": 2**32}, "step: got 4294967296, expected an integer from 0 to 4294967295"),
        ({"stream": 256}, "stream: got 256, expected an integer"),
        ({"columns": -1}, "columns: got -1, expected an integer"),
        ({"rows": [0, -1]}, "rows: got -1 to 0, expected integers from 0 to 4294967295"),
        ({"rows": [2**32]}, "rows: got 4294967296 to 4294967296, expected integers"),
        ({"rows": [0.5]}, "rows: got float64 .*, expected integers"),
        ({"rows": [[0, 1]]}, r"rows: got int64 of shape \(1, 2\), expected integers of shape \(N,\)"),
        ({"sample": 2**24}, "sample: got .*, expected integers from 0 to 16777215"),
        ({"sample": np.array([1, 2, 3])}, "sample: got 3 integers, expected one, or one for each of 2 rows"),
        ({"dtype": np.float16}, "dtype: got float16, expected float32 or float64"),
    ],
)
def test_normal_refuses_values_outside_their_counter_word(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        noise.normal(**{"rows": [0, 1], "columns": 4, **WHERE, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("grey", "message"),
    [
        (np.zeros(2), r"grey: got shape \(2,\), expected \(B, D\)"),
        (np.zeros((2, 3), dtype=np.int64), "grey: got int64, expected uint8 or floating point"),
        (np.full((2, 3), 255.0), r"grey: got float64 from 255.0 to 255.0, expected numbers in \[0, 1\]"),
        (np.array([[0.5], [np.nan]]), r"grey: got float64 from nan to nan, expected numbers in \[0, 1\]"),
        (np.zeros((3, 3)), "rows: got 2 rows, expected one for each of 3 examples"),
    ],
)
def test_bernoulli_refuses_what_is_no_grey_image(grey: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        noise.bernoulli(grey, rows=[0, 1], **WHERE)


def test_counts_and_epochs_are_checked_by_name() -> None:
    with pytest.raises(InputError, match=r"epoch: got .*, expected an integer"):
        noise.order(10, seed=0, epoch=-1)
    with pytest.raises(InputError, match=r"rows_count: got .*, expected an integer"):
        noise.order(-1, seed=0, epoch=0)


SOURCE = Path(__file__).parent / "c" / "noise.c"
COMPILERS = ("cc", "gcc", "clang")


@pytest.mark.parametrize("flags", [("-O2",), ("-O3", "-march=native")], ids=" ".join)
def test_compiled_c_gives_the_same_bits_on_two_million_draws(flags: tuple[str, ...], tmp_path: Path) -> None:
    compiler = next((path for path in map(shutil.which, COMPILERS) if path), None)
    if compiler is None:
        pytest.skip(f"no C compiler found (looked for {', '.join(COMPILERS)})")
    library = tmp_path / "noise.so"
    command = [
        compiler,
        *flags,
        "-ffp-contract=off",
        "-fPIC",
        "-shared",
        str(SOURCE),
        "-o",
        str(library),
        "-lm",
    ]
    subprocess.run(command, check=True, capture_output=True)
    fill = ctypes.CDLL(str(library)).fill
    unsigned, pointer = ctypes.c_uint32, ctypes.c_void_p
    fill.argtypes = [
        ctypes.c_uint64,
        unsigned,
        unsigned,
        unsigned,
        pointer,
        unsigned,
        unsigned,
        *[pointer] * 3,
    ]

    seed, step, sample = 0xFEDCBA9876543210, 4_000_000_000, 12_345
    rows, columns = np.arange(20_000, dtype=np.uint32) * 214_748, 100
    word = np.empty((rows.size, columns), dtype=np.uint32)
    uniform, normal = np.empty_like(word, dtype=np.float32), np.empty_like(word, dtype=np.float32)
    outputs = (word.ctypes.data, uniform.ctypes.data, normal.ctypes.data)
    fill(seed, noise.EPS, step, sample, rows.ctypes.data, rows.size, columns, *outputs)

    where = {"seed": seed, "stream": noise.EPS, "step": step, "sample": sample}
    assert np.array_equal(word, noise.words(rows, columns, **where))
    assert np.array_equal(uniform, noise.uniform(rows, columns, **where))
    assert np.array_equal(normal.view(np.uint32), noise.normal(rows, columns, **where).view(np.uint32))


def test_compiled_numba_gives_the_same_bits() -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")
    log_series, sin_series, cos_series = map(np.array, (noise.LOG_SERIES, noise.SIN_SERIES, noise.COS_SERIES))
    ln2, half_pi, sqrt_half = noise.LN2, noise.HALF_PI, noise.SQRT_HALF_BITS

    @numba.njit(inline="always")
    def horner(x, coefficients):  # type: ignore[no-untyped-def]
        result = coefficients[-1]
        for k in range(len(coefficients) - 2, -1, -1):
            result = result * x + coefficients[k]
        return result

    @numba.njit
    def transform(word, out):  # type: ignore[no-untyped-def]
        scratch = np.empty(1, dtype=np.float64)
        bits = scratch.view(np.int64)
        for i in range(word.shape[0]):
            for j in range(0, word.shape[1], 2):
                scratch[0] = (word[i, j] + 0.5) * 2.0**-32
                exponent = (bits[0] - sqrt_half) >> 52
                bits[0] = bits[0] - (exponent << 52)
                s = (scratch[0] - 1.0) / (scratch[0] + 1.0)
                radius = np.sqrt(-2.0 * (exponent * ln2 + s * horner(s * s, log_series)))
                shifted = (np.int64(word[i, j + 1]) + 2**29) % 2**32
                theta = ((shifted % 2**30) - (2.0**29 - 0.5)) * 2.0**-30 * half_pi
                cos, sin = horner(theta * theta, cos_series), theta * horner(theta * theta, sin_series)
                quarter = shifted // 2**30
                if quarter % 2 == 1:
                    cos, sin = -sin, cos
                if quarter >= 2:
                    cos, sin = -cos, -sin
                out[i, j] = np.float32(radius * cos)
                out[i, j + 1] = np.float32(radius * sin)

    expected = noise.normal(range(2000), 100, **WHERE)
    out = np.empty_like(expected)
    transform(noise.words(range(2000), 100, **WHERE), out)
    assert np.array_equal(out.view(np.uint32), expected.view(np.uint32))
