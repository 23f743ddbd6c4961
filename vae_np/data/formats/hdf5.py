"""HDF5 files, and MATLAB's of version 7.3, which are HDF5 with their axes reversed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vae_np.data.formats.matlab import arrays_of
from vae_np.data.formats.parts import Parts, check_size
from vae_np.errors import DataError


def read_hdf5(path: Path, transposed: bool) -> Parts:
    """The data sets of an HDF5 file, of all its groups; `transposed` as MATLAB writes them. Raises DataError."""
    try:
        import h5py  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ImportError:
        raise DataError(f"{path}: needs h5py to be read: pip install 'vae-np[formats]'") from None
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        # MATLAB keeps its own bookkeeping in groups whose names begin with #.
        if isinstance(item, h5py.Dataset) and item.shape and item.dtype.kind in "biuf" and not name.startswith("#"):
            found[name] = item

    with h5py.File(path, "r") as file:
        file.visititems(visit)
        check_size(path, sum(item.size * item.dtype.itemsize for item in found.values()))
        arrays = {name: item[()].T if transposed else item[()] for name, item in found.items()}
    return arrays_of(arrays, path)
