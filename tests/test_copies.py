"""A model can be copied, pickled and sent to other processes and threads, and is the same model there.

Budget: about 10 s, most of it processes that start and import; 5 s more where joblib is installed.
"""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vae_np import VAE, backends
from vae_np._types import Array
from vae_np.data import bars
from vae_np.errors import BackendError
from vae_np.parameters import Parameters

BINARY = bars(4, 60, 0)[0]
GREY = np.where(BINARY == 1, 230, 25).astype(np.uint8)
HOW: dict[str, Any] = {"batch_size": 20, "lr": 0.01, "epochs": 2}


def small(**settings: Any) -> VAE:
    return VAE(16, **{"hidden": (8,), "latent": 2, "seed": 3, "backend": "numpy", **settings})


def fitted(**settings: Any) -> VAE:
    vae = small(**settings)
    vae.fit(GREY, **HOW)
    return vae


def more(vae: VAE) -> bytes:
    """Train on, in whatever process: the parameters that come out."""
    vae.fit(GREY, **HOW)
    return vae.parameters.flat.tobytes()


def score(vae: VAE) -> bytes:
    return vae.elbo(GREY).elbo.tobytes()


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("backend", backends.present())
@pytest.mark.parametrize("settings", [{}, {"inference": "local"}, {"likelihood": "normal", "dtype": "float64"}])
@pytest.mark.parametrize("again", [copy.deepcopy, pickled, copy.copy])
def test_a_copy_is_the_same_model_and_goes_on_as_it(again: Any, settings: dict[str, Any], backend: str) -> None:
    x: Array = GREY if "likelihood" not in settings else GREY / 255
    vae = small(backend=backend, **settings)
    vae.fit(x, **HOW)
    other = again(vae)
    assert repr(other) == repr(vae)
    assert (other.config, other.history, other._state.step) == (vae.config, vae.history, vae._state.step)
    assert other.elbo(x).elbo.tobytes() == vae.elbo(x).elbo.tobytes()
    if again is copy.copy:
        return
    reference = vae.parameters.flat.copy()
    other.fit(x, **HOW)
    # The copy's buffers are its own, and its named tensors look into them.
    np.testing.assert_array_equal(vae.parameters.flat, reference)
    vae.fit(x, **HOW)
    assert other.parameters.flat.tobytes() == vae.parameters.flat.tobytes()
    for name, moment in vae._state.moments().items():
        assert other._state.moments()[name].tobytes() == moment.tobytes()
    for name, tensor in other.parameters.items():
        assert np.shares_memory(tensor, other.parameters.flat), name
        np.testing.assert_array_equal(tensor, vae.parameters[name])


def test_a_copys_buffers_are_aligned() -> None:
    parameters = pickled(fitted().parameters)
    assert isinstance(parameters, Parameters)
    assert parameters.flat.ctypes.data % 64 == 0
    parameters["decoder.out.bias"][...] = 7
    assert (parameters.flat == 7).sum() == 16


def test_a_pickle_names_its_backend_and_holds_no_module_pool_or_step() -> None:
    content = pickle.dumps(fitted(backend=backends.present()[-1]))
    assert len(content) < 20_000
    assert b"FusedStep" not in content
    assert b"vae_np.kernels" not in content


def test_a_model_whose_backend_is_missing_where_it_arrives_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps(replace(backends.choose("numpy"), name="numba"))
    monkeypatch.setattr(backends, "missing", lambda name: "there is none; install it with: pip install numba")
    with pytest.raises(BackendError, match=r"^backend: got 'numba', but there is none; install it"):
        pickle.loads(content)


# Other processes and threads

STARTS = [method for method in ("fork", "spawn") if method in multiprocessing.get_all_start_methods()]


@pytest.mark.parametrize("method", STARTS)
@pytest.mark.parametrize("backend", backends.present())
def test_processes_train_and_score_as_this_one_does(method: str, backend: str) -> None:
    """Forked behind a training, too, when this process has worker threads that the child has not."""
    models = [fitted(backend=backend, seed=seed) for seed in range(3)]
    scores, trained = [score(vae) for vae in models], [more(copy.deepcopy(vae)) for vae in models]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(score, models) == scores
        assert pool.map_async(more, models).get(timeout=100) == trained
        (sent,) = pool.map(copy.deepcopy, models[:1])
    assert more(sent) == trained[0]


def test_executors_of_threads_and_processes() -> None:
    backend = backends.present()[-1]
    models = [fitted(backend=backend, seed=seed) for seed in range(4)]
    trained = [more(copy.deepcopy(vae)) for vae in models]
    context = multiprocessing.get_context("spawn")
    executors: list[Executor] = [ThreadPoolExecutor(4), ProcessPoolExecutor(2, mp_context=context)]
    for executor in executors:
        with executor:
            assert list(executor.map(more, [copy.deepcopy(vae) for vae in models], timeout=100)) == trained


def test_threads_may_train_models_of_their_own_at_once() -> None:
    models = [fitted(backend=backends.present()[-1], seed=seed) for seed in range(4)]
    expected, got = [more(copy.deepcopy(vae)) for vae in models], [b""] * 4

    def train(number: int) -> None:
        got[number] = more(models[number])

    threads = [threading.Thread(target=train, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=100)
    assert got == expected


def test_joblib_trains_over_a_grid() -> None:
    joblib = pytest.importorskip("joblib")
    models = [fitted(seed=seed) for seed in range(3)]
    trained = [more(copy.deepcopy(vae)) for vae in models]
    for backend in ("loky", "threading"):
        jobs = (joblib.delayed(more)(copy.deepcopy(vae)) for vae in models)
        assert joblib.Parallel(n_jobs=2, backend=backend)(jobs) == trained


def test_a_pickle_is_read_by_a_fresh_interpreter(tmp_path: Any) -> None:
    vae = fitted()
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(vae))
    code = (
        "import pickle, sys, numpy as np\n"
        "vae = pickle.load(open(sys.argv[1], 'rb'))\n"
        "np.save(sys.argv[2], vae.elbo(np.load(sys.argv[3])).elbo)\n"
    )
    np.save(tmp_path / "x.npy", GREY)
    places = [str(tmp_path / name) for name in ("model.pickle", "elbo.npy", "x.npy")]
    subprocess.run([sys.executable, "-c", code, *places], check=True)
    assert np.load(places[1]).tobytes() == score(vae)
