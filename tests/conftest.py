"""What every test starts from: one thread, fixed seeds, and tiny models that are built in milliseconds.

MOE_ANALYSIS_TEST_THREADS=<number> starts them with more threads, which sum in another order.
"""

from __future__ import annotations

import gc
import random
from functools import lru_cache
from pathlib import Path

import jinja2
import numpy as np
import pytest
import torch
from hypothesis import settings

from . import THREADS

# the same examples at every run, so that a failure is somebody's change; --hypothesis-profile=explore looks further
settings.register_profile("explore", settings.default)
settings.register_profile("same", derandomize=True, deadline=None)  # tests do not time things
settings.load_profile("same")

pytest_plugins = ["tests.tiny_runs", "tests.jupyterlab"]
TESTS = Path(__file__).parent
# files that take longest, longest first: one that began last would leave the other workers idle
LONG = (
    "test_notebooks.py",
    "test_jupyterlab.py",
    "training/sweep/test_sweep.py",
    "peft_bridge/test_contract.py",
    "drawing/test_readable_pages.py",
    "adapters/test_transforms.py",
    "training/test_distributed.py",
    "test_gallery_browser.py",
    "studies/test_examples.py",
    "training/sweep/test_sweep_stop.py",
    "training/test_train.py",
    "adapters/test_shapes.py",
    "run_comparison/test_comparison.py",
)
MUCH = 40_000  # objects; a full collection of as many takes a fiftieth of a second
# every checkpoint of a run has a card, whose form is a template that PEFT compiles anew
jinja2.Environment.compile = lru_cache(maxsize=64)(jinja2.Environment.compile)


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # xdist would begin with the files of many tests, which are the short ones


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {TESTS / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    keep_imported()


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """After a file that left much behind, such as the compiler of PyTorch, keep that out of later collections too."""
    if nextitem is not None and nextitem.path != item.path and len(gc.get_objects()) > MUCH:
        keep_imported()


def keep_imported() -> None:
    """Take what lives now out of every later garbage collection: each tiny run makes one, which then takes a fifth."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def same_threads_and_seeds() -> None:
    torch.set_num_threads(THREADS)
    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)  # `torch.manual_seed` also keeps a traceback for GPUs, 0.2 ms


@pytest.fixture
def tiny_llama():
    """A random Llama decoder: two layers of width 16, 40 tokens, eager attention, float32, in eval mode."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def tiny_gpt2():
    """A random GPT-2, whose linear layers are Conv1D with the weight transposed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=40,
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        attn_implementation="eager",
    )
    return GPT2LMHeadModel(config).eval()


@pytest.fixture
def tokens() -> dict[str, torch.Tensor]:
    """Two samples of six tokens, the second one padded by two; labels on the real tokens."""
    ids = torch.randint(3, 40, (2, 6))
    mask = torch.ones_like(ids)
    ids[1, 4:], mask[1, 4:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}
