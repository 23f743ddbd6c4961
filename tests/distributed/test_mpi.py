"""Real processes of MPI on this machine: the same files on 1 to 4 ranks, and what happens when one fails.

Budget: about 30 s, most of it the start of processes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import good, grey_bars, metrics
from trees import ROOT

from vae_np import checkpoint
from vae_np.distributed import Place, launched

pytest.importorskip("mpi4py")
# The one that belongs to this Python's MPI, where there is one.
MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
if MPIEXEC is None:
    pytest.skip("there is no mpiexec here", allow_module_level=True)
TINY = ("--hidden", "8", "--latent", "2", "--batch-size", "24", "--lr", "0.01", "--no-plots", "--gradient-blocks", "4")
NUMPY = ("--backend", "numpy")
VAE_NP = (sys.executable, "-m", "vae_np")


def environment() -> dict[str, str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("PMI", "OMPI", "MPI"))}
    return {**mine, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}


def start(*command: object, **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(MPIEXEC), *map(str, command)], env=environment(), **pipes, **options)


def mpiexec(*command: object) -> tuple[int, str, str]:
    process = start(*command)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out, err


def ranks(count: int, *arguments: object) -> tuple[int, str, str]:
    return mpiexec("-n", count, *VAE_NP, *arguments)


def ours(err: str) -> list[str]:
    """The lines that vae-np has printed on standard error, and not what the launcher says."""
    return [line for line in err.splitlines() if line.startswith("vae-np:")]


def state(run: Path) -> tuple[Any, ...]:
    """What a run's state holds, but for its wall time."""
    held = checkpoint.load_state(run)
    arrays = {name: array.tobytes() for name, array in {**held.parameters, **held.moments}.items()}
    return arrays, held.step, {name: value for name, value in held.extra.items() if name != "seconds"}, held.config


def same_run(run: Path, other: Path) -> None:
    for name in ("checkpoint.safetensors", "config.toml"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert state(run) == state(other)
    assert metrics(run) == metrics(other)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grey_bars(tmp_path_factory.mktemp("data") / "grey.npy", 124)


@pytest.fixture(scope="module")
def alone(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs by one process without MPI."""
    run = tmp_path_factory.mktemp("runs") / "alone"
    good("train", "--data", rows, *TINY, *NUMPY, "--epochs", 3, "--out", run)
    return run


def test_ranks_train_as_one_and_go_on_as_others(rows: Path, alone: Path, tmp_path: Path) -> None:
    for count, epochs in ((2, 2), (4, 3)):
        run = tmp_path / "run"
        how = ("--resume", run) if count == 4 else ("--data", rows, *TINY, *NUMPY, "--out", run)
        code, out, err = ranks(count, "train", *how, "--epochs", epochs, "--no-plots")
        assert (code, err) == (0, "")
        assert out.count("run      ") == 2
        assert f"blocks   4 of 6 rows, shared by {count} ranks" in out
    same_run(tmp_path / "run", alone)


_MATRIX = """
import hashlib, sys
import numpy as np
from vae_np import VAE
from vae_np.data import bars
if len(sys.argv) > 1:
    from mpi4py import MPI
    comm = MPI.COMM_WORLD
else:
    comm = None
x, _ = bars(4, 96, seed=0)
for backend in ("numpy", "numba"):
    for objective in ("elbo", "iwae"):
        vae = VAE(16, hidden=(12,), latent=3, backend=backend)
        vae.fit(x, epochs=3, batch_size=24, gradient_blocks=4, objective=objective, samples=3, communicator=comm)
        held = [vae.parameters.flat, *vae._state.moments().values()]
        if comm is None or comm.rank == 0:
            print(backend, objective, hashlib.sha256(b"".join(array.tobytes() for array in held)).hexdigest())
"""


def test_elbo_and_iwae_in_numpy_and_numba_leave_the_same_bytes_on_one_to_four_ranks() -> None:
    pytest.importorskip("numba")
    code = _MATRIX.replace("samples=3", 'samples=3 if objective == "iwae" else 1')
    expected = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert len(expected.stdout.splitlines()) == 4, expected.stderr
    for count in (2, 3, 4):
        assert mpiexec("-n", count, sys.executable, "-c", code, "mpi")[:2] == (0, expected.stdout)


def test_evaluations_write_the_same_files(alone: Path, tmp_path: Path) -> None:
    how = ("eval", alone, "--samples", 20, "--no-plots", *NUMPY)
    good(*how, "--per-example", tmp_path / "one.npz", "--json", tmp_path / "one.json")
    code, out, err = ranks(2, *how, "--per-example", tmp_path / "two.npz", "--json", tmp_path / "two.json")
    assert (code, err, out.count("mutual information")) == (0, "", 1)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    for found in (one, two):
        del found["test"]["seconds"]
    assert one == two


def test_disagreeing_ranks_are_found_at_the_start(rows: Path, tmp_path: Path) -> None:
    how = ("train", "--data", rows, *TINY, *NUMPY, "--epochs", 1, "--out", tmp_path / "run")
    code, out, err = mpiexec("-n", 1, *VAE_NP, *how, ":", "-n", 1, *VAE_NP, *how, "--lr", 0.02)
    assert (code, out, len(ours(err))) == (2, "", 1)
    assert re.match(r"vae-np: configuration: rank 1 on .* has the digest \w+, but rank 0 has the digest \w+;", err)
    assert not (tmp_path / "run").exists()


def test_an_error_of_one_rank_ends_all_with_its_line_and_its_code(rows: Path, tmp_path: Path) -> None:
    how = ("train", *TINY, *NUMPY, "--epochs", 1, "--out", tmp_path / "run")
    code, out, err = mpiexec(
        "-n", 1, *VAE_NP, *how, "--data", rows, ":", "-n", 1, *VAE_NP, *how, "--data", tmp_path / "nothing.npy"
    )
    assert (code, out, len(ours(err))) == (2, "", 1)
    assert re.match(r"vae-np: rank 1 on .*: data: got .*nothing.npy', expected an existing file", ours(err)[0])


@pytest.mark.parametrize("arguments", [
    ("--gradient-blocks", "1"), ("--gradient-blocks", "5"), ("--threads", "100"),
])  # fmt: skip
@pytest.mark.slow
def test_a_mistake_of_all_is_said_once(rows: Path, tmp_path: Path, arguments: Sequence[str]) -> None:
    code, out, err = ranks(2, "train", "--data", rows, *TINY, *arguments, "--out", tmp_path / "run")
    assert (code, out, len(ours(err))) == (2, "", 1), err


def endless(rows: Path, run: Path, *launcher: object) -> subprocess.Popen[str]:
    """A training that has written a checkpoint, and goes on."""
    how = ("train", "--data", rows, *TINY, *NUMPY, "--epochs", 10**5, "--out", run)
    process = start(*launcher, *VAE_NP, *how)
    limit = time.monotonic() + 60
    while not (run / checkpoint.WEIGHTS_FILE).exists() and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.1)
    return process


def pid_of_rank(run: Path, rank: int) -> int:
    """By the environment that the launcher gave it."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            told, line = (place / "environ").read_bytes(), (place / "cmdline").read_bytes()
        except OSError:
            continue
        if f"PMI_RANK={rank}\0".encode() in told and str(run).encode() in line:
            return int(place.name)
    raise AssertionError(f"rank {rank} is not there")


def test_a_killed_rank_ends_all_and_leaves_a_whole_checkpoint(rows: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = endless(rows, run, "-n", 3)
    os.kill(pid_of_rank(run, 1), signal.SIGKILL)
    killed = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert process.returncode != 0
    found = checkpoint.load_state(run)
    assert found.step % 4 == 0
    good("train", "--resume", run, "--epochs", found.step // 4 + 1, "--no-plots")


def test_ctrl_c_finishes_the_step_on_all_ranks(rows: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = endless(rows, run, "-n", 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    (line,) = ours(err)
    step = int(re.match(r"vae-np: interrupted at step (\d+) of", line)[1])  # type: ignore[index]
    assert checkpoint.load_state(run).step == step


_WATCHED = """
import sys
started = []
def hook(event, arguments):
    if event in ("os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen") and "mpi4py.MPI" in sys.modules:
        started.append((event, arguments))
sys.addaudithook(hook)
import mpi4py
mpi4py.rc.thread_level = "funneled"
import vae_np.distributed.mpi as mpi
finalize = mpi.finalize
def at_the_end():
    from mpi4py import MPI
    assert MPI.Query_thread() == MPI.THREAD_FUNNELED
    assert not started, started
    finalize()
mpi.finalize = at_the_end
from vae_np.cli import main
main()
"""


@pytest.mark.slow
def test_nothing_is_forked_while_mpi_is_used(rows: Path, tmp_path: Path) -> None:
    how = ("train", "--data", rows, *TINY, "--epochs", 1, "--out", tmp_path / "run")
    code, _, err = mpiexec("-n", 2, sys.executable, "-c", _WATCHED, *how)
    assert (code, err) == (0, "")


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**environment(), **variables}, capture_output=True, text=True)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_without_mpi4py_ranks_do_not_train_for_themselves(rank: str) -> None:
    code = "import sys; sys.modules['mpi4py'] = None; sys.argv[1:] = ['train']; from vae_np.cli import main; main()"
    done = python(code, PMI_RANK=rank, PMI_SIZE="4", MPI_LOCALRANKID=rank)
    assert (done.returncode, done.stdout) == (2, "")
    said = (
        "vae-np: mpi4py: is not installed, but this is one of 4 processes that were started together; install it with: "
        "pip install 'vae-np[mpi]'\n"
    )
    assert done.stderr == (said if rank == "0" else "")


def test_a_process_alone_imports_nothing_of_mpi(rows: Path, tmp_path: Path) -> None:
    arguments = list(map(str, ("train", "--data", rows, *TINY, *NUMPY, "--epochs", 1, "--out", tmp_path / "run", "-q")))
    code = f"import sys; sys.argv[1:] = {arguments!r}\nfrom vae_np.cli import app\nassert app.run() == 0\n"
    done = python(code + "assert not [name for name in sys.modules if 'mpi4py' in name or 'distributed.mpi' in name]")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("said", "place"), [
    ({}, None),
    ({"PMI_RANK": "0", "PMI_SIZE": "1"}, None),
    ({"PMI_RANK": "1", "PMI_SIZE": "3", "MPI_LOCALRANKID": "0"}, Place(1, 3, 0)),
    ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "2"}, Place(2, 4, 2)),
    # A script that sbatch runs has Slurm's variables, but is one process.
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),
    ({"PMIX_RANK": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"}, Place(5, 8, 1)),
])  # fmt: skip
def test_the_launchers_variables_say_how_many_there_are(said: dict[str, str], place: Place | None) -> None:
    assert launched(said) == place


_COMMUNICATION = """
import numpy as np
from mpi4py import MPI
from vae_np.distributed import of
everyone = of(MPI.COMM_WORLD)
rank, size = everyone.rank, everyone.size
send, receive = np.arange(12.0) + 100 * rank, np.full(6, -1.0)
# Two entries for each, from places that overlap nothing.
to = [slice(4 * r, 4 * r + 2) for r in range(size)]
everyone.alltoall(send, to, receive, [slice(2 * r, 2 * r + 2) for r in range(size)])
assert receive.tolist() == [100 * r + 4 * rank + k for r in range(size) for k in range(2)]
buffer, parts = np.zeros(6), [slice(0, 1), slice(1, 1), slice(2, 6)]
buffer[parts[rank]] = rank + 1
everyone.allgather(buffer, parts)
assert buffer.tolist() == [1, 0, 3, 3, 3, 3]
assert everyone.any(rank == 1) and not everyone.any(False)
assert everyone.gather_bytes(b"x" * rank) == [b"", b"x", b"xx"]
assert [len(arrays) for arrays in everyone.gather_arrays([np.arange(3)] * rank)] == [0, 1, 2]
assert everyone.told_by_first(str(rank)) == "0"
assert everyone.node.size == 3
halves = of(MPI.COMM_WORLD.Split(rank // 2))
assert halves.gather_bytes(bytes([rank])) == [[b"\\0", b"\\1"], [b"\\0", b"\\1"], [b"\\2"]][rank]
"""


def test_buffers_go_where_they_are_to() -> None:
    assert mpiexec("-n", 3, sys.executable, "-c", _COMMUNICATION) == (0, "", "")


_LOST = """
from mpi4py import MPI
from vae_np.distributed import mpi, of
from vae_np.errors import LostRankError
everyone = of(MPI.COMM_WORLD)
everyone.watch()
mpi._PATIENCE = 0.1
if everyone.rank == 1:
    import time
    time.sleep(60)
# No process has this number: it stands for one that is gone.
everyone._here[1] = 2**30
try:
    everyone.barrier()
except LostRankError as error:
    print(error, flush=True)
    everyone.abort(7)
"""


def test_a_wait_that_lasts_looks_whether_the_others_are_there() -> None:
    """A launcher ends all ranks when it has lost one, but not every launcher, nor with every setting."""
    code, out, _ = mpiexec("-n", 2, sys.executable, "-c", _LOST)
    assert (code, out) == (7, f"rank 1 (process {2**30}) is gone\n")


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["elbo", "iwae", "stl", "dreg", "score"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_whole_matrix(backend: str, objective: str, rows: Path, tmp_path: Path) -> None:
    for dtype in ("float32", "float64"):
        how = ("--backend", backend, "--objective", objective, "--samples", 1 if objective == "elbo" else 2)
        how = ("train", "--data", rows, *TINY, *how, "--dtype", dtype, "--epochs", 3, "--out")
        good(*how, tmp_path / f"{dtype}-1")
        for count in (2, 3, 4):
            assert ranks(count, *how, tmp_path / f"{dtype}-{count}")[0] == 0
            same_run(tmp_path / f"{dtype}-{count}", tmp_path / f"{dtype}-1")
    assert np.isfinite(metrics(tmp_path / "float32-1")[-1]["elbo"])
