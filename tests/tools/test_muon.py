"""Muon: its steps have singular values near one, whatever the gradient's are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.muon import Muon, orthogonalize


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(2, 24),
    columns=st.integers(2, 24),
    scale=st.sampled_from([1e-4, 1.0, 1e4]),
    seed=st.integers(0, 99),
)
def test_singular_values_come_close_to_one_and_the_directions_stay(rows, columns, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    count = min(rows, columns)
    u, _ = torch.linalg.qr(torch.randn(rows, count, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(columns, count, generator=generator, dtype=torch.float64))
    values = torch.linspace(1.0, 0.1, count, dtype=torch.float64) * scale
    inside = u.T @ orthogonalize((u * values @ v.T)[None])[0] @ v
    assert torch.allclose(inside, torch.diag(inside.diag()), atol=1e-6)
    assert inside.diag().min() > 0.6 and inside.diag().max() < 1.3


def test_equal_shapes_in_one_stack_step_as_they_would_alone():
    torch.manual_seed(0)
    starts, gradients = torch.randn(3, 6, 4), torch.randn(3, 6, 4)
    together = [torch.nn.Parameter(start.clone()) for start in starts]
    alone = [torch.nn.Parameter(start.clone()) for start in starts]
    for p, q, gradient in zip(together, alone, gradients, strict=True):
        p.grad, q.grad = gradient.clone(), gradient.clone()
    Muon(together, lr=0.1).step()
    for q in alone:
        Muon([q], lr=0.1).step()
    assert all(torch.allclose(p, q, atol=1e-6) for p, q in zip(together, alone, strict=True))


def test_a_linear_map_is_recovered():
    torch.manual_seed(0)
    target, inputs = torch.randn(5, 8), torch.randn(64, 8)
    weight = torch.nn.Parameter(torch.zeros(5, 8))
    optimizer = Muon([weight], lr=0.05)
    first = None
    for _ in range(150):
        loss = (inputs @ (weight - target).T).square().mean()
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02 * first


def test_a_vector_is_refused_with_its_shape():
    with pytest.raises(ValueError, match=r"\(7,\).*AdamW"):
        Muon([torch.nn.Parameter(torch.zeros(7))], lr=0.1)
