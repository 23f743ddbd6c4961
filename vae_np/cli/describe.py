"""What `train` and `eval` both say: of the data, of compilation, of the ELBO's parts and of the training."""

from __future__ import annotations

from typing import Any

from vae_np import backends, data
from vae_np.architecture import Architecture
from vae_np.cli.output import Output
from vae_np.config import Config
from vae_np.display import counted_text
from vae_np.elbo import Terms
from vae_np.evaluation.held_out import mean_and_stderr

TERM_NAMES = (("ELBO", "elbo"), ("reconstruction", "reconstruction"), ("KL", "kl"))


def describe_values(values: data.Values, span: data.Span | None, settings: Config) -> str:
    """The range and the kind of the numbers in the data, and what the model sees of them, in a few words."""
    seen = f"{span}: {values}" if span is not None else f"{values}"
    return f"{seen}, binarize {settings.binarization}" if values.is_grey and settings.binarization != "none" else seen


def describe_kinds(arch: Architecture) -> str:
    """The likelihood, and behind it what is not the usual.

    Such as `, q iaf of 2 steps`, `, q refined by 5 steps of 0.1, gradient through them`, `, prior vamp of 500`.
    """
    said: str = arch.likelihood
    if arch.refine_steps:
        gradient = "through them" if arch.refine_gradient == "through" else "stopped"
        steps = f"{counted_text(arch.refine_steps, 'step')} of {arch.refine_rate:g}"
        said += f", q refined by {steps}, gradient {gradient}"
    if arch.top_latent is not None:
        said += f", stochastic layers of {arch.latent} and {arch.top_latent}"
    if arch.posterior != "diagonal":
        said += f", q {arch.posterior}" + (f" of {arch.flow_steps} steps" if arch.flow_steps else "")
    if arch.prior != "standard":
        said += f", prior {arch.prior} of {arch.components}"
    if arch.conditions:
        said += f", {arch.conditions} conditions"
    return said


def tell_of_compilation(output: Output, backend: backends.Backend) -> None:
    """Say so when something has to be compiled first, once, and where compiled code cannot be kept."""

    def tell(problem: str) -> None:
        output.warn(f"compiled code is not kept, so each run compiles it anew: {problem}")

    if backend.cache_problem is not None:
        tell(backend.cache_problem)
    backend.on_cache_problem(tell)
    backend.on_compile(lambda: output.say("compiling, which takes up to half a minute, the first time only"))


def term_figures(terms: Terms) -> dict[str, dict[str, float]]:
    """The ELBO and its parts with their standard errors, as in the JSON; raises NonFiniteError where one is not."""
    return {
        "elbo": mean_and_stderr(terms.elbo, "ELBO"),
        "reconstruction": mean_and_stderr(terms.reconstruction, "reconstruction"),
        "kl": mean_and_stderr(terms.kl, "KL"),
    }


def train_figures(steps: int, seconds: float | None) -> dict[str, Any]:
    """How long a training took, as in the JSON; None where that is not known."""
    return {"steps": steps, "seconds": seconds, "steps_per_second": steps / seconds if seconds else None}
