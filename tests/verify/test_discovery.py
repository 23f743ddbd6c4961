"""Subjects that are found in files by what people call things, and their inputs, found by trial.

Budget: about 10 s of processor time, most of it in trials of inputs; the files are checked in this process.
"""

from __future__ import annotations

import json

import in_process
import pytest

from vae_np.verify.files import FileResult, exit_code, render, verify_files
from vae_np.verify.guessing import nearest_first


@pytest.fixture
def verify(tmp_path, monkeypatch):
    in_process.use(monkeypatch)

    def run(source, *, name="work.py", timeout=60.0, **options) -> FileResult:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
        (result,) = verify_files([path], timeout=timeout, seed=0, **options)
        return result

    return run


def statuses(result):
    return {pair.name: pair.status for pair in result.pairs}


FUNCTIONS = """
import numpy as np

def relu(z): return np.maximum(0, z)
def relu_derivative(z): return (z > 0).astype(float)

def sigmoid(z): return 1 / (1 + np.exp(-z))
def d_sigmoid(a): return a * (1 - a)

def swish(x): return x * sigmoid(x)
def swish_backward(dout, x):
    s = sigmoid(x)
    return dout * (s + x * s)

def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param['stride'], conv_param['pad']
    N, C, H, W = x.shape
    F, C, K, K = w.shape
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    R, S = 1 + (H + 2 * pad - K) // stride, 1 + (W + 2 * pad - K) // stride
    out = np.zeros((N, F, R, S))
    for i in range(R):
        for j in range(S):
            win = xp[:, :, i * stride:i * stride + K, j * stride:j * stride + K]
            out[:, :, i, j] = np.tensordot(win, w, axes=([1, 2, 3], [1, 2, 3])) + b
    return out, (x, w, b, conv_param)

def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    stride, pad = conv_param['stride'], conv_param['pad']
    K = w.shape[2]
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            cut = np.s_[:, :, i * stride:i * stride + K, j * stride:j * stride + K]
            dw += np.tensordot(dout[:, :, i, j], xp[cut], axes=([0], [0]))
            dxp[cut] += np.tensordot(dout[:, :, i, j], w, axes=([1], [0]))
    return dxp[:, :, pad:-pad, pad:-pad], dw, dout.sum(axis=(0, 2, 3))

def softmax_loss(x, y):
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(len(y)), y]).mean()
    p[np.arange(len(y)), y] -= 1
    return loss, p / len(y)

def embedding_forward(ids, table):
    return table[ids], (ids, table.shape)
def embedding_backward(dout, cache):
    ids, shape = cache
    dtable = np.zeros(shape)
    np.add.at(dtable, ids, dout)
    return dtable

def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    a = x @ Wx + prev_h @ Wh + b
    i, f, o, g = np.split(a, 4, axis=1)
    i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
    c = f * prev_c + i * g
    return o * np.tanh(c), c, (x, prev_h, prev_c, Wx, Wh, i, f, o, g, c)
def lstm_step_backward(dh, dc, cache):
    x, prev_h, prev_c, Wx, Wh, i, f, o, g, c = cache
    t = np.tanh(c)
    dc = dc + dh * o * (1 - t**2)
    da = [dc * g * i * (1 - i), dc * prev_c * f * (1 - f), dh * t * o * (1 - o), dc * i * (1 - g**2)]
    da = np.hstack(da)
    return da @ Wx.T, da @ Wh.T, dc * f, x.T @ da, prev_h.T @ da, da.sum(axis=0)

def train_loss(steps): open('must not be here', 'w')
def predict_forward(x): return x
"""


def test_functions_by_their_names(verify, tmp_path):
    result = verify(FUNCTIONS)
    assert statuses(result) == {
        "relu": "passed",
        "sigmoid": "passed",
        "swish": "failed",
        "conv_naive": "passed",
        "softmax_loss": "passed",
        "embedding": "passed",
        "lstm_step": "passed",
        "predict_forward": "unchecked",
    }, render(result)
    assert exit_code([result]) == 1
    assert "found and not checked:\n  predict_forward: predict_backward is missing" in render(result)
    texts = {pair.name: pair.text for pair in result.pairs}
    assert (
        "inputs by trial: x (2, 4, 6, 6), w (3, 4, 3, 3), b (3,), conv_param {stride: 1, pad: 1}" in texts["conv_naive"]
    )
    assert "backward(out) times the upstream gradient" in texts["sigmoid"]
    assert [path.name for path in tmp_path.iterdir()] == ["work.py"]


CLASSES = """
import numpy as np

class Dense:
    def __init__(self, n_in, n_out):
        self.W, self.b = np.random.randn(n_in, n_out), np.zeros(n_out)
    def forward(self, x):
        self.x = x
        return x @ self.W + self.b
    def backward(self, dout):
        self.dW, self.db = self.x.T @ dout, dout.sum(axis=0)
        return dout @ self.W.T

class MaxPool:
    def __init__(self, pool_size=2):
        self.k = pool_size
    def forward(self, x):
        n, c, h, w = x.shape
        self.x, k = x, self.k
        self.out = x.reshape(n, c, h // k, k, w // k, k).max(axis=(3, 5))
        return self.out
    def backward(self, dout):
        n, c, h, w = self.x.shape
        k = self.k
        mask = self.x.reshape(n, c, h // k, k, w // k, k) == self.out[:, :, :, None, :, None]
        return (mask * dout[:, :, :, None, :, None]).reshape(self.x.shape)

class Sigmoid:
    def __call__(self, x): return 1 / (1 + np.exp(-x))
    def gradient(self, x): return self(x) * (1 - self(x))

class Optimizer:
    def step(self): pass
"""


def test_classes_by_their_methods(verify):
    result = verify(CLASSES)
    assert statuses(result) == {"Dense": "passed", "MaxPool": "passed", "Sigmoid": "passed"}, render(result)
    dense = result.pairs[0].text
    assert "made with n_in=6, n_out=3" in dense
    assert "gradients of W with dW, b with db" in dense


LESS_COMMON = """
import numpy as np

def reluForward(x): return np.maximum(x, 0), x
def reluBackward(dout, x): return dout * (x > 0)
def sinGrad(x): return np.cos(x)
def sin(x): return np.sin(x)

class F:
    @staticmethod
    def exp_forward(x): return np.exp(x), np.exp(x)
    @staticmethod
    def exp_backward(dout, out): return dout * out
    @staticmethod
    def cube_forward(x): return x**3, x
    @staticmethod
    def cube_backward(dout, x): return 2 * dout * x**2

class Add:
    def forward(self, a, b): return a + b
    def backward(self, grad): return grad, grad.sum(0)

def grad_and_loss(w, X, y):
    r = X @ w - y
    return X.T @ r, 0.5 * r @ r

def gate_forward(inputs, params):
    s = np.tanh(inputs["x"] @ params["w"])
    return {"y": s * inputs["x"]}, (inputs["x"], params["w"], s)
def gate_backward(grads, cache):
    (x, w, s), g = cache, grads["y"]
    d = g * x * (1 - s**2)
    return {"x": g * s + d @ w.T}, {"w": x.T @ d}

def mlp_loss_and_grads(params, X, y):
    h = np.tanh(X @ params["w1"] + params["b1"])
    d = h @ params["w2"] - y
    dh = (d @ params["w2"].T) * (1 - h**2)
    return 0.5 * (d**2).sum(), {"w1": X.T @ dh, "b1": dh.sum(0), "w2": h.T @ d}
"""


def test_less_common_ways_to_write_what_has_a_derivative(verify):
    """CamelCase; a class that only holds functions; the gradient first; a bias called b; one weight that is square."""
    result = verify(LESS_COMMON)
    assert statuses(result) == {
        "relu": "passed",
        "sin": "passed",
        "F.exp": "passed",
        "F.cube": "failed",
        "Add": "passed",
        "grad_and_loss": "passed",
        "gate": "passed",
        "mlp_loss_and_grads": "passed",
    }, render(result)
    texts = {pair.name: pair.text for pair in result.pairs}
    assert "the gradient comes before the value" in texts["grad_and_loss"]
    assert "b (6,)" in texts["Add"]


def test_a_line_in_the_file_gives_what_no_trial_finds(verify):
    source = """
import numpy as np
def odd_forward(x, secret):
    if len(secret) != 11: raise ValueError("no")
    return np.tanh(x), np.tanh(x)
def odd_backward(dout, out): return dout * (1 - out**2)
"""
    result = verify(source)
    assert (result.status, statuses(result)) == ("unchecked", {"odd": "unchecked"})
    assert exit_code([result]) == 2
    assert "add above odd_forward: # vae-np: inputs = (x, secret)" in render(result)
    line = "# vae-np: inputs = (rng.standard_normal((3, 2)), 'open sesame')\n"
    assert verify(source.replace("def odd_forward", line + "def odd_forward")).status == "passed"
    assert verify(source + "examples = {'odd': (np.ones(3), 'open sesame')}\n").status == "passed"
    assert verify(source + "examples = {'odd': lambda rng: (rng.random(3), 'open sesame')}\n").status == "passed"
    assert verify(line.replace("inputs", "odd_forward: inputs") + source).status == "passed"
    broken = verify(source.replace("def odd_forward", "# vae-np: inputs = nothing\ndef odd_forward"))
    assert (broken.status, broken.pairs[0].message[:34]) == ("unusable", "odd_forward: its inputs comment fa")
    assert verify(source.replace("def odd_forward", "# vae-np: skip\ndef odd_forward")).status == "unusable"
    layer = "import numpy as np\n# vae-np: layer = Odd('open sesame')\n# vae-np: inputs = np.ones((2, 3)) / 3\n"
    layer += "class Odd:\n    def __init__(self, word):\n        assert word == 'open sesame'\n"
    layer += "    def forward(self, x):\n        self.x = x\n        return x**2\n"
    layer += "    def backward(self, dout): return 2 * self.x * dout\n"
    assert verify(layer).status == "passed"


def test_a_file_inside_of_a_package_imports_from_it(verify, tmp_path):
    (tmp_path / "nets" / "core").mkdir(parents=True)
    for folder in ("nets", "nets/core"):
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "nets" / "tools.py").write_text("scale = 2.0\n")
    source = "from ..tools import scale\nimport nets.tools\nimport beside\n"
    source += "def s_forward(x): return scale * x, None\ndef s_backward(dout, cache): return scale * dout\n"
    (tmp_path / "nets" / "core" / "beside.py").touch()
    assert verify(source, name="nets/core/layers.py").status == "passed"
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "tools.py").write_text("scale = 2.0\n")
    source = source.replace("..tools", ".tools").replace("import nets.tools\nimport beside\n", "")
    assert verify(source, name="loose/layers.py").status == "passed"


def test_a_notebook_is_read_cell_by_cell(verify):
    def cell(source, kind="code"):
        return {"cell_type": kind, "source": source.splitlines(keepends=True), "metadata": {}}

    cells = [
        cell("# Layers", "markdown"),
        cell("%matplotlib inline\nimport numpy as np\n!ls\nimport nothing_of_this_name"),
        cell("def tanh(x):\n    return np.tanh(x)\ndef tanh_grad(x):\n    return 1 - np.tanh(x)**2"),
        cell("%%time\nbroken("),
        cell("def sin_forward(x):\n    return np.sin(x), x\ndef sin_backward(d, x):\n    return -d * np.cos(x)"),
    ]
    text = json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}})
    result = verify(text, name="book.ipynb")
    assert statuses(result) == {"tanh": "passed", "sin": "failed"}, render(result)
    assert "cell 1: %matplotlib inline is skipped" in result.notes
    assert any("cell 1 ends early: ModuleNotFoundError" in note for note in result.notes)
    assert "cell 3: %%time is skipped, with its cell" in result.notes
    assert "is not a notebook of format 4" in verify("{}", name="none.ipynb").message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("print 'hello'\n", "it is written for Python 2"),
        ("import cPickle\n", "it is written for Python 2"),
        ("x = xrange(3)\n", "it is written for Python 2"),
        ("import nothing_of_this_name.part\n", "the package nothing_of_this_name is not installed"),
    ],
)
def test_what_cannot_be_imported_says_why_in_one_line(verify, source, message):
    result = verify(source)
    assert result.status == "unusable"
    assert message in result.message
    assert "\n" not in result.message


def test_only_one_subject_and_strictly(verify):
    result = verify(FUNCTIONS, only="softmax_loss")
    assert statuses(result) == {"softmax_loss": "passed"}
    source = "import numpy as np\ndef cube_forward(x): return x**3, x\n"
    source += "def cube_backward(dout, x):\n    dout *= 3 * x**2\n    return dout\n"
    assert verify(source).status == "passed"
    assert verify(source, strict=True).status == "failed"


def test_choices_come_nearest_first_and_each_once():
    found = list(nearest_first([2, 3, 2]))
    assert len(found) == len(set(found)) == 12
    assert [sum(places) for places in found] == sorted(map(sum, found))
