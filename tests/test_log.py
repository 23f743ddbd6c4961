"""What is told while a model is trained: the logger, and the bar in a terminal and in a notebook.

Budget: about 2 s.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from vae_np import VAE, StopTraining, data
from vae_np.vae import progress_bar

X = data.bars(4, 60, 0)[0]


def small() -> VAE:
    return VAE(16, hidden=(4,), latent=1, backend="numpy")


def test_a_library_says_nothing_until_it_is_asked() -> None:
    code = (
        "import logging\n"
        "from vae_np import VAE, data\n"
        "x = data.bars(4, 60, 0)[0]\n"
        "VAE(16, hidden=(4,), latent=1, backend='numpy').fit(x, epochs=1, batch_size=20)\n"
        "handlers = logging.getLogger('vae_np').handlers\n"
        "assert [type(one) for one in handlers] == [logging.NullHandler]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_begin_epochs_end_and_files_are_told(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vae_np")
    vae = small()
    history = vae.fit(X, epochs=2, batch_size=20, validation=20)
    vae.save(tmp_path)
    VAE.load(tmp_path, backend="numpy")
    first = history.lines[0]
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == "fit: 40 rows of 16, 2 epochs, numpy, composed steps"
    assert said[1].startswith(f"epoch 1, step 2: train ELBO {first['elbo']:.2f}, reconstruction ")
    assert [line.partition(",")[0] for line in said[1:5]] == ["epoch 1", "epoch 1", "epoch 2", "epoch 2"]
    assert said[5:] == ["fit: ended at step 4 of 4", f"saved: {tmp_path}, at step 4", f"loaded: {tmp_path}, at step 4"]
    assert {record.name for record in caplog.records} == {"vae_np"}


def test_lines_within_an_epoch_are_details(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "vae_np")
    x = data.bars(4, 600, 0)[0]
    lines = small().fit(x, epochs=1, batch_size=2).lines
    levels = [record.levelno for record in caplog.records if record.getMessage().startswith("epoch")]
    assert len(lines) == 3
    assert levels == [logging.DEBUG, logging.DEBUG, logging.INFO]


def test_a_training_that_is_stopped_says_where(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vae_np")

    def stop(line: Any) -> None:
        raise StopTraining

    small().fit(X, epochs=5, batch_size=20, on_metrics=stop)
    assert caplog.records[-1].getMessage() == "fit: ended at step 3 of 15"


def test_a_bar_in_a_notebook_is_drawn_anew_and_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    class HTML:
        def __init__(self, text: str) -> None:
            self.text = text

    def display(shown: HTML, display_id: bool) -> Any:
        assert display_id
        drawn.append(shown.text)
        return SimpleNamespace(update=lambda one: drawn.append(one.text))

    module = SimpleNamespace(HTML=HTML, display=display)
    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1), display=module)
    monkeypatch.setitem(sys.modules, "IPython", ipython)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "IPython.display", module)  # type: ignore[arg-type]
    assert progress_bar.in_notebook()
    small().fit(X, epochs=2, batch_size=20, progress=True)
    assert drawn[0].startswith('<div><progress value="0" max="6"></progress> 0 of 6 steps')
    assert drawn[-1].startswith('<div><progress value="6" max="6"></progress> 6 of 6 steps epoch 2/2')


def test_a_bar_changes_nothing_and_goes_to_terminals_alone(capfd: pytest.CaptureFixture[str]) -> None:
    one, other = small(), small()
    one.fit(X, epochs=2, batch_size=20, progress=True)
    other.fit(X, epochs=2, batch_size=20)
    assert one.parameters.flat.tobytes() == other.parameters.flat.tobytes()
    assert capfd.readouterr() == ("", "")
    assert not progress_bar.in_notebook()
