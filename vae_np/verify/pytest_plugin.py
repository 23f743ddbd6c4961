"""The pytest plugin: the fixture `gradcheck`, whose failures are reports instead of tracebacks.

    def test_affine(gradcheck):
        gradcheck(affine_forward, affine_backward, (x, W, b))

`--gradcheck-seed` sets the seed of every draw, and `--gradcheck-seconds` the time that one check may take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

# Lines of a failure, beyond which the report is cut.
LINES = 22


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("gradcheck", "gradient checks by vae-np")
    group.addoption(
        "--gradcheck-seed", type=int, metavar="N", help="Seed of every draw of a gradient check. [default: 0]"
    )
    group.addoption(
        "--gradcheck-seconds", type=float, metavar="S", help="What one gradient check may take. [default: 10]"
    )


class Gradcheck:
    """The three checks with the options of the command line; each fails the test with its report."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options

    def __call__(self, function: Callable[..., Any], derivative: Any, inputs: Any, **options: Any) -> Any:
        """Check a pair of functions, or a scalar function and its gradient; see `assert_grad`."""
        from vae_np.gradcheck import assert_grad

        return self._run(assert_grad, function, derivative, inputs, **options)

    def layer(self, layer: Any, x: Any, **options: Any) -> Any:
        """Check an object with state; see `assert_layer`."""
        from vae_np.gradcheck import assert_layer

        return self._run(assert_layer, layer, x, **options)

    def value_and_grad(self, f: Callable[..., Any], x: Any, *args: Any, **options: Any) -> Any:
        """Check a function that returns its value with its gradient; see `assert_value_and_grad`."""
        from vae_np.gradcheck import assert_value_and_grad

        return self._run(assert_value_and_grad, f, x, *args, **options)

    def _run(self, check: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        from vae_np.gradcheck.report import GradientError

        __tracebackhide__ = True
        try:
            return check(*arguments, **{**self._options, **options})
        except GradientError as error:
            report = error.report
        lines = report.short().splitlines()
        cut = [*lines[:LINES], *([f"and {len(lines) - LINES} more lines"] if len(lines) > LINES else [])]
        pytest.fail("\n".join([*cut, f"rerun with --gradcheck-seed={report.seed}"]), pytrace=False)


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> Gradcheck:
    """Check gradients: `gradcheck(forward, backward, inputs)`, `gradcheck.layer(…)`, `gradcheck.value_and_grad(…)`."""
    names = {"seed": "--gradcheck-seed", "seconds": "--gradcheck-seconds"}
    given = {name: request.config.getoption(option) for name, option in names.items()}
    return Gradcheck({name: value for name, value in given.items() if value is not None})
