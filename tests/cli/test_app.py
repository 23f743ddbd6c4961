"""The commands put together: which files are imported, the version, and what a shell completes.

Budget: about 6 s, all of it other processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from commandline import good, vae_np

from vae_np import __version__, backends, config
from vae_np.cli import app
from vae_np.config import Config
from vae_np.evaluation.held_out import ESTIMATORS

FOLDER = Path(app.__file__).parent
HEAVY = {"numba", "llvmlite", "cupy", "matplotlib", "PIL", "scipy", "torch", "jax"}


def loaded(*arguments: str) -> set[str]:
    """The modules that a process has imported after `vae-np` with these arguments."""
    script = (
        "import sys\n"
        "from vae_np import cli\n"
        f"sys.argv = ['vae-np', *{arguments!r}]\n"
        "try: cli.main()\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)\n"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(process.stderr.split())


def test_help_imports_every_command_and_nothing_heavy() -> None:
    modules = loaded("--help")
    assert {f"vae_np.cli.{name}" for name in app.COMMANDS} <= modules
    assert not {name.partition(".")[0] for name in modules} & HEAVY


def test_a_command_imports_its_own_file_alone() -> None:
    modules = loaded("eval", "--help")
    assert {name for name in app.COMMANDS if f"vae_np.cli.{name}" in modules} == {"eval"}


def test_each_command_has_a_file_of_its_name() -> None:
    assert all((FOLDER / f"{name}.py").is_file() for name in app.COMMANDS)
    told = good("--help").out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in told] == list(app.COMMANDS)


@pytest.mark.parametrize("arguments", [("--version",), ("--version", "train"), ("--version", "--help")])
def test_the_version(arguments: tuple[str, ...]) -> None:
    assert good(*arguments).out == f"vae-np {__version__}\n"


def test_an_unknown_command_names_the_closest() -> None:
    result = vae_np("evl", "--samples", 3)
    assert (result.code, result.out) == (2, "")
    assert result.err == "vae-np: No such command 'evl'. Did you mean 'eval'?\n"


def asking(typed: str) -> dict[str, str]:
    """The variables in which bash asks what may stand behind `vae-np TYPED`."""
    words = ["vae-np", *typed.split(" ")]
    return {
        "_VAE_NP_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }


def test_a_process_completes() -> None:
    command = [sys.executable, "-m", "vae_np"]
    process = subprocess.run(command, env={**os.environ, **asking("re")}, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.split() == ["report", "reconstruct"]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", list(app.COMMANDS)),
        ("re", ["report", "reconstruct"]),
        ("train --activation ", ["relu", "tanh", "softplus"]),
        ("train --backend n", ["numpy", "numba"]),
        ("train --config burda2015-i", ["burda2015-iwae5", "burda2015-iwae50"]),
        ("eval --estimator ", list(ESTIMATORS)),
        ("eval --per", ["--per-example"]),
        ("bench --backend ", list(backends.CHOICES)),
        ("study 12", ["12-perspectives"]),
        ("sample runs/b", ["runs/best"]),
    ],
)
def test_what_a_shell_completes(
    typed: str, offered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("best", "other"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "checkpoint.safetensors").touch()
    (tmp_path / "runs" / "broken").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, value in asking(typed).items():
        monkeypatch.setenv(name, value)
    assert good().out.split() == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_that_a_shell_reads(shell: str) -> None:
    """It names the variable that this package listens to."""
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    arguments = [sys.executable, "-m", "vae_np", "--show-completion", shell]
    script = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout
    assert "_VAE_NP_COMPLETE" in script
    assert "vae-np" in script


def test_every_setting_is_an_option_of_train() -> None:
    told = " ".join(good("train", "--help").out.split())
    assert all(f"--{name.replace('_', '-')} " in told for name in Config().__dataclass_fields__)


def test_shipped_configurations_are_listed_and_printed_as_they_stand() -> None:
    listed = good("configs").out.splitlines()
    assert [line.split()[0] for line in listed] == list(config.shipped())
    assert all(line.endswith(".") for line in listed)
    for name in config.shipped():
        for key, value in tomllib.loads(good("configs", name).out).items():
            assert getattr(config.load(name), key) == (tuple(value) if isinstance(value, list) else value)
    refused = vae_np("configs", "kingma2013")
    assert refused.code == 2
    assert refused.err.endswith("(did you mean 'kingma2014'?)\n")


@pytest.mark.parametrize("command", [(), *((name,) for name in app.COMMANDS)], ids=lambda command: " ".join(command))
def test_h_is_help(command: tuple[str, ...]) -> None:
    assert good(*command, "-h").out == good(*command, "--help").out
