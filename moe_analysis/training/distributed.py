"""One run over several processes: which one writes, which rows each one takes, and how they agree.

`torchrun --nproc_per_node 2 -m moe_analysis train config.json` starts them, on any number of machines that share the
folder of the runs. Every process drives one device and holds the whole model; `share` is its part of each batch. Only
the first process evaluates, records and writes, and it informs the others. With one process these functions do nothing,
so the training code is the same for one and for many.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
PATIENCE = timedelta(hours=12)  # the others wait while the first embeds the prompts, or evaluates a large model
COUNTS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")  # torchrun's, then those of MPI
# what accelerate does to a run's numbers where its variables ask for it, and the words in which they do not
SWITCHES = {
    "ACCELERATE_DYNAMO_BACKEND": "compiles the model",
    "ACCELERATE_USE_DEEPSPEED": "trains with DeepSpeed",
    "ACCELERATE_USE_FSDP": "divides the model",
    "ACCELERATE_USE_MEGATRON_LM": "trains with Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "divides the model",
}
OFF = ("no", "false", "0")
REMEDY = "start the run with `torchrun --nproc_per_node N -m moe_analysis train …`"


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def first() -> bool:
    """Whether this process speaks for the run."""
    return rank() == 0


def start() -> None:
    """Meet the other processes that the launcher started; only the first still shows warnings and progress.

    Raises ValueError when the environment speaks of more processes than can be met, because a run that trains in one
    of them alone would look like any other.
    """
    known = dist.is_available() and dist.is_initialized()
    if not known and int(os.environ.get("WORLD_SIZE") or 1) > 1:
        missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise ValueError(f"WORLD_SIZE = {os.environ['WORLD_SIZE']} without {', '.join(missing)}; {REMEDY}")
        check_devices()
        # objects travel between the CPUs, gradients between the devices
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    check_promise()
    if not first():
        import transformers

        warnings.simplefilter("ignore")
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()


def check_devices() -> None:
    local, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if torch.cuda.is_available() and local >= devices:
        raise ValueError(
            f"LOCAL_RANK = {local} but this machine has {devices} GPU(s), and each process needs its "
            f"own; start at most {devices} processes per machine, or hide the GPUs with CUDA_VISIBLE_DEVICES=''"
        )


def check_promise() -> None:
    """Raise ValueError when a launcher announced more processes than have met."""
    for name in COUNTS:
        if (count := int(os.environ.get(name) or 1)) > world_size():
            raise ValueError(f"{name} = {count} announces {count} processes but {world_size()} met; {REMEDY}")
    # accelerate sets an address to meet at only when it was asked for several processes, and nothing else then tells
    # that with --cpu, or without --multi_gpu, it started one
    launched = {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= set(os.environ)
    if launched and "WORLD_SIZE" not in os.environ and world_size() == 1:
        raise ValueError(
            "accelerate launch was asked for several processes and started one, as it does with --cpu; "
            f"{REMEDY}, or pass --multi_gpu, which also works for CPUs"
        )


def check_environment(precision: str) -> None:
    """Raise ValueError where accelerate's variables ask for other numbers than a run of this precision has.

    `accelerate launch` sets them, and its questionnaire makes them a machine's default; a run's id says nothing of them.
    """
    name, wanted = "ACCELERATE_MIXED_PRECISION", {"float32": "no"}.get(precision, precision)
    if (value := os.environ.get(name, "no")).lower() not in ("no", wanted):
        raise ValueError(
            f"{name} = {value!r} but precision = {precision!r}; unset the variable (`accelerate launch "
            f"--mixed_precision no`), or choose the precision in the configuration"
        )
    for name, effect in SWITCHES.items():
        if (value := os.environ.get(name, "no")).lower() not in OFF:
            raise ValueError(
                f"{name} = {value!r} {effect}, which changes a run's numbers and is no part of its configuration; unset "
                "the variable, or start the run without accelerate"
            )


def check_batch(batch_size: int) -> None:
    """Raise ValueError when the processes cannot take equal parts of a batch."""
    if batch_size % world_size():
        raise ValueError(
            f"batch_size = {batch_size} is the batch of all processes together and cannot be divided "
            f"among {world_size()}; choose a multiple, or another number of processes"
        )


def one_device_a_process(arguments: Any) -> None:
    """Keep Trainer from DataParallel, which would multiply the batch; ValueError where it does not know the others."""
    arguments._n_gpu = min(arguments.n_gpu, 1)
    if arguments.world_size != world_size():
        raise ValueError(f"{world_size()} processes met but accelerate expects {arguments.world_size}; {REMEDY}")


def share(rows: Sequence[T]) -> Sequence[T]:
    """This process's part of a batch; the parts in the order of the processes are the batch."""
    size, index = world_size(), rank()
    return rows[len(rows) * index // size : len(rows) * (index + 1) // size]


def together(action: Callable[[], T]) -> T:
    """What `action` returns in the first process, for all of them; what it raises there is raised in all of them."""
    if world_size() == 1:
        return action()
    outcome: list[Any] = [None, None]
    if first():
        try:
            outcome[0] = action()
        except Exception as error:  # whatever it is, the others must not wait for a result
            outcome[1] = error
    dist.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def gathered(value: T) -> list[T]:
    """Every process's value, in their order, for all of them."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def at_first(value: T) -> list[T]:
    """Every process's value, in their order, for the first of them; nothing for the others."""
    if world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * world_size() if first() else None
    dist.gather_object(value, values, dst=0)
    return values or []


def place(tokens: int) -> tuple[int, int]:
    """(tokens of the processes before this one, tokens of all), where this one has `tokens` of a batch."""
    counts = gathered(tokens)
    return sum(counts[: rank()]), sum(counts)


def mean_over_all(means: dict[str, Tensor], tokens: int) -> dict[str, Tensor]:
    """Means over the `tokens` of this process -> means over those of all; a process without tokens has no say."""
    parts = [(part, count) for part, count in gathered((means, tokens)) if count]
    if len(parts) == 1:
        return parts[0][0]
    total = sum(count for _, count in parts)
    return {name: torch.stack([part[name] * (count / total) for part, count in parts]).sum(0) for name in means}
