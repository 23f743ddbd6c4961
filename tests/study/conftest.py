"""A chapter is computed once for all tests of its file, its notebook's among them, and forgotten after the last."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from vae_np import study


@pytest.fixture(scope="module", autouse=True)
def _computed_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep what each function of the chapter named NAME in the test file has returned for a seed."""
    name = getattr(request.module, "NAME", None)
    if name is None:
        yield
        return
    chapter = study._module(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "forget", lambda name: None)
        for number, compute in chapter.CLAIMS.items():
            patch.setitem(chapter.CLAIMS, number, functools.cache(compute))
        for part in {"figures", "notes"} & vars(chapter).keys():
            patch.setattr(chapter, part, functools.cache(getattr(chapter, part)))
        yield
    study.forget(name)
