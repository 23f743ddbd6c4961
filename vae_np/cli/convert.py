"""`vae-np convert`: another program's weights become a run, and a run becomes ONNX files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from vae_np import config, runs
from vae_np.checkpoint import STATE_FILE, TIME_FILE, WEIGHTS_FILE
from vae_np.choices import ACTIVATIONS, LIKELIHOODS
from vae_np.cli.describe import describe_kinds
from vae_np.cli.options import JsonFile, Quiet, words
from vae_np.cli.output import Output
from vae_np.errors import InputError
from vae_np.interchange import MAPPINGS
from vae_np.vae import CONFIG_FILE, VAE


def command(
    source: Annotated[str, typer.Argument(metavar="FILE|RUN", help="A .safetensors file, or a run to write as ONNX.")],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="The new run's folder, or the ONNX files'.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="NAME", help="onnx, for a run.", autocompletion=words("onnx"))
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option(
            "--mapping",
            metavar="NAME",
            help=f"Whose names the tensors have ({', '.join(MAPPINGS)}); by default found.",
            autocompletion=words(*MAPPINGS),
        ),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option("--activation", metavar="NAME", help="[default: relu]", autocompletion=words(*ACTIVATIONS)),
    ] = None,
    likelihood: Annotated[
        str | None,
        typer.Option("--likelihood", metavar="NAME", help="[default: bernoulli]", autocompletion=words(*LIKELIHOODS)),
    ] = None,
    sigma: Annotated[
        str | None, typer.Option("--sigma", metavar="X", help="A normal likelihood's σ. [default: 1]")
    ] = None,
    quiet: Quiet = False,
    json_file: JsonFile = None,
) -> int:
    """Make a run of another program's weights, or ONNX files of a run."""
    output = Output(json_file, quiet=quiet)
    given = {"activation": activation, "likelihood": likelihood, "sigma": sigma}
    kinds = {name: config.parse_field(name, text) for name, text in given.items() if text is not None}
    if to is None:
        vae, folder = VAE.from_torch(source, mapping, **kinds), _new(out)
        vae.save(folder)
        files = [folder / name for name in (CONFIG_FILE, WEIGHTS_FILE, STATE_FILE, TIME_FILE)]
    else:
        _refuse_with_to(to, {**given, "mapping": mapping})
        vae = VAE.load(runs.find(source))
        files = list(vae.to_onnx(_new(out)))

    def tell() -> None:
        arch = vae.arch
        kinds = f"{arch.activation}, {describe_kinds(arch)}"
        output.say(f"model    {arch.sizes} {kinds}: {vae.parameters.count} parameters")
        for path in files:
            output.say(f"wrote    {path}")

    content = {"source": source, "parameters": vae.parameters.count, "files": [str(path) for path in files]}
    output.result("convert", content, tell)
    return 0


def _new(out: str) -> Path:
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"out: {folder}: is there already, expected a new folder")
    return folder


def _refuse_with_to(to: str, given: Mapping[str, str | None]) -> None:
    if to != "onnx":
        raise InputError(f"to: got {to!r}, expected onnx")
    for name, text in given.items():
        if text is not None:
            raise InputError(f"{name}: got {text!r}, but with --to a run is written, which says this itself")
