"""The plugin that stands for another processor moves the last bits of products, alike wherever it is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import numerics

PROCESSES = Path(__file__).with_name("numerics_processes")
shapes = st.tuples(*[st.integers(1, 20)] * 3)

PRODUCT = """
import torch
torch.manual_seed(0)
x, weight, bias = torch.randn(30, 16, requires_grad=True), torch.randn(24, 16), torch.randn(24)
whole = x @ weight.T
print(whole.detach().double().sum().item().hex())
"""
# what a row is depends on the rows beside it, and on nothing else
LOOK = """
assert torch.equal(whole, x.detach().clone() @ weight.clone().T)
parts = torch.cat([row @ weight.T for row in x.split(1)])
assert not torch.equal(whole, parts)
torch.testing.assert_close(whole, parts)
whole.sum().backward()
assert x.grad.isfinite().all()
written = bias.repeat(30, 1)
assert written.addmm_(x.detach(), weight.T) is written
torch.testing.assert_close(written, torch.nn.functional.linear(x.detach(), weight, bias))
compiled = torch.compile(lambda x: (x @ weight.T).relu(), backend="aot_eager", fullgraph=True)
assert torch.equal(compiled(x), whole.relu())
numbers = torch.randint(-9, 9, (7, 5)).double(), torch.randint(-9, 9, (5, 3)).double()
assert torch.equal(numbers[0] @ numbers[1], (numbers[0].long() @ numbers[1].long()).double())
"""


def elsewhere(*command: str, bits: int = 0) -> subprocess.CompletedProcess[str]:
    """A Python process whose products are moved."""
    values = {
        **os.environ,
        numerics.VARIABLE: str(bits),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(PROCESSES), str(PROCESSES.parents[1])]),
    }
    return subprocess.run([sys.executable, *command], env=values, text=True, check=False, capture_output=True)


@settings(max_examples=50, deadline=None)
@given(shapes, st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), st.integers(0, 9))
def test_a_result_moves_by_two_units_at_most_and_always_by_the_same(shape, dtype, seed):
    rows, inner, columns = shape
    result = torch.randn(rows, columns, dtype=torch.float64).to(dtype)
    operands = torch.empty(rows, inner), torch.empty(inner, columns)
    found = numerics.moved(result, "mm", operands, seed)
    assert torch.equal(found, numerics.moved(result.clone(), "mm", operands, seed))
    off = (found.double() - result.double()).abs()
    assert (off <= 2.5 * torch.finfo(dtype).eps * result.double().abs()).all()


def test_other_shapes_other_tiles_and_other_numbers_move_a_result_otherwise():
    result = torch.full((8, 16), 1.5)

    def by(rows: int, seed: int = 0) -> torch.Tensor:
        return numerics.moved(result[:rows], "mm", (torch.empty(rows, 3), torch.empty(3, 16)), seed)

    assert len({by(rows)[0, 0].item() for rows in range(1, 9)}) > 1
    assert len({by(8, seed)[0, 0].item() for seed in range(9)}) > 1
    assert any((by(rows)[0] != by(rows)[-1]).any() for rows in (5, 6, 7))  # the last rows fill no tile


def test_whole_numbers_and_what_is_no_number_stay():
    for values in ([0.0, -3.0, 2.0**30], [torch.inf, -torch.inf], [7, 8]):
        result = torch.tensor(values)
        assert all(torch.equal(numerics.moved(result, "mv", (result,), seed), result) for seed in range(9))
    assert numerics.moved(torch.tensor([torch.nan]), "mv", (), 1).isnan().all()


def test_every_process_rounds_alike_and_another_number_rounds_otherwise():
    first, again, other = elsewhere("-c", PRODUCT + LOOK), elsewhere("-c", PRODUCT), elsewhere("-c", PRODUCT, bits=1)
    assert first.returncode == again.returncode == other.returncode == 0, first.stderr
    assert first.stdout == again.stdout != other.stdout


def test_a_process_that_only_asks_whether_torch_is_there_does_not_import_it():
    done = elsewhere("-c", "import importlib.util as u, sys; u.find_spec('torch'); sys.exit('torch' in sys.modules)")
    assert done.returncode == 0, done.stderr
