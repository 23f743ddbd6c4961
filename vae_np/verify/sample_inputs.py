"""Inputs that functions take: rows of features, columns of features, images and sequences, and values by name.

A scene fixes the lengths, so that shapes fit together. No two lengths that could be confused are equal, and a batch has
more than one example.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import spelling
from vae_np.verify.facts import Facts

BATCH, FEATURES, UNITS, CLASSES, WORDS, STEPS = 5, 6, 3, 3, 7, 3
# Even, so that pools tile them and groups and heads divide them.
IMAGE, CHANNELS, FILTERS, KERNEL = 6, 4, 3, 3


@dataclass(frozen=True)
class Scene:
    """Shapes by role.

    `x` is the shape of the main input, and `shapes` those of what goes with it, several where habits differ. `low`
    marks a scene of fewer axes, in which some mistakes cannot be seen.
    """

    name: str
    x: tuple[int, ...]
    shapes: dict[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    labels: tuple[int, ...] = (BATCH,)
    low: bool = False
    integers: bool = False


PLAIN = (
    Scene(
        "rows",
        (BATCH, FEATURES),
        {
            "weight": ((FEATURES, UNITS), (UNITS, FEATURES), (FEATURES,), (KERNEL,)),
            "bias": ((UNITS,), (1, UNITS), (FEATURES,), ()),
            "scale": ((FEATURES,), (1, FEATURES)),
            "hidden": ((BATCH, UNITS), (UNITS,)),
            "input weight": ((FEATURES, UNITS),),
            "hidden weight": ((UNITS, UNITS),),
            "other": ((BATCH, FEATURES), (FEATURES, UNITS), (BATCH, 1)),
        },
    ),
    Scene(
        "columns",
        (FEATURES, BATCH),
        {
            "weight": ((UNITS, FEATURES),),
            "bias": ((UNITS, 1),),
            "scale": ((FEATURES, 1),),
            "hidden": ((UNITS, BATCH),),
            "input weight": ((UNITS, FEATURES),),
            "hidden weight": ((UNITS, UNITS),),
            "other": ((FEATURES, BATCH),),
        },
        labels=(1, BATCH),
    ),
    Scene(
        "a vector",
        (FEATURES,),
        {
            "weight": ((UNITS, FEATURES), (FEATURES, UNITS), (FEATURES,)),
            "bias": ((UNITS,), ()),
            "scale": ((FEATURES,),),
            "hidden": ((UNITS,),),
            "input weight": ((UNITS, FEATURES), (FEATURES, UNITS)),
            "hidden weight": ((UNITS, UNITS),),
            "other": ((FEATURES,),),
        },
        labels=(),
        low=True,
    ),
    Scene(
        "images",
        (2, CHANNELS, IMAGE, IMAGE),
        {
            "weight": ((FILTERS, CHANNELS, KERNEL, KERNEL), (CHANNELS * IMAGE * IMAGE, UNITS)),
            "bias": ((FILTERS,), (UNITS,), (FILTERS, 1)),
            "scale": ((CHANNELS,), (1, CHANNELS, 1, 1)),
            "other": ((2, CHANNELS, IMAGE, IMAGE),),
        },
        labels=(2,),
    ),
    Scene(
        "images, channels last",
        (2, IMAGE, IMAGE, CHANNELS),
        {
            "weight": ((KERNEL, KERNEL, CHANNELS, FILTERS),),
            "bias": ((1, 1, 1, FILTERS), (FILTERS,)),
            "scale": ((CHANNELS,), (1, 1, 1, CHANNELS)),
            "other": ((2, IMAGE, IMAGE, CHANNELS),),
        },
        labels=(2,),
    ),
    Scene(
        "sequences",
        (2, STEPS, FEATURES),
        {
            "weight": ((FEATURES, UNITS), (FEATURES,)),
            "bias": ((UNITS,), (FEATURES,)),
            "scale": ((FEATURES,),),
            "hidden": ((2, UNITS),),
            "input weight": ((FEATURES, UNITS),),
            "hidden weight": ((UNITS, UNITS),),
            "other": ((2, STEPS, FEATURES),),
        },
        labels=(2, STEPS),
    ),
    Scene(
        "words",
        (2, STEPS),
        {"weight": ((WORDS, FEATURES),), "other": ((WORDS, FEATURES),)},
        labels=(2, STEPS),
        integers=True,
    ),
    Scene("one image", (IMAGE, IMAGE), {"weight": ((KERNEL, KERNEL),), "bias": ((1,), ())}),
    Scene(
        "one image of channels",
        (CHANNELS, IMAGE, IMAGE),
        {"weight": ((FILTERS, CHANNELS, KERNEL, KERNEL),), "bias": ((FILTERS,), (FILTERS, 1)), "scale": ((CHANNELS,),)},
    ),
    Scene("a column", (FEATURES, 1), {"weight": ((UNITS, FEATURES),), "bias": ((UNITS, 1),)}, labels=(1,), low=True),
    Scene("a number", (), {"weight": ((),), "bias": ((),), "scale": ((),), "other": ((),)}, labels=(), low=True),
)


def _with_gates(scene: Scene, gates: int) -> Scene:
    """Return a scene whose recurrent weights make all the gates of a cell at once."""

    def wider(shape: tuple[int, ...]) -> tuple[int, ...]:
        # The axis of the units is the last one in rows, the first one in columns.
        axis = 0 if scene.name.startswith("columns") or shape[-1:] == (FEATURES,) else len(shape) - 1
        return tuple(gates * n if i == axis else n for i, n in enumerate(shape))

    names = ("input weight", "hidden weight", "weight", "bias")
    shapes = {name: tuple(wider(shape) for shape in scene.shapes[name][:1]) for name in names}
    return replace(scene, name=f"{scene.name}, {gates} gates", shapes={**scene.shapes, **shapes})


SCENES = PLAIN + tuple(
    _with_gates(scene, gates) for gates in (4, 3) for scene in PLAIN if scene.name in ("rows", "columns", "sequences")
)

ROLES = (
    (
        "labels",
        r"y|ys|t|ts|targets?|labels?|y_?true|y_?batch|truth|gt|gold|classes|y_?train|ground_truth|expected|tgt|Y|(labels?|targets?|y)_?one_?hot|reference\w*|answers?",
    ),
    ("indices", r"idx|ind(ex|ices)?|ids|\w+_(idx|indices|ids)"),
    ("input weight", r"w_?x|w_?xh|w_?ax|w_?ih|u|kernel_x|Wx\w*|W_?ix"),
    ("hidden weight", r"w_?h|w_?hh|w_?aa|u_?[a-z]|recurrent\w*|Wh\w*"),
    ("gate weight", r"w_?[cfgiorz]"),
    ("weight", r"w\d*|weights?\d*|kernels?|filters?|theta\d*|k|emb\w*|table|lookup|e|coef\w*|params?_w|w_?out|w_?in"),
    ("bias", r"b\d*|bias(es)?\d*|intercept|b_\w+|offset|ba|by|bh|bf|bi|bo|bc"),
    ("scale", r"gamma|beta|scale|shift|gain|g|running_\w+|moving_\w+|sigma|std"),
    ("hidden", r"a_?prev|h\d?|h_?prev|prev_?h|c_?prev|prev_?c|c\d?|a0|h_?init|state|hidden|hprev|cprev|hs|prev_state"),
    ("mask", r"\w*mask"),
    ("probabilities", r"p|q|probs?|probabilit\w+|y_?hat|y_?pred\w*|preds?|predictions?|al|a2|yh|predicted"),
)
NUMBERS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    (r"stride|s", (1, 2)),
    (r"pad(ding)?", (1, 0)),
    (r"r|ratio|upscale\w*", (2,)),
    (r"limit|max_norm|clip\w*", (0.7,)),
    (
        r"(kernel|filter|window)_?(size|shape|dim)?|ksize|ks|kernel_?[hw]|filter_?[hw]|fh|fw|hh|ww",
        (KERNEL, (KERNEL, KERNEL), 2),
    ),
    (r"pool_?(size|h|w|height|width|shape|dim)|f", (2, (2, 2))),
    (r"eps(ilon)?", (1e-5,)),
    (r"reg\w*|lambd?a?_?\w*|l2\w*|weight_decay|decay|lam", (0.1,)),
    (r"keep_?(prob|rate)?|(drop(out)?_?)?(prob|rate|p|ratio)|dropout\w*|p|p_\w+|prob_\w+|\w+_prob", (0.5, 1)),
    (r"alpha|negative_slope|slope|leak\w*|beta|gamma|delta|margin|tau|temp\w*|t|threshold|c", (0.7,)),
    (r"momentum|rho", (0.9,)),
    (r"lr|learning_rate|eta|step_size", (0.1,)),
    (r"seed|random_state", (0,)),
    (r"(num|n)_?(heads?|groups?)|heads?|groups?|g|nh", (2, 1)),
    (r"axis|dim", (-1,)),
    (r"out_?h|out_?w|h_?out|w_?out", (IMAGE,)),
    (r"block_?size|context(_?len\w*)?|max_?len\w*", (STEPS,)),
    (r"n|k|m|steps?|time_?steps?|depth|n_?steps|seq_?len\w*", (STEPS,)),
    (r"batch(_size)?|n_?batch|mb", (BATCH,)),
)
SIZES: tuple[tuple[str, str], ...] = (
    (
        r"(in|input|n_in|n_input|num_in|nin|fan_in)_?(channels?|ch|c|depth)|c_?in|channels?|n_channels|num_channels|c",
        "channels",
    ),
    (r"(out|output)_?(channels?|ch|depth)|c_?out|(n|num)_?(filters?|kernels?)|filters?|n_f|f", "filters"),
    (r"(num|n)_?classes|classes|num_labels|n_?labels", "classes"),
    (r"vocab\w*|num_embeddings|n_?words|n_?tokens|v|n_vocab|dict_size", "words"),
    (r"n_?h(idden)?(_?(size|dim|units?|nodes?))?|hidden(_?(size|dim|units?|layer_size))?|h|n_a|num_hidden", "units"),
    (
        r"n_?out\w*|n_?o|out(put)?(_?(size|dim|features|units?|nodes?|shape|len))?|fan_?out|units|nodes|m|n_?neurons|nout|n_y|num_out\w*|latent\w*|z(_?dim)?|n_?units|size_out|d_out|k",
        "units",
    ),
    (
        r"n_?i|n_?in\w*|in(put)?s?(_?(size|dim|features|nodes?|dims|len|units?))?|in\d|x_?dim|data_?dim|fan_?in|d|dims?|(n|num)_?features|features|size|nin|n_x|emb\w*|embed\w*|d_model|shape|size_in|d_in|normali[sz]ed_shape|n",
        "features",
    ),
    (r"input_?shape|in_?shape|image_?shape", "shape"),
)


# What dictionaries of settings hold by habit, where the source hands them on and does not say.
SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"(bn|batchnorm|norm)_?(param|params|config|cfg)", {"mode": "train"}),
    (r"(ln|gn|layernorm|groupnorm)_?(param|params|config|cfg)", {"eps": 1e-5}),
    (r"conv_?(param|params|config|cfg)", {"stride": 1, "pad": 1}),
    (r"pool_?(param|params|config|cfg)", {"pool_height": 2, "pool_width": 2, "stride": 2}),
    (r"drop(out)?_?(param|params|config|cfg)", {"mode": "train", "p": 0.5, "seed": 1}),
)


# Keys of weights and biases in a dictionary of parameters.
WEIGHTS = re.compile(r"[WwbU]\d*|W\w{1,3}|b\w{1,2}|gamma\d+|beta\d+|theta\d*")
# What stands for the data by its name, wherever it stands among the arguments.
MAIN = re.compile(r"x|X|x_?t|inputs?|input_data|data|img|images?|signal|A_prev|x_?batch")


# Arguments that are equals beside each other, although one of them alone would be a bias or a kernel.
EQUALS = (frozenset("qkv"), frozenset("ab"), frozenset("uv"))
FUNCTION = re.compile(r"activation(_?fn|_?func)?|fn|func|function|nonlinearity")
ITS_DERIVATIVE = re.compile(r"(\w+_?)?(prime|grad|derivative|deriv)|d_?(activation|fn|func)")


def main_position(names: list[str]) -> int:
    """Return the position of the argument that is the data by its name, or of the first where none is."""
    return next((position for position, name in enumerate(names) if MAIN.fullmatch(name)), 0)


def alias(name: str, names: list[str]) -> str:
    """Return what a name means among the others: queries, keys and values are alike, and so are a and b."""
    present = {other.lower() for other in names}
    return "x" if any(name.lower() in group <= present for group in EQUALS) else name


def function(name: str) -> Callable[[Any], Any] | None:
    """Return what a constructor's argument of this name takes if that is a function: tanh, or its derivative."""
    if FUNCTION.fullmatch(name):
        return np.tanh
    return (lambda x: 1.0 - np.tanh(x) ** 2) if ITS_DERIVATIVE.fullmatch(name) else None


def lengths(name: str, default: Any, scene: Scene) -> list[Any]:
    """Return what a constructor's argument of this name takes if it is a list of lengths: a shape, or sizes of layers.

    `default` is its default, or empty. Only a tuple or a list of integers is replaced.
    """
    if default is not inspect.Parameter.empty and not isinstance(default, (tuple, list)):
        return []
    if re.fullmatch(r"sizes?|layer_?(sizes?|dims?)|layers|dims|widths|topology|architecture", name):
        return [(FEATURES, UNITS, 2), [FEATURES, UNITS, 2]]
    if re.fullmatch(r"(input|in|image)_?(dim|shape|size)", name) and len(scene.x) == 4:
        return [scene.x[1:]]
    return [(2, 3), (-1,)] if re.fullmatch(r"(new|target|out(put)?)?_?shape", name) else []


def role(name: str) -> str:
    """Return what an argument is by its name, or "x" where the name says nothing else."""
    name = spelling.bare(name)
    for found, pattern in ROLES:
        if re.fullmatch(pattern, name, re.I):
            return found
    return "x"


def values(
    name: str,
    parameter: inspect.Parameter,
    known: Facts | None,
    scene: Scene,
    rng: np.random.Generator,
    kind: str,
    first: bool,
) -> Iterator[Any]:
    """Yield values for one argument in a scene, the most likely first.

    `kind` is the kind of the main input's numbers, "normal" or "unit" (between 0 and 1). `first` is True for the first
    array argument.
    """
    annotation = str(parameter.annotation).lower()
    known = known or Facts()
    settings = next((dict(found) for pattern, found in SETTINGS if re.fullmatch(pattern, name, re.I)), None)
    if known.keys or settings is not None or re.search(r"dict", annotation):
        yield (settings or {}) | dictionary(name, known, scene, rng)
        if "" in known.keys:
            yield (settings or {}) | dictionary(name, known, scene, rng, last=1)
        if any(WEIGHTS.fullmatch(key) for key in known.keys):
            yield (settings or {}) | dictionary(name, known, scene, rng, last=UNITS)
            yield (settings or {}) | dictionary(name, known, scene, rng, units=FEATURES)
        return
    if known.words:
        yield from dict.fromkeys(known.words)
        return
    if re.fullmatch(r"(np_)?rng|generator|random_state|rs|key", name, re.I):
        yield np.random.default_rng(0)
        return
    if re.search(r"int\b", annotation) and not re.search(r"array|union|\|", annotation):
        yield from number(name, (STEPS, 2, 1))
        return
    if re.search(r"float\b", annotation) and not re.search(r"array|union|\||list", annotation):
        yield from number(name, (0.7,))
        return
    if re.search(r"bool\b", annotation) or re.fullmatch(
        r"(is_?)?train(ing)?(_fl?a?g)?|trainable|test|is_test", name, re.I
    ):
        yield "test" not in name.lower()
        return
    if re.fullmatch(r"mode|phase", name):
        yield "train"
        return
    arrays = [a for a in array(name, scene, rng, kind, first) if _fits(a, known)]
    numbers = list(number(name, ())) if not first else []
    if numbers and role(name) == "x" and not known.least and known.axes is None:
        yield from numbers
        yield from arrays
    else:
        yield from arrays
        yield from numbers


def _fits(array: Any, known: Facts) -> bool:
    axes = np.ndim(array)
    return (known.axes is None or axes == known.axes) and axes >= known.least


def number(name: str, otherwise: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return numbers that a setting of this name takes."""
    for pattern, found in NUMBERS:
        if re.fullmatch(pattern, name, re.I):
            return found
    return otherwise


def dictionary(
    name: str, known: Facts, scene: Scene, rng: np.random.Generator, last: int = 2, units: int = UNITS
) -> dict[str, Any]:
    """Return a dictionary with the keys that the source asks for: settings, or the parameters of two layers.

    `last` is the number of units of the last numbered layer, and `units` that of the others.
    """
    found: dict[str, Any] = {}
    for key, default in known.keys.items():
        if key == "" or default is ...:
            continue
        if re.fullmatch(r"mode", key):
            found[key] = "train"
        elif WEIGHTS.fullmatch(key):
            found[key] = _parameter(key, known.keys, scene, rng, last, units)
        elif re.match(r"(running|moving)_", key):
            continue
        else:
            guess = number(key, ())
            if re.fullmatch(r"(pool|filter|kernel)?_?(height|width|size|f|h|w)", key) or (
                key == "stride" and any(re.match("pool|f$", other) for other in known.keys)
            ):
                guess = (2,)
            elif key == "pad":
                guess = (1,)
            found[key] = guess[0] if guess else rng.standard_normal(scene.x)
    if "" in known.keys and not found:  # parameters of layers that a loop numbers
        keys = {"W1": None, "b1": None, "W2": None, "b2": None}
        found = {key: _parameter(key, keys, scene, rng, last, units) for key in keys}
    if re.search(r"mode", name):
        found.setdefault("mode", "train")
    return found


def _parameter(key: str, keys: dict[str, Any], scene: Scene, rng: np.random.Generator, last: int, units: int) -> Array:
    """Return a weight or a bias of a numbered layer, or of a recurrent cell, in rows or in columns."""
    columns = scene.name.startswith(("columns", "a column"))
    number_of = int(match[0]) if (match := re.search(r"\d+", key)) else 0
    numbered = sorted({int(m[0]) for k in keys if (m := re.search(r"\d+", k))})
    sizes = [FEATURES, *([units] * max(len(numbered) - 1, 0)), last if len(numbered) > 1 else units]
    if number_of and number_of in numbered:
        place = numbered.index(number_of)
        n_in, n_out = sizes[place], sizes[place + 1]
    elif re.fullmatch(r"Waa|Whh|Wh", key):
        n_in = n_out = UNITS
    elif re.fullmatch(r"Wya|Why|Wy", key) or re.fullmatch(r"by", key):
        n_in, n_out = UNITS, 2
    elif re.fullmatch(r"W[fiocug]", key):  # gates on the state and the input together
        n_in, n_out = UNITS + FEATURES, UNITS
    else:
        n_in, n_out = FEATURES, units
    if key[0] in "bB" and not key.startswith("beta"):
        return 0.3 * rng.standard_normal((n_out, 1) if columns else (n_out,))
    return 0.5 * rng.standard_normal((n_out, n_in) if columns else (n_in, n_out))


def array(name: str, scene: Scene, rng: np.random.Generator, kind: str, first: bool) -> Iterator[Any]:
    """Yield arrays for an argument by its role, in the shapes that habits give it in this scene."""
    what = role(name)
    shapes = scene.shapes
    if what == "labels" and not first:
        yield from labels(scene, rng)
    elif what == "mask" and not first:
        yield rng.random(scene.labels or scene.x) < 0.7
        yield (rng.random(scene.x) < 0.7).astype(float)
    elif what == "indices" and not first:
        yield rng.integers(0, 3, scene.x[:1] or (4,))
    elif what == "gate weight" and not first:
        for name_of_shape in ("input weight", "hidden weight", "weight"):
            for shape in shapes.get(name_of_shape, ())[:1]:
                yield 0.5 * rng.standard_normal(shape)
    elif what in ("input weight", "hidden weight") and not first:
        for shape in (*shapes.get(what, ()), *shapes.get("weight", ())[:2], *shapes.get("hidden weight", ())):
            yield 0.5 * rng.standard_normal(shape)
    elif what == "weight" and not first:
        for shape in shapes.get("weight", ()):
            yield 0.5 * rng.standard_normal(shape)
    elif what == "bias" and not first:
        for shape in shapes.get("bias", ()):
            yield 0.5 * rng.standard_normal(shape)
    elif what == "scale" and not first:
        for shape in shapes.get("scale", ()):
            yield 0.5 + rng.random(shape)
    elif what == "hidden" and not first:
        for shape in (*shapes.get("hidden", ()), scene.x):
            yield rng.standard_normal(shape)
    elif scene.integers and first:
        yield rng.integers(0, WORDS, scene.x)
    elif first or what == "probabilities":
        yield main(scene, rng, "unit" if what == "probabilities" and kind == "normal" else kind)
        if what == "probabilities":
            yield main(scene, rng, "normal")
    else:
        for shape in shapes.get("other", (scene.x,)):
            yield main(scene, rng, kind, shape)


def main(scene: Scene, rng: np.random.Generator, kind: str, shape: tuple[int, ...] | None = None) -> Any:
    """Return an input's numbers: normal ones, or ones between 0 and 1, whose rows sum to one for "simplex"."""
    shape = scene.x if shape is None else shape
    if kind == "normal":
        found = rng.standard_normal(shape)
    elif kind == "unit":
        found = rng.uniform(0.1, 0.9, shape)
    else:
        found = rng.uniform(0.1, 0.9, shape)
        found = (
            found / found.sum(axis=0 if scene.name.startswith("columns") else -1, keepdims=True)
            if found.ndim
            else found
        )
    return found if np.ndim(found) else float(found)


def labels(scene: Scene, rng: np.random.Generator) -> Iterator[Any]:
    """Yield labels: class numbers, one-hot rows, values like the input, zeros and ones, signs."""
    if not scene.x:
        yield float(rng.standard_normal())
        yield 1.0
        return
    classes = np.arange(int(np.prod(scene.labels, dtype=int))) % CLASSES
    yield classes.reshape(scene.labels) if scene.labels else 1
    if len(scene.x) == 2 and scene.name.startswith("columns"):
        yield np.eye(scene.x[0])[:, classes % scene.x[0]]
    elif len(scene.x) >= 2 and scene.labels:
        yield np.eye(scene.x[-1])[classes.reshape(scene.labels) % scene.x[-1]]
        yield np.eye(UNITS)[classes.reshape(scene.labels)]
    elif scene.x:
        yield np.eye(scene.x[0])[1]
    yield (rng.random(scene.x) < 0.5).astype(float)
    yield rng.standard_normal(scene.x)
    if scene.labels:
        yield rng.choice([-1.0, 1.0], scene.labels)
        yield (rng.random(scene.labels) < 0.5).astype(float)
        yield rng.standard_normal((*scene.labels, UNITS))


def size(name: str, scene: Scene) -> Any:
    """Return the length that a constructor's argument of this name stands for, or None."""
    image = len(scene.x) == 4
    lengths = {
        "channels": CHANNELS if image or scene.name == "one image of channels" else FEATURES,
        "filters": FILTERS,
        "classes": CLASSES,
        "words": WORDS,
        "units": UNITS,
        "features": (CHANNELS if image else FEATURES),
        "shape": scene.x[1:],
    }
    for pattern, what in SIZES:
        if re.fullmatch(pattern, name, re.I):
            if what in ("channels", "filters") and not image and len(name) <= 2:
                continue
            return lengths[what]
    return None
