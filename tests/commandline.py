"""The command line in this process, small data for it, and what a folder holds: shared by the suites that need them."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import jsonschema
import numpy as np

from vae_np import cli
from vae_np.cli.schema import schema
from vae_np.data import bars

TINY = ("--hidden", "8", "--latent", "2", "--batch-size", "20", "--lr", "0.01", "--no-plots")


def validate(content: Any) -> None:
    """Hold a command's result against the schema that it names."""
    _, name, _ = content["schema"].split("/")
    jsonschema.Draft202012Validator(schema(name)).validate(content)


@dataclass(frozen=True)
class Result:
    """What a command did: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON object that `--json -` writes, held against the command's schema."""
        content = json.loads(self.out, parse_constant=lambda name: f"{name} is no JSON")
        validate(content)
        return content


def vae_np(*arguments: object) -> Result:
    """Run `vae-np` with these arguments in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["vae-np", *map(str, arguments)]
    code: Any = None
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
    return Result(code, out.getvalue(), err.getvalue())


def good(*arguments: object) -> Result:
    """Run `vae-np`, which has to succeed."""
    result = vae_np(*arguments)
    assert result.code == 0, result.err
    return result


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file below `folder` with its bytes, and every folder with None."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl` without their wall times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def grey_bars(path: Path, rows: int = 124, seed: int = 0) -> Path:
    """Bars and stripes in two greys, (rows, 16) bytes, written to `path` as a .npy file.

    124 rows are 12 for the test, 11 for validation and 101 to train on: 5 steps an epoch with `TINY`.
    """
    images, _ = bars(4, rows, seed)
    np.save(path, np.where(images == 1, 230, 25).astype(np.uint8))
    return path
