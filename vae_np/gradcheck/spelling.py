"""What names say: which argument is an upstream gradient, a cache or data, and whose gradient a key names."""

from __future__ import annotations

import re
from collections.abc import Iterable

CACHE = re.compile(
    r"\w*cache|caches|ctx|context|tape|saved|saved_tensors|memory|mem|residuals|res|aux|back_info|state_?tuple", re.I
)
UPSTREAM = re.compile(
    r"d_?(out|output|outputs|values|next|upstream|scores|probs|logits|cost|loss|y|z|a|h|l|dy|dz|out_)|dl_?d(y|z|a|out|output)|"
    r"grads?|gradients?|grad_?outputs?|grad_out|grad_?in|output_grad(ient)?|out_grad|deltas?|upstream|g|gy|err|error|"
    r"d_?[a-z]_?(next|out|t)|adjoint|cotangent|ct|ybar|(d|d_|grad_|delta_)(a|z|h|c|y|out|output|next|next_h|next_c|prev)\w?",
    re.I,
)
# Inputs that have no gradient although they may hold floating-point numbers: what is learnt from, drawn or averaged.
DATA = re.compile(
    r"y|t|targets?|labels?|y_?true|y_batch|truth|gold|classes|(y_)?one_?hot|y_hot|eps|epsilon|noise|masks?|idx|index|"
    r"indices|ids|tokens|(sample_|class_)?weights?_mask|sample_weights?|lengths?|lr|learning_rate",
    re.I,
)
STATISTICS = re.compile(r"^(running|moving)_?(mean|var|avg|std|variance)")
SETTINGS = re.compile(r"mode|eps|momentum|stride|pad|padding|p|training|train|seed|dropout|reg", re.I)


def bare(name: str) -> str:
    """Return a name without what says which of several it is: W for W_curr, dA for dA_current."""
    return re.sub(r"_(curr|cur|current|layer|here)$", "", name)


def is_upstream(name: str) -> bool:
    """Tell whether an argument of this name is an upstream gradient."""
    return bool(UPSTREAM.fullmatch(bare(name.strip("_"))))


def looks_like_gradient(name: str) -> bool:
    """Tell whether a name is that of some gradient, such as dlogdet or grad_h, if not surely of an upstream one."""
    return bool(re.fullmatch(r"d_?(?!ata|im|ims|epth|ict|type|rop\w*)[A-Za-z]\w*|grad\w*|g_\w+|delta\w*", name))


def is_cache(name: str) -> bool:
    """Tell whether an argument of this name is what forward kept."""
    return bool(CACHE.fullmatch(name))


def is_data(name: str) -> bool:
    """Tell whether an input of this name has no gradient by custom."""
    return bool(DATA.fullmatch(name.lstrip("_")) or STATISTICS.match(name.lower()))


def is_settings(value: object) -> bool:
    """Tell whether a dictionary holds settings, not parameters, such as a string, a flag, None or a statistic."""
    if not isinstance(value, dict):
        return False
    keys = [str(key).lower() for key in value]
    telling = any(item is None or isinstance(item, (str, bool)) for item in value.values())
    return telling or any(SETTINGS.fullmatch(key) or STATISTICS.match(key) for key in keys)


def owner(key: str, names: Iterable[str]) -> str | None:
    """Return the tensor whose gradient a key names (W for `W`, `dW`, `d_W`, `grad_W` and `W_grad`), or None."""
    names = list(names)
    for name in names:
        if key == name:
            return name
    stripped = [key]
    for pattern in (
        r"d_?(.+)",
        r"(?:grad|gradient|g)_(.+)",
        r"(.+?)_?(?:grad|gradient)",
        r"delta_(.+)",
        r"db?l?d(.+)",
        r"g(.+)",
    ):
        match = re.fullmatch(pattern, key, re.IGNORECASE)
        if match:
            stripped.append(match[1])
    for part in stripped:
        for name in names:
            if _plain(part) == _plain(name):
                return name
    return None


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
