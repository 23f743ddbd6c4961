"""Users' files: each in a process of its own, each ending as a clear row, none spoiling the others.

Budget: about 10 s, nearly all of it in starting processes and in waiting for two timeouts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vae_np.errors import InputError
from vae_np.verify.files import FileResult, exit_code, render, summary_line, verify_files

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
GOOD = """
import numpy as np

def tanh_forward(x):
    return np.tanh(x), np.tanh(x)

def tanh_backward(dout, out):
    return dout * (1 - out**2)

def tanh_example(rng):
    return (rng.standard_normal((3, 2)),)
"""


@pytest.fixture
def verify(tmp_path):
    def run(source, *, timeout=30.0, memory_limit_mb=2048, name="work.py") -> FileResult:
        path = tmp_path / name
        path.write_text(source, encoding="utf-8")
        (result,) = verify_files([path], timeout=timeout, memory_limit_mb=memory_limit_mb, seed=0)
        assert "vae_np" not in result.output, result.output  # no traceback of ours
        return result

    return run


def test_a_good_file_passes(verify):
    result = verify(GOOD)
    assert (result.status, result.message) == ("passed", "")
    assert [(pair.name, pair.status) for pair in result.pairs] == [("tanh", "passed")]
    assert exit_code([result]) == 0
    assert summary_line(result).endswith("work.py: passed (1 found: 1 passed)")
    assert "complex step" in render(result)
    data = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert data["pairs"][0]["report"]["rows"][0]["verdict"] == "ok"


def test_a_wrong_pair_fails_and_the_other_still_passes(verify):
    result = verify(
        GOOD + "\ndef neg_forward(x): return -x, None\ndef neg_backward(d, c): return d\nneg_example = tanh_example\n"
    )
    assert result.status == "failed"
    assert [pair.status for pair in result.pairs] == ["passed", "failed"]
    assert exit_code([result]) == 1
    assert "x: the sign is wrong everywhere" in result.pairs[1].text
    assert "load_subject('work.py', 'neg', seed=0)" in result.pairs[1].text
    assert "FAILED (2 found: 1 passed, 1 failed)" in summary_line(result)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import nothing_of_this_name",
            "does not import: ModuleNotFoundError: No module named 'nothing_of_this_name' (line 1)",
        ),
        ("def broken(:\n    pass", "does not import: SyntaxError: invalid syntax (line 1)"),
        ("x = 1\0", "does not import: it is not text"),
        ("x = 1\nraise SystemExit(0)", "does not import: it calls sys.exit(0) (line 2)"),
        ("x = 1", "no pair <name>_forward and <name>_backward"),
        ("import os\nos._exit(0)", "the process ended with exit code 0 while the file is imported"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV while the file is imported"),
        ("raise KeyboardInterrupt", "does not import: KeyboardInterrupt (line 1)"),
    ],
)
def test_files_that_cannot_be_used_say_why(verify, source, message):
    result = verify(source)
    assert result.status == "unusable"
    assert message in result.message
    assert exit_code([result]) == 2
    assert "UNUSABLE" in summary_line(result)


def test_a_file_that_begins_with_a_byte_order_mark_is_read(verify):
    assert verify("\ufeff" + GOOD).status == "passed"


def test_missing_files_and_folders(tmp_path):
    results = verify_files([tmp_path / "none.py", tmp_path])
    assert [r.status for r in results] == ["unusable", "unusable"]
    assert [r.message for r in results] == ["there is no such file", "this is not a file"]


PAIRS = """
import sys, time
import numpy as np
inputs = lambda rng: (rng.standard_normal((3, 2)),)
good = lambda x: (np.tanh(x), np.tanh(x))
right = lambda dout, out: dout * (1 - out**2)

def no_example_forward(x): return good(x)
def no_example_backward(dout, out): return right(dout, out)

def no_backward_forward(x): return good(x)

def bad_example_forward(x): return good(x)
def bad_example_backward(dout, out): return right(dout, out)
def bad_example_example(rng): return 1 / 0

def empty_example_forward(x): return good(x)
def empty_example_backward(dout, out): return right(dout, out)
def empty_example_example(rng): pass

def raises_forward(x): return good(x)
def raises_backward(dout, out): raise RuntimeError("not yet\\nwritten")
raises_example = inputs

def exits_forward(x): sys.exit("bye")
def exits_backward(dout, out): return right(dout, out)
exits_example = inputs

def shape_forward(x): return good(x)
def shape_backward(dout, out): return right(dout, out).T
shape_example = inputs

def none_forward(x): return good(x)
def none_backward(dout, out): return None
none_example = inputs

def nan_forward(x): return good(x)
def nan_backward(dout, out): return right(dout, out) * np.nan
nan_example = inputs

def writes_forward(x):
    x[x < 0] = 0
    return x + 0, x > 0
def writes_backward(dout, mask): return dout * mask
writes_example = inputs

def prints_forward(x):
    print("{}" * 1000)
    sys.stderr.write("noise")
    return good(x)
def prints_backward(dout, out): return right(dout, out)
prints_example = inputs

def huge_forward(x): return np.ones(10**12), None
def huge_backward(dout, out): return dout
huge_example = inputs

def asks_forward(x): input("name? ")
def asks_backward(dout, out): return dout
asks_example = inputs

def interrupts_forward(x): raise KeyboardInterrupt
def interrupts_backward(dout, out): return dout
interrupts_example = inputs

def no_argument_forward(x): return good(x)
def no_argument_backward(dout, out): return right(dout, out)
def no_argument_example(): return np.ones(3) / 2

def chosen_forward(x, data): return x * data, data
def chosen_backward(dout, data): return dout * data
def chosen_example(rng): return rng.standard_normal(3), rng.standard_normal(3)
chosen_wrt = "x"

def misnamed_forward(x): return good(x)
def misnamed_backward(dout, out): return right(dout, out)
misnamed_example = inputs
misnamed_wrt = "y"
"""
EXPECTED = {
    "no_example": ("passed", "inputs by trial: x (5, 6)"),
    "no_backward_forward": ("unchecked", "no_backward_backward is missing"),
    "bad_example": ("unusable", "bad_example_example failed: ZeroDivisionError: division by zero (line 15)"),
    "empty_example": ("unusable", "empty_example_example returned None, expected a tuple of inputs"),
    "raises": ("failed", "raises_backward raised RuntimeError: not yet"),
    "exits": ("failed", "exits_forward called sys.exit('bye')"),
    "shape": ("failed", "gradient has shape (2, 3), expected (3, 2)"),
    "none": ("failed", "backward returned None"),
    "nan": ("failed", "not finite at 6 of 6 entries"),
    "writes": ("passed", "forward changes its input x in place"),
    "prints": ("passed", ""),
    "huge": ("failed", "huge_forward raised"),
    "asks": ("failed", "EOFError"),
    "interrupts": ("unusable", "interrupts ended the check: KeyboardInterrupt"),
    "no_argument": ("passed", ""),
    "chosen": ("passed", ""),
    "misnamed": ("unusable", "wrt: got 'y', expected some of x"),
}


def test_each_bad_pair_is_a_row_and_the_others_still_run(verify):
    result = verify(PAIRS)
    assert result.status == "unusable"
    assert {pair.name: pair.status for pair in result.pairs} == {name: status for name, (status, _) in EXPECTED.items()}
    for pair in result.pairs:
        assert EXPECTED[pair.name][1] in pair.message + pair.text, pair
        assert "Traceback" not in pair.message + pair.text
        assert "\n" not in pair.message
    assert "noise" in result.output
    assert len(result.output) <= 20_000
    text = render(result)
    assert "no_backward_forward: no_backward_backward is missing" in text
    assert "17 found: 5 passed, 7 failed, 1 not checked, 4 unusable" in text


def test_an_endless_loop_ends_as_that_pair_and_files_after_it_still_run(tmp_path):
    slow = tmp_path / "slow.py"
    slow.write_text(
        GOOD
        + """
def loop_forward(x):
    while True: pass
loop_backward = loop_forward
loop_example = tanh_example
last_forward = tanh_forward
last_backward = tanh_backward
"""
    )
    good = tmp_path / "good.py"
    good.write_text(GOOD)
    first, second = verify_files([slow, good], timeout=3.0)
    assert first.status == "unusable"
    assert first.message == "stopped after 3 s while loop is checked"
    assert [(p.name, p.status, p.message) for p in first.pairs[1:]] == [
        ("loop", "unusable", "stopped after 3 s"),
        ("last", "unusable", "not reached"),
    ]
    assert first.pairs[0].status == "passed"
    assert second.status == "passed"
    assert exit_code([first, second]) == 2


def test_an_endless_loop_at_import_and_endless_printing(verify):
    result = verify("while True: print('again and again')", timeout=2.0)
    assert result.message == "stopped after 2 s while the file is imported"
    assert len(result.output) == 20_000


def test_processes_that_a_file_starts_end_with_it(verify, tmp_path):
    mark = tmp_path / "mark"
    result = verify(
        f"import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', \"import time; time.sleep(3); open({str(mark)!r}, 'w')\"])\n" + GOOD
    )
    assert result.status == "passed"
    assert result.seconds < 3
    assert not mark.exists()


def test_what_a_file_does_to_its_process_does_not_reach_the_verdict(verify):
    result = verify(
        "import os, sys\nsys.stdout.close()\nsys.argv = None\nos.chdir('/')\nos.closerange(3, 50)\n"
        "import atexit; atexit.register(lambda: os._exit(7))\nsys.exit = None\n" + GOOD
    )
    assert result.status == "passed"


def test_files_beside_it_are_found_and_do_not_stand_in_for_the_library(verify, tmp_path):
    (tmp_path / "helper.py").write_text("scale = 2.0\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('not the json that was meant')\n")
    source = """
import helper
def s_forward(x): return helper.scale * x, None
def s_backward(dout, cache): return helper.scale * dout
def s_example(rng): return rng.standard_normal(3)
"""
    result = verify(source, name="numpy.py")
    assert result.status == "passed"


def test_the_seed_reaches_the_example(tmp_path):
    path = tmp_path / "work.py"
    path.write_text(GOOD)
    one, two, again = (verify_files([path], seed=seed)[0].pairs[0].report["rows"][0]["numeric"] for seed in (1, 2, 1))
    assert one == again != two


def test_the_memory_limit_is_that_of_the_file(verify):
    source = "import numpy as np\nblock = np.empty(60_000_000)\n" + GOOD
    assert verify(source, memory_limit_mb=2048).status == "passed"
    if sys.platform == "linux":
        result = verify(source, memory_limit_mb=300)
        assert result.status == "unusable"
        assert "MemoryError" in result.message


def test_nothing_is_left_open(tmp_path):
    path = tmp_path / "work.py"
    path.write_text(GOOD)
    command = [sys.executable, "-W", "error", "-m", "vae_np", "verify", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "work.py: passed" in result.stdout
    assert result.stderr == ""


def test_limits_must_be_positive():
    with pytest.raises(InputError, match="timeout: got 0, expected a positive number"):
        verify_files([], timeout=0)


def test_the_examples_in_the_documentation(monkeypatch, capsys):
    homework, mistakes = verify_files([EXAMPLES / "homework.py", EXAMPLES / "planted_mistakes.py"])
    assert homework.status == "passed"
    assert len(homework.pairs) >= 7
    assert mistakes.status == "failed"
    assert len(mistakes.pairs) >= 8
    warned = {"in_place", "wrong_dtype"}
    assert {pair.name for pair in mistakes.pairs if pair.status == "passed"} == warned
    assert all(("warning" if pair.name in warned else "likely cause") in pair.text for pair in mistakes.pairs)
    assert exit_code([homework, mistakes]) == 1
    monkeypatch.chdir(EXAMPLES)
    for pair in mistakes.pairs[:3]:
        assert len(pair.report["snippet"].splitlines()) == 3
        exec(pair.report["snippet"], {})
        table = pair.text[: pair.text.index("reproduce")]
        assert capsys.readouterr().out.startswith(table)
