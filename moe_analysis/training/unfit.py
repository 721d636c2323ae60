"""Whether a run's adapter, optimizer and records fit its backbone, told by the backbone's configuration alone.

The weights of a large backbone take minutes to load: what they do not decide is refused before.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from peft import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils.error import NoMatchingPeftModuleError
from torch import nn

from ..backbones import load_config, load_shell
from ..model_limits import check_reads, known_tokens, most_tokens
from ..optim import build_optimizer
from ..peft_bridge.targets import check_target_modules, linear_names
from ..tasks.batches import encode_questions, end_of, extent
from .config import TrainConfig
from .recorders.expert_recorder import DAMPING, ExpertRecorder
from .recorders.recorder import HookedRecorder, Recorder
from .recorders.tree_recorder import TreeRecorder

# what decides whether a run fits its backbone
DECIDING = (
    *("backbone", "adapter", "optimizer", "optimizer_options"),
    *("gradient_checkpointing", "record_every", "record_experts_every", "record_trees_every"),
)


MOST = 4  # backbones
_shells: dict[str, nn.Module] = {}  # a backbone's configuration -> its layers without weights
_fitting: set[tuple[str, str]] = set()  # a backbone's configuration and what decides of a run, that were found to fit


def shell_of(backbone: str) -> tuple[str, nn.Module]:
    """(configuration as text, model without weights) of a backbone, kept in this process; nothing may change the model.

    Raises:
        BackboneError: (a ValueError) For a backbone whose configuration cannot be read.
    """
    known = load_config(backbone).to_json_string()
    if known not in _shells:
        while len(_shells) >= MOST:
            del _shells[next(iter(_shells))]
        _shells[known] = load_shell(backbone)
    return known, _shells[known]


def refuse_unfit(configs: Iterable[TrainConfig]) -> None:
    """Raise ValueError for the first run whose adapter, optimizer and records do not go together with its backbone.

    No weights are read. What only they can tell, as with some initializations of PEFT's, is left to the run.

    Raises:
        BackboneError: (a ValueError) As `shell_of`.
        ValueError: For target modules that the backbone does not have or that cannot be adapted, for an optimizer or
            records that need experts or trees which the adapter does not have, and for gradient checkpointing of a
            backbone that has none.

    Example:
        >>> refuse_unfit([ma.TrainConfig()])
        >>> refuse_unfit([ma.TrainConfig(adapter=ma.TRexConfig(target_modules=["q_prj"]))])
        Traceback (most recent call last):
            ...
        ValueError: adapter = 'trex' does not fit backbone = 'compact': target_modules ['q_prj'] are not in the model; ...
    """
    shells: dict[str, tuple[str, nn.Module]] = {}
    for config in configs:
        values = config.to_dict()
        if config.backbone not in shells:
            shells[config.backbone] = shell_of(config.backbone)
        known, shell = shells[config.backbone]
        key = known, json.dumps([values[name] for name in DECIDING])
        if key not in _fitting:
            try_on(copy.deepcopy(shell), config)
            _fitting.add(key)


def refuse_unreadable(
    config: TrainConfig, tokenizer: Any, frames: dict[str, pd.DataFrame], kept: dict[str, np.ndarray]
) -> None:
    """Refuse rows of `fitting_rows` that the backbone cannot read; they are looked at only where some may be such.

    Raises:
        ValueError: For a row with more tokens than the model has places for, and for a token that it does not know.
    """
    _, shell = shell_of(config.backbone)
    most, known = most_tokens(shell), known_tokens(shell)
    if (most is None or config.max_length <= most) and (known is None or len(tokenizer) <= known):
        return
    for split, frame in frames.items():
        questions = encode_questions(
            frame[kept[split]].reset_index(drop=True), tokenizer, config.max_length, config.form
        )
        check_reads(shell, *extent(questions, end_of(tokenizer)), config.max_length)


def try_on(shell: Any, config: TrainConfig) -> None:
    """Put a run's adapter, optimizer and recorders on a model without weights, which this changes."""
    if config.gradient_checkpointing:
        shell.activation_checkpointing_enable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run warns
            adapted = sparsely_adapted(shell, copy.deepcopy(config.adapter))
    except ValueError as error:
        names = f"; its linear layers are {linear_names(shell)}" if isinstance(error, NoMatchingPeftModuleError) else ""
        raise ValueError(
            f"adapter = {config.system!r} does not fit backbone = {config.backbone!r}: {error}{names}"
        ) from error
    except Exception:  # of an initialization that reads weights, in words of torch's
        return
    build_optimizer(config.optimizer, adapted, config.lr, options=config.optimizer_options)
    recorders_of(config, adapted, Path())


def sparsely_adapted(shell: Any, adapter: Any) -> nn.Module:
    """The tuner of a model in which one layer of every kind and shape has the adapter, as hundreds would take seconds."""
    if isinstance(adapter.target_modules, (list, set)):  # PEFT's own systems ignore a name if another one is there
        check_target_modules(shell, adapter.target_modules)
    names = [name for name, _ in shell.named_modules()]
    for wanted in getattr(adapter, "modules_to_save", None) or ():  # PEFT passes over them, too
        if not any(name.endswith(wanted) for name in names):
            raise ValueError(f"modules_to_save has {wanted!r}, with which no module's name ends; correct or omit it")
    tuner: Any = PEFT_TYPE_TO_TUNER_MAPPING[adapter.peft_type]
    seen = set()

    class Sparse(tuner):  # type: ignore[misc]
        def _create_and_replace(self, config: Any, name: str, target: nn.Module, *args: Any, **options: Any) -> None:
            shapes = [tuple(parameter.shape) for parameter in target.parameters(recurse=False)]
            kind = type(target), *shapes, options.get("parameter_name")
            if kind not in seen:
                seen.add(kind)
                super()._create_and_replace(config, name, target, *args, **options)

    shell.config.use_cache = False
    with torch.device("meta"):
        return Sparse(shell, {"default": adapter}, "default")


def recorders_of(config: TrainConfig, model: nn.Module, folder: Path) -> list[HookedRecorder]:
    """The recorders that a run asks for; raises ValueError for one that finds nothing to record in the model."""
    found: list[HookedRecorder] = []
    if config.record_every:
        found.append(Recorder(model, folder / "records.zarr", config.record_every))
    if config.record_experts_every:
        damping = config.optimizer_options.get("damping", DAMPING)
        found.append(ExpertRecorder(model, folder / "experts.zarr", config.record_experts_every, damping))
    if config.record_trees_every:
        found.append(TreeRecorder(model, folder / "trees.zarr", config.record_trees_every))
    return found
