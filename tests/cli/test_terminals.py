"""What is around a command: a terminal's encoding and width, closed streams, Ctrl-C while modules are imported.

Budget: about 30 s, nearly all of it other processes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from commandline import TINY, good

from vae_np import cli
from vae_np.cli.output import Output
from vae_np.data import bars
from vae_np.errors import InputError

ENCODINGS = ("ascii", "cp1252", "cp932", "gbk")
NUMPY = ("--backend", "numpy")
# Pairs that are right, under a name that no narrow encoding has.
PAIRS = """
def square_forward(x):
    return x * x, x

def square_backward(dout, x):
    return 2 * x * dout

def square_example(rng):
    return rng.standard_normal((3, 2)),
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on bars, its data, and a file of someone's gradients."""
    place = tmp_path_factory.mktemp("place")
    np.save(place / "bars.npy", bars(4, 124, 0)[0])
    good("train", "--data", place / "bars.npy", "--epochs", 2, *TINY, *NUMPY, "--out", place / "run")
    (place / "±µ.py").write_text(PAIRS, encoding="utf-8")
    return place


COMMANDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "--data", "bars.npy", "--epochs", "1", *map(str, TINY), *NUMPY, "--out", "new", "--overwrite"),
    "eval": ("eval", "run", "--samples", "2", *NUMPY, "--no-plots"),
    "info": ("info",),
    "verify": ("verify", "±µ.py"),
    "study": ("study", "16", "--out", "figures"),
}


def check(name: str, code: int, out: bytes, err: str, encoding: str, place: Path) -> None:
    """A whole result in text that the terminal can show, and in the JSON file; no traceback."""
    assert (code, "Traceback" in err) == (0, False), err
    text = out.decode(encoding)
    last = {"train": "run ", "eval": "KL per latent", "info": "auto ", "verify": "square", "study": "hold, 0 fail"}
    assert last[name] in text
    content = json.loads((place / "result.json").read_bytes())
    assert content["schema"] == f"vae-np/{name}/1"
    assert not any(character in text for character in "┏━│") or encoding in ("cp932", "gbk")
    if name in ("train", "eval"):
        assert re.search(r"ELBO +[|│] +-\d+\.\d\d (\?|±) \d\.\d\d", text)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_terminal_that_cannot_show_everything_is_shown_the_rest(name: str, place: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "vae_np", *COMMANDS[name], "--json", "result.json"]
    process = subprocess.run(command, cwd=place, env=environment, capture_output=True)
    check(name, process.returncode, process.stdout, process.stderr.decode("ascii"), "ascii", place)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "study"])
def test_every_encoding(name: str, encoding: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in this process, where standard output refuses what it cannot encode, as a terminal's does."""
    monkeypatch.chdir(place)
    out, err = io.BytesIO(), io.StringIO()
    stream = io.TextIOWrapper(out, encoding=encoding, errors="strict")
    argv = ["vae-np", *COMMANDS[name], "--json", "result.json"]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(stream),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        cli.main()
    check(name, int(end.value.code or 0), out.getvalue(), err.getvalue(), encoding, place)


def test_names_that_are_no_utf_8_are_shown_as_far_as_they_can_be(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    run = os.fsdecode(b"r\xff")
    try:
        os.mkdir(run)
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    for arguments in (
        ("train", *COMMANDS["train"][1:-2], run),
        ("eval", run, "--samples", "2", "--no-plots", "--per-example", os.fsdecode(b"e\xff.npz")),
        ("sample", run, "--out", os.fsdecode(b"s\xff.png")),
        ("train", "--resume", run, "--epochs", "2", "--no-plots"),
    ):
        command = [sys.executable, "-m", "vae_np", *arguments]
        process = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "utf-8"})
        assert process.returncode == 0, process.stderr
        assert b"r?" in process.stdout
    command = [sys.executable, "-m", "vae_np", "train", "--data", os.fsdecode(b"d\xff.npy")]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr == (
        "vae-np: data: got 'd\\udcff.npy', expected the name of a built-in data set or the path of a file or "
        "folder in UTF-8\n"
    )


def test_results_reach_the_file_where_the_text_cannot_be_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the text is told where the file cannot be written."""
    monkeypatch.chdir(place)

    def unread() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Output("told.json").result("eval", {"seed": 3}, unread)
    assert json.loads(Path("told.json").read_text())["seed"] == 3
    Path("held").mkdir()
    output = Output("held/result.json")
    told: list[str] = []
    Path("held").rmdir()
    Path("held").write_text("a file where the folder was")
    with pytest.raises(InputError, match=r"^json: held/result.json: cannot be written \("):
        output.result("eval", {}, lambda: told.append("the table"))
    assert told == ["the table"]


# Closed streams


@pytest.mark.skipif(sys.platform == "win32", reason="a shell that closes streams")
@pytest.mark.parametrize("command", ["info", "train --data bars --epochs 1", "--help"])
def test_a_closed_standard_output_is_one_line(command: str, tmp_path: Path) -> None:
    line = f"{sys.executable} -m vae_np {command}"
    process = subprocess.run(["sh", "-c", f"{line} >&-"], cwd=tmp_path, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (
        2,
        "vae-np: output: standard output is closed, expected a file, a pipe or a terminal\n",
    )
    assert subprocess.run(["sh", "-c", f"{line} >&- 2>&-"], cwd=tmp_path).returncode == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="a shell that closes streams")
def test_a_closed_standard_error_keeps_no_command_from_its_work(tmp_path: Path) -> None:
    line = f"{sys.executable} -m vae_np info --json r.json 2>&-"
    process = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert (process.returncode, process.stdout[:7]) == (0, "vae-np ")
    assert json.loads((tmp_path / "r.json").read_text())["schema"] == "vae-np/info/1"


def test_without_a_home_nothing_else_is_said(place: Path) -> None:
    """Matplotlib would tell at length which folder it takes instead."""
    environment = {name: value for name, value in os.environ.items() if name not in ("MPLCONFIGDIR", "XDG_CONFIG_HOME")}
    command = [sys.executable, "-m", "vae_np", "train", *COMMANDS["train"][1:-2], "homeless"]
    command.remove("--no-plots")
    process = subprocess.run(
        command, cwd=place, env={**environment, "HOME": os.devnull}, capture_output=True, text=True, encoding="utf-8"
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert (place / "homeless" / "samples.png").exists()


# Ctrl-C while modules are imported


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    "module", ["vae_np.cli.app", "typer", "vae_np.config", "numpy", "vae_np.model", "vae_np.cli.eval", "rich.progress"]
)
def test_ctrl_c_while_a_module_is_imported(module: str) -> None:
    """A signal at the moment when the module is looked for: one line and 130, whichever it is."""
    script = (
        "import signal, sys\n"
        "class Pressing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Pressing())\n"
        "from vae_np.cli import main\n"
        f"assert {module!r} not in sys.modules\n"
        "sys.argv = ['vae-np', 'eval', 'nowhere']\n"
        "main()\n"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (130, "", "vae-np: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_while_kernels_are_imported(place: Path) -> None:
    """They come with the work, where what was pressed is told as everywhere in it."""
    script = (
        "import signal, sys\n"
        "class Pressing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'vae_np.kernels.cpu': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Pressing())\n"
        "from vae_np.cli import main\n"
        "sys.argv = ['vae-np', 'info']\n"
        "main()\n"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (130, "vae-np: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_that_is_ignored_stays_so() -> None:
    """As in a process that a script has started in the background."""
    script = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from vae_np.cli.interrupts import asking_to_stop, leaving_at_once\n"
        "with leaving_at_once(): signal.raise_signal(signal.SIGINT)\n"
        "with asking_to_stop() as asked:\n"
        "    for _ in range(2): signal.raise_signal(signal.SIGINT)\n"
        "    assert not asked()\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    assert asked()\n"
        "assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")


# A terminal


def terminal(
    command: list[str], cwd: Path, *, columns: int = 100, interrupt_at: bytes | None = None, **variables: str
) -> tuple[int, str]:
    """The exit code of a command on a terminal of its own, and what it wrote there; SIGINT once it wrote so much."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    control, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, b"\x18\x00" + columns.to_bytes(2, "little") + bytes(4))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    environment |= {"TERM": "xterm-256color", **variables}
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, cwd=cwd, env=environment)
    os.close(side)
    written = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            part = os.read(control, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
        if interrupt_at is not None and interrupt_at in written:
            process.send_signal(signal.SIGINT)
            interrupt_at = None
    os.close(control)
    return process.wait(timeout=60), written.decode("utf-8", errors="replace")


def screen(written: str, columns: int = 100) -> list[str]:
    """The lines that stand on a terminal at the end: carriage returns, lines up and erased lines carried out."""
    lines: list[list[str]] = [[]]
    row = column = 0
    for match in re.finditer(r"\x1b\[([?\d;]*)([A-Za-z])|(\r)|(\n)|([^\x1b])", written):
        argument, command, carriage_return, newline, character = match.groups()
        if command == "A":
            row = max(0, row - int(argument or 1))
        elif command == "K":
            lines[row] = [] if argument == "2" else lines[row][:column]
        elif carriage_return:
            column = 0
        elif newline or (character and column == columns):
            row, column = row + 1, 0 if character else column
            lines.extend([] for _ in range(row + 1 - len(lines)))
        if character:
            lines[row].extend(" " for _ in range(column + 1 - len(lines[row])))
            lines[row][column] = character
            column += 1
    return ["".join(line).rstrip() for line in lines]


def train_on_a_terminal(place: Path, *options: str, **how: Any) -> tuple[int, list[str]]:
    arguments = ("train", "--data", "bars.npy", *map(str, TINY), *NUMPY, "--out", "shown", "--overwrite", *options)
    code, written = terminal([sys.executable, "-m", "vae_np", *arguments], place, **how)
    assert "\x1b[2K" in written, "no bar was drawn"
    return code, screen(written, how.get("columns", 100))


def epochs(lines: list[str]) -> list[int]:
    return [int(line.split()[1]) for line in lines if re.match(r"epoch +\d+  validation ELBO -\d", line)]


@pytest.mark.parametrize("columns", [100, 60])
def test_the_lines_of_the_epochs_stay_on_a_terminal(columns: int, place: Path) -> None:
    """Each on a line of its own, once the bar is gone."""
    code, lines = train_on_a_terminal(place, "--epochs", "12", columns=columns)
    assert code == 0
    assert epochs(lines) == list(range(1, 13))
    assert not any("steps/s" in line for line in lines)
    assert lines[-2:] == ["run      shown", ""]


def test_they_stay_where_training_is_interrupted(place: Path) -> None:
    code, lines = train_on_a_terminal(place, "--epochs", "100000", interrupt_at=b"epoch   5")
    assert code == 130
    assert epochs(lines)[:5] == [1, 2, 3, 4, 5]
    assert "vae-np train --resume shown" in "".join(lines)


# Three rows of the kinds that there are, in place of a chapter that takes a minute; the last one fails.
STUDY = """
import sys
from vae_np import cli, study
from vae_np.study.claims import Result, at_most, equal
by = ("one computation, by Legendre sums over the definitions", "another, in closed form")
rows = [
    equal(1, "log p(x) − ELBO − KL(q‖p(z|x)), the largest of a hundred q", 1.23456789e-9, 0, 1e-8, by=by),
    at_most(12, "two modes: the best ELBO", -102.738, -102.5, by=by),
    equal(31, "the variance of one draw", 0.5, 0.2578125, 1e-6, by=by, relative=True),
]
study.run_chapter = lambda name, seed: Result(rows)
sys.argv = ["vae-np", "study", "7", "--out", "figures"]
cli.main()
"""
TABLES: dict[str, tuple[str, ...]] = {
    "info": ("-m", "vae_np", "info"),
    "eval": ("-m", "vae_np", "eval", "run", "--samples", "50", *NUMPY, "--no-plots"),
    "verify": ("-m", "vae_np", "verify", "±µ.py"),
    "study": ("-c", STUDY),
}
_FIGURE = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]\d+)?(?![\w.])|\b(?:ok|FAIL|composed|fused|passed)\b")


def rows_of(text: str) -> list[str]:
    """The rows of the tables in a command's output: between rules, or with a method of the verifier."""
    return [line for line in text.splitlines() if line.startswith("│") or "complex step" in line]


@pytest.mark.parametrize("name", TABLES)
def test_tables_keep_every_number_and_verdict_whole(name: str, place: Path) -> None:
    """On a narrow terminal with colours only text is wrapped; what stands in a table for a pipe is all there."""
    command = [sys.executable, *TABLES[name]]
    process = subprocess.run(command, cwd=place, capture_output=True, text=True, encoding="utf-8")
    wanted = Counter(figure for row in rows_of(process.stdout) for figure in _FIGURE.findall(row))
    assert wanted.total() > 3
    code, written = terminal(command, place, columns=60, FORCE_COLOR="1")
    assert code == process.returncode == (name == "study")
    found = Counter(figure for line in screen(written, 60) for figure in _FIGURE.findall(line))
    assert wanted - found == Counter()


def test_a_table_that_would_not_fit_is_found() -> None:
    """The measure of the test above: a number that the terminal folds is missed."""
    assert _FIGURE.findall("│ -102.74 ± 0.27 │ 1e-06 ok") == ["-102.74", "0.27", "1e-06", "ok"]
    assert Counter(_FIGURE.findall("-102.74")) - Counter(_FIGURE.findall("-102.\n74"))


def test_no_number_is_cut_short_on_a_narrow_terminal(place: Path) -> None:
    _, lines = train_on_a_terminal(place, "--epochs", "1", columns=24)
    assert re.search(r"^    mean -\d+\.\d\d ± \d\.\d\d$", "\n".join(lines), re.MULTILINE)
