"""Whatever is in the way of the GPU kernels is one line with the remedy, on machines that are only made up here.

Budget: under 1 s.
"""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vae_np.architecture import Architecture
from vae_np.errors import BackendError, DeviceError
from vae_np.kernels.gpu import _compile, fused, problems
from vae_np.kernels.gpu._device import CupyDevice, argument, file_of, use
from vae_np.model import initialise
from vae_np.step import Optimiser, TrainingState

CUDA_13, CUDA_12 = 13_000, 12_080


class Machine(problems.Probes):
    """A machine where everything is well, but for what is said otherwise; an exception as an answer is raised."""

    def __init__(self, **answers: Any) -> None:
        good = {
            "packages": ["cupy-cuda13x"],
            "cupy": None,
            "driver_version": CUDA_13,
            "cuda_version": CUDA_13,
            "compiler_version": (13, 0),
            "device_count": 1,
            "device": ("NVIDIA H200", (9, 0)),
        }
        for name, answer in {**good, **answers}.items():
            setattr(self, name, lambda answer=answer: self._answer(answer))

    @staticmethod
    def _answer(answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer


LONG = "=======\nFailed to import CuPy.\n\nOriginal error:\n  ImportError: libcudart.so.13: cannot open\n======="


@pytest.mark.parametrize(
    ("answers", "line"),
    [
        ({"packages": []}, r"^CuPy is not installed; install it with: pip install 'vae-np\[cuda13\]'"),
        (
            {"packages": ["cupy-cuda12x", "cupy-cuda13x"]},
            r"^2 CuPy packages are installed \(cupy-cuda12x, cupy-cuda13x\).*pip uninstall cupy-cuda12x cupy-cuda13x,",
        ),
        (
            {"cupy": ImportError(LONG)},
            r"^cupy-cuda13x cannot be imported \(ImportError: libcudart.so.13: cannot open\); install one that fits",
        ),
        ({"driver_version": 0}, r"^no NVIDIA driver was found; .*nvidia-smi"),
        (
            {"driver_version": CUDA_12},
            r"^the NVIDIA driver is for CUDA 12.8 and CuPy for CUDA 13.0; update the driver, .*"
            r"pip uninstall cupy-cuda13x, and then: pip install 'vae-np\[cuda12\]'$",
        ),
        (
            {"compiler_version": RuntimeError("libnvrtc.so was not found")},
            r"^CUDA's run-time compiler, NVRTC, was not found \(libnvrtc.so was not found\); it comes with: pip",
        ),
        (
            {"packages": ["cupy-cuda12x"], "cuda_version": CUDA_12, "driver_version": CUDA_12},
            r"^CUDA's run-time compiler is of 13.0 and the driver for CUDA 12.8; .*vae-np\[cuda12\]",
        ),
        ({"device_count": 0}, r"^the driver shows no CUDA device; nvidia-smi"),
        ({"device_count": RuntimeError("cudaErrorNoDevice: no CUDA-capable")}, r"^the driver shows no CUDA device;"),
        (
            {"device_count": RuntimeError("cudaErrorSystemNotReady: system not ready")},
            r"^the driver does not answer \(cudaErrorSystemNotReady: system not ready\)",
        ),
        (
            {"device": ("Tesla T4", (7, 5))},
            r"^Tesla T4 has compute capability 7.5, and the GPU kernels need 8.0 or later; .*CUDA_VISIBLE_DEVICES",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_obstacle_is_one_line_with_its_remedy(
    answers: dict[str, Any], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    why = problems.problem(Machine(**answers))
    assert why is not None
    assert "\n" not in why
    assert re.search(line, why), why


def test_nothing_is_in_the_way_of_a_good_machine_and_an_older_minor_driver() -> None:
    assert problems.problem(Machine()) is None
    assert problems.problem(Machine(cuda_version=13_020, compiler_version=(13, 2))) is None
    line = problems.device_line(Machine())
    assert line == "NVIDIA H200, compute capability 9.0, driver for CUDA 13.0, NVRTC 13.0"


def test_a_hidden_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "(CUDA_VISIBLE_DEVICES is '')" in str(problems.problem(Machine(device_count=0)))


def test_importing_the_kernels_imports_no_cupy_and_asks_for_no_device() -> None:
    code = "import sys; from vae_np.kernels import gpu; print('cupy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# Compilation


SUPPORTED = (80, 86, 89, 90, 100)


@pytest.mark.parametrize(
    ("capability", "target"), [((8, 0), "sm_80"), ((9, 0), "sm_90"), ((12, 1), "compute_100"), ((8, 7), "compute_86")]
)
def test_a_device_gets_its_own_code_or_what_its_driver_translates(capability: tuple[int, int], target: str) -> None:
    assert _compile.target(capability, SUPPORTED) == target


def test_a_device_older_than_the_compiler_is_refused() -> None:
    with pytest.raises(BackendError, match=r"capability 7.0, and this NVRTC compiles for 8.0 and later only"):
        _compile.target((7, 0), SUPPORTED)


class Compiler:
    """NVRTC, as far as it is used: it compiles anything to its options, or fails with a log."""

    class NVRTCError(RuntimeError):
        pass

    def __init__(self, log: str = "") -> None:
        self.log, self.destroyed = log, 0
        self.seen: list[tuple[str, ...]] = []

    def getVersion(self) -> tuple[int, int]:  # the library's own names
        return 13, 0

    def createProgram(self, source: str, name: str, *rest: Any) -> str:
        assert "__global__" in source
        return name

    def compileProgram(self, program: str, options: tuple[str, ...]) -> None:
        self.seen.append(options)
        if self.log:
            raise self.NVRTCError("NVRTC_ERROR_COMPILATION (6)")

    def getProgramLog(self, program: str) -> str:
        return self.log

    def getCUBIN(self, program: str) -> bytes:
        return b"machine code"

    def getPTX(self, program: str) -> bytes:
        return b"intermediate code"

    def destroyProgram(self, program: str) -> None:
        self.destroyed += 1


@pytest.fixture
def cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_compile.CACHE_PROBLEM, "line", None)
    _compile.folder.cache_clear()
    yield tmp_path
    _compile.folder.cache_clear()


def test_code_is_compiled_once_and_then_read_from_the_cache(cache: Any) -> None:
    compiler, told = Compiler(), []
    _compile.on_compile(lambda: told.append(1))
    for _ in range(2):
        assert _compile.machine_code("adam.cu", np.float32, "sm_90", compiler) == b"machine code"
    assert _compile.machine_code("adam.cu", np.float64, "compute_90", compiler) == b"intermediate code"
    assert [next(o for o in seen if "REAL" in o) for seen in compiler.seen] == ["-DREAL=float", "-DREAL=double"]
    assert (told, compiler.destroyed) == ([1], 2)
    # CuPy would flush denormals; nothing here asks for any fast-math.
    assert not any("ftz" in o or "fast" in o for seen in compiler.seen for o in seen)
    assert len(list(cache.rglob("adam-*"))) == 2


def test_a_cache_that_cannot_be_written_is_named_and_code_is_compiled_anew(cache: Any) -> None:
    (cache / "vae-np").write_text("a file where a folder should be")
    compiler = Compiler()
    for _ in range(2):
        assert _compile.machine_code("adam.cu", np.float32, "sm_90", compiler) == b"machine code"
    assert len(compiler.seen) == 2
    assert "cannot be written" in str(_compile.CACHE_PROBLEM.line)


def test_a_kernel_that_does_not_compile_is_named_with_its_first_error(cache: Any) -> None:
    compiler = Compiler('adam.cu(3): warning: unused\nadam.cu(9): error: identifier "x" is undefined\n1 error\n')
    line = r'adam.cu does not compile for sm_90 with NVRTC 13.0: adam.cu\(9\): error: identifier "x" is undefined; '
    with pytest.raises(BackendError, match=line + ".*--backend numba"):
        _compile.machine_code("adam.cu", np.float32, "sm_90", compiler)
    assert compiler.destroyed == 1
    assert not list(cache.rglob("adam-*"))


# The door, behind which CuPy is made up


class RuntimeError_(RuntimeError):
    pass


class DriverError(RuntimeError):
    pass


class OutOfMemory(MemoryError):
    pass


class Stream:
    """A stream that is captured; `log` is what was asked of it."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *details: object) -> None:
        self.log.append("left")

    def begin_capture(self) -> None:
        self.log.append("begin")

    def end_capture(self) -> Any:
        self.log.append("end")
        if "failed" in self.log:
            raise RuntimeError_("cudaErrorStreamCaptureInvalidated")
        add = self.log.append
        return SimpleNamespace(launch=lambda: add("replay"), upload=lambda stream: add("upload"))

    def synchronize(self) -> None:
        self.log.append("wait")


def made_up(**parts: Any) -> tuple[CupyDevice, list[str]]:
    """A door over a CuPy of which `parts` are the functions that matter, and the log of launches and streams."""
    log: list[str] = []

    def function(grid: Any, block: Any, args: Any, shared_mem: int) -> None:
        log.append("kernel")
        if "launch" in parts:
            log.append("failed")
            raise parts["launch"]

    runtime = SimpleNamespace(
        CUDARuntimeError=RuntimeError_,
        getDevice=lambda: 0,
        getDeviceProperties=lambda number: {"major": 9, "minor": 0},
        memGetInfo=lambda: (3 * 2**30, 8 * 2**30),
    )
    cuda = SimpleNamespace(
        runtime=runtime,
        driver=SimpleNamespace(CUDADriverError=DriverError),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemory),
        Stream=lambda non_blocking: Stream(log),
    )

    def empty(shape: Any, dtype: Any) -> Any:
        raise parts["empty"]

    def raw_module(path: str) -> Any:
        if "load" in parts:
            raise parts["load"]
        function.compile = lambda: None  # type: ignore[attr-defined]
        return SimpleNamespace(get_function=lambda name: function)

    pool = SimpleNamespace(free_bytes=lambda: 2**30)
    cupy = SimpleNamespace(
        cuda=cuda, ndarray=dict, empty=empty, RawModule=raw_module, get_default_memory_pool=lambda: pool
    )
    nvrtc = Compiler()
    nvrtc.getSupportedArchs = lambda: SUPPORTED  # type: ignore[attr-defined]
    return CupyDevice(cupy, nvrtc), log


def test_too_little_memory_is_told_with_what_was_needed_and_what_there_is() -> None:
    door, _ = made_up(empty=OutOfMemory("out of memory"))
    line = r"^too little memory on the device for an array of 3.0 GiB: 4.0 GiB of 8.0 GiB are free; a smaller batch"
    with pytest.raises(DeviceError, match=line):
        door.empty((3, 2**28), np.float32)


def test_a_launch_that_fails_names_the_kernel(cache: Any) -> None:
    door, _ = made_up(launch=DriverError("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal\nmemory access"))
    launch = door.prepare("adam_update", np.float32, (1,), (256,), ())
    with pytest.raises(DeviceError, match=r"^the device failed at adam_update: CUDA_ERROR_ILLEGAL_ADDRESS: an .* mem"):
        launch()


def test_code_that_cannot_be_loaded_names_the_file(cache: Any) -> None:
    door, _ = made_up(load=DriverError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image"))
    with pytest.raises(DeviceError, match=r"^the device failed at loading adam.cu: CUDA_ERROR_NO_BINARY"):
        door.prepare("adam_update", np.float32, (1,), (256,), ())


def test_a_graph_records_every_launch_and_replays_as_one(cache: Any) -> None:
    door, log = made_up()
    replay = door.graph([door.prepare("adam_update", np.float32, (1,), (256,), ())] * 2, 3)
    assert log == ["begin", *["kernel"] * 6, "end", "upload", "wait", "left"]
    replay()
    assert log[-1] == "replay"


def test_a_launch_that_fails_while_a_graph_is_recorded_is_what_is_told(cache: Any) -> None:
    door, log = made_up(launch=DriverError("CUDA_ERROR_INVALID_VALUE: invalid argument"))
    launch = door.prepare("adam_update", np.float32, (1,), (256,), ())
    with pytest.raises(DeviceError, match=r"^the device failed at adam_update: CUDA_ERROR_INVALID_VALUE"):
        door.graph([launch], 2)
    assert log == ["begin", "kernel", "failed", "end", "left"]


@pytest.mark.parametrize(
    ("samples", "batch", "less"),
    [(None, "a batch of 7", "a smaller batch"), (50, "a batch of 7 with 50 samples each", "fewer samples, a smaller")],
)
def test_what_a_training_needs_is_added_up_before_anything_is_allocated(
    samples: int | None, batch: str, less: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "device", lambda: SimpleNamespace(memory=lambda: (2**20, 2**30)))
    wanted = dict.fromkeys(("data", "parameters", "gradients", "first", "second", "bits"), ((2**18,), np.float32))
    line = (
        rf"^too little memory on the device: training needs 6 MiB \(data 1, model and moments 4, {batch} 1\), "
        rf"and 1 of 1024 MiB are free; {less}"
    )
    with pytest.raises(DeviceError, match=line):
        fused._check_memory(wanted, 7, samples)


def test_the_decoder_has_a_row_a_sample_in_what_is_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "device", lambda: SimpleNamespace(memory=lambda: (2**20, 2**30)))
    arch = Architecture(784, 50, (200, 200))
    state = TrainingState(initialise(arch, seed=0))
    with pytest.raises(DeviceError, match=r"a batch of 20 with 5000 samples each \d+\)") as told:
        fused.Steps(arch, state, 20, 5000, 20, ordered=False, placed=True)
    # A row's logits, both hidden layers with their gradients, eps, z, dz and share; its 13 tiles' terms and log w.
    row = 4 * (784 + 4 * 200 + 3 * 50 + 1) + 8 * (13 + 1)
    needed = int(re.findall(r"each (\d+)\)", str(told.value))[0])
    assert needed == pytest.approx(20 * 5000 * row / 2**20, abs=1)


def test_arguments_have_the_types_that_kernels_expect() -> None:
    assert argument(3, np.float32).dtype == np.int32
    assert [argument(0.5, dtype).dtype for dtype in (np.float32, np.float64)] == [np.float32, np.float64]
    assert argument(None, np.float32).nbytes == 8
    with pytest.raises(OverflowError):
        argument(2**31, np.float32)


def test_every_kernel_is_found_in_its_file() -> None:
    assert (file_of("affine_forward_64"), file_of("step_weights_32")) == ("affine.cu", "step.cu")


class OnDevice(np.ndarray):  # type: ignore[type-arg]
    """CuPy's array, as far as the door uses it: what it does not take is an error, as there."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)

    def set(self, values: Any) -> None:
        if type(values) is not np.ndarray or values.dtype != self.dtype or values.shape != self.shape:
            raise TypeError("only an array of the host of the same dtype and shape can be set")
        self[...] = values

    def get(self, out: Any, blocking: bool) -> None:
        assert not blocking
        out[...] = self


@pytest.mark.parametrize(("samples", "launches"), [(None, 8), (3, 12)])
def test_a_run_goes_through_cupys_own_calls(samples: int | None, launches: int, cache: Any) -> None:
    door, log = made_up()
    cupy = door._cupy
    cupy.ndarray = OnDevice
    cupy.empty = lambda shape, dtype: np.zeros(shape, dtype).view(OnDevice)
    cupy.array = lambda array: np.array(array).view(OnDevice)
    cupy.ascontiguousarray = lambda array, dtype: np.ascontiguousarray(array, dtype).view(OnDevice)
    cupy.asnumpy = lambda array: np.array(array, subok=False)
    cupy.cuda.alloc_pinned_memory = bytearray
    cupy.cuda.Event = lambda disable_timing: SimpleNamespace(
        record=lambda: log.append("record"), synchronize=lambda: log.append("arrived")
    )
    arch = Architecture(6, 2, (3,))
    state = TrainingState(initialise(arch, seed=0))
    with use(door):
        data = np.zeros((4, 6), np.uint8)
        run = fused.FusedRun(arch, state, 2, data, seed=0, optimiser=Optimiser(), samples=samples)
        run.order(1, np.array([3, 1, 0, 2]))
        assert run._steps.at["orders"].tolist() == [[0, 0, 0, 0], [3, 1, 0, 2]]
        run.learning_rate(0.5)
        words = door.get(run._steps.at["state"])[: fused._STATE_WORDS].view(fused._STATE)[0]
        assert (words["lr"], words["steps_per_epoch"], words["first_bad"]) == (0.5, 2, 2**64 - 1)
        queued = run.steps(26)
        assert log[-1] == "record"
        means, bad = queued.result()
        assert log[-1] == "arrived"
        assert (means.reconstruction.shape, means.kl.shape, bad) == ((26,), (26,), None)
        assert (means.bound is None) == (samples is None)
        before = state.parameters.flat.copy()
        run.pull()
    # A graph of 25 steps and one of a single step; nothing is launched beside them.
    graphs = [("begin", launches * 25), ("begin", launches)]
    at = [i for i, entry in enumerate(log) if entry == "begin"]
    assert [("begin", log[i:].index("end") - 1) for i in at] == graphs
    assert [entry for entry in log if entry != "kernel"] == [
        *(["begin", "end", "upload", "wait", "left", "replay"] * 2), "record", "arrived",
    ]  # fmt: skip
    # No kernel ran, so the parameters come home as they went.
    assert np.array_equal(state.parameters.flat, before)
