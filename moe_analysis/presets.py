"""How much of everything the notebooks compute: a tiny preset for tests, a quick one, a long and a full one.

Variables of the environment: MOE_ANALYSIS_PRESET (tiny, quick, long, full), MOE_ANALYSIS_SUITE, MOE_ANALYSIS_BACKBONE,
MOE_ANALYSIS_RUNS (folder of the runs), MOE_ANALYSIS_SEEDS (how many) and MOE_ANALYSIS_WORKERS (training processes at a
time).
`python -m moe_analysis figures` sets them from its options.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .places import runs_home

if TYPE_CHECKING:
    from .training.config import TrainConfig
    from .training.run import Run

TARGETS = ["q_proj", "v_proj"]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
FEED_FORWARD = ["gate_proj", "up_proj", "down_proj"]
# (plain, preconditioned): of a coarse grid on the compact backbone the largest at which the rescaled form is stable
# too; at 0.03 and 0.05 one seed of three of gRSGD leaves the starting loss behind by a factor of 3 to 5
EXPERT_LR = {"SGD": (0.2, 0.02), "AdamW": (1e-3, 5e-4)}
ROUTER_SHARE = 1e-3  # of the plain expert learning rate, as in the paper's protocol for SGD
EXAMPLE = "steps=50 or r=4"
# fields of a preset that every run of a comparison takes over
SHARED = (
    "suite",
    "backbone",
    "embedder",
    "steps",
    "batch_size",
    "rows_per_dataset",
    "eval_rows",
    "max_length",
    "lr",
    "router_lr",
    "record_every",
    "eval_every",
)


@dataclass(frozen=True)
class Preset:
    """One size of everything.

    steps, batch_size, seeds, rows_per_dataset, eval_rows, max_length, lr, router_lr, record_every, eval_every: as in
    `TrainConfig`, the same for every method of a comparison. map_datasets, map_rows: data sets on a semantic map and
    prompts of each; map_method: "umap" or "pca". cluster_counts, permutations: k-means sizes and label shuffles of the
    agreement analysis. bench_steps, bench_seeds: of the synthetic regression bench. workers: training processes at a
    time.
    """

    name: str
    suite: str = "embedded"
    backbone: str = "compact"
    embedder: str = "minilm"
    steps: int = 100
    batch_size: int = 32
    seeds: tuple[int, ...] = (0, 1, 2)
    rows_per_dataset: int | None = 80
    eval_rows: int | None = 30
    max_length: int = 128
    lr: float = 5e-3
    router_lr: float | None = 5e-4
    record_every: int = 2
    eval_every: int = 0
    map_datasets: int = 20
    map_rows: int = 40
    map_method: str = "umap"
    cluster_counts: tuple[int, ...] = (10, 20, 32)
    permutations: int = 200
    bench_steps: int = 300
    bench_seeds: tuple[int, ...] = tuple(range(10, 18))
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)

    def sized(self, study: str) -> Preset:
        """This preset with the sizes of a study: "optimizers" (many runs, 20 experts on four projections),
        "structures" (S'MoRE on three projections), "comparison" (nine systems on three projections) or "budgets" (four
        systems at several sizes). The environment decides about seeds, if it names their number."""
        if study not in STUDIES:
            raise ValueError(f"study = {study!r} is unknown; choose one of {', '.join(STUDIES)}")
        return replace(self, **{**STUDIES[study].get(self.name, {}), **seeds_asked()})

    @property
    def runs(self) -> Path:
        return runs_home()

    def config(self, method: str, seed: int, **changes: Any) -> TrainConfig:
        """The configuration of one named method at one seed.

        Args:
            method: one of `recipes`.
            seed: of the run.
            **changes: fields of `TrainConfig`, such as its name, or of the method's own adapter, such as `num_up`.

        Raises:
            ValueError: for a method that there is not, and for a change that is a field of neither.

        Example:
            >>> preset("tiny").config("T-REX", seed=0, num_up=4, lr=1e-3).adapter.num_up
            4
        """
        known = recipes()
        if not isinstance(method, str) or method not in known:
            raise ValueError(f"method = {method!r} is unknown; choose one of {', '.join(known)}")
        return self.config_with(seed, **{"name": method, **known[method], **changes})

    def config_with(self, seed: int, **changes: Any) -> TrainConfig:
        """The configuration of a run at one seed: the preset's sizes, and over them any fields of `TrainConfig` or of
        the adapter that it is given."""
        from .training.config import TrainConfig

        own = {"seed", *fields_of(TrainConfig)}
        chosen, of_adapter = (
            {name: changes[name] for name in changes if (name in own) == mine} for mine in (True, False)
        )
        if of_adapter:
            chosen["adapter"] = changed(chosen.get("adapter"), of_adapter)
        return TrainConfig(**{**{name: getattr(self, name) for name in SHARED}, "seed": seed, **chosen})

    def train(self, *names: str, progress: bool | None = None, **changes: Any) -> list[Run]:
        """Runs of the named methods at every seed, method by method; finished ones are read, not repeated.

        Args:
            *names: methods, as for `config`.
            progress: as for `ma.train`; None shows a panel of all runs in a notebook and in a terminal.
            **changes: as for `config`, the same for every method.

        Raises:
            ValueError: before anything is trained, as `config` does, and without a name.
        """
        from .tasks.rows import shorten

        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f"names = {shorten(names, 80)} are not names of methods; pass them as separate arguments: "
                'train("LoRA-MoE", "T-REX")'
            )
        configs = [self.config(name, seed, **changes) for name in names for seed in self.seeds]
        return self.train_configs(configs, progress)

    def train_adapters(self, adapters: Mapping[str, Any], progress: bool | None = None, **changes: Any) -> list[Run]:
        """Runs of adapters (label -> PEFT configuration) at every seed, label by label; see `train_configs`.

        Raises:
            ValueError: for adapters that have no labels.
        """
        if not isinstance(adapters, Mapping):
            raise ValueError(
                f"adapters is a {type(adapters).__name__}; give each adapter a label: "
                'train_adapters({"mine": ma.TRexConfig(...)})'
            )
        configs = [
            self.config_with(seed, name=name, adapter=adapter, **changes)
            for name, adapter in adapters.items()
            for seed in self.seeds
        ]
        return self.train_configs(configs, progress)

    def train_configs(self, configs: Iterable[TrainConfig], progress: bool | None = None) -> list[Run]:
        """Runs of any configurations, as many at a time as the preset has workers."""
        from .training.sweep.running import train_all

        return train_all(list(configs), self.runs, self.workers, progress=progress)


def fields_of(config: Any) -> list[str]:
    """Names of the fields that a configuration can be given."""
    return [one.name for one in fields(config) if one.init]


def changed(adapter: Any, changes: Mapping[str, Any]) -> Any:
    """An adapter's configuration with other values; ValueError for a field that neither it nor a run has."""
    from .tasks.rows import shorten
    from .training.config import TrainConfig

    known = fields_of(adapter) if is_dataclass(adapter) else []
    for name, value in changes.items():
        if name not in known:
            near = get_close_matches(name, [*known, *fields_of(TrainConfig)], 3)
            kind = f" nor of {type(adapter).__name__}" if known else ""
            remedy = f"; did you mean {' or '.join(near)}?" if near else f"; pass fields that exist, such as {EXAMPLE}"
            raise ValueError(f"{name} = {shorten(value, 80)} is not a field of TrainConfig{kind}{remedy}")
    return replace(adapter, **changes)


def recipes() -> dict[str, dict[str, Any]]:
    """Every method by the label it has in figures, as the fields of `TrainConfig` that make it."""
    plain = {name: {"adapter": adapter} for name, adapter in methods().items()}
    return {**plain, **optimizer_methods(), **structure_methods()}


def methods() -> dict[str, Any]:
    """The systems of T-REX's comparisons by their labels, with the sizes of the authors' code.

    All have rank or I + J vectors as there: 8 experts of rank 4 against 4 down and 8 up vectors (32 experts).

    >>> {name: getattr(config, "num_experts", 1) for name, config in methods().items()}
    {'LoRA': 1, 'LoRA-MoE': 8, 'SiRA': 8, 'mix-and-match': 32, 'T-REX': 32}
    """
    import peft

    from . import peft_bridge

    configs: Any = peft_bridge  # its classes are made when it is imported, out of a type checker's sight

    return {
        "LoRA": peft.LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS, task_type="CAUSAL_LM"),
        "LoRA-MoE": configs.MoeLoraConfig(num_experts=8, r=4, alpha=4.0, target_modules=TARGETS),
        "SiRA": configs.SiraConfig(num_experts=8, r=4, alpha=4.0, target_modules=TARGETS),
        "mix-and-match": configs.TRexConfig(num_down=4, num_up=8, intuition=False, target_modules=TARGETS),
        "T-REX": configs.TRexConfig(num_down=4, num_up=8, target_modules=TARGETS),
    }


def optimizer_methods() -> dict[str, dict[str, Any]]:
    """The eight optimizers of "A Stronger Mixture of Low-Rank Experts", Fig. 3, with its protocol (section 2.1).

    R is preconditioned, g rescales the experts' backward path by the root of the gate. Linear decay to a tenth, the
    router's gradient clipped to norm 1 and the experts' not at all, (E, k, r) = (20, 10, 4) on q, k, v and o. The
    learning rates are this project's: the paper's belong to a model of 3 billion parameters.
    """
    from . import peft_bridge

    configs: Any = peft_bridge
    recipe = {}
    for form, rates in EXPERT_LR.items():
        for label, preconditioned, power in (
            (form, False, 1.0),
            (f"R{form}", True, 1.0),
            (f"g{form}", False, 0.5),
            (f"gR{form}", True, 0.5),
        ):
            adapter = configs.MoeLoraConfig(
                num_experts=20,
                top_k=10,
                r=4,
                alpha=16.0,
                dropout=0.05,
                gate_backward_power=power,
                target_modules=ATTENTION,
            )
            recipe[label] = {
                "adapter": adapter,
                "optimizer": f"riemannian_{form.lower()}",
                "lr": rates[preconditioned],
                "optimizer_options": {"precondition": preconditioned},
                "router_lr": ROUTER_SHARE * rates[0],
                "final_lr": 0.1,
                "warmup_steps": 0,
                "max_grad_norm": None,
                "router_max_grad_norm": 1.0,
                "record_experts_every": 4,
            }
    return recipe


def structure_methods() -> dict[str, dict[str, Any]]:
    """S'MoRE with the sizes of its paper's protocol, on the three projections of every feed-forward block: pools
    (4, 4), fanout (2, 2), keys and projected tokens 32 wide, tanh, switch gates. Its control has no
    balance loss, which alone may spread tokens. Trees are recorded every second step."""
    from . import peft_bridge

    configs: Any = peft_bridge
    smore = configs.SmoreConfig(num_experts=[4, 4], fanout=[2, 2], r=8, target_modules=FEED_FORWARD)
    control = configs.SmoreConfig(num_experts=[4, 4], fanout=[2, 2], r=8, balance_coef=0.0, target_modules=FEED_FORWARD)
    forms = {"S'MoRE": smore, "S'MoRE, no balance": control}
    return {name: {"adapter": adapter, "record_trees_every": 2} for name, adapter in forms.items()}


PRESETS = {
    "tiny": Preset(
        "tiny",
        steps=6,
        batch_size=4,
        seeds=(0, 1),
        rows_per_dataset=8,
        eval_rows=1,
        record_every=1,
        embedder="tfidf",
        map_datasets=6,
        map_rows=12,
        map_method="pca",
        cluster_counts=(3, 5),
        permutations=20,
    ),
    "quick": Preset("quick"),
    "long": Preset("long", steps=300, batch_size=16, rows_per_dataset=None, record_every=5),
    "full": Preset(
        "full",
        steps=1000,
        batch_size=64,
        seeds=(0, 1, 2, 3, 4),
        rows_per_dataset=None,
        eval_rows=None,
        max_length=512,
        record_every=5,
        map_rows=300,
        cluster_counts=(5, 10, 20, 32, 50),
        permutations=1000,
    ),
}


# what a study of many runs changes in a preset
STUDIES: dict[str, dict[str, dict[str, Any]]] = {
    "optimizers": {
        "tiny": {"steps": 4, "bench_steps": 10, "bench_seeds": (10, 11)},
        "quick": {
            "steps": 32,
            "batch_size": 16,
            "rows_per_dataset": 30,
            "eval_rows": 5,
            "record_every": 4,
            "eval_every": 8,
        },
        "full": {"steps": 500, "batch_size": 80, "eval_every": 50},
    },
    "comparison": {
        "tiny": {"steps": 2, "record_every": 0},
        "quick": {"steps": 20, "batch_size": 16, "eval_rows": 15, "seeds": (0, 1, 2, 3, 4), "record_every": 0},
        "long": {"seeds": (0, 1, 2, 3, 4), "record_every": 0},
        "full": {"seeds": tuple(range(8)), "record_every": 0},
    },
    "budgets": {
        "tiny": {"steps": 2, "record_every": 0},
        "quick": {"steps": 20, "batch_size": 16, "eval_rows": 15, "record_every": 0},
        "long": {"record_every": 0},
        "full": {"record_every": 0},
    },
    "structures": {
        "tiny": {"steps": 4},
        "quick": {"steps": 50, "batch_size": 16, "rows_per_dataset": 60, "eval_rows": 5, "record_every": 10},
        "full": {"record_every": 20},
    },
}


def preset(name: str | None = None) -> Preset:
    """The preset by name, or the one the environment names (quick when it names none), on the environment's suite.

    Raises:
        ValueError: For an unknown name, and for a number in the environment that is not a whole one above zero.

    Example:
        >>> settings = preset("tiny")
        >>> settings.steps, settings.seeds
        (6, (0, 1))
        >>> settings.sized("optimizers").steps, settings.config("T-REX", seed=0).adapter.num_up
        (4, 8)
    """
    name = name or os.environ.get("MOE_ANALYSIS_PRESET", "quick")
    if name not in PRESETS:
        raise ValueError(f"preset = {name!r} is unknown; choose one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], **dict(from_environment()))


def from_environment() -> Iterator[tuple[str, Any]]:
    for name in ("suite", "backbone", "embedder"):
        if value := os.environ.get(f"MOE_ANALYSIS_{name.upper()}"):
            yield name, value
    if workers := number_of("WORKERS"):
        yield "workers", workers
    yield from seeds_asked().items()


def seeds_asked() -> dict[str, tuple[int, ...]]:
    """The environment's seeds, from 0 on; empty if it does not name their number."""
    number = number_of("SEEDS")
    return {"seeds": tuple(range(number))} if number else {}


def number_of(name: str) -> int | None:
    """A number from the environment; None if it is not there."""
    variable = f"MOE_ANALYSIS_{name}"
    value = os.environ.get(variable)
    if value and not (value.isdecimal() and int(value)):
        raise ValueError(f"{variable} = {value!r} must be a whole number above zero")
    return int(value) if value else None
