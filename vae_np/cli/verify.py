"""`vae-np verify`: prove the package's gradients, or those of other people's files."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from vae_np.cli.options import JsonFile, Seed, setting, whole, words
from vae_np.cli.output import Output
from vae_np.errors import InputError
from vae_np.verify import files, runner


def command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Files or notebooks to check; they are executed."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="All combinations of depth, at several points.")] = False,
    library: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="NAME",
            help="Also against autodiff by torch, jax or autograd.",
            autocompletion=words("torch", "jax", "autograd"),
        ),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="SECONDS", help="How long a file may take. [default: 60]")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="MB", help="How much a file may allocate. [default: 4096]")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    only: Annotated[
        str | None, typer.Option("--only", metavar="NAME", help="The one subject of a file to check.")
    ] = None,
    seed: Seed = None,
    json_file: JsonFile = None,
) -> int:
    """Prove every hand-written gradient and closed form of the package, or the gradients in your own files.

    What has a derivative in a file is found by its name: NAME_forward with NAME_backward, NAME with NAME_grad, losses
    that return their gradient, classes with forward and backward. Inputs are found by trial, or given by a comment
    above the definition: # vae-np: inputs = (x, W). Files are executed, each in a process of its own.
    """
    if not paths:
        for name, given in (("timeout", timeout), ("memory", memory)):
            if given is not None:
                raise InputError(f"{name}: got {given!r}, but no file was given, which it would limit")
        if strict or only is not None:
            raise InputError("strict, only: they say how files are checked, but no file was given")
        return verify_package(full=full, library=library, seed=setting("seed", seed) or 0, json_file=json_file)
    if full or library is not None:
        raise InputError("full, against: they check the package itself, and cannot be given together with files")
    return verify_user_files(
        paths,
        timeout=whole("timeout", timeout, 60),
        memory_limit_mb=whole("memory", memory, 4096),
        seed=setting("seed", seed) or 0,
        json_file=json_file,
        strict=strict,
        only=only or "",
    )


def verify_package(*, full: bool, library: str | None, seed: int, json_file: str | None) -> int:
    """Print a row per check, what failed in full, and the counts; return 1 if anything failed, else 0."""
    output = Output(json_file)
    started = time.perf_counter()
    rows: list[runner.Row] = []
    with output.status("verifying") as status:
        for row in runner.rows(seed=seed, full=full, library=library):
            rows.append(row)
            status.update(f"{len(rows)} checks, {row.backend}: {row.name}")
    seconds = time.perf_counter() - started
    failed = [row for row in rows if not row.passed]

    def tell() -> None:
        output.table(
            "Every hand-written gradient and closed form",
            ("check", "backend", "method", "max rel error", "verdict"),
            [
                (row.name, row.backend, row.method, f"{row.max_rel_error:.1e}", "ok" if row.passed else "FAIL")
                for row in rows
            ],
        )
        for row in failed:
            output.say(f"\n{row.name} ({row.backend}): {row.detail}")
        output.say(f"{len(rows) - len(failed)} passed, {len(failed)} failed in {seconds:.1f} s")

    content = {
        "checks": [row.as_dict() for row in rows],
        "failed": len(failed),
        "passed": len(rows) - len(failed),
        "seconds": seconds,
        "seed": seed,
    }
    output.result("verify", content, tell)
    return 1 if failed else 0


def verify_user_files(
    paths: list[str],
    *,
    timeout: float,
    memory_limit_mb: int,
    seed: int,
    json_file: str | None,
    strict: bool = False,
    only: str = "",
) -> int:
    """Check what has a derivative in other people's files, each in a process of its own; return the exit code."""
    output = Output(json_file)
    started = time.perf_counter()
    results = []
    for index, path in enumerate(paths, start=1):
        with output.status(f"{path} ({index} of {len(paths)})"):
            (result,) = files.verify_files(
                [path], timeout=timeout, memory_limit_mb=memory_limit_mb, seed=seed, strict=strict, only=only
            )
        output.report(files.render(result) + "\n")
        results.append(result)

    def tell() -> None:
        for result in results if len(results) > 1 else ():
            output.say(files.summary_line(result))

    pairs = [(result, pair) for result in results for pair in result.pairs]
    good = sum(pair.status == "passed" for _, pair in pairs)
    content = {
        "checks": [
            {
                "name": f"{result.path}: {pair.name}",
                "backend": "numpy",
                "method": ", ".join(sorted({row["method"] for row in (pair.report or {"rows": []})["rows"]})),
                "max_rel_error": (pair.report or {"max_rel_error": None})["max_rel_error"],
                "passed": pair.status == "passed",
                "detail": pair.message,
            }
            for result, pair in pairs
        ],
        "failed": len(pairs) - good,
        "passed": good,
        "seconds": time.perf_counter() - started,
        "seed": seed,
        "files": [result.as_dict() for result in results],
    }
    output.result("verify", content, tell)
    return files.exit_code(results)
