"""One thread inside, and the caller's threads afterwards."""

from __future__ import annotations

import pytest
import torch

from moe_analysis.studies.one_thread import one_thread


def test_the_threads_of_the_caller_come_back_after_an_error_too():
    torch.set_num_threads(3)
    with pytest.raises(RuntimeError, match="inside"), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError("inside")
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
