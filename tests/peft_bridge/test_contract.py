"""Each system in each situation: right, or refused."""

from __future__ import annotations

import re
import warnings

import pytest

# each fills the table with the situations of its subject
from . import in_checkpoints, in_devices, in_models, in_networks, in_passes, in_torch, in_trainers  # noqa: F401
from .contract import LABELS, PAGE, SITUATIONS, page
from .systems import OPTIONS, Case

CELLS = [pytest.param(one, name, id=f"{one.title}-{name}") for one in SITUATIONS for name in OPTIONS]


@pytest.mark.parametrize("one, system", CELLS)
def test_a_system_in_a_situation_is_right_or_refused(one, system):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        if system in one.refused:
            with pytest.raises((ValueError, TypeError, RuntimeError), match=re.escape(one.refused[system])):
                one.check(Case(system))
        else:
            one.check(Case(system))


def test_the_page_of_the_documentation_says_what_is_tested():
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_situation_has_a_title_of_its_own_and_names_systems_that_exist():
    titles = [one.title for one in SITUATIONS]
    assert len(set(titles)) == len(titles)
    assert all(set(one.refused) <= set(LABELS) for one in SITUATIONS)
