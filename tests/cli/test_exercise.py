"""`vae-np exercise`: the list, a file handed out and graded, hints and solutions, a class, and what is refused.

Budget: about 5 s, nearly all of it other processes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import good, snapshot, vae_np

from vae_np.exercises import EXERCISES

KL = EXERCISES["D22"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder, in which a student works."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_list() -> None:
    shown = good("exercise").out
    assert all(f"│ {name} " in shown and exercise.title in shown for name, exercise in EXERCISES.items())
    content = good("exercise", "--json", "-").json
    assert [entry["name"] for entry in content["exercises"]] == list(EXERCISES)
    assert content["action"] == "list"


def test_from_the_blank_to_the_answer(folder: Path) -> None:
    written = good("exercise", "d22")
    assert written.out == (
        "wrote    d22.py: The KL to the standard normal, and its gradient (chapter 7)\n"
        "grade it: vae-np exercise d22.py\n"
    )
    text = Path("d22.py").read_text(encoding="utf-8")
    assert text == KL.file_text(KL.blank_text)
    blank = vae_np("exercise", "d22.py")
    assert (blank.code, blank.out.splitlines()[0]) == (1, "d22.py: BLANK: kl is still blank")

    Path("d22.py").write_text(text.replace(KL.blank_text, KL.solution_text.replace("dlogvar = 0.5", "dlogvar = 0.25")))
    wrong = vae_np("exercise", "d22.py")
    assert wrong.code == 1
    assert "d22.py: WRONG: dlogvar: the derivative in logvar has the factor ½, not ¼" in wrong.out
    assert "│ ∂/∂logvar │" in wrong.out

    Path("d22.py").write_text(text.replace(KL.blank_text, KL.solution_text))
    passed = good("exercise", "d22.py")
    assert passed.out.splitlines()[-1] == "d22.py: passed"
    content = good("exercise", "d22.py", "--json", "-").json
    assert (content["passed"], content["wrong"], content["results"][0]["exercise"]) == (1, 0, "D22")
    assert sorted(snapshot(folder)) == ["d22.py"]


def test_nothing_is_overwritten(folder: Path) -> None:
    Path("d25.py").write_text("mine")
    Path("link.py").symlink_to("nowhere")
    before = snapshot(folder)
    for arguments in (
        ("D22", "D25"),
        ("D22", "--out", "d25.py"),
        ("D22", "--out", folder),
        ("D22", "--out", "link.py"),
    ):
        refused = vae_np("exercise", *arguments)
        assert (refused.code, refused.out) == (2, "")
        assert refused.err.startswith("vae-np: out: ")
        assert refused.err.count("\n") == 1
    assert snapshot(folder) == before


def test_a_file_of_another_name_is_graded_as_well() -> None:
    good("exercise", "D25", "--out", "anna/one.py")
    assert "Grade this file:  vae-np exercise one.py" in Path("anna/one.py").read_text()
    assert vae_np("exercise", "anna/one.py").out.startswith("anna/one.py: BLANK")


def test_hints_come_by_degrees() -> None:
    good("exercise", "D22")
    for number, arguments in enumerate((("D22", "--hint"), ("--hint", "d22.py"), ("D22", "--hint")), start=1):
        assert good("exercise", *arguments).out.startswith(f"D22, hint {number} of 3: {KL.hints[number - 1]}\n")
    assert "--solution shows the solution" in good("exercise", "D22", "--hint").out
    second = good("exercise", "D22", "--hint", 2, "--json", "-").json
    assert second["hint"] == {"number": 2, "of": 3, "text": KL.hints[1]}
    assert good("exercise", "--hint", 1, "D25").out.startswith("D25, hint 1 of 3: ")


def test_the_solution_is_one() -> None:
    assert good("exercise", "D22", "--solution").out == KL.solution_text
    Path("d22.py").write_text(good("exercise", "D22", "--solution", "--json", "-").json["solution"])
    good("exercise", "d22.py")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("D222",), "exercise: got 'D222', expected one of D3, "),
        (("D22", "d25.py"), "exercise: got 'D22' beside a file, expected names or files, not both"),
        (("d25.py", "--out", "x.py"), "out: got 'x.py', but a file to grade"),
        (("D22", "D25", "--out", "x.py"), "out: got 'x.py' for 2 exercises, expected one"),
        (("--hint",), "exercise: none was named"),
        (("--solution",), "exercise: none was named"),
        (("--out", "x.py"), "exercise: none was named"),
        (("D22", "--hint", "0"), "hint: got 0, expected 1 to 3"),
        (("D22", "--hint", "4"), "hint: got 4, expected 1 to 3"),
        (("D22", "D25", "--hint"), "exercise: got 2, expected one"),
        (("nothing.py", "--hint"), "nothing.py: there is no such file"),
        (("--all", "nowhere"), "all: got 'nowhere', expected a folder"),
        (("--all", ".", "D22"), "all: it grades a folder"),
        (("D22", "--timeout", "0"), "timeout: got 0, expected a whole number >= 1"),
        (("D22", "--memory", "x"), "memory: got 'x', expected a whole number"),
        (("D22", "--json", "."), "json: got '.'"),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments: tuple[str, ...], message: str, folder: Path) -> None:
    refused = vae_np("exercise", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(f"vae-np: {message}")
    assert refused.err.count("\n") == 1
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["nothing.py", ".", "binary.py"])
def test_what_is_no_answer_has_exit_code_2(name: str) -> None:
    Path("binary.py").write_bytes(bytes(range(256)))
    result = vae_np("exercise", name)
    assert result.code == 2
    assert result.out.startswith(f"{name}: UNUSABLE: ")


def test_a_class() -> None:
    for student, text in (("anna", KL.solution_text), ("ben", KL.blank_text), ("carl", "def kl(): pass\n")):
        Path(f"class/{student}").mkdir(parents=True)
        Path(f"class/{student}/d22.py").write_text(KL.file_text(text))
    result = vae_np("exercise", "--all", "class", "--json", "-")
    assert result.code == 1
    content = result.json
    assert {one["path"]: one["status"] for one in content["results"]} == {
        "anna/d22.py": "passed", "ben/d22.py": "blank", "carl/d22.py": "unusable",
    }  # fmt: skip
    assert (content["passed"], content["wrong"], content["blank"], content["unusable"]) == (1, 0, 1, 1)
    assert "1 passed, 0 wrong, 1 blank, 1 unusable" in result.err
    Path("class/ben/d22.py").unlink()
    Path("class/carl/d22.py").unlink()
    assert good("exercise", "--all", "class").out.splitlines()[-1] == "1 passed, 0 wrong, 0 blank, 0 unusable"
