#!/usr/bin/env bash
# Everything that needs a CUDA device, in one go, in at most eight minutes or SECONDS: tests, compute-sanitizer, a
# training, a profile, and the benchmark against PyTorch and JAX on the same device. The table comes last; raw results
# go to bench/results/.
#
#     bench/on_gpu.sh [WHEELS [SECONDS]]
#
# From a checkout, with CUDA, CuPy, PyTorch and JAX for Python 3.11 or later (PYTHON names it; by default python3). What
# else is missing is installed from the folder WHEELS (by default .whl), never from a network. Without a device it says
# so and ends with 2; it ends with 1 if a test failed.
set -uo pipefail
cd "$(dirname "$0")/.."
wheels=$(realpath -m "${1:-.whl}")
python=${PYTHON:-python3}
limit=${2:-480}
out=${OUT:-bench/results}
mkdir -p "$out"
began=$SECONDS
failed=0
left() { echo $((limit - (SECONDS - began) - ${1:-0})); }

# A stage: its name, the seconds it may take, and the command. What fails is counted, and the rest still runs.
stage() {
    local name=$1 seconds=$2 code
    shift 2
    if [ "$(left)" -lt "$seconds" ]; then seconds=$(left); fi
    if [ "$seconds" -lt 5 ]; then
        echo "== $name: no time left"
        failed=1
        return
    fi
    echo "== $name (at most $seconds s)"
    timeout "$seconds" "$@"
    code=$?
    if [ $code -eq 124 ]; then echo "== $name: not done within $seconds s"; fi
    if [ $code -ne 0 ]; then failed=1; fi
    echo "== $name: exit $code, $((SECONDS - began)) s so far"
}

nvidia-smi || true
if ! "$python" -c 'import vae_np, pytest, hypothesis, vae_np.kernels.gpu' 2>/dev/null; then
    "$python" -m pip install -q --no-index --find-links "$wheels" --no-build-isolation -e . pytest hypothesis || exit 2
fi
if ! "$python" -c 'import sys
from vae_np import backends
why = backends.missing("cupy")
sys.exit(why and f"on_gpu: {why}")'; then
    exit 2
fi

export NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-$(mktemp -d)}
# While the tests run, PyTorch and JAX compile what the benchmark will time, and keep it here.
kept=$(mktemp -d)
export TORCHINDUCTOR_CACHE_DIR=$kept/torch TRITON_CACHE_DIR=$kept/triton
export JAX_COMPILATION_CACHE_DIR=$kept/jax JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
for some in pt,iwae50,wide kingma,iwae,large; do
    "$python" bench/on_gpu.py --rounds 1 --seconds 100 --workloads "$some" --results "$kept" >"$kept/log-$some" 2>&1 &
done

stage "info" 30 "$python" -m vae_np info
# Several processes share the device: most of the time they compile for the processor and wait for it.
stage "tests on the device" 180 "$python" -m pytest -q -m gpu --require-gpu -n 8 --dist worksteal tests/gpu tests/parity
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
if [ -n "$sanitizer" ]; then
    # Small shapes: a launch takes hundreds of times as long there. CuPy's pool would hide what is out of bounds.
    for tool in memcheck racecheck; do
        stage "compute-sanitizer $tool" 45 env VAE_NP_NO_POOL=1 "$sanitizer" --tool "$tool" --error-exitcode 9 \
            "$python" -m pytest -q -m gpu --require-gpu tests/gpu/test_device.py -k small
    done
else
    echo "== compute-sanitizer is not here: not run"
fi
# From here on nothing else uses the device.
kill $(jobs -p) 2>/dev/null
wait
run=$(mktemp -d)/run
stage "the default training" 45 "$python" -m vae_np train --backend cupy --no-plots --out "$run" --json "$out/gpu-train.json"
stage "evaluation of it" 30 "$python" -m vae_np eval "$run" --backend cupy --samples 100 --no-plots
stage "profile" 30 "$python" bench/profile_gpu.py --results "$out"
seconds=$(left 15)
stage "benchmark" $((seconds + 10)) "$python" bench/on_gpu.py --seconds "$seconds" --results "$out"
if [ $failed -ne 0 ]; then
    echo "on_gpu: something above failed"
    exit 1
fi
