"""The model card of an adapter: README.md next to its weights, for the hub and for anyone who finds the folder.

It describes the configuration and, for a trained run, its data and results. PEFT's empty form is replaced; a card that
somebody wrote keeps its text.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData
from safetensors import safe_open

from .adapters import REGISTRY, own
from .atomic import write_whole
from .base_name import BaseName, last_part, public_name

if TYPE_CHECKING:  # PEFT imports the bridge as soon as it is imported, and the bridge this file
    from peft import PeftConfig

TAG = "base_model:adapter:"  # what the hub finds the adapters of a model by
CARD, CONFIG, WEIGHTS = "README.md", "adapter_config.json", "adapter_model.safetensors"
OURS = "<!-- Written by moe_analysis whenever the adapter is saved. Delete this line to keep your own text. -->"
# system -> what it is called, what it is, its source
SYSTEMS = {
    "lora": ("LoRA", "one low-rank update of every adapted layer", "Hu et al. 2021"),
    "moelora": ("LoRA-MoE", "LoRA experts with outputs that a router weights for every token", "Sun et al. 2025"),
    "sira": ("SiRA", "LoRA experts; a router chooses the best few for every token", "Zhu et al. 2023"),
    "hydralora": ("HydraLoRA", "LoRA experts that share one A; a router weights their separate B", "Tian et al. 2024"),
    "momor": ("MoMOR", "pools of residual LoRA experts side by side, each with its own gate", "Zeng et al. 2025"),
    "smore": (
        "S'MoRE",
        "residual LoRA experts in layers; every token is routed through a tree of them",
        "Zeng et al. 2025",
    ),
    "trex": ("T-REX", "rank-1 experts made of shared vectors, weighted by", "Zhang et al. 2025"),
}
PRIORS = {"intuition": "the meaning of the prompt", "router": "a router"}  # field of T-REX -> what weighs its experts
NO_MEANING = {"trex": ("r", "alpha")}  # fields that a system has and does not read
AUTO = {
    "CAUSAL_LM": "ForCausalLM",
    "SEQ_2_SEQ_LM": "ForSeq2SeqLM",
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
    "FEATURE_EXTRACTION": "ForFeatureExtraction",
}
FLOATS = ("F64", "F32", "F16", "BF16")
# fields that say how the adapter is stored and used, not what it is
NOT_SHOWN = {
    "task_type",
    "peft_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "runtime_config",
    "layout",
    "embedder_digest",
    "prompt_begin",
    "prompt_ends",
    "pooling",
    "embedding_dim",
}


def write_card(save_directory: str | Path, config: PeftConfig, extra: Mapping[str, Any] | None = None) -> None:
    """Write README.md into the folder that an adapter was saved to.

    A card that is neither PEFT's empty form nor one of ours keeps its text; only paths of the base model go from its
    metadata. For an adapter with a name, which PEFT saves a folder deeper, the card above lists the folders.

    Args:
        save_directory: the folder of adapter_config.json; its weights are counted where they are there.
        config: of one of our adapters, or of one of PEFT's own methods.
        extra: what a run adds; see `model_card`.
    """
    folder = Path(save_directory)
    put_card(folder / CARD, model_card(config, extra, stored_sizes(folder, system_of(config))))
    above = folder.parent
    if not (above / CARD).is_file():
        return
    if (above / CONFIG).exists():
        hide_paths(above / CARD)  # PEFT has just put them there
    elif replaceable(above / CARD):
        put_card(above / CARD, folder_card(above))


def hide_base_path(save_directory: str | Path) -> None:
    """Call the base model in a folder's adapter_config.json by its public name, if it has one."""
    path = Path(save_directory) / CONFIG
    stored = json.loads(path.read_text("utf-8"))
    if (name := public_name(given := stored.get("base_model_name_or_path"))) != given:
        path.write_text(json.dumps(stored | {"base_model_name_or_path": name}, indent=2, sort_keys=True), "utf-8")


def model_card(config: PeftConfig, extra: Mapping[str, Any] | None = None, sizes: tuple[int, int] | None = None) -> str:
    """The text of a card, with metadata that the hub understands.

    Args:
        config: of one of our adapters, or of one of PEFT's own methods.
        extra: of a run: "data" (a sentence), "results" (DataFrame), and any further facts, one row each.
        sizes: (parameters, layers) that are stored.

    >>> print(model_card(ma.MoeLoraConfig(num_experts=4, target_modules=["q_proj"])).splitlines()[7])
    # LoRA-MoE adapter
    """
    base, system = BaseName.of(config.base_model_name_or_path), system_of(config)
    label, what, source = described(config)
    counted = "" if sizes is None else f" It has {sizes[0]} parameters in {sizes[1]} layers."
    parts = [
        f"# {label} adapter" + (f" for {base.name}" if base.name else ""),
        f"{label}: {what}{f' ({source})' if source else ''}.{counted}",
        f"Base model: {told(base)}. Its own weights are not in this folder.",
        f"## Load it\n\n```python\n{loading(config, base)}\n```",
        *intuition_needed(config),
        "## Configuration\n\n" + table(["field", "value"], shown_fields(config)),
        *run_parts(dict(extra or {})),
        f"### Framework versions\n\n- PEFT {config.peft_version or version('peft')}",
        OURS,
    ]
    return f"---\n{metadata(base, system, config).to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def metadata(base: BaseName, system: str, config: PeftConfig) -> ModelCardData:
    tags = [*([f"{TAG}{base.hub_id}"] if base.hub_id else []), "moe_analysis", system]
    task = "text-generation" if config.task_type == "CAUSAL_LM" else None
    return ModelCardData(base_model=base.hub_id or base.name or None, library_name="peft", pipeline_tag=task, tags=tags)


def system_of(config: PeftConfig) -> str:
    return str(getattr(config, "system", None) or getattr(config.peft_type, "value", config.peft_type)).lower()


def described(config: PeftConfig) -> tuple[str, str, str]:
    """(label, what it is, source); a user's own adapter by its class and its configuration's first sentence."""
    system = system_of(config)
    if system == "trex":
        label, what, source = SYSTEMS[system]
        by = [told for name, told in PRIORS.items() if getattr(config, name)]
        return label, f"{what} {' and '.join(by)}", source
    if system in SYSTEMS:
        return SYSTEMS[system]
    if system not in REGISTRY:
        return system.upper(), "a method of PEFT's", ""
    said = (REGISTRY[system].config_class.__doc__ or "").strip().splitlines()
    written = said and not said[0].startswith(f"{REGISTRY[system].config_class.__name__}(")  # dataclass writes one
    return REGISTRY[system].__name__, said[0].rstrip(".") if written else "the author's own adapter", ""


def told(base: BaseName) -> str:
    if base.kind == "ours":
        known = f" (`{base.hub_id}` of the Hugging Face hub, as a package has it)" if base.hub_id else ""
        return f"`{base.name}`{known}, which `moe_analysis.load_backbone` loads by this name"
    if base.kind == "hub":
        return f"`{base.name}` of the Hugging Face hub"
    if base.kind == "folder":
        return f"`{base.name}`, a local folder on its author's machine; the name is not an id of the hub"
    return "built from a configuration, without a name"


def loading(config: PeftConfig, base: BaseName) -> str:
    """Three lines, one more for a user's own adapter; if no other machine can load the base model, it is `base`."""
    folder, of_base, lines = '"path/to/this/folder"', "base", []
    if base.kind == "ours":
        of_base = f'ma.load_backbone("{base.name}")[0]'
    if (system := system_of(config)) in REGISTRY:
        own_lines = own_file(system)
        alias = " as ma" if own_lines or base.kind == "ours" else ""
        lines = [f"import moe_analysis{alias}  # registers {system.upper()} with PEFT", *own_lines]
    elif base.kind == "ours":
        lines = ["import moe_analysis as ma"]
    finds_class = (
        config.task_type is not None or config.auto_mapping is not None
    )  # transformers' own saving has neither
    if base.kind == "hub" and finds_class:
        auto = f"AutoPeftModel{AUTO.get(str(getattr(config.task_type, 'value', config.task_type)), '')}"
        return "\n".join([*lines, f"from peft import {auto}", f"model = {auto}.from_pretrained({folder})"])
    hint = "" if base.kind == "ours" else "  # base: the base model"
    return "\n".join(
        [*lines, "from peft import PeftModel", f"model = PeftModel.from_pretrained({of_base}, {folder}){hint}"]
    )


def own_file(system: str) -> list[str]:
    """The line that registers an adapter which a file of the user's defines."""
    source = own.SOURCES.get(REGISTRY[system].__module__) if system in REGISTRY else None
    return [f'ma.use_adapter("{source.path.name}")  # the file that defines the adapter'] if source else []


def intuition_needed(config: PeftConfig) -> list[str]:
    if not getattr(config, "intuition", False):
        return []
    if getattr(config, "embedding_dim", None):
        return [
            f"The adapter holds the {config.clusters} clusters of prompts that it routes by, and reads the prompt "
            "itself; `intuition=` (samples, clusters) passes other scores."
        ]
    return [
        f"A forward pass needs `intuition=` (samples, {config.clusters}): the cosines of the prompts' embeddings "
        "to the centroids of the clusters that it was trained with (`moe_analysis.cluster`)."
    ]


def shown_fields(config: PeftConfig) -> list[tuple[str, str]]:
    """Name and value of what the adapter is; of PEFT's own methods only what differs from PEFT's defaults."""
    system = system_of(config)
    hidden, rows = NOT_SHOWN.union(NO_MEANING.get(system, ())), []
    if not getattr(config, "rescales_gates", True):
        hidden |= {"gate_backward_power"}
    for entry in fields(config):
        value = getattr(config, entry.name)
        default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
        neutral = value == default and (system not in REGISTRY and entry.name != "r" or not default)
        if entry.name not in hidden and value is not None and not neutral:
            rows.append((f"`{entry.name}`", written(value)))
    return rows


def written(value: Any) -> str:
    """A value as Markdown, without a path of this machine in it."""
    if isinstance(value, (set, list, tuple)):
        return ", ".join(map(written, sorted(value) if isinstance(value, set) else value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (str, Path)):
        text = str(getattr(value, "value", value))
        return f"`{last_part(text) if os.path.isabs(text) or os.path.isdir(text) else text}`"  # noqa: PTH117, PTH112
    return str(value)


def run_parts(extra: dict[str, Any]) -> list[str]:
    """The sections of a run: data and settings, then the results."""
    data, results = extra.pop("data", None), extra.pop("results", None)
    parts = []
    if data or extra:
        parts.append("## Training" + (f"\n\nData: {data}" if data else ""))
    if extra:
        parts.append(table(["setting", "value"], [(name, written(value)) for name, value in extra.items()]))
    if results is not None and len(results):
        rows = [[cell(value) for value in row] for row in results.itertuples(index=False)]
        parts.append("## Results\n\n" + table(list(results.columns), rows))
    return parts


def cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def table(head: list[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(one).replace("|", "\\|") for one in line) + " |" for line in lines)


def stored_sizes(folder: Path, system: str) -> tuple[int, int] | None:
    """(parameters, layers) of the adapter's weights in a folder; None if there are none that can be read."""
    path = folder / WEIGHTS
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        stored = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
        counts = {key: prod(one.get_shape()) for key, one in stored.items() if one.get_dtype() in FLOATS}
    layers = {found[1] for key in counts if (found := re.match(rf"(.+?)\.{re.escape(system)}_", key))}
    return (sum(counts.values()), len(layers)) if counts else None


def folder_card(folder: Path) -> str:
    """The card of a folder whose adapters lie in folders of their own, each under its name."""
    rows, bases = [], set()
    for path in sorted(folder.glob(f"*/{CONFIG}")):
        stored = json.loads(path.read_text("utf-8"))
        system = re.split(r"\W", str(stored["peft_type"]))[0].lower()
        bases.add(BaseName.of(stored.get("base_model_name_or_path")))
        rows.append((f"[{path.parent.name}]({path.parent.name}/{CARD})", SYSTEMS.get(system, (system.upper(),))[0]))
    names = sorted(base.name for base in bases if base.name)
    data = ModelCardData(base_model=names or None, library_name="peft", tags=["moe_analysis"])
    parts = [
        "# Adapters" + (f" for {', '.join(names)}" if names else ""),
        "Each is in its own folder, with a card that shows how to load it.",
        table(["folder", "system"], rows),
        f"### Framework versions\n\n- PEFT {version('peft')}",
        OURS,
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def put_card(path: Path, text: str) -> None:
    """Write a card, but not over one that somebody wrote."""
    if path.is_file() and not replaceable(path):
        hide_paths(path)
        return
    write_whole(path, text)


def replaceable(path: Path) -> bool:
    """Whether a card is one of ours, or PEFT's form with nothing filled in."""
    text = path.read_text("utf-8", errors="replace")
    return OURS in text or empty_form() <= Counter(text.splitlines())


@cache
def empty_form() -> Counter[str]:
    """The lines of PEFT's form; to compile its template takes longer than to write a small adapter."""
    return Counter(ModelCard.from_template(ModelCardData()).text.splitlines())


def hide_paths(path: Path) -> None:
    """Take paths of base models out of a card's metadata."""
    if not path.read_text("utf-8", errors="replace").startswith("---"):
        return
    card = ModelCard.load(path)
    named = card.data.get("base_model") or []
    bases = {one: BaseName.of(one) for one in ([named] if isinstance(named, str) else named)}
    if all(one == base.name for one, base in bases.items()):
        return
    names = [base.name for base in bases.values()]
    card.data["base_model"] = names[0] if isinstance(named, str) else names
    tags = {f"{TAG}{one}": f"{TAG}{base.name}" if base.kind == "hub" else None for one, base in bases.items()}
    card.data["tags"] = [new for tag in card.data.get("tags") or [] if (new := tags.get(tag, tag))]
    card.save(path)
