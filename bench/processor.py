"""The processor's name in figures and folders, maker and model: `intel-emerald-rapids`, `amd-epyc-zen5`."""

from __future__ import annotations

import functools
import platform
import re
import subprocess
from pathlib import Path

_MAKERS = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}
_SERIES = ("epyc", "ryzen", "threadripper")
# LLVM writes its names of processors in one word.
_WORDS = ("sapphire", "emerald", "granite", "diamond", "sierra", "cascade", "cooper", "alder", "raptor", "meteor",
          "arrow", "rocket", "tiger", "ice")  # fmt: skip


def spelt(maker: str, brand: str, model: str) -> str:
    """The name, of the maker's and the brand's own text and LLVM's word for the model."""
    series = next((one for one in _SERIES if one in brand.lower()), "")
    model = re.sub(rf"^({'|'.join(_WORDS)})(?=lake|rapids)", r"\1-", model.lower())
    model = model.replace("znver", "zen")
    known = _MAKERS.get(maker, re.sub(r"[^a-z0-9]+", "-", maker.lower()).strip("-"))
    return "-".join(part for part in (known, series, model) if part)


@functools.cache
def name() -> str:
    """This machine's."""
    from llvmlite import binding

    said = _cpuinfo()
    return spelt(said.get("vendor_id", platform.machine()), said.get("model name", ""), binding.get_host_cpu_name())


def _cpuinfo() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":")[::2] for line in lines)
    return {key.strip(): value.strip() for key, value in pairs}


def commit() -> str | None:
    """The checkout's commit, with `+` behind it where files differ from it; None where git cannot tell."""
    here = Path(__file__).parent
    try:
        # Results that a run has just written change no code.
        code = (":(top)", ":(top,exclude)bench/results")
        commands = (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no", "--", *code))
        said = [subprocess.run(["git", "-C", str(here), *one], capture_output=True, text=True) for one in commands]
    except OSError:
        return None
    if any(one.returncode for one in said):
        return None
    return said[0].stdout.strip() + ("+" if said[1].stdout.strip() else "")
