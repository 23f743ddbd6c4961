"""The JSON Schema of each command: printed by `vae-np schema`, and held against what the commands really write.

Every test that reads a command's `--json` through `commandline` validates it, too; here is what none of them runs.
Budget: about 7 s.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from commandline import TINY, good, grey_bars, vae_np, validate

from vae_np import __version__
from vae_np.cli import app
from vae_np.cli.schema import NAMES, schema
from vae_np.data import bars
from vae_np.exercises import EXERCISES

NUMPY = ("--backend", "numpy")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The real result of every quick command, by its name."""
    place = tmp_path_factory.mktemp("place")
    np.save(place / "bars.npy", bars(4, 124, 0)[0])
    train = ("train", "--data", place / "bars.npy", "--epochs", 1, *TINY, *NUMPY, "--out", place / "run", "--json", "-")
    found = {"train": good(*train).json}
    for command in ("eval", "report", "sample", "reconstruct", "latent"):
        found[command] = good(command, place / "run", "--json", "-").json
    weights = place / "run" / "checkpoint.safetensors"
    found["convert"] = good("convert", weights, "--out", place / "again", "--json", "-").json
    found["info"] = good("info", "--json", "-").json
    found["study"] = good("study", 16, "--out", place / "study", "--json", "-").json
    (place / "pairs.py").write_text(
        "def twice_forward(x): return 2 * x, None\n"
        "def twice_backward(dout, cache): return 2 * dout\n"
        "def twice_example(rng): return rng.standard_normal((2, 3)),\n"
    )
    (place / "d22.py").write_text(EXERCISES["D22"].file_text(EXERCISES["D22"].solution_text))
    found["exercise"] = good("exercise", place / "d22.py", "--json", "-").json
    found["verify"] = good("verify", place / "pairs.py", "--json", "-").json
    return found


def test_there_is_a_schema_for_each_command_and_each_is_one() -> None:
    assert {*NAMES, "configs", "schema"} == set(app.COMMANDS)
    files = Path(app.__file__).parent / "schemas"
    assert {path.stem for path in files.glob("*.json")} == set(NAMES)
    for name in NAMES:
        jsonschema.Draft202012Validator.check_schema(schema(name))
        assert schema(name)["$id"] == f"vae-np/{name}/1"


def test_they_are_printed() -> None:
    assert json.loads(good("schema", "eval").out) == schema("eval")
    assert json.loads(good("schema").out) == {name: schema(name) for name in NAMES}
    refused = vae_np("schema", "evl")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("vae-np: command: got 'evl', expected one of train, eval, ")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bench"])
def test_a_key_too_many_or_too_few_is_seen(name: str, written: dict[str, Any]) -> None:
    """At the top and, where there is one, in the part that the command is for."""
    content = written[name]
    assert (content["schema"], content["version"]) == (f"vae-np/{name}/1", __version__)
    parts = [[], ["test"], ["test", "elbo"], ["train"], ["environment"], ["checks", 0], ["chapters", 0, "claims", 0]]
    parts += [["results", 0], ["results", 0, "rows", 0]]
    tried = 0
    for path in parts:
        try:
            part = content
            for key in path:
                part = part[key]
        except KeyError:
            continue
        tried += 1
        for spoil in (lambda part: part.update(foreign=1), lambda part: part.pop(next(iter(sorted(part))))):
            spoiled: Any = deepcopy(content)
            part = spoiled
            for key in path:
                part = part[key]
            spoil(part)
            if "schema" in spoiled:
                with pytest.raises(jsonschema.ValidationError):
                    validate(spoiled)
    assert tried >= 1


def test_every_estimator_and_a_model_without_a_likelihood(tmp_path: Path) -> None:
    grey_bars(tmp_path / "grey.npy")
    train = ("train", "--data", tmp_path / "grey.npy", "--epochs", 1, *TINY, *NUMPY)
    good(*train, "--out", tmp_path / "run")
    good(*train, "--likelihood", "bernoulli-grey", "--out", tmp_path / "grey")
    for estimator in ("is", "ais", "bdmc"):
        few = ("--samples", 2, *(() if estimator == "is" else ("--temperatures", 3, "--leapfrog", 1)))
        content = good("eval", tmp_path / "run", "--estimator", estimator, *few, "--images", 4, "--json", "-").json
        assert content["test"]["estimator"] == estimator
    assert good("eval", tmp_path / "grey", "--json", "-").json["test"]["log_likelihood"] is None
