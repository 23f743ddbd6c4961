"""The package's logger, `vae_np`: it says nothing until somebody gives it a handler, as is usual for a library."""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("vae_np")
LOGGER.addHandler(logging.NullHandler())
