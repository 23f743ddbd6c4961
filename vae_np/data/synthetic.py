"""Small synthetic sets whose distribution is known exactly, so that a model's likelihood can be judged.

Each generator returns values (rows, D) and labels (rows,) from `Generator(PCG64(seed))`: a pure function of
its arguments.
"""

from __future__ import annotations

import numpy as np

from vae_np._types import Array

RING_RADII = (1.0, 2.0)
RING_SIGMA = 0.1


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def bars(size: int, rows: int, seed: int) -> tuple[Array, Array]:
    """Bars and stripes (MacKay 2003) on a size × size image: (rows, size²) uint8, and the orientations.

    A fair coin chooses horizontal (label 0) or vertical (label 1), and each of the `size` lines is lit with
    probability 1/2. The blank and the full image come from both orientations and have probability 2^-size;
    each of the other 2^(size+1) - 4 images has 2^-(size+1). Size 2 gives D = 4, small enough to enumerate.
    """
    generator = _generator(seed)
    vertical = generator.integers(0, 2, rows, dtype=np.uint8)
    lines = generator.integers(0, 2, (rows, size), dtype=np.uint8)
    horizontal = np.repeat(lines[:, :, None], size, axis=2)
    images = np.where(vertical[:, None, None] == 1, horizontal.transpose(0, 2, 1), horizontal)
    return images.reshape(rows, size * size), vertical


def xor(rows: int, seed: int) -> tuple[Array, Array]:
    """Two fair bits a, b and what follows from them: x = (a, b, a xor b, not (a xor b)), (rows, 4) uint8.

    The label is 2a + b. Every pixel is on half of the time, so the best independent Bernoulli is the uniform
    distribution at -4 log 2 nats per row, while the four images that occur have -2 log 2 each.
    """
    a, b = _generator(seed).integers(0, 2, (2, rows), dtype=np.uint8)
    return np.stack([a, b, a ^ b, 1 - (a ^ b)], axis=1), 2 * a + b


def rings(rows: int, seed: int) -> tuple[Array, Array]:
    """Points on two circles about the origin, blurred by a normal: (rows, 2) float32, and the circles.

    x = R (cos t, sin t) + σ ε with R from `RING_RADII` (equally likely), t uniform, σ = `RING_SIGMA`: a
    normal p(x|z) whose mean is a curve in z. With ρ = |x| its density is the mean over R of
    exp(-(ρ² + R²) / 2σ²) I₀(ρR / σ²) / (2πσ²).
    """
    generator = _generator(seed)
    ring = generator.integers(0, len(RING_RADII), rows, dtype=np.uint8)
    angle = generator.uniform(0.0, 2.0 * np.pi, rows)
    centre = np.asarray(RING_RADII)[ring][:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = centre + RING_SIGMA * generator.standard_normal((rows, 2))
    return points.astype(np.float32), ring
