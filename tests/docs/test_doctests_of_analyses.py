"""The examples of the analyses and plots, on runs of a few steps."""

from __future__ import annotations

import pytest

from .harness import documented, failures


@pytest.fixture(autouse=True)
def figures_are_closed():
    """matplotlib keeps a figure that pyplot made until it is told not to."""
    yield
    from matplotlib import pyplot

    pyplot.close("all")


@pytest.mark.parametrize("one", documented("analysis", "plots"), ids=lambda one: one.path)
def test_the_example_does_what_it_says(one) -> None:
    assert failures(one) == ""
