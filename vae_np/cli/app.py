"""`vae-np`: the commands' options, and how a mistake is told: one line on standard error, exit code 2.

The options that set up a training come from `vae_np.config`, so that a name, a default, a help text and a validation
message are written once. Every option is taken as text and read by this package, never by the command-line library.
Exit codes: 0 good, 1 a check failed, 2 bad usage or input, 130 interrupted, 141 nobody reads the output any more.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from vae_np import __version__, config
from vae_np.errors import InputError, MissingFileError

_JsonFile = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON; - for standard output.")
]
_Run = Annotated[str | None, typer.Argument(metavar="RUN", help="A run's folder; by default the newest under runs/.")]
_Seed = Annotated[
    str | None, typer.Option("--seed", metavar="N", help="Seed of every draw; by default the run's own.")
]
_Backend = Annotated[
    str | None,
    typer.Option("--backend", metavar="NAME", help="auto, numpy, numba or cupy; by default the run's own."),
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]

# What a shell reports for other tools that a closed pipe has ended: 128 + SIGPIPE.
_NOBODY_READS = 141

app = typer.Typer(
    help="A variational autoencoder from the mathematics up.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _whole(name: str, text: str | None, default: Any, *, at_least: int = 1, below: int | None = None) -> Any:
    """An option that is not part of a run's configuration: a whole number, or its default where it was not given."""
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = at_least - 1
    if value < at_least or (below is not None and value >= below):
        upper = "" if below is None else f" and < {below}"
        raise InputError(f"{name}: got {text!r}, expected a whole number >= {at_least}{upper}")
    return value


def _seed(text: str | None) -> int | None:
    return None if text is None else int(config.parse_field("seed", text))


def _with_config_options(command: Callable[..., int]) -> Callable[..., None]:
    """Give a command an option for each field of `Config`; what was given reaches it as `overrides`."""
    own = [
        parameter
        for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
        if name != "overrides"
    ]
    fields = [
        inspect.Parameter(
            option.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None, typer.Option(option.flag, metavar=option.metavar, help=option.usage, show_default=False)
            ],
        )
        for option in config.options()
    ]
    names = {option.name for option in config.options()}

    def wrapped(**arguments: Any) -> None:
        overrides = {
            name: config.parse_field(name, text)
            for name, text in arguments.items()
            if name in names and text is not None
        }
        rest = {name: value for name, value in arguments.items() if name not in names}
        raise typer.Exit(command(overrides=overrides, **rest))

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *fields)]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what the library reads
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapped.__doc__ = command.__doc__
    return wrapped


def _train(
    overrides: dict[str, Any],
    config_file: Annotated[
        str | None,
        typer.Option("--config", metavar="FILE", help="Settings from a TOML file, or a shipped one by name."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FOLDER", help="The run's folder; by default runs/<date-time>.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="Go on with a run from its last checkpoint.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    stages: Annotated[
        str | None,
        typer.Option("--stages", metavar="1-N", help="Only the first N stages of the schedule; --resume can add more."),
    ] = None,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no pictures at the end.")] = False,
    json_file: _JsonFile = None,
) -> int:
    """Train a VAE; with no options on the built-in MNIST, leaving pictures and a checkpoint in runs/."""
    from vae_np.cli.train import train

    return train(
        overrides,
        config_file=config_file,
        resume=resume,
        out=out,
        overwrite=overwrite,
        stages=stages,
        draw=not no_plots,
        json_file=json_file,
    )


app.command("train")(_with_config_options(_train))


@app.command("eval")
def _eval(
    run: _Run = None,
    estimator: Annotated[
        str | None,
        typer.Option(
            "--estimator",
            metavar="NAME",
            help="How log p(x) is estimated: is, importance sampling from q(z|x); ais, annealed importance sampling; "
            "bdmc, that from both sides, on data that the model simulates. [default: is]",
        ),
    ] = None,
    samples: Annotated[
        str | None,
        typer.Option(
            "--samples", "--chains", metavar="N", help="Importance samples, or chains, an example. [100, or 16]"
        ),
    ] = None,
    temperatures: Annotated[
        str | None, typer.Option("--temperatures", metavar="N", help="Steps from prior to posterior. [default: 1000]")
    ] = None,
    leapfrog: Annotated[
        str | None, typer.Option("--leapfrog", metavar="N", help="Leapfrog steps at a temperature. [default: 5]")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            "--images", "--limit", metavar="N", help="Only the first N test examples; how many bdmc simulates. [100]"
        ),
    ] = None,
    z_samples: Annotated[
        str | None, typer.Option("--z-samples", metavar="N", help="Noise draws per image for the ELBO.")
    ] = None,
    data_file: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Other data than the run's own: a built-in name or a file."),
    ] = None,
    binarize: Annotated[
        str | None, typer.Option("--binarize", metavar="MODE", help="As in train; by default the run's own.")
    ] = None,
    backend: _Backend = None,
    seed: _Seed = None,
    per_example: Annotated[
        str | None, typer.Option("--per-example", metavar="FILE", help="Write each example's values to this .npz file.")
    ] = None,
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no picture.")] = False,
    json_file: _JsonFile = None,
) -> None:
    """Evaluate a run on the test set: ELBO, reconstruction, KL, log p(x), KL per latent dimension, active units.

    Interrupted, it keeps what is done, and the same command goes on.
    """
    from vae_np.cli.evaluate import evaluate_run

    raise typer.Exit(
        evaluate_run(
            run,
            estimator=estimator,
            samples=_whole("samples", samples, None),
            temperatures=_whole("temperatures", temperatures, None),
            leapfrog=_whole("leapfrog", leapfrog, None),
            images=_whole("images", images, None),
            z_samples=_whole("z_samples", z_samples, None),
            data_file=data_file,
            binarize=None if binarize is None else config.parse_field("binarize", binarize),
            per_example=per_example,
            backend=None if backend is None else config.parse_field("backend", backend),
            seed=_seed(seed),
            draw=not no_plots,
            json_file=json_file,
        )
    )


@app.command("sample")
def _sample(
    run: _Run = None,
    n: Annotated[str | None, typer.Option("-n", metavar="N", help="How many. [default: 64]")] = None,
    draws: Annotated[bool, typer.Option("--draws", help="Draw x ~ p(x|z) instead of showing E[x|z].")] = False,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="A .png, or a .npy for the values.")] = None,
    overwrite: _Overwrite = False,
    seed: _Seed = None,
    json_file: _JsonFile = None,
) -> None:
    """Sample from a run's model: z ~ N(0, I), then x given z."""
    from vae_np.cli.pictures import sample

    raise typer.Exit(
        sample(
            run,
            n=_whole("n", n, 64),
            draws=draws,
            out=out,
            overwrite=overwrite,
            seed=_seed(seed),
            json_file=json_file,
        )
    )


@app.command("reconstruct")
def _reconstruct(
    run: _Run = None,
    n: Annotated[str | None, typer.Option("-n", metavar="N", help="How many. [default: 32]")] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="A .png.")] = None,
    overwrite: _Overwrite = False,
    seed: _Seed = None,
    json_file: _JsonFile = None,
) -> None:
    """Show test examples above their reconstructions."""
    from vae_np.cli.pictures import reconstruct

    raise typer.Exit(
        reconstruct(
            run, n=_whole("n", n, 32), out=out, overwrite=overwrite, seed=_seed(seed), json_file=json_file
        )
    )


@app.command("latent")
def _latent(
    run: _Run = None,
    n: Annotated[str | None, typer.Option("-n", metavar="N", help="How many interpolations. [default: 8]")] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="FOLDER", help="By default the run's folder.")] = None,
    overwrite: _Overwrite = False,
    seed: _Seed = None,
    json_file: _JsonFile = None,
) -> None:
    """Walk through latent space: interpolations; for 2-D latents also the decoded manifold and the labelled scatter."""
    from vae_np.cli.pictures import latent

    raise typer.Exit(
        latent(run, n=_whole("n", n, 8), out=out, overwrite=overwrite, seed=_seed(seed), json_file=json_file)
    )


@app.command("verify")
def _verify(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE.py", help="Files to check instead of the package. They are executed."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="All combinations of depth, at several points.")] = False,
    library: Annotated[
        str | None,
        typer.Option("--against", metavar="NAME", help="Also against autodiff by torch, jax or autograd."),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="SECONDS", help="What a file may take. [default: 60]")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="MB", help="What a file may allocate. [default: 4096]")
    ] = None,
    seed: Annotated[str | None, typer.Option("--seed", metavar="N", help="Seed of every draw. [default: 0]")] = None,
    json_file: _JsonFile = None,
) -> None:
    """Prove every hand-written gradient and closed form of the package, or the gradients in your own files.

    A file holds pairs NAME_forward and NAME_backward, and NAME_example(rng) that returns the inputs to check at. Files
    are executed, each in a process of its own.
    """
    from vae_np.cli.verify import verify_package, verify_user_files

    if not files:
        for name, given in (("timeout", timeout), ("memory", memory)):
            if given is not None:
                raise InputError(f"{name}: got {given!r}, but no file: it limits what a file may take")
        raise typer.Exit(verify_package(full=full, library=library, seed=_seed(seed) or 0, json_file=json_file))
    if full or library is not None:
        raise InputError("full, against: they check the package itself, and cannot be given together with files")
    raise typer.Exit(
        verify_user_files(
            files,
            timeout=_whole("timeout", timeout, 60),
            memory_limit_mb=_whole("memory", memory, 4096),
            seed=_seed(seed) or 0,
            json_file=json_file,
        )
    )


@app.command("study")
def _study(
    chapter: Annotated[
        str, typer.Argument(metavar="CHAPTER|all", help="A chapter's number or name; by default all of them.")
    ] = "all",
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Where the figures go.")] = "study",
    seed: Annotated[str | None, typer.Option("--seed", metavar="N", help="Seed of every draw. [default: 0]")] = None,
    json_file: _JsonFile = None,
) -> None:
    """Run the derivation: every claim computed, its number shown beside what it must be, its figure drawn."""
    from vae_np.cli.study import run_study

    raise typer.Exit(run_study(chapter, out=out, seed=_seed(seed) or 0, json_file=json_file))


@app.command("bench")
def _bench(
    what: Annotated[str, typer.Argument(metavar="ops|step|eval", help="What to time.")] = "step",
    workload: Annotated[
        str, typer.Option("--workload", metavar="NAME", help="pt, kingma, iwae, iwae50, wide, pt-grey or kingma-grey.")
    ] = "pt",
    backend: Annotated[str, typer.Option("--backend", metavar="NAME", help="auto, numpy, numba or cupy.")] = "auto",
    peers: Annotated[
        str, typer.Option("--peers", metavar="NAMES", help="torch, jax or torch,jax: time them too.")
    ] = "",
    threads: Annotated[
        str | None, typer.Option("--threads", metavar="N", help="Threads of everyone. [default: all]")
    ] = None,
    rounds: Annotated[str | None, typer.Option("--rounds", metavar="N", help="[default: 20]")] = None,
    chart: Annotated[str | None, typer.Option("--chart", metavar="FILE", help="Draw the medians, as a .png.")] = None,
    json_file: _JsonFile = None,
) -> None:
    """Time the kernels against the reference, PyTorch and JAX, in turns; from a checkout only."""
    from vae_np.cli.bench import bench

    raise typer.Exit(
        bench(
            what,
            workload=workload,
            backend=str(config.parse_field("backend", backend)),
            peers=peers,
            threads=_whole("threads", threads, None),
            rounds=_whole("rounds", rounds, 20),
            chart=chart,
            json_file=json_file,
        )
    )


@app.command("info")
def _info(json_file: _JsonFile = None) -> None:
    """Show versions, the machine, and the matrix of backend, objective and likelihood."""
    from vae_np.cli.info import info

    raise typer.Exit(info(json_file=json_file))


def _version(show: bool) -> None:
    if show:
        typer.echo(f"vae-np {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
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


def main() -> NoReturn:
    """Run the command line and exit; a user's mistake is one line on standard error."""
    try:
        code = _run_and_tell()
    except BrokenPipeError:
        # Whoever read our output has closed it; nothing more can be said, not even at exit.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        code = _NOBODY_READS
    sys.exit(code)


def _run_and_tell() -> int:
    """Run the command, tell what went wrong, and return the exit code."""
    try:
        code = _run()
        # Here and not at exit, where what fails is told by a traceback.
        sys.stdout.flush()
        return code
    except typer.TyperException as error:
        return _complain(error.format_message())
    except (InputError, MissingFileError) as error:
        return _complain(str(error))
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", 130)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _complain(f"{error.filename or 'output'}: {error.strerror or error}")


def _run() -> int:
    try:
        # Not app(): it would turn Ctrl-C into an exit code and say nothing.
        command = typer.main.get_command(app)
        with command.make_context("vae-np", sys.argv[1:]) as context:
            command.invoke(context)
    except typer.Exit as end:
        return int(end.exit_code)
    return 0


def _complain(message: str, code: int = 2) -> int:
    print("vae-np: " + " ".join(message.split()), file=sys.stderr)
    return code


