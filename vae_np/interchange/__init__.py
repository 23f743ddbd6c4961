"""Weights of other people's models in, ours out: PyTorch, JAX and ONNX, each through its own library."""

from vae_np.interchange.naming import MAPPINGS, named
from vae_np.interchange.onnx import write_onnx
from vae_np.interchange.reading import read_weights
from vae_np.interchange.trees import from_tree, to_tree

__all__ = ["MAPPINGS", "from_tree", "named", "read_weights", "to_tree", "write_onnx"]
