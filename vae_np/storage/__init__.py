"""Files that are whole or not there, and folders that one process at a time writes."""

from vae_np.storage.atomic import is_temporary, reason, replace_all, temporary_name, write_atomic
from vae_np.storage.lock import HOLDER, LOCK, hold

__all__ = ["HOLDER", "LOCK", "hold", "is_temporary", "reason", "replace_all", "temporary_name", "write_atomic"]
