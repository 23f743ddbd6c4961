"""Folders of grey images, in subfolders by class or without."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from vae_np._types import Array
from vae_np.data.formats.parts import Parts, check_size
from vae_np.errors import DataError

_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".pbm"})
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"GIF8", b"P5", b"P4")
# Pillow's modes of one channel: black and white, grey, 16 bits, 32 bits, floats.
_GREY = frozenset({"1", "L", "I;16", "I", "F"})


def is_image(head: bytes) -> bool:
    """Whether a file that begins with these bytes is an image."""
    return head.startswith(_MAGIC)


def read_images(folder: Path) -> Parts | None:
    """All images of a folder and of its subfolders, in order of their names, as (N, H, W); None without any.

    Images in subfolders have the subfolder's path as their label. Black and white images become 0 and 1. Raises
    DataError for images in colour, and for images of several sizes.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS and path.is_file())
    if not files:
        return None
    from PIL import Image

    images: list[Array] = []
    for path in files:
        with Image.open(path) as image:
            if image.mode not in _GREY:
                raise DataError(f"{path}: an image of mode {image.mode}, expected grey (Pillow's convert('L'))")
            if images and (image.height, image.width) != images[0].shape:
                sizes = Counter(Image.open(other).size[::-1] for other in files)
                told = ", ".join(f"{count} of {height}x{width}" for (height, width), count in sizes.most_common(4))
                raise DataError(f"{folder}: images of several sizes, expected one (height x width): {told}")
            if not images:
                check_size(folder, len(files) * image.height * image.width * 4)
            images.append(np.asarray(image))
    kinds = {image.dtype for image in images}
    if len(kinds) > 1:
        raise DataError(f"{folder}: images of several kinds ({', '.join(sorted(map(str, kinds)))}), expected one")
    labels = np.array([path.parent.relative_to(folder).as_posix() for path in files])
    return Parts(
        np.stack(images).astype(np.uint8 if images[0].dtype == bool else images[0].dtype),
        train_labels=labels if len(set(labels)) > 1 else None,
    )
