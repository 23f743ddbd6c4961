"""Which of the shim's cases are left out of the default run."""

from __future__ import annotations

import numpy as np
import pytest
import shimlib


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In float64 one order of threads will do: what depends on the order is seen in float32, in all three."""
    for item in items:
        given = getattr(getattr(item, "callspec", None), "params", {})
        if given.get("door") in shimlib.ORDERS[1:] and given.get("dtype") is np.float64:
            item.add_marker(pytest.mark.slow)
