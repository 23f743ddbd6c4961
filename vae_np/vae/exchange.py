"""A model from other people's weights, and to their libraries."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from vae_np import data, interchange, noise
from vae_np.choices import Activation, BackendChoice, Likelihood, ValuesKind
from vae_np.errors import InputError
from vae_np.vae.base import Base, as_usual


class Exchange(Base):
    """How a `VAE` comes from PyTorch and JAX, and goes there and to ONNX."""

    @classmethod
    @as_usual
    def from_torch(
        cls,
        weights: Mapping[str, Any] | str | os.PathLike[str],
        mapping: Mapping[str, str] | str | None = None,
        *,
        activation: Activation = "relu",
        likelihood: Likelihood = "bernoulli",
        sigma: float = 1.0,
        backend: BackendChoice = "auto",
        threads: int | None = None,
        seed: noise.Seed = 0,
        values: data.Values | ValuesKind | None = None,
    ) -> Self:
        """The model of a PyTorch `state_dict`, or of a `.safetensors` file that anybody wrote.

        `mapping` says what their layers are, as {"encoder.mu": "fc21", ...}; it may be left out where the names are
        ours or those of PyTorch's own VAE example. Sizes follow from the shapes; activation, likelihood and sigma do
        not, and are given. float16 and bfloat16 become float32. Raises MissingFileError, CheckpointError for a file
        that cannot be read, and InputError where tensors and mapping do not agree.
        """
        tensors = interchange.read_weights(weights)
        arch, parameters = interchange.named(
            tensors, mapping, activation=activation, likelihood=likelihood, sigma=sigma
        )
        own: dict[str, Any] = arch.as_dict()
        own["dtype"] = np.result_type(*parameters.values()).name
        vae = cls(**own, backend=backend, threads=threads, seed=seed, values=values)
        vae.parameters.assign(parameters)
        return vae

    @classmethod
    @as_usual
    def from_jax(
        cls,
        tree: Mapping[str, Any],
        mapping: Mapping[str, str] | None = None,
        *,
        activation: Activation = "relu",
        likelihood: Likelihood = "bernoulli",
        sigma: float = 1.0,
        backend: BackendChoice = "auto",
        threads: int | None = None,
        seed: noise.Seed = 0,
        values: data.Values | ValuesKind | None = None,
    ) -> Self:
        """The model of a nested dictionary of parameters, as Flax has them: `kernel` (in, out) and `bias` per layer.

        `mapping` says what their layers are, as {"encoder.mu": "Dense_1", ...}; it may be left out for what `to_jax`
        returned. The other arguments and errors are those of `from_torch`.
        """
        return cls.from_torch(
            interchange.from_tree(tree),
            mapping,
            activation=activation,
            likelihood=likelihood,
            sigma=sigma,
            backend=backend,
            threads=threads,
            seed=seed,
            values=values,
        )

    def to_torch(self) -> Any:
        """A plain PyTorch module with the model's weights; see `vae_np.interchange.torch.to_module`."""
        self._check_plain("torch")
        from vae_np.interchange.torch import to_module

        return to_module(self.arch, self.parameters)

    def to_jax(self) -> dict[str, Any]:
        """The parameters as a nested dictionary of arrays, `kernel` (in, out) and `bias` per layer."""
        self._check_plain("jax")
        return interchange.to_tree(self.parameters)

    def to_onnx(self, folder: str | os.PathLike[str], *, opset: int = 17) -> tuple[Path, ...]:
        """Write `encoder.onnx` and `decoder.onnx` into `folder`; see `vae_np.interchange.onnx.write_onnx`."""
        self._check_plain("onnx")
        return interchange.write_onnx(Path(folder), self.arch, self.parameters, opset=opset)

    def _check_plain(self, target: str) -> None:
        """Raise InputError for what others' formats have no place for: a learned prior, and conditions."""
        if self.arch.prior != "standard":
            raise InputError(f"{target}: got a model with prior {self.arch.prior!r}, expected 'standard'")
        if self.arch.conditions:
            raise InputError(f"{target}: got a model with {self.arch.conditions} conditions, expected one without")
