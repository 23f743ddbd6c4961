"""Each exercise: its solution passes, its blank does not, and wrong answers are told what is wrong with them.

Budget: about 30 s, of which g++ and Numba take more than half.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from right_answers import RIGHT
from trees import ROOT
from wrong_answers import TABLE, Wrong

from vae_np.errors import InputError
from vae_np.exercises import EXERCISES, Exercise, answers, cuda_on_cpu, find
from vae_np.exercises.exercise import AnswerError, shown
from vae_np.exercises.grading import Grade, as_results, copies, grade
from vae_np.exercises.worker import judge
from vae_np.gradcheck import Report, Row
from vae_np.gradcheck.findings import Verdict

every = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)


def answer(exercise: Exercise, text: str) -> Callable[..., Any]:
    """The function of a student's file with this answer."""
    if exercise.language == "cuda":
        if cuda_on_cpu.compiler() is None:
            pytest.skip("g++ is not installed")
        return exercise.loaded(exercise.file_text(text))
    names: dict[str, Any] = {"__name__": "answer"}
    exec(exercise.file_text(text), names)
    return names[exercise.function]  # type: ignore[no-any-return]


def graded(exercise: Exercise, text: str) -> Grade:
    return grade(exercise, answer(exercise, text))


def test_there_are_at_least_24_in_the_order_of_the_derivation() -> None:
    assert len(EXERCISES) >= 24
    chapters = [exercise.chapter for exercise in EXERCISES.values()]
    assert chapters == sorted(chapters)
    assert set(TABLE) == set(EXERCISES)


def test_every_backward_formula_of_chapters_8_and_13_is_asked_for() -> None:
    assert {f"D{n}" for n in (*range(25, 31), *range(42, 46))} <= EXERCISES.keys()


@every
def test_its_mark_stands_in_its_chapter(exercise: Exercise) -> None:
    (chapter,) = (ROOT / "docs" / "derivation").glob(f"{exercise.chapter:02d}-*.md")
    assert f'<a id="{exercise.name.partition("-")[0]}"></a>' in chapter.read_text(encoding="utf-8")


@pytest.mark.parametrize("chapter", sorted({exercise.chapter for exercise in EXERCISES.values()}))
def test_a_chapter_names_its_exercises(chapter: int) -> None:
    (page,) = (ROOT / "docs" / "derivation").glob(f"{chapter:02d}-*.md")
    (line,) = re.findall(r"^\*\*Graded\.\*\*.*?\n\n", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    of_chapter = [name for name, exercise in EXERCISES.items() if exercise.chapter == chapter]
    assert re.findall(r"`(?:vae-np\s+exercise\s+)?(D[\w-]+)`", line) == of_chapter


def test_the_page_shows_a_file_as_it_is_handed_out() -> None:
    page = (ROOT / "docs" / "exercises.md").read_text(encoding="utf-8")
    exercise = EXERCISES["D29"]
    top, _, rest = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0].partition("...\n")
    text = exercise.file_text(exercise.blank_text)
    assert text.startswith(top)
    assert text.endswith(rest)


def test_what_the_page_says_of_a_wrong_answer() -> None:
    page = (ROOT / "docs" / "exercises.md").read_text(encoding="utf-8")
    found = graded(EXERCISES["D29"], re.findall(r"```python\n(.*?)```", page, re.DOTALL)[1])
    assert [f"d29.py: WRONG: {cause}" in page for cause in found.causes] == [True, True]


@every
def test_the_solution_passes_without_a_remark(exercise: Exercise) -> None:
    found = graded(exercise, exercise.solution_text)
    assert (found.status, found.message, found.remarks) == ("passed", "", [])
    against = {row.against for row in found.rows}
    assert "exact answer" in against
    assert (len(against) > 1) == (exercise.verify is not None)


@every
def test_the_blank_fails_with_one_line(exercise: Exercise, tmp_path: Path) -> None:
    path = tmp_path / exercise.file_name
    path.write_text(exercise.file_text(exercise.blank_text), encoding="utf-8")
    found = judge(exercise, path, lambda **event: None)
    assert (found.status, found.message) == ("blank", f"{exercise.function} is still blank")
    assert answers.exercise_of(path) is exercise


@every
def test_the_file_is_one_that_python_reads_and_lines_are_short(exercise: Exercise) -> None:
    text = exercise.file_text(exercise.blank_text)
    assert max(map(len, text.splitlines())) <= 120
    assert exercise.solution_text not in text
    if exercise.language == "python":
        defined = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
        assert defined == [*(given.__name__ for given in exercise.given), exercise.function]
    assert 3 <= len(exercise.hints) <= 4


@every
def test_the_shapes_are_as_stated(exercise: Exercise) -> None:
    for case in exercise.cases():
        exact = as_results(exercise, exercise.exact(*copies(case.arguments)))
        for array, axes in zip(exact, exercise.returns.values(), strict=True):
            expected = tuple(int(a) if a.isdigit() else np.prod([case.sizes[c] for c in a]) for a in axes.split())
            assert array.shape == expected, shown(axes)
        for argument, value in zip(exercise.arguments, case.arguments, strict=True):
            if isinstance(value, np.ndarray):
                assert value.shape == argument.shape(case.sizes), argument.name
            else:
                assert argument.axes == "", argument.name


@pytest.mark.parametrize(
    "exercise",
    [
        # g++ takes two seconds for each, and the table below has some of them.
        pytest.param(one, id=name, marks=pytest.mark.slow if one.language == "cuda" else ())
        for name, one in EXERCISES.items()
    ],
)
def test_each_known_mistake_is_one_and_is_named(exercise: Exercise) -> None:
    assert len(exercise.mistakes) >= 3
    for mistake in exercise.mistakes:
        found = graded(exercise, mistake.applied_to(exercise.solution_text))
        assert found.status == "wrong", mistake
        assert any(cause.by == "mistake" for cause in found.causes), mistake


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        pytest.param(name, wrong, id=f"{name}-{number}")
        for name, five in TABLE.items()
        for number, wrong in enumerate(five, start=1)
    ],
)
def test_a_wrong_answer_fails_and_is_told_why(name: str, wrong: Wrong) -> None:
    exercise = EXERCISES[name]
    assert exercise.solution_text.count(wrong.old) == 1
    found = graded(exercise, exercise.solution_text.replace(wrong.old, wrong.new))
    assert found.status == "wrong"
    assert found.message
    assert "\n" not in found.message
    assert wrong.cause in "; ".join(map(str, found.causes))


@every
def test_five_wrong_answers_of_which_four_are_told_why_and_two_are_not_on_the_list(exercise: Exercise) -> None:
    five = TABLE[exercise.name]
    assert len(five) == len(set(five)) == 5
    assert sum(bool(wrong.cause) for wrong in five) >= 4
    known = {mistake.applied_to(exercise.solution_text) for mistake in exercise.mistakes}
    unknown = [wrong for wrong in five if exercise.solution_text.replace(wrong.old, wrong.new) not in known]
    causes = {mistake.cause for mistake in exercise.mistakes}
    named_otherwise = [wrong for wrong in unknown if wrong.cause and not any(wrong.cause in text for text in causes)]
    assert len(unknown) >= 2
    assert named_otherwise, "none of those that are not on the list has its cause named by a rule"


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_in_other_words_passes(name: str) -> None:
    found = graded(EXERCISES[name], RIGHT[name])
    assert found.status == "passed", (found.message, found.causes)


def test_digits_that_are_lost_near_the_prior_are_remarked_on() -> None:
    found = graded(EXERCISES["D22"], RIGHT["D22"])
    assert found.status == "passed"
    assert any("np.expm1" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pass", "affine_backward returned nothing, expected dx, dweight, dbias"),
        ("...", "affine_backward returned nothing, expected dx, dweight, dbias"),
        ("return dy", "affine_backward returned 1 results, expected 3: dx, dweight, dbias"),
        ("return dy, dy", "affine_backward returned 2 results, expected 3: dx, dweight, dbias"),
        ("return dy, 'x', 2", "dweight: got str, expected an array of numbers"),
        ("return 1j * dy, x, 2", "dx: got complex numbers, expected an array of numbers"),
        ("return [[1], [1, 2]], x, 2", "dx: got rows of different lengths, expected an array"),
        ("dy *= 0; return dy, x, 2", "dy: it is changed in place, expected to be left as it is"),
        ("return dy @ weight", "affine_backward raised "),
        ("return dy @ weight.T, x.T @ dy, dy.sum()", "dbias: got shape (), expected (2,): a sum over the outputs"),
        (
            "return dy @ weight.T, x.T @ dy, dy.sum(0)[None]",
            "dbias: got shape (1, 2), expected (2,): the values are right",
        ),
        ("return dy @ weight.T, dy.T @ x, dy.sum(0)", "dweight: got shape (2, 4), expected (4, 2): it is transposed"),
        ("return dy @ weight.T, x.T @ dy, dy.sum(0) * float('nan')", "dbias: it is not a number in places"),
        ("return dy @ weight.T, x.T @ dy, dy.sum(0) / 0.0", "dbias: it is infinite in places"),
        ("raise ValueError('not yet')", "affine_backward raised not yet"),
    ],
)
def test_what_is_no_answer_is_told_in_a_line(body: str, message: str) -> None:
    found = graded(EXERCISES["D25"], f"def affine_backward(dy, x, weight):\n    {body}\n")
    assert found.status == "wrong"
    assert found.message.startswith(message)


@pytest.mark.parametrize("signature", ["dy, x", "dy, x, weight, bias", "", "*, dy, x, weight"])
def test_another_signature_is_refused(signature: str) -> None:
    found = graded(EXERCISES["D25"], f"def affine_backward({signature}): pass\n")
    assert found.status == "unusable"
    assert found.message == f"affine_backward: takes ({signature}), expected (dy, x, weight)"


@pytest.mark.parametrize(("verdict", "status"), [("unclear", "passed"), ("FAIL", "wrong")])
def test_where_the_verifier_is_not_sure_the_exact_answers_decide(verdict: Verdict, status: str) -> None:
    doubtful = Report("kl", 0, rows=[Row("mu", (5, 3), "float64", "complex step", verdict)])
    exercise = replace(EXERCISES["D22"], verify=lambda answer: doubtful)
    assert graded(exercise, exercise.solution_text).status == status


def test_a_kernel_that_is_not_compiled_is_refused() -> None:
    exercise = EXERCISES["D17-numba"]
    found = graded(exercise, exercise.solution_text.replace("@njit\n", ""))
    assert (found.status, "put @njit" in found.message) == ("unusable", True)


def test_an_exercise_is_found_by_its_name_in_any_case() -> None:
    assert find("d34-CUDA") is EXERCISES["D34-cuda"] is find("d34_cuda")
    with pytest.raises(InputError, match=r"exercise: got 'D222', expected one of D3, .*did you mean D22\?"):
        find("D222")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("top + log(", "top + lgo(", "it does not compile: line 36: "),
        ("log_mean_exp(const", "another(const", "it has no kernel log_mean_exp"),
        ("int batch, double* bound", "int batch, int more, double* bound", "got 4 arguments, expected 5"),
        (
            "const int t = ",
            "if (threadIdx.x == 3) return; const int t = ",
            "wait at different barriers, or some have ended",
        ),
    ],
)
def test_a_kernel_that_no_device_would_run_is_told_so(old: str, new: str, message: str) -> None:
    exercise = EXERCISES["D34-cuda"]
    try:
        told = graded(exercise, exercise.solution_text.replace(old, new)).message
    except AnswerError as error:
        told = str(error)
    assert message in told
