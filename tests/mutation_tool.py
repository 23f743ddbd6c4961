"""Cosmic Ray over the mathematics: a seeded sample of its mutants against the `core` tests, in a copy of the tree.

    pip install -e ".[dev,mutation]"
    python tests/mutation_tool.py --sample 250 --seed 0

Prints the score, and each survivor as docs/verification.md lists it. Takes about 20 minutes on one core.

Left out before the sample is drawn, because no test could tell or every one does: mutants of annotations, which are
never evaluated, and of the `*` in a signature, which only says how arguments may be passed; mutants that no longer
compile, or compile to the same code as another one; bit operations and `~` in place of arithmetic, which floating-point
arrays refuse whatever the test.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("ops", "layers", "distributions", "elbo")
# The last one gives what deleting the sign gives.
LEFT_OUT = ("BitAnd", "BitOr", "BitXor", "LShift", "RShift", "Invert", "UAdd")
# The whole `core` subset takes seconds; a mutant that takes this long has stopped making progress.
TIMEOUT = 180


def core_tests(root: Path) -> list[str]:
    """The test files of the marked subset: only these are collected, so that a run starts at once.

    The ELBO's grid of gradients takes longer than all others together, and comes last.
    """
    names = [path.name for path in (root / "tests").glob("test_*.py") if "pytest.mark.core" in path.read_text()]
    return [f"tests/{name}" for name in sorted(names, key=lambda name: (name == "test_elbo.py", name))]


def copy_tree(target: Path) -> None:
    """What the tests need, without compiled kernels: the reference is what is mutated."""
    shutil.copytree(ROOT / "vae_np", target / "vae_np", ignore=shutil.ignore_patterns("__pycache__", "kernels"))
    shutil.copytree(ROOT / "tests", target / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    (target / "vae_np" / "kernels").mkdir()
    (target / "vae_np" / "kernels" / "__init__.py").touch()
    for file in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / file, target)
    modules = ", ".join(f'"vae_np/{name}.py"' for name in MODULES)
    command = f"{sys.executable} -m pytest -m core -x -q -p no:cacheprovider {' '.join(core_tests(target))}"
    (target / "cosmic-ray.toml").write_text(
        f"[cosmic-ray]\nmodule-path = [{modules}]\ntimeout = {TIMEOUT}\nexcluded-modules = []\n"
        f'test-command = "{command}"\n[cosmic-ray.distributor]\nname = "local"\n'
    )


def cosmic_ray(target: Path, *arguments: str) -> None:
    # Two mutants of one second and one size would share a byte-code file.
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [sys.executable, "-m", "cosmic_ray.cli", *arguments]
    subprocess.run(command, cwd=target, env={**os.environ, **quiet}, check=True)


def mutated(target: Path, mutation: Any) -> tuple[str, str]:
    """The source before and after."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (target / mutation.module_path).read_text(encoding="utf-8")
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    return source, mutate_code(source, operator, mutation.occurrence) or source


def code(source: str) -> str | None:
    """What of the source is executed, as text: no annotations, no `*` in signatures; None if it does not compile."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        elif isinstance(node, ast.arguments):
            node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            node.defaults = [*node.defaults, *(default for default in node.kw_defaults if default)]
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def drawn(target: Path, items: list[Any], size: int, seed: int) -> Iterator[Any]:
    """`size` items in the order of a seeded shuffle, those that are left out skipped."""
    place = {item.job_id: (str((m := item.mutations[0]).module_path), m.operator_name, m.occurrence) for item in items}
    items = sorted(items, key=lambda item: place[item.job_id])
    random.Random(seed).shuffle(items)
    seen = {code((target / f"vae_np/{name}.py").read_text(encoding="utf-8")) for name in MODULES} | {None}
    for item in items:
        (mutation,) = item.mutations
        if mutation.operator_name.endswith(LEFT_OUT):
            continue
        result = code(mutated(target, mutation)[1])
        if result not in seen:
            seen.add(result)
            yield item
            size -= 1
            if not size:
                return


def describe(target: Path, mutation: Any) -> str:
    """The mutant as a line: where, and the source line before and after."""
    before, after = mutated(target, mutation)
    lines = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[:2] in ("- ", "+ ")]
    old, new = (" ".join(line[2:].strip() for line in lines if line[0] == sign) for sign in "-+")
    return f"| `{mutation.module_path}` `{mutation.definition_name}` | `{old}` → `{new}` |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=250, help="how many mutants to run")
    parser.add_argument("--seed", type=int, default=0, help="which ones")
    options = parser.parse_args()

    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import WorkerOutcome, WorkResult

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        copy_tree(target)
        cosmic_ray(target, "init", "cosmic-ray.toml", "session.sqlite")
        cosmic_ray(target, "baseline", "cosmic-ray.toml")
        with use_db(target / "session.sqlite", WorkDB.Mode.open) as db:
            items = list(db.work_items)
            sample = list(drawn(target, items, options.sample, options.seed))
            chosen = {item.job_id for item in sample}
            others = [item.job_id for item in items if item.job_id not in chosen]
            db.set_multiple_results(others, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
            print(f"{len(items)} mutants, {len(sample)} in the sample", flush=True)
            started = time.perf_counter()
            cosmic_ray(target, "exec", "cosmic-ray.toml", "session.sqlite")
            minutes = (time.perf_counter() - started) / 60
            results = dict(db.results)
            survivors = [item for item in sample if not results[item.job_id].is_killed]
        lines = sorted(describe(target, item.mutations[0]) for item in survivors)
    print(f"seed {options.seed}: {len(sample) - len(survivors)} of {len(sample)} killed in {minutes:.1f} minutes")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
