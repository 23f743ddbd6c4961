"""What training consumes: steps and noise, chapters 9 and 11. [D31] [D37] [D38]

The functions without an underscore are the solutions, as they are printed.
"""

from __future__ import annotations

import math

import numpy as np

from vae_np import noise, optim
from vae_np.exercises.exercise import Argument, Edge, Exercise, Mistake, number, positive, real


def adam(parameters, gradient, first, second, step, lr, beta1, beta2, eps):
    first = beta1 * first + (1 - beta1) * gradient
    second = beta2 * second + (1 - beta2) * gradient * gradient
    corrected_first = first / (1 - beta1**step)
    corrected_second = second / (1 - beta2**step)
    parameters = parameters - lr * corrected_first / (np.sqrt(corrected_second) + eps)
    return parameters, first, second


def _exact_adam(parameters, gradient, first, second, step, lr, beta1, beta2, eps):
    optim.adam_update(parameters, gradient, first, second, step=step, lr=lr, beta1=beta1, beta2=beta2, eps=eps)
    return parameters, first, second


ADAM = Exercise(
    "D31",
    "One step of Adam",
    chapter=9,
    asks="the parameters and both moments after a step, with bias correction",
    statement="""
    Return the parameters, the first and the second moment after step number `step`, which counts from 1. The
    moments are running averages that began at zero, and are returned without the correction; the correction
    divides each by what a start at zero has taken from it. eps is added to the root of the corrected second
    moment. Change no argument.
    """,
    arguments=(
        real("parameters", "P"),
        real("gradient", "P"),
        real("first", "P", "the running mean of gradients"),
        positive("second", "P", "the running mean of their squares"),
        Argument("step", "", "1, 2, 3, …", lambda rng, shape: int(rng.integers(2, 9))),
        number("lr", 0.01, 0.1, "the learning rate"),
        number("beta1", 0.8, 0.95),
        number("beta2", 0.9, 0.99),
        number("eps", 0.01, 0.1),
    ),
    returns={"new_parameters": "P", "new_first": "P", "new_second": "P"},
    solution=adam,
    exact=_exact_adam,
    hints=(
        "Each average: beta times the old one plus (1 - beta) times what is new, the gradient or its square.",
        "With constant gradients an average that began at zero has 1 - beta^step of its size: divide by it.",
        "parameters - lr m̂ / (√û + eps), with m̂ = m / (1 - beta1^step) and û = u / (1 - beta2^step).",
    ),
    mistakes=(
        Mistake("first / (1 - beta1**step)", "first", "the first moment's bias correction is missing"),
        Mistake("second / (1 - beta2**step)", "second", "the second moment's bias correction is missing"),
        Mistake(
            "beta1**step",
            "beta1 ** (step - 1)",
            "the step counts from 1: the correction has beta to the power of the step itself",
        ),
        Mistake(
            "1 - beta1**step", "1 - beta1 * step", "the correction is 1 - beta to the power of the step, not times it"
        ),
        Mistake(
            "np.sqrt(corrected_second) + eps", "np.sqrt(corrected_second + eps)", "eps is added outside of the root"
        ),
        Mistake(
            "np.sqrt(corrected_second) + eps", "corrected_second + eps", "the root of the second moment is missing"
        ),
        Mistake("parameters - lr", "parameters + lr", "a step descends: it is subtracted"),
    ),
)


def philox(counter, key):
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(10):
        product0, product1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            product1 & low,
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            product0 & low,
        )
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def _words(rng, shape):
    return rng.integers(0, 2**32, shape, dtype=np.uint32)


PHILOX = Exercise(
    "D37",
    "Philox4x32-10",
    chapter=11,
    asks="four random words from a counter of four words and a key of two",
    statement="""
    A round turns the words (c0, c1, c2, c3) into (h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0), where h0 and l0 are the
    high and low 32 bits of the 64-bit product c0 · 0xD2511F53, and h1 and l1 those of c2 · 0xCD9E8D57. There are
    ten rounds. Before each further round the key advances: k0 by 0x9E3779B9 and k1 by 0xBB67AE85, modulo 2³².
    Return the words of each row. Counter and key zero give 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
    """,
    arguments=(
        Argument("counter", "N 4", "uint32", _words),
        Argument("key", "2", "uint32", _words),
    ),
    returns={"words": "N 4"},
    solution=philox,
    exact=lambda counter, key: np.stack(noise.philox(tuple(counter.T), (int(key[0]), int(key[1]))), axis=1),
    edges=(
        Edge(
            "of counter and key zero the published words are 6627e8d5 e169c58d bc57ac4c 9b00dbd8",
            (np.zeros((1, 4), np.uint32), np.zeros(2, np.uint32)),
        ),
    ),
    # Words are right to the last bit, or wrong.
    tolerance=0.0,
    hints=(
        "Hold the words in uint64: products of 32 by 32 bits are exact there, and must not wrap.",
        "h = product >> 32 and l = product & 0xFFFFFFFF. All four new words come from the old four: assign "
        "them at once.",
        "The key is used as given in the first round, and advances after it, modulo 2³².",
    ),
    mistakes=(
        Mistake(
            "        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32\n",
            "",
            "the key has to advance from round to round",
        ),
        Mistake("range(10)", "range(9)", "there are ten rounds: this makes nine"),
        Mistake("range(10)", "range(11)", "there are ten rounds: this makes eleven"),
        Mistake(
            "k0, k1 = int(key[0]), int(key[1])",
            "k0, k1 = (int(key[0]) + 0x9E3779B9) % 2**32, (int(key[1]) + 0xBB67AE85) % 2**32",
            "the first round uses the key as given: it advances before each further one",
        ),
        Mistake(
            "product1 & low,\n            (product0 >> np.uint64(32))",
            "product0 & low,\n            (product0 >> np.uint64(32))",
            "word 1 is the low half of the other product, l1",
        ),
    ),
)


def normals(words):
    u = (words.astype(np.float64) + 0.5) * 2.0**-32
    r = np.sqrt(-2 * np.log(u[:, 0::2]))
    angle = 2 * np.pi * u[:, 1::2]
    pairs = np.stack([r * np.cos(angle), r * np.sin(angle)], axis=2)
    return pairs.reshape(words.shape)


def _exact_normals(words):
    found = np.empty(words.shape)
    for n, row in enumerate(words):
        for i in (0, 2):
            u, v = ((int(word) + 0.5) / 2**32 for word in row[i : i + 2])
            r = math.sqrt(-2 * math.log(u))
            found[n, i : i + 2] = r * math.cos(2 * math.pi * v), r * math.sin(2 * math.pi * v)
    return found


NORMALS = Exercise(
    "D38",
    "From random words to normals",
    chapter=11,
    asks="four standard normals from a block of four 32-bit words",
    statement="""
    Box and Muller turn two uniform numbers into two normals: the radius comes from the first, the angle from the
    second. A word w becomes the uniform (w + ½) 2⁻³², in which zero cannot occur. Words 0 and 1 of a block give
    normals 0 (the cosine) and 1 (the sine), words 2 and 3 give normals 2 and 3. Return the normals of each row.
    """,
    arguments=(Argument("words", "N 4", "uint32", _words),),
    returns={"normals": "N 4"},
    # Below what the ½ changes, which is seen where it matters: at the word 0.
    tolerance=1e-7,
    solution=normals,
    exact=_exact_normals,
    edges=(
        Edge(
            "for the word 0 the logarithm is infinite without the ½ in (w + ½) 2⁻³²",
            (np.array([[0, 1, 2**32 - 1, 2**31]], np.uint32),),
        ),
    ),
    hints=(
        "For a pair of normals the squared radius exceeds t with probability exp(-t / 2), and the angle is uniform.",
        "r = √(-2 log u1), and the angle is 2π u2.",
        "u = (words + ½) 2⁻³²; even columns give r, odd ones the angle; r cos goes to the even columns, r "
        "sin to the odd.",
    ),
    mistakes=(
        Mistake(
            "r * np.cos(angle), r * np.sin(angle)",
            "r * np.sin(angle), r * np.cos(angle)",
            "the first of a pair is the cosine, the second the sine",
        ),
        Mistake("-2 * np.log", "-np.log", "r² = -2 log u: the 2 is missing, and the variance is ½"),
        Mistake("2 * np.pi * u", "np.pi * u", "the angle runs over the full circle, 2π u: this is half of it"),
        Mistake(
            "np.sqrt(-2 * np.log(u[:, 0::2]))",
            "-2 * np.log(u[:, 0::2])",
            "this is the squared radius: the root is missing",
        ),
        Mistake(
            "axis=2)\n    return pairs.reshape(words.shape)",
            "axis=1)\n    return pairs.reshape(words.shape)",
            "the normals of a pair stand side by side: cos, sin, cos, sin",
        ),
    ),
)

EXERCISES = (ADAM, PHILOX, NORMALS)
