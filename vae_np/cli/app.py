"""The commands put together, and how a mistake is reported: one line on standard error, exit code 2.

Exit codes: 0 good, 1 a check failed, 2 bad usage or input, 130 interrupted, 141 the reader of the output has closed it.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from vae_np import __version__
from vae_np.cli.interrupts import INTERRUPTED, leaving_at_once
from vae_np.distributed.launch import launched
from vae_np.errors import InputError, MissingFileError, NonFiniteError, UnverifiedWarning

# In the order of the help; `vae_np/cli/NAME.py` has the command of that name: its options and its work.
COMMANDS = (
    "train", "eval", "report", "sample", "reconstruct", "latent", "convert",
    "verify", "study", "exercise", "bench", "info", "configs", "schema",
)  # fmt: skip

# What a shell reports for other tools that a closed pipe has ended: 128 + SIGPIPE.
_NOBODY_READS = 141
# The variable in which a shell asks for completions, as the command-line library names it.
_COMPLETE = "_VAE_NP_COMPLETE"
_SETTINGS = {"help_option_names": ["-h", "--help"]}


def run() -> int:
    """Run the command line of this process and return the exit code; a mistake is one line on standard error.

    With others that mpiexec has started along with it, it acts as one.
    """
    place = launched()
    if place is None:
        return _run_until_closed()
    from vae_np.cli.ranks import run_as_one

    return run_as_one(place, sys.argv[1:], _run_until_closed)


def _run_until_closed() -> int:
    try:
        return _run_and_tell()
    except BrokenPipeError:
        # The reader of our output has closed it; nothing more can be printed, not even at exit.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return _NOBODY_READS


def _run_and_tell() -> int:
    """Run the command, report what went wrong, and return the exit code."""
    # Without a home it tells, in the middle of ours, which folder it takes instead.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        _open_streams()
        with _notes():
            code = _run(sys.argv[1:])
        # Here and not at exit, where a failure would print a traceback.
        sys.stdout.flush()
        return code
    except typer.TyperException as error:
        return _complain(error.format_message())
    except (InputError, MissingFileError) as error:
        return _complain(str(error))
    except NonFiniteError as error:
        return _complain(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", INTERRUPTED)
    except MemoryError as error:
        return _complain(f"memory: there is not enough for this ({error or 'none is left'})")
    except BrokenPipeError:
        raise
    except OSError as error:
        return _complain(f"{error.filename or 'output'}: {error.strerror or error}")


@contextmanager
def _notes() -> Iterator[None]:
    """Print the package's warnings as one line each, without the source that Python adds; other warnings stay."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, UnverifiedWarning):
                print(f"vae-np: note: {message}", file=sys.stderr)
            else:
                show(message, category, *where, **more)

        warnings.showwarning = tell
        yield


def _open_streams() -> None:
    """Have text that a terminal cannot show replaced, and see that there is a standard output to write to."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (as long as the process)
    if sys.stdout is None:
        raise InputError("output: standard output is closed, expected a file, a pipe or a terminal")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _run(arguments: Sequence[str]) -> int:
    instruction = os.environ.get(_COMPLETE)
    with leaving_at_once():
        command = typer.main.get_command(_application(() if instruction else arguments))
    if instruction:
        from typer.completion import shell_complete

        return shell_complete(command, {}, "vae-np", _COMPLETE, instruction)
    try:
        # Not app(): it would turn Ctrl-C into an exit code and say nothing.
        with command.make_context("vae-np", list(arguments)) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as end:
        return int(end.exit_code)


def _application(arguments: Sequence[str]) -> typer.Typer:
    """The command that is named, or all of them for help and completion: only their files are imported."""
    application = typer.Typer(
        help="A variational autoencoder from the mathematics up.",
        context_settings=_SETTINGS,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    application.callback(invoke_without_command=True)(_root)
    first = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name in COMMANDS if first not in COMMANDS else (first,):
        application.command(name, context_settings=_SETTINGS)(importlib.import_module(f"vae_np.cli.{name}").command)
    return application


def _version(show: bool) -> None:
    if show:
        typer.echo(f"vae-np {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A variational autoencoder from the mathematics up."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def _complain(message: str, code: int = 2) -> int:
    print("vae-np: " + " ".join(message.split()), file=sys.stderr)
    return code
