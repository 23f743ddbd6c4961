"""The options that several commands share, and how the text of an option is read.

Every option is taken as text and read by this package, never by the command-line library, so that each mistake is
reported in the same words as from a TOML file or from Python.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from vae_np import backends, config

_NAMES = f"{', '.join(backends.CHOICES[:-1])} or {backends.CHOICES[-1]}"


def words(*choices: str) -> Callable[[str], list[str]]:
    """What a shell offers for an option that takes one of a few words."""
    return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]


def runs_here(incomplete: str) -> list[str]:
    """What a shell offers for a run: the folders under runs/ that hold one."""
    from vae_np import runs

    return [str(path) for path in runs.every() if str(path).startswith(incomplete)]


JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON; - for standard output.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print warnings and mistakes alone, and the JSON if it is asked for.")
]
Run = Annotated[
    str | None,
    typer.Argument(metavar="RUN", help="A run's folder; by default the newest under runs/.", autocompletion=runs_here),
]
Seed = Annotated[str | None, typer.Option("--seed", metavar="N", help="Seed of every draw. [default: 0]")]
RunSeed = Annotated[
    str | None, typer.Option("--seed", metavar="N", help="Seed of every draw; by default the run's own.")
]
Backend = Annotated[
    str, typer.Option("--backend", metavar="NAME", help=f"{_NAMES}.", autocompletion=words(*backends.CHOICES))
]
RunBackend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="NAME",
        help=f"{_NAMES}; by default the run's own.",
        autocompletion=words(*backends.CHOICES),
    ),
]
Threads = Annotated[
    str | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="Threads at most; by default what NUMBA_NUM_THREADS or OMP_NUM_THREADS say, or all that may be used.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


def whole(name: str, text: str | None, default: Any, *, bits: int = 31) -> Any:
    """An option that is not part of a run's configuration: a whole number from 1, or its default if not given."""
    if text is None:
        return default
    try:
        value: int | str = int(text)
    except ValueError:
        # The text is refused below, as it was given.
        value = text
    return config.counted(name, value, bits=bits)


def setting(name: str, text: str | None) -> Any:
    """An option that is a setting of the configuration, too: its value, or None where it was not given."""
    return None if text is None else config.parse_field(name, text)


def with_config_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command an option for each field of `Config`; what was given reaches it as `overrides`."""
    own = [
        parameter
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
        if name != "overrides"
    ]
    fields = [
        inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(option))
        for option in config.options()
    ]
    names = {option.name for option in config.options()}

    def wrapped(**arguments: Any) -> int:
        overrides = {
            name: given if isinstance(given, bool) else config.parse_field(name, given)
            for name, given in arguments.items()
            if name in names and given is not None
        }
        return command(overrides, **{name: value for name, value in arguments.items() if name not in names})

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *fields)]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what the library reads
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapped.__doc__ = command.__doc__
    return wrapped


def _annotation(option: config.Option) -> Any:
    if isinstance(option.kind, config.Flag):
        both = f"{option.flag}/--no-{option.flag.removeprefix('--')}"
        return Annotated[bool | None, typer.Option(both, help=option.usage, show_default=False)]
    choices = option.kind.choices if isinstance(option.kind, config.Choice) else ()
    said = typer.Option(
        option.flag,
        metavar=option.metavar,
        help=option.usage,
        show_default=False,
        autocompletion=words(*choices) if choices else None,
    )
    return Annotated[str | None, said]
