"""Whether processes that are to share a computation were told the same."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping

from vae_np._version import __version__
from vae_np.distributed.communicator import Communicator
from vae_np.errors import ConfigError, InputError

# How much of a digest, or of a setting, a message shows.
_SHOWN = 40


def check_agreement(communicator: Communicator, facts: Mapping[str, str]) -> None:
    """Raise InputError, on every process, where one has another version of vae-np, or other `facts`, than process 0.

    A fact is a short text, such as a digest, under the name that a message gives it.
    """
    if communicator.size == 1:
        return
    own = {"version": __version__, **facts}
    said = [json.loads(text) for text in communicator.gather_bytes(json.dumps([platform.node(), own]).encode())]
    first = said[0][1]
    for rank, (host, facts_there) in enumerate(said):
        for name in {**first, **facts_there}:
            here, there = first.get(name, "none"), facts_there.get(name, "none")
            if here != there:
                raise InputError(
                    f"{name}: rank {rank} on {host} has {there[:_SHOWN]}, but rank 0 has {here[:_SHOWN]}; "
                    "all ranks of a run need the same"
                )


def digest(*parts: bytes) -> str:
    """A fact about something large: `the digest 0123456789ab`, by SHA-256."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return f"the digest {total.hexdigest()[:12]}"


def check_blocks(blocks: int, size: int) -> None:
    """Raise ConfigError where there are more processes than gradient blocks: some would have nothing to do."""
    if size > blocks:
        raise ConfigError(
            f"gradient_blocks: got {blocks} for {size} processes, expected at least one for each: "
            f"--gradient-blocks {size} (in Python gradient_blocks={size}), or fewer processes"
        )
