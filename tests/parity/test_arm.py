"""Machine code for 64-bit Arm from the same functions, on whatever processor the test runs: compiled, never executed.

Numba compiles for the processor that it runs on. So in a process of its own every module says that it is for Arm, the
fused loops are compiled without an x86 vector instruction, and what LLVM has made of each function goes through its
back end for Arm. What belongs to an x86 processor alone would end there.
Budget: about 60 s, behind `slow`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from vae_np import backends

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

TRIPLE = "aarch64-unknown-linux-gnu"
PROGRAM = r"""
import gc, re, sys
import llvmlite.binding as llvm
import numpy as np
from numba.core import codegen, compiler, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target

triple = sys.argv[1]
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
machine = llvm.Target.from_triple(triple).create_target_machine(cpu="generic", opt=2)
empty = codegen.CPUCodegen._create_empty_module

def for_arm(self, name):
    module = empty(self, name)
    module.triple = triple
    return module

codegen.CPUCodegen._create_empty_module = for_arm

def translated(name, text):
    # The x86 back end has written itself a note where Numba counts references down: to Arm's it is any function.
    text = text.replace("llvm.x86.atomic.sub.cc.i64", "counted_down").replace(" immarg", "")
    assert "llvm.x86." not in text, (name, set(re.findall(r"llvm\.x86\.[\w.]+", text)))
    assert f'target triple = "{triple}"' in text, name
    layout = f'target datalayout = "{machine.target_data}"'
    module = llvm.parse_assembly(re.sub("(?m)^target datalayout = .*$", layout, text))
    module.verify()
    code = machine.emit_object(module)
    # An ELF file, for the machine with this number.
    assert code[:4] == b"\x7fELF" and code[18] == 183, name
    return machine.emit_assembly(module)

from vae_np.architecture import Architecture
from vae_np.kernels import cpu
from vae_np.kernels.cpu.engine import products
from vae_np.kernels.cpu.runtime import denormals

assert cpu.VECTOR_BYTES == 16
# These have instructions of Arm's own in them, which only an Arm processor can even load.
context = cpu_target.target_context.with_aot_codegen("arm")
flags = compiler.Flags()
flags.no_compile = True
touching = ((denormals.control_register, ()), (denormals.flush, ()), (denormals.restore, (types.int64,)))
for function, kinds in touching:
    made = compiler.compile_extra(cpu_target.typing_context, context, function.py_func, kinds, None, flags, {})
    with global_compiler_lock:
        made.library.finalize()
    assert "FPCR" in translated(function.__name__, str(made.library._final_module)).upper()
denormals.control_register, denormals.flush, denormals.restore = lambda: 0, lambda: None, lambda before: None

cpu.set_threads(1)
cpu.warmup(Architecture())
found = {"gemm": translated("gemm", products._compiled(types.float32, np.float32).inspect_llvm())}
for one in gc.get_objects():
    if issubclass(type(one), Dispatcher) and one.py_func.__module__.startswith("vae_np.kernels.cpu"):
        for signature in one.signatures:
            found[one.__name__] = translated(one.__name__, one.inspect_llvm(signature))
for name in ("gemm", "_step", "_log_weights", "_normals", "_forward"):
    assert re.search(r"fml[as]\s+v\d+\.(4s|2d)", found[name]) or name == "_normals", f"no NEON in {name}"
print(len(found))
"""


def has_arm() -> bool:
    """Whether this build of LLVM has a back end for 64-bit Arm."""
    llvm.initialize_all_targets()
    try:
        llvm.Target.from_triple(TRIPLE)
    except RuntimeError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not has_arm(), reason="this LLVM has no back end for 64-bit Arm")
def test_everything_compiles_for_arm(tmp_path: Path) -> None:
    environment = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, TRIPLE], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20
