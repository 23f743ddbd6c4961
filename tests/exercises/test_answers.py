"""Students' files: which exercise they answer, each in a process of its own, and a class that nothing ends.

Budget: about 45 s, nearly all of it other processes and timeouts.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from vae_np.errors import InputError
from vae_np.exercises import EXERCISES, answers

KL = EXERCISES["D22"]
SOLUTION = KL.file_text(KL.solution_text)
HEAD = "# vae-np exercise: D22\nimport numpy as np\n"


@pytest.mark.parametrize(
    ("name", "text", "exercise"),
    [
        ("a.py", "# vae-np exercise: D22", "D22"),
        ("a.py", "import x\r\n# vae-np exercise:d34-NUMBA\r\n# vae-np exercise: d22\r\n", "D22"),
        ("d25.py", "# vae-np exercise: D22", "D22"),
        ("a.cu", "// vae-np exercise: D34-cuda", "D34-cuda"),
        ("d22.py", "", "D22"),
        ("a.ipynb", '{"cells": [{"source": [\n  "# vae-np exercise: D25\\n",\n  "x"]}]}', "D25"),
        ("anna_D17-numba.py", "", "D17-numba"),
        ("anna_d22_v2.py", "def f(:", "D22"),
        ("work.py", "def adam(): pass", "D31"),
    ],
)
def test_a_file_says_which_exercise_it_answers(name: str, text: str, exercise: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert answers.exercise_of(tmp_path / name).name == exercise


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.py", b"", "it answers no exercise"),
        ("old22.py", b"def f(:", "it answers no exercise"),
        ("a.py", b"# vae-np exercise: D222", "it answers no exercise"),
        ("d22.py", b"x = 1\0", "it is no text"),
        ("d22.py", b" " * 2_000_000, "it has 2000000 bytes"),
        ("none.py", None, "there is no such file"),
    ],
)
def test_a_file_that_answers_none_says_so(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        answers.exercise_of(tmp_path / name)
    assert f"{name}: {message}" in str(error.value)
    result = answers.grade_file(tmp_path / name)
    assert (result.status, result.exercise) == ("unusable", "")
    assert result.message.startswith(message)


CLASS: dict[str, tuple[str, str, str]] = {
    # file: what it holds, the verdict, a part of the message
    "anna/d22.py": (SOLUTION, "passed", ""),
    "ben/d22.py": (KL.file_text(KL.blank_text), "blank", "kl is still blank"),
    # It sleeps, so that the others are not held up by more than its place among those that run at once.
    "carl/d22.py": (
        HEAD + "import time\nwhile True: time.sleep(1)\n", "unusable", "stopped after 25 s while the file is imported"),
    "dora/d22.py": (HEAD + "import os\nos.abort()\n", "unusable", "killed by SIGABRT while the file is imported"),
    "dora/exit_d22.py": (HEAD + "import sys\nsys.exit(0)\n", "unusable", "it calls sys.exit(0) (line 4)"),
    "dora/later_d22.py": (HEAD + "def kl(a, b): raise SystemExit\n", "wrong", "kl: it calls sys.exit(None)"),
    "dora/gone_d22.py": (HEAD + "import os\ndef kl(a, b): os._exit(0)\n", "unusable", "exit code 0 while kl runs"),
    "emil/d22.py": (SOLUTION + "\nprint('x' * 10**6)\nprint('{\"event\": \"grade\"}')\n", "passed", ""),
    "emil/closed_d22.py": (SOLUTION + "\nimport os\nos.close(1)\nos.close(2)\n", "passed", ""),
    "fred/d22.py": (HEAD + "import nothing_of_this_name\n", "unusable", "nothing_of_this_name is not installed"),
    "gina/d22.py": (HEAD + "def kl(mu, logvar:\n", "unusable", "does not import: SyntaxError"),
    "gina/two_d22.py": (HEAD + "print 'hello'\n", "unusable", "it is written for Python 2"),
    "hans/d22.py": (HEAD + "kl = 3\n", "unusable", "kl: got int, expected a function"),
    "hans/none_d22.py": (HEAD, "unusable", "it has no function kl"),
    "ines/d22.py": (HEAD + "def kl(a, b): return a / 0, b.no_such_thing\n", "wrong", "kl raised AttributeError"),
    "ines/deep_d22.py": (HEAD + "def kl(a, b): return kl(a, b)\n", "wrong", "kl raised RecursionError"),
    "jan/d22.py": (HEAD + "def kl(a, b): return np.ones(10**11)\n", "wrong", "kl raised"),
    "jan/fork_d22.py": (
        SOLUTION.replace("    value", "    import os\n    if os.fork() == 0: os._exit(1)\n    value"), "passed", ""),
    "kim/d22.ipynb": (
        json.dumps({"cells": [{"cell_type": "code", "source": ["%matplotlib inline\n"]},
                              {"cell_type": "code", "source": SOLUTION.splitlines(keepends=True)}]}, indent=1),
        "passed", ""),
    "notes.py": ("# what is due until Monday\n", "unusable", "it answers no exercise"),
}  # fmt: skip


def test_a_class_is_graded_whatever_its_files_do(tmp_path: Path) -> None:
    for name, (text, _, _) in CLASS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    for ignored in (".git/d22.py", "anna/__pycache__/d22.py", "anna/.d22.py", "anna/d22.txt"):
        (tmp_path / ignored).parent.mkdir(exist_ok=True)
        (tmp_path / ignored).write_text("raise SystemExit")
    os.symlink(tmp_path, tmp_path / "anna" / "round")
    paths = answers.files_of_class(tmp_path)
    results = [answers.relative_to(one, tmp_path) for one in answers.grade_files(paths, answers.Limits(25), workers=2)]
    assert [result.path for result in results] == sorted(CLASS, key=lambda name: (Path(name).parts[:-1] != (), name))
    for result in results:
        _, status, message = CLASS[result.path]
        assert (result.status, message in result.message) == (status, True), result
        assert "\n" not in result.message
        assert len(result.output) <= 2000


def check_stopped(path: Path, doing: str) -> None:
    """Hold a file that never ends to being stopped in this; the limit doubles until the process has come so far."""
    for seconds in (4, 8, 16, 32):
        result = answers.grade_file(path, answers.Limits(seconds))
        if doing in result.message:
            break
    assert (result.status, result.message) == ("unusable", f"stopped after {seconds} s while {doing}")


@pytest.mark.parametrize(
    ("text", "doing"),
    [("while True: pass\n", "the file is imported"), ("def kl(a, b):\n    while True: pass\n", "kl runs")],
)
def test_a_loop_without_an_end_is_stopped(text: str, doing: str, tmp_path: Path) -> None:
    (tmp_path / "d22.py").write_text(HEAD + text)
    check_stopped(tmp_path / "d22.py", doing)


def test_the_time_limit_ends_what_the_file_has_started_as_well(tmp_path: Path) -> None:
    path = tmp_path / "d22.py"
    path.write_text(HEAD + "import subprocess, sys\nsubprocess.run(['sleep', '300'])\n")
    started = time.monotonic()
    check_stopped(path, "the file is imported")
    assert time.monotonic() - started < 200


def test_what_runs_is_ended_where_the_results_are_no_longer_wanted(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"d22_{number}.py").write_text(SOLUTION if number == 0 else "import time\ntime.sleep(100)\n")
    started = time.monotonic()
    results = answers.grade_files(answers.files_of_class(tmp_path), answers.Limits(90), workers=2)
    assert next(results).status == "passed"
    results.close()
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("what", ["nothing", "a file", "a folder without answers"])
def test_a_folder_without_a_class_is_refused(what: str, tmp_path: Path) -> None:
    place = tmp_path / "class"
    if what == "a file":
        place.write_text("")
    elif what != "nothing":
        place.mkdir()
        (place / "notes.txt").write_text("D22")
    with pytest.raises(InputError, match=r"^all: "):
        answers.files_of_class(place)


def test_hints_go_on_from_call_to_call_and_a_damaged_count_starts_anew(tmp_path: Path) -> None:
    for expected in (1, 2, 3, 3):
        assert answers.next_hint(KL, tmp_path) == expected
        answers.count_hint(KL, tmp_path, expected)
    assert answers.next_hint(EXERCISES["D25"], tmp_path) == 1
    (tmp_path / answers.HINTS_FILE).write_text("[1, 2")
    assert answers.next_hint(KL, tmp_path) == 1
    (tmp_path / answers.HINTS_FILE).write_text('{"D22": "two", "D25": -3}')
    assert answers.next_hint(KL, tmp_path) == 1
