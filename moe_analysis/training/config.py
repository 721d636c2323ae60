"""What a run is: every choice that changes its numbers, and the name that follows from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from peft import LoraConfig, PeftConfig

from ..optim import check_options
from ..optim.trial import option_hints, try_options
from ..tasks.file_names import check_file_name, label_of
from ..tasks.prompts import default_form, form_named
from ..tasks.rows import SPLITS, shorten
from .adapter_source import NOT_PART_OF_A_RUN, KeptAdapter, read_adapter
from .files import as_hinted, hints_of, plain, wrong_type
from .values import check_numbers, check_read_back, check_seed, check_types, unwrapped, unwrapped_adapter

SCHEDULES = ("constant", "linear", "cosine")
PRECISIONS = ("float32", "bf16")
REPORTS = ("tensorboard", "wandb", "mlflow")
COUNTS = ("steps", "batch_size", "gradient_accumulation", "save_every", "rows_per_dataset", "eval_rows", "holdout_rows")
NOT_OF_THE_OUTCOME = ("name", "report_to")  # fields that are free to change: the run is the same
# fields that came after the first runs, with the value at which a run is what it was without them
LATER = {"holdout_rows": None, "transfer_suites": None}


def check_config(config: Any) -> None:
    """Raise ValueError for anything but a TrainConfig, and for one that cannot be run."""
    if not isinstance(config, TrainConfig):
        raise ValueError(
            f"config = {shorten(config, 80)} is not a TrainConfig; pass ma.TrainConfig(...), or "
            "ma.TrainConfig.from_dict(values) of a mapping"
        )
    config.check()


def default_adapter() -> PeftConfig:
    return LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


@dataclass
class TrainConfig:
    """One training run.

    backbone: "compact", or any Hugging Face causal-LM id or folder. suite: as for `load_suite`; datasets keeps some.
    adapter: one of our configurations or PEFT's LoraConfig; None trains nothing and is refused.
    optimizer, optimizer_options: a name in `optim.OPTIMIZERS` and its own keyword arguments, such as damping or update.
    lr, router_lr: peak learning rates of the experts and of the router (None: the same), warmed up over warmup_steps
    and then following schedule down to final_lr, a share of the peak. max_grad_norm clips all gradients together,
    router_max_grad_norm the router's alone (None: no clipping). batch_size × gradient_accumulation samples make a step.
    rows_per_dataset, eval_rows: the most train and test rows per data set (None: all of them).
    holdout_rows: this many train rows of each data set are not trained on, and are evaluated instead of the test rows,
    whatever eval_rows is (None: no rows). transfer_suites: more suites that the trained model is evaluated on, with at
    most eval_rows test rows per data set; `Run.outcomes` has them.
    max_length: tokens; a longer prompt loses its beginning. precision: "float32", or "bf16": autocast, with the frozen
    weights in bfloat16 unless they are those of "compact"; adapters and the optimizer's state stay in float32.
    prompt_form: "options", "cloze" or "instruction" (see `tasks.prompts`); None: the backbone's default (see `form`).
    embedder: the model that embeds prompts for routing. eval_every, save_every: steps; 0 evaluates only at the end.
    record_every: steps between records of router weights, router gradients and gate statistics; 0 records nothing.
    record_experts_every: steps between records of the experts' conditioning and similarity; 0 records none.
    record_trees_every: steps between records of the trees that S'MoRE routes tokens through; 0 records none.
    name: name of the method in tables and figures, and the start of the run's folder name; None is the adapter's type.
    report_to: "tensorboard" (files in the run's folder), "wandb", "mlflow", or several of them get loss, accuracy and
    entropy of the gates step by step. It changes no number, so the run's id stays the same.

    >>> config = ma.TrainConfig(adapter=ma.TRexConfig(target_modules=["q_proj", "v_proj"]), steps=20, seed=1)
    >>> config.system, config.clusters, config.run_name.rpartition("-")[0]
    ('trex', 32, 'trex-embedded-s1')
    >>> ma.TrainConfig.from_dict(config.to_dict()) == config
    True
    >>> ma.TrainConfig(schedule="sawtooth").check()
    Traceback (most recent call last):
        ...
    ValueError: schedule = 'sawtooth' is unknown; choose one of constant, linear, cosine
    """

    backbone: str = "compact"
    suite: str = "embedded"
    datasets: list[str] | None = None
    adapter: PeftConfig = field(default_factory=default_adapter)
    optimizer: str = "adamw"
    optimizer_options: dict[str, Any] = field(default_factory=dict)
    lr: float = 5e-3
    router_lr: float | None = None
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    router_max_grad_norm: float | None = None
    schedule: str = "linear"
    final_lr: float = 0.0
    warmup_steps: int = 10
    steps: int = 300
    batch_size: int = 64
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False
    rows_per_dataset: int | None = None
    max_length: int = 256
    prompt_form: str | None = None
    precision: str = "float32"
    embedder: str = "minilm"
    eval_every: int = 0
    eval_rows: int | None = 50
    holdout_rows: int | None = None
    transfer_suites: list[str] | None = None
    save_every: int = 100
    record_every: int = 1
    record_experts_every: int = 0
    record_trees_every: int = 0
    seed: int = 0
    name: str | None = None
    report_to: str | list[str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.adapter, PeftConfig) and self.adapter.task_type is None:
            self.adapter = replace(self.adapter, task_type="CAUSAL_LM")  # what every run trains
        for entry in fields(self):
            if entry.name != "adapter":
                setattr(self, entry.name, unwrapped(getattr(self, entry.name)))
        if isinstance(self.adapter, PeftConfig) and not isinstance(self.adapter, KeptAdapter):
            self.adapter = unwrapped_adapter(self.adapter)

    def check(self) -> None:
        """Raise ValueError for a value with which no run can be trained, or with which it could not be opened."""
        if not isinstance(self.adapter, PeftConfig):
            raise ValueError(
                f"adapter = {self.adapter!r} is not a PEFT configuration; pass ma.TRexConfig(...), "
                "ma.MoeLoraConfig(...) or peft.LoraConfig(...)"
            )
        if isinstance(self.adapter, KeptAdapter):
            raise ValueError(f"adapter = {self.system!r} can be read but not trained: {self.adapter.why}")
        if self.adapter.is_prompt_learning:
            raise ValueError(
                f"adapter = {self.system!r} trains tokens before the prompt, with which runs cannot be evaluated; choose "
                "one that adapts layers, such as ma.TRexConfig(...) or peft.LoraConfig(...)"
            )
        check_types(self)
        check_seed(self.seed)
        check_numbers(values := self.to_dict())
        if self.name is not None:
            check_file_name("name", self.name)
        check_options(self.optimizer, self.optimizer_options)
        if fault := wrong_type(self.optimizer_options, option_hints(self.optimizer), "optimizer_options."):
            raise ValueError(fault)
        try_options(self.optimizer, self.optimizer_options)
        form_named(self.form)
        for report in self.reports:
            if report not in REPORTS:
                raise ValueError(f"report_to = {report!r} is unknown; choose one of {', '.join(REPORTS)}, or several")
        for name, choices in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} = {getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}")
        for name in COUNTS:
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} = {value} must be at least 1")
        for name in ("lr", "max_grad_norm", "router_max_grad_norm"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"{name} = {value} must be positive")
        if not 0.0 <= self.final_lr <= 1.0:
            raise ValueError(f"final_lr = {self.final_lr} is a share of the peak lr and must be in [0, 1]")
        every = ("eval_every", "record_every", "record_experts_every", "record_trees_every")
        for name in (*every, "warmup_steps", "weight_decay", "router_lr"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} = {getattr(self, name)} must not be negative")
        self.check_suites()
        if self.max_length < 8:
            raise ValueError(f"max_length = {self.max_length} leaves no room for a prompt; use at least 8")
        check_read_back(values, self.from_dict)

    def check_suites(self) -> None:
        """Raise ValueError for transfer suites that would be evaluated twice, or used in tuning."""
        suites = self.transfer_suites
        if suites is None:
            return
        if self.holdout_rows is not None:
            raise ValueError(
                f"holdout_rows = {self.holdout_rows} keeps test rows out of a run, but transfer_suites = "
                f"{suites} are test rows; omit one of them"
            )
        if not suites:
            raise ValueError("transfer_suites is an empty list; name a suite, or pass None")
        for place, suite in enumerate(suites):
            if suite in (self.suite, *suites[:place]):
                raise ValueError(f"transfer_suites = {suites} has {suite!r}, which is already evaluated; remove it")
            if suite in SPLITS:  # what the run's own rows are called
                raise ValueError(f"transfer_suites = {suites} has {suite!r}, the name of a split; pass './{suite}'")

    @property
    def system(self) -> str:
        """The adapter's PEFT type in lower case: "lora", "moelora", "trex", …"""
        return str(getattr(self.adapter.peft_type, "value", self.adapter.peft_type)).lower()

    @property
    def reports(self) -> list[str]:
        """`report_to` as a list, each once."""
        named = [self.report_to] if isinstance(self.report_to, str) else self.report_to or []
        return list(dict.fromkeys(named))

    @property
    def form(self) -> str:
        """The form in which rows are written as prompts: `prompt_form`, or the backbone's default."""
        return default_form(self.backbone) if self.prompt_form is None else self.prompt_form

    @property
    def clusters(self) -> int | None:
        """Clusters that the adapter's intuition needs; None if it has none, or no class that could say."""
        if not getattr(self.adapter, "intuition", False) or isinstance(self.adapter, KeptAdapter):
            return None
        return self.adapter.clusters

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "adapter"}
        adapter = self.adapter.values if isinstance(self.adapter, KeptAdapter) else asdict(self.adapter)
        # real numbers as such, so that the digest follows from the JSON where the adapter's class is not known
        adapter = as_hinted({k: v for k, v in adapter.items() if k not in NOT_PART_OF_A_RUN}, type(self.adapter))
        return {**values, "adapter": {key: plain(value) for key, value in sorted(adapter.items())}}

    @classmethod
    def from_dict(
        cls, values: dict[str, Any], read: Callable[[dict[str, Any]], PeftConfig] | None = None
    ) -> TrainConfig:
        """Read `to_dict` back. Raises ValueError naming an unknown field, with the known ones, or a wrong type.

        read: makes the adapter of its mapping; None requires that its class is known here and has every field.
        """
        if not isinstance(values, dict):
            raise ValueError(f"{shorten(values)} is {type(values).__name__}, not a mapping of a TrainConfig's fields")
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown fields {unknown} of a TrainConfig; it has {', '.join(sorted(known))}")
        values = dict(values)
        if isinstance(adapter := values.get("adapter"), dict):
            values["adapter"] = (read or read_adapter)(adapter)
        if fault := wrong_type(values, hints_of(cls)):
            raise ValueError(fault)
        return cls(**values)

    @property
    def digest(self) -> str:
        """Content hash: configurations with the same digest make the same run, and equal configurations share it."""
        values = {
            key: value
            for key, value in as_hinted(self.to_dict(), type(self)).items()
            if key not in NOT_OF_THE_OUTCOME and not (key in LATER and value == LATER[key])
        }
        values["prompt_form"] = self.form
        if self.form == "options":  # the only one there was when the first runs got their names
            del values["prompt_form"]
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def run_name(self) -> str:
        """Folder of the run: system (or name), suite, seed and digest; `check` refuses a name that is no file's."""
        return f"{self.name or self.system}-{label_of(self.suite)}-s{self.seed}-{self.digest}"
