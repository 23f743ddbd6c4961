"""What every check takes besides its subject: how derivatives are taken, how strict it is, how long it may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from vae_np.errors import InputError

METHODS = frozenset({"auto", "complex", "central", "projection"})
# Promises that `allow` may name. Breaking one with right values is a warning.
PROMISES = {
    "inplace_input": "an input is changed in place",
    "inplace_dout": "the upstream gradient is changed in place",
    "dtype": "a gradient has another dtype than its tensor",
    "shape": "a gradient of one number has another shape than its tensor, such as (1,) for ()",
    "cache": "backward writes into what forward kept for it",
    "epsilon": "forward adds a tiny constant that backward leaves out",
    "update": "backward changes the parameters itself",
    "accumulation": "gradients are added to what an earlier call left",
    "clipping": "gradients are cut off at a limit that usual ones do not reach",
    "reading": "an argument has the name of the input, and backward is right only for something else",
    "ties": "the gradient is wrong where several entries tie",
}


class Options(TypedDict, total=False):
    """The options that all checks share.

    `methods` is "auto", "complex", "central", "projection", or several of them. "complex" and "central" look at every
    entry. "auto" uses the complex step where it can be trusted and central differences elsewhere; it looks at every
    entry of a tensor with up to `max_entries` (2048 by default), and beyond that at `projections` random directions (6
    by default) and a sample of entries.

    `seed` is the seed of every draw, that of the upstream gradient included, and 0 by default.

    `rtol`, `atol` and `scale` decide: an entry is right where |a - n| <= atol + rtol * max(|a|, |n|, scale), plus the
    numeric value's own error. The defaults follow from precision and method.

    `seconds` is what the whole check may take, 10 by default, or None for no limit. Where it does not suffice, tensors
    are sampled and the report says so.

    `strict` makes errors of warnings, which are promises broken with right values. `allow` lists promises that may be
    broken, by the keys of `PROMISES`. `further=False` leaves out the further points that are tried where the given one
    cannot show a mistake. `name` is what the report calls the subject, and `snippet` holds the lines that repeat the
    check, where the usual ones do not.
    """

    methods: str | Sequence[str]
    seed: int
    rtol: float | None
    atol: float
    scale: float | None
    max_entries: int
    projections: int
    seconds: float | None
    strict: bool
    allow: str | Sequence[str]
    further: bool
    name: str | None
    snippet: str | None


@dataclass(frozen=True)
class Tolerance:
    """What the caller asked for, where None and zero stand for the defaults of `judge`."""

    rtol: float | None = None
    atol: float = 0.0
    scale: float | None = None


@dataclass(frozen=True)
class Settings:
    """The options with their defaults filled in; see `Options` for the meaning of each."""

    methods: frozenset[str] = frozenset({"auto"})
    seed: int = 0
    tolerance: Tolerance = field(default_factory=Tolerance)
    max_entries: int = 2048
    projections: int = 6
    seconds: float | None = 10.0
    strict: bool = False
    allow: frozenset[str] = frozenset()
    further: bool = True
    name: str | None = None
    snippet: str | None = None

    @property
    def complex(self) -> bool:
        return bool(self.methods & {"auto", "complex"}) or self.methods == {"projection"}


def settings(**options: Unpack[Options]) -> Settings:
    """Return the settings that options ask for; raises InputError for a value that cannot be used."""
    given: dict[str, Any] = dict(options)
    unknown = sorted(set(given) - set(Options.__annotations__))
    if unknown:
        raise InputError(f"options: got {unknown[0]!r}, expected some of {', '.join(Options.__annotations__)}")
    tolerance = Tolerance(given.pop("rtol", None), given.pop("atol", 0.0), given.pop("scale", None))
    for key, known in (("methods", METHODS), ("allow", frozenset(PROMISES))):
        if key in given:
            given[key] = _chosen(key, given[key], known)
    found = Settings(tolerance=tolerance, **given)
    if not found.methods:
        raise InputError(f"methods: got none, expected some of {', '.join(sorted(METHODS))}")
    for name, number in (("max_entries", found.max_entries), ("projections", found.projections)):
        if number < 1:
            raise InputError(f"{name}: got {number}, expected a positive number")
    if found.seconds is not None and not found.seconds > 0:
        raise InputError(f"seconds: got {found.seconds}, expected a positive number, or None for no limit")
    return found


def _chosen(key: str, value: str | Sequence[str], known: frozenset[str]) -> frozenset[str]:
    asked = frozenset([value] if isinstance(value, str) else value)
    if not asked <= known:
        raise InputError(f"{key}: got {', '.join(sorted(asked - known))}, expected some of {', '.join(sorted(known))}")
    return asked


def asked(**options: Unpack[Options]) -> dict[str, Any]:
    """Return the options that a snippet has to repeat: the seed, and those that differ from their defaults."""
    default: dict[str, Any] = {
        "methods": "auto",
        "rtol": None,
        "atol": 0.0,
        "scale": None,
        "max_entries": 2048,
        "projections": 6,
    }
    default |= {"seconds": 10.0, "strict": False, "allow": (), "further": True}
    repeated = {key: value for key, value in options.items() if key in default and value != default[key]}
    return repeated | {"seed": options.get("seed", 0)}
