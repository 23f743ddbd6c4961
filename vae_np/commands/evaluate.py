"""`vae-np eval`: what a run is worth on the test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vae_np import checkpoint, data, evaluate, plots, runs
from vae_np.commands.output import Output, with_error
from vae_np.commands.train import TERM_NAMES, describe_values, tell_of_compilation, term_figures, train_figures
from vae_np.evaluate import Binarized, mean_and_stderr
from vae_np.vae import VAE

_CELLS_PER_LINE = 6


def evaluate_run(
    run: str | None,
    *,
    samples: int,
    limit: int | None,
    z_samples: int | None,
    backend: str | None,
    seed: int | None,
    draw: bool,
    json_file: str | None,
) -> int:
    """Print the test ELBO, reconstruction, KL, log p(x), KL per latent and active units; return the exit code."""
    output = Output(json_file)
    folder = runs.find(run)
    settings = runs.load_config(folder)
    seed = settings.seed if seed is None else seed
    vae = VAE.load(folder, backend=settings.backend if backend is None else backend, seed=seed)
    dataset = runs.load_data(settings)
    data.check_columns(dataset.test, vae.arch.features, f"data {dataset.name!r}: test")
    examples = Binarized(dataset.test[:limit], dataset.values, settings.binarization, seed)
    output.say(f"run      {folder}")
    output.say(f"data     {dataset.name}: {len(examples)} test rows, {describe_values(dataset, settings)}")
    how = vae.backend.describe("evaluation", vae.arch)
    output.say(f"backend  {vae.backend.name} ({vae.backend.reason}), {vae.parameters.dtype}, {how}")
    tell_of_compilation(output, vae.backend)

    ops, arch, parameters = vae.backend.ops, vae.arch, vae.parameters
    terms = evaluate.elbo_terms(
        ops, arch, parameters, examples, seed=seed, z_samples=settings.z_samples if z_samples is None else z_samples
    )
    mu, logvar = evaluate.posterior_moments(ops, arch, parameters, examples)
    kl, active = evaluate.kl_per_dimension(mu, logvar), evaluate.active_units(mu)
    with output.bar(f"log p(x), {samples} samples", "{task.completed:.0f}/{task.total:.0f} examples") as progress:
        task = progress.add_task("", total=len(examples))
        estimate = evaluate.log_likelihood(
            ops,
            arch,
            parameters,
            examples,
            samples=samples,
            seed=seed,
            on_batch=lambda done: progress.update(task, completed=done),
            fused=vae.backend.fused_log_weights(arch),
        )
    figures = {**term_figures(terms), "log_likelihood": mean_and_stderr(estimate.log_likelihood)}
    ess = mean_and_stderr(estimate.ess)
    output.table(
        f"Test set, {len(examples)} examples, nats ± standard error over examples",
        ("", "mean"),
        [
            *((name, with_error(figures[key])) for name, key in TERM_NAMES),
            (f"log p(x), {samples} samples", with_error(figures["log_likelihood"])),
            ("  effective sample size", f"{ess['mean']:.1f} of {samples}"),
            ("active units", f"{int(active.sum())} of {arch.latent}"),
        ],
    )
    order = kl.argsort()[::-1]
    output.say("KL per latent dimension, largest first (* active):")
    cells = [f"{j:>5}: {kl[j]:.2f}{'*' if active[j] else ' '}" for j in order]
    for start in range(0, len(cells), _CELLS_PER_LINE):
        output.say("".join(cells[start : start + _CELLS_PER_LINE]).rstrip())
    if draw:
        plots.save(plots.kl_per_dimension(kl, active), folder / "kl.png")
    output.json(
        "eval",
        {
            "test": {
                **figures,
                "samples": samples,
                "examples": len(examples),
                "ess": ess,
                "kl_per_dimension": kl.tolist(),
                "active_units": int(active.sum()),
            },
            "train": _trained(folder),
            "backend": vae.backend.name,
            "dtype": str(vae.parameters.dtype),
            "seed": seed,
            "run": str(folder),
        },
    )
    return 0


def _trained(folder: Path) -> dict[str, Any]:
    if not (folder / checkpoint.STATE_FILE).exists():
        return train_figures(checkpoint.load_weights(folder).step, None)
    state = checkpoint.load_state(folder)
    return train_figures(state.step, state.extra.get("seconds"))
