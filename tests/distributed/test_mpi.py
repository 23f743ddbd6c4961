"""Real processes of MPI on this machine: the same files on 1 to 4 ranks, and what happens when one fails.

Budget: about 22 s, most of it the start of processes.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import good, grey_bars, metrics, snapshot
from trees import ROOT

from vae_np import checkpoint, storage
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


def mpiexec(*command: object, **options: Any) -> tuple[int, str, str]:
    process = start(*command, **options)
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


def same_run(run: Path, other: Path) -> None:
    for name in (checkpoint.WEIGHTS_FILE, checkpoint.STATE_FILE, "config.toml"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert metrics(run) == metrics(other)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grey_bars(tmp_path_factory.mktemp("data") / "grey.npy", 124)


@pytest.fixture(scope="module")
def alone(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs by one process without MPI, with more rows to evaluate than a batch has."""
    run = tmp_path_factory.mktemp("runs") / "alone"
    good("train", "--data", rows, "--test-data", rows, *TINY, *NUMPY, "--epochs", 3, "--out", run)
    return run


def test_ranks_train_as_one_and_go_on_as_others(rows: Path, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fresh = ("--data", rows, "--test-data", rows, *TINY, *NUMPY, "--out", run)
    for count, epochs, how in ((2, 2, fresh), (3, 3, ("--resume", run))):
        code, out, err = ranks(count, "train", *how, "--epochs", epochs, "--no-plots")
        assert (code, err) == (0, "")
        assert out.count("run      ") == 2
        assert f"blocks   4 of 6 rows, shared by {count} ranks" in out
    same_run(run, alone)


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


@pytest.mark.slow
def test_elbo_and_iwae_in_numpy_and_numba_leave_the_same_bytes_on_one_to_four_ranks() -> None:
    pytest.importorskip("numba")
    code = _MATRIX.replace("samples=3", 'samples=3 if objective == "iwae" else 1')
    expected = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert len(expected.stdout.splitlines()) == 4, expected.stderr
    for count in (2, 3, 4):
        assert mpiexec("-n", count, sys.executable, "-c", code, "mpi")[:2] == (0, expected.stdout)


# A batch of annealing has 256 chains: here those of 8 examples, of which there are 124.
CHAINS = ("--chains", 32, "--leapfrog", 1)
ESTIMATORS = {
    "is": ("--samples", 20),
    "ais": ("--estimator", "ais", *CHAINS),
    "bdmc": ("--estimator", "bdmc", "--images", 50, *CHAINS),
}


@pytest.mark.parametrize(("estimator", "counts"), [
    ("bdmc", (3,)), pytest.param("bdmc", (2, 3, 4), marks=pytest.mark.slow),
    pytest.param("is", (2, 3, 4), marks=pytest.mark.slow), pytest.param("ais", (2, 3, 4), marks=pytest.mark.slow),
])  # fmt: skip
def test_evaluations_write_the_same_files(
    estimator: str, counts: Sequence[int], alone: Path, tmp_path: Path
) -> None:
    fewer = () if estimator == "is" else ("--temperatures", 5)
    how = ("eval", alone, *ESTIMATORS[estimator], *fewer, "--no-plots", *NUMPY)
    good(*how, "--per-example", tmp_path / "1.npz", "--json", tmp_path / "1.json")
    for count in counts:
        files = ("--per-example", tmp_path / f"{count}.npz", "--json", tmp_path / f"{count}.json")
        code, out, err = ranks(count, *how, *files)
        assert (code, err, out.count("mutual information")) == (0, "", 1)
        assert (tmp_path / f"{count}.npz").read_bytes() == (tmp_path / "1.npz").read_bytes()
        one, other = (json.loads((tmp_path / f"{name}.json").read_text()) for name in (1, count))
        assert {**other, "test": {**other["test"], "seconds": 0}} == {**one, "test": {**one["test"], "seconds": 0}}


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["ais", "bdmc"])
def test_an_interrupted_evaluation_goes_on_with_other_ranks(estimator: str, alone: Path, tmp_path: Path) -> None:
    how = ("eval", alone, *ESTIMATORS[estimator], "--temperatures", 500, "--no-plots", *NUMPY, "--per-example")
    good(*how, tmp_path / "whole.npz")
    process = start("-n", 3, *VAE_NP, *how, tmp_path / "parts.npz")
    wait_for(lambda: any(alone.glob("eval-*.partial.npz")), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"vae-np: interrupted at \d+ of \d+ examples; they are kept", err)
    assert not (tmp_path / "parts.npz").exists()
    code, out, _ = ranks(2, *how, tmp_path / "parts.npz")
    assert code == 0
    assert "examples were done by an evaluation that was interrupted" in out
    assert (tmp_path / "parts.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


@pytest.mark.parametrize(("first", "second", "line"), [
    (("--out", "run"), ("--out", "run", "--lr", 0.02), r"configuration: .* has the digest \w+, but rank 0 has the "),
    pytest.param(
        ("--out", "run"), ("--out", "other"), "out: .* has other, but rank 0 has run;", marks=pytest.mark.slow
    ),
])  # fmt: skip
def test_disagreeing_ranks_are_found_at_the_start(
    first: Sequence[Any], second: Sequence[Any], line: str, rows: Path, tmp_path: Path
) -> None:
    how = ("train", "--data", rows, *TINY, *NUMPY, "--epochs", 1)
    code, out, err = mpiexec("-n", 1, *VAE_NP, *how, *first, ":", "-n", 1, *VAE_NP, *how, *second, cwd=tmp_path)
    assert (code, out, len(ours(err))) == (2, "", 1)
    assert re.match(f"vae-np: {line.replace(': ', ': rank 1 on ', 1)}", err)
    assert list(tmp_path.iterdir()) == []


def hiding(folder: Path) -> list[str]:
    """What begins a command that sees an empty folder in this one's place, as on a machine with a disk of its own."""
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        hide = [*unshare, "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh"]
        if shutil.which("unshare") and subprocess.run([*hide, "true"], capture_output=True).returncode == 0:
            return hide
    pytest.skip("no process can be given a file system of its own here")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["new", "overwrite", "resume"])
def test_a_folder_that_one_rank_does_not_see_is_one_line_and_nothing_is_lost(
    how: str, rows: Path, alone: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    (place / "local").mkdir(parents=True)
    run = place / "local" / "run"
    if how != "new":
        shutil.copytree(alone, run)

    def held() -> dict[str, bytes | None]:
        locks = storage.LOCK, storage.HOLDER
        return {name: content for name, content in snapshot(place).items() if not name.endswith(locks)}

    before = held()
    fresh = ("train", "--data", rows, "--test-data", rows, *TINY, *NUMPY, "--epochs", 1, "--out", run)
    train = {"new": fresh, "overwrite": (*fresh, "--overwrite"), "resume": ("train", "--resume", run, "--epochs", 4)}
    unseeing = hiding(place / "local")
    if how == "resume":
        # There the run is another one, of the same name: an earlier copy.
        shutil.copytree(alone, tmp_path / "copy")
        unseeing[-2] = unseeing[-2].replace("&&", f'&& cp -r "{tmp_path / "copy"}" "{run}" &&')
    code, out, err = mpiexec("-n", 1, *VAE_NP, *train[how], ":", "-n", 1, *unseeing, *VAE_NP, *train[how])
    # What is left of it is what MPI's shared memory says of two name spaces.
    assert (code, [line for line in out.splitlines() if "UCX" not in line], len(ours(err))) == (2, [], 1), err
    assert re.match(r"vae-np: out: .*run: rank 1 on \S+ does not see this folder of rank 0; all ranks", ours(err)[0])
    after = held()
    if how == "new":
        # It was made, and may be used: nothing is in it.
        assert after.pop("local/run") is None
    assert after == before


@pytest.mark.slow
def test_ranks_in_different_folders_fill_the_first_ones(rows: Path, alone: Path, tmp_path: Path) -> None:
    how = ("train", "--data", rows, "--test-data", rows, *TINY, *NUMPY, "--epochs", 3, "--out", "run")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = ("-n", 1, "-wdir", tmp_path / "a", *VAE_NP, *how), ("-n", 1, "-wdir", tmp_path / "b", *VAE_NP, *how)
    assert mpiexec(*first, ":", *second)[0] == 0
    same_run(tmp_path / "a" / "run", alone)
    assert list((tmp_path / "b").iterdir()) == []


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
    wait_for((run / checkpoint.WEIGHTS_FILE).exists, process)
    return process


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 60
    while not condition() and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.05)


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


@pytest.mark.parametrize(("launcher", "rank"), [
    (("-n", 2), 1), pytest.param(("-n", 3), 0, marks=pytest.mark.slow),
    # MPICH ends them all the same.
    pytest.param(("-disable-auto-cleanup", "-n", 3), 1, marks=pytest.mark.slow),
])  # fmt: skip
def test_a_killed_rank_ends_all_who_have_said_how_to_go_on(
    launcher: Sequence[Any], rank: int, rows: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = endless(rows, run, *launcher)
    os.kill(pid_of_rank(run, rank), signal.SIGKILL)
    killed = time.monotonic()
    out, _ = process.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert process.returncode != 0
    assert f"; should one be lost, go on with: vae-np train --resume {run}\n" in out
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
    """Neither the command line's training and evaluation nor Python's."""
    run = tmp_path / "run"
    commands = ("train", "--data", rows, *TINY, *NUMPY, "--epochs", 1, "--out", run, "-q"), ("eval", run, "-q")
    code = "import sys\nfrom vae_np.cli import app\n"
    for command in commands:
        code += f"sys.argv[1:] = {list(map(str, command))!r}\nassert app.run() == 0\n"
    code += f"import numpy as np\nfrom vae_np import VAE\nx = np.load({str(rows)!r})\n"
    code += f"VAE.load({str(run)!r}, backend='numpy').fit(x, epochs=1, batch_size=24)\n"
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
