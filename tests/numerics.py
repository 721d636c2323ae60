"""pytest plugin that makes matrix products round as they might on another processor: `pytest -p tests.numerics`.

A library of matrix products chooses its kernel by the operands' shapes and by the place in the result: whole tiles go
through one kernel, the rows and columns left over through another, and each sums in an order of its own. Which products
agree in their last bits therefore differs from processor to processor. Here every result is moved by at most two units
in its last place, by an amount that its operation, its operands' shapes and its tile decide. So the same operation on
the same shapes gives the same bits always, in every process, and nothing else can be relied on. Whole numbers stay:
sums of whole numbers are exact in any order.

MOE_ANALYSIS_LAST_BITS=<number> chooses other amounts. Processes that a test starts round alike, by
`numerics_processes/sitecustomize.py`.
"""

from __future__ import annotations

import os
import warnings
import zlib
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

VARIABLE = "MOE_ANALYSIS_LAST_BITS"
TILE_ROWS, TILE_COLUMNS = 4, 8
PRODUCTS = (
    "mm",
    "mm.out",
    "bmm",
    "bmm.out",
    "mv",
    "mv.out",
    "dot",
    "dot.out",
    "addmm",
    "addmm_",
    "addmm.out",
    "baddbmm",
    "baddbmm_",
    "baddbmm.out",
    "addmv",
    "addmv_",
    "addmv.out",
    "_scaled_dot_product_flash_attention_for_cpu",
)
LIBRARY: list[torch.library.Library] = []  # registrations last as long as the library that made them


def units(key: str, seed: int) -> int:
    """-2 … 2, how many units in the last place the results of this key move by."""
    return zlib.crc32(f"{seed} {key}".encode()) % 5 - 2


def tiles(length: int, tile: int) -> list[tuple[str, int]]:
    """(name, length) of the part that whole tiles cover and of the rest."""
    return [("tiles", length - length % tile), ("rest", length % tile)]


@cache
def factors(key: str, shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """What the results (M, N), (M,) or () are multiplied by; key: the operation and its operands' shapes."""
    rows, columns = (1, 1, *shape)[-2:] if len(shape) != 1 else (shape[0], 1)
    moved = torch.cat(
        [
            torch.cat(
                [
                    torch.full((high, wide), float(units(f"{key} {row} {column}", seed)), device="cpu")
                    for column, wide in tiles(columns, TILE_COLUMNS)
                ],
                dim=1,
            )
            for row, high in tiles(rows, TILE_ROWS)
        ]
    )
    return (1 + moved.to(dtype) * torch.finfo(dtype).eps).reshape(shape)


def moved(result: Tensor, operation: str, operands: tuple[Any, ...], seed: int) -> Tensor:
    """A product's result with its last bits moved; whole numbers, infinities and other types as they are."""
    if not result.dtype.is_floating_point or not result.numel():
        return result
    key = f"{operation} {[tuple(operand.shape) for operand in operands if isinstance(operand, Tensor)]}"
    factor = factors(key, tuple(result.shape[-2:]), result.dtype, seed)
    return torch.where(result == result.round(), result, result * factor)


def product(kernel: Any, operation: str, seed: int, keys: torch.DispatchKeySet, *operands: Any, **options: Any) -> Any:
    """The operation by PyTorch's own kernel and then moved, in place where the operation is in place."""
    result = kernel.call_boxed(keys, *operands, **options)
    if isinstance(result, tuple):  # fused attention: (output, logarithms of sums)
        return moved(result[0], operation, operands, seed), *result[1:]
    other = moved(result, operation, operands, seed)
    return result.copy_(other) if operation.endswith(("_", ".out")) else other


def install() -> None:
    """Put `product` in the place of every CPU kernel of PRODUCTS, for the rest of this process and for its children.

    Once: in a process that began with it nothing is put in its place again.
    """
    if LIBRARY:
        return
    seed = int(os.environ.setdefault(VARIABLE, "0"))
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that kernels are replaced, which is the purpose
        for operation in PRODUCTS:
            kernel = torch.library.get_kernel(f"aten::{operation}", "CPU")
            library.impl(
                operation, partial(product, kernel, operation, seed), "CPU", with_keyset=True, allow_override=True
            )
    LIBRARY.append(library)
    folder = str(Path(__file__).with_name("numerics_processes"))
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *(path for path in paths if path not in (folder, ""))])


def pytest_configure() -> None:
    install()


def pytest_report_header() -> str:
    return f"numerics: matrix products round by their shapes, {VARIABLE}={os.environ[VARIABLE]}"
