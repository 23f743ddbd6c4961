"""Benchmarks are run from a checkout, as `python -m pytest bench`; never as timed tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
