"""Write `models.json`: the parameters of the models that the explorables compute with.

    python docs/explorables/models.py

They are models of the study, for seed 0. The page and the tests read the same file, so that both compute with
the same numbers; only who wants other models has to run this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from vae_np import ops
from vae_np.architecture import Architecture
from vae_np.exact import enumeration
from vae_np.exact.amortisation import refit_encoder
from vae_np.exact.decoder import Decoder
from vae_np.model import Model, initialise
from vae_np.step import Optimiser
from vae_np.study import models

PATH = Path(__file__).with_name("models.json")
DIGITS = 12


def pixels() -> tuple[Architecture, Any]:
    """Five binary pixels with one latent, the decoder of claims 18 and 19, and an encoder that was trained for it."""
    arch = Architecture(features=5, latent=1, hidden=(6,), activation="tanh")
    decoder = models.drawn_decoder(arch, 0, gain=3)
    whole = initialise(arch, seed=0, dtype=np.float64)
    for name, view in decoder.parameters.items():
        whole[name][...] = view
    x, rows = enumeration.states(5).astype(np.float64), np.arange(32)
    # Fewer units than 32 different posteriors ask for, and few steps: a gap that can be seen.
    trained = refit_encoder(
        Model(ops, arch, whole), lambda step: (x, rows), steps=600, seed=0, optimiser=Optimiser(lr=1e-2)
    )
    return arch, trained


def folded() -> tuple[Architecture, Any]:
    """x = |z| + noise, nearly, as in chapter 4: two posterior modes, and three maxima of the bound."""
    arch = Architecture(features=1, latent=1, hidden=(2,), activation="softplus", likelihood="normal-fixed", sigma=0.3)
    decoder = Decoder.of(arch, initialise(arch, seed=0, dtype=np.float64))
    decoder.parameters.flat[...] = 0
    decoder.parameters["decoder.hidden.0.weight"][...] = [[4.0, -4.0]]
    decoder.parameters["decoder.out.weight"][...] = 0.25
    return arch, decoder.parameters


def rings() -> tuple[Architecture, Any, list[list[float]]]:
    """The decoder that chapter 2 fits to rings, and 400 of the points that it was fitted to."""
    decoder, points, _ = models.rings_decoder(0)
    return decoder.arch, decoder.parameters, points[:400].round(4).tolist()


def as_plain(arch: Architecture, parameters: Any) -> dict[str, Any]:
    """An architecture and its parameters as JSON has them, rounded to what a reader of the file can bear."""
    return {
        "arch": arch.as_dict(),
        "parameters": {name: rounded(view) for name, view in parameters.items()},
    }


def rounded(view: Any) -> Any:
    """Numbers to twelve significant digits."""
    if view.ndim > 1:
        return [rounded(row) for row in view]
    return [float(f"{value:.{DIGITS}g}") for value in view]


def main() -> None:
    """Fit the models and write the file."""
    arch, parameters, points = rings()
    content = {
        "pixels": as_plain(*pixels()),
        "folded": as_plain(*folded()),
        "rings": {**as_plain(arch, parameters), "points": points},
    }
    lines = json.dumps(content).replace('"arch"', '\n"arch"').replace('"decoder', '\n"decoder')
    PATH.write_text(lines.replace('"encoder', '\n"encoder').replace('"points"', '\n"points"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
