"""The card of an adapter: what it is and how to load it, by names that hold elsewhere, and nothing left to fill in."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import peft
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

import moe_analysis as ma
from moe_analysis.adapters import REGISTRY, Adapter, AdapterConfig, own
from moe_analysis.backbones import COMPACT
from moe_analysis.base_name import BaseName, local_name, public_name
from moe_analysis.model_card import hide_base_path, model_card, write_card
from moe_analysis.packaged_backbone import SMOLLM2

from .new_process import printed

EMPTY = "More Information Needed"
CONFIGS = {
    "LoRA-MoE": (ma.MoeLoraConfig, {"num_experts": 6, "r": 3}),
    "SiRA": (ma.SiraConfig, {"num_experts": 6, "top_k": 5}),
    "HydraLoRA": (ma.HydraLoraConfig, {"num_experts": 5}),
    "MoMOR": (ma.MomorConfig, {"num_experts": [3, 5], "top_k": [2, 2]}),
    "S'MoRE": (ma.SmoreConfig, {"num_experts": [3, 5], "fanout": [2, 2], "key_dim": 7}),
    "T-REX": (ma.TRexConfig, {"num_down": 3, "num_up": 5, "intuition": False}),
    "LoRA": (peft.LoraConfig, {"r": 5, "lora_alpha": 11}),
}


def config_of(label: str, base: str | None = "org/base", **more):
    kind, sizes = CONFIGS[label]
    config = kind(**{"target_modules": ["v_proj", "q_proj"], "task_type": "CAUSAL_LM", **sizes, **more})
    config.base_model_name_or_path = base
    return config


def saved(label: str, base: torch.nn.Module, folder: Path, **more) -> peft.PeftModel:
    """A model whose adapter lies in a folder with our card, base by its public name."""
    model = peft.get_peft_model(base, config_of(label, None, **more)).eval()
    model.save_pretrained(folder)
    write_card(folder, model.active_peft_config)
    hide_base_path(folder)
    return model


def snippet(card: str) -> str:
    return re.search(r"```python\n(.*?)\n```", card, flags=re.DOTALL)[1]


@pytest.fixture
def hub(tmp_path: Path, tiny_llama) -> Path:
    """A cache of huggingface_hub that holds the model org/tiny; returns the folder of its snapshot."""
    home = tmp_path / "home" / "hub" / "models--org--tiny"
    tiny_llama.save_pretrained(home / "snapshots" / "0123abcd")
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0123abcd")
    return home / "snapshots" / "0123abcd"


@pytest.mark.parametrize("label", CONFIGS)
def test_a_card_says_what_the_adapter_is(label: str) -> None:
    config = config_of(label)
    card = model_card(config)
    assert f"# {label} adapter for org/base\n" in card and "`q_proj`, `v_proj`" in card and EMPTY not in card
    for name, value in CONFIGS[label][1].items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        assert f"| `{name}` | {shown} |" in card
    assert "| `inference_mode` |" not in card and "None |" not in card


@pytest.mark.parametrize("label", CONFIGS)
def test_the_metadata_is_what_the_hub_reads(label: str) -> None:
    data = ModelCard(model_card(config_of(label))).data
    assert (data.base_model, data.library_name, data.pipeline_tag) == ("org/base", "peft", "text-generation")
    assert {"base_model:adapter:org/base", "moe_analysis"} < set(data.tags)
    assert ModelCard(model_card(config_of(label, None))).data.to_dict().get("base_model", "") == ""


def test_parameters_and_layers_are_counted_in_the_stored_weights(tiny_llama, tmp_path: Path) -> None:
    model = saved("LoRA-MoE", tiny_llama, tmp_path, modules_to_save=None)
    trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert f"It has {trained} parameters in 4 layers." in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    "text, name, kind",
    [
        ("compact", "compact", "ours"),
        (str(COMPACT), "compact", "ours"),
        (f"{COMPACT}/", "compact", "ours"),
        (str(COMPACT.parent / ".." / COMPACT.parent.name / "compact"), "compact", "ours"),
        (str(SMOLLM2.cached()), "smollm2-135m", "ours"),
        ("gpt2", "gpt2", "hub"),
        ("org/name", "org/name", "hub"),
        ("/caches/hub/models--org--my-name/snapshots/0123abcd", "org/my-name", "hub"),
        ("C:\\caches\\models--gpt2\\snapshots\\0123abcd", "gpt2", "hub"),
        ("/home/me/models/mine", "mine", "folder"),
        ("C:\\models\\mine", "mine", "folder"),
        ("./mine/", "mine", "folder"),
        ("~/mine", "mine", "folder"),
        ("", "", "none"),
        (None, "", "none"),
    ],
)
def test_a_base_model_is_called_by_a_name_without_a_path(text: str | None, name: str, kind: str) -> None:
    assert BaseName.of(text) == BaseName(name, kind)
    card = model_card(config_of("T-REX", text))
    assert (text or "?") not in card.replace(f"`{name}`", "") or text == name
    assert ModelCard(card).data.to_dict().get("base_model", "") in (name, BaseName(name, kind).hub_id)
    assert ("local folder" in card) == (kind == "folder")


def test_a_model_from_a_package_is_found_by_its_id_on_the_hub_and_loaded_from_the_package() -> None:
    card = model_card(config_of("SiRA", str(SMOLLM2.cached())))
    assert ModelCard(card).data.base_model == SMOLLM2.hub and f"base_model:adapter:{SMOLLM2.hub}" in card
    assert 'ma.load_backbone("smollm2-135m")' in snippet(card)


def test_adapter_config_says_a_public_name_and_gets_a_path_again(tmp_path: Path, monkeypatch) -> None:
    assert public_name(str(COMPACT)) == "compact" and local_name("compact") == str(COMPACT)
    assert public_name("/caches/models--org--name/snapshots/0") == "org/name"
    for unchanged in ("org/name", "/home/me/mine", "", None):
        assert public_name(unchanged) == unchanged == local_name(unchanged)
    (tmp_path / "compact").mkdir()
    monkeypatch.chdir(tmp_path)  # a folder of the user's, who means it
    assert local_name("compact") == "compact" and BaseName.of("compact").kind == "folder"


def test_three_lines_load_an_adapter_of_the_compact_backbone(tmp_path: Path) -> None:
    model = saved("S'MoRE", ma.load_backbone("compact")[0], tmp_path)
    lines = snippet((tmp_path / "README.md").read_text())
    assert len(lines.splitlines()) == 3 and lines.startswith("import moe_analysis")
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "compact"
    assert str(COMPACT) not in (tmp_path / "README.md").read_text()
    names: dict = {}
    exec(lines.replace("path/to/this/folder", str(tmp_path)), names)
    loaded, ids = names["model"], torch.tensor([[1, 5, 9]])
    torch.testing.assert_close(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


def test_the_lines_load_an_adapter_of_a_model_of_the_hub_in_a_new_process(hub: Path, tmp_path: Path) -> None:
    codes, expected, ids = [], [], torch.tensor([[5, 9, 7]])
    for label in ("LoRA", "LoRA-MoE", "T-REX"):
        model = saved(label, AutoModelForCausalLM.from_pretrained(hub), folder := tmp_path / label)
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/tiny"
        lines = snippet((folder / "README.md").read_text())
        assert ("import moe_analysis" in lines) == (label != "LoRA")
        check = f"import torch\nprint(model.eval()(input_ids=torch.tensor({ids.tolist()})).logits.sum().item())"
        codes.append(lines.replace("path/to/this/folder", str(folder)) + f"\n{check}")
        expected.append(model(input_ids=ids).logits.sum().item())
    told = printed(*codes, before={"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"})
    assert [float(one) for one in told] == pytest.approx(expected, abs=1e-4)


def test_the_lines_take_a_base_that_nobody_else_can_load_as_base(tiny_llama, tmp_path: Path) -> None:
    tiny_llama.save_pretrained(tmp_path / "mine")
    saved("SiRA", AutoModelForCausalLM.from_pretrained(tmp_path / "mine"), tmp_path / "adapter")
    text = (tmp_path / "adapter" / "README.md").read_text()
    assert "`mine`, a local folder" in text and str(tmp_path) not in text
    lines = snippet(text)
    assert len(lines.splitlines()) == 3
    names = {"base": AutoModelForCausalLM.from_pretrained(tmp_path / "mine")}
    exec(lines.replace("path/to/this/folder", str(tmp_path / "adapter")), names)
    assert isinstance(names["model"], peft.PeftModel)


def test_trex_tells_what_its_forward_pass_needs() -> None:
    assert "`intuition=` (samples, 32)" in model_card(config_of("T-REX", num_down=4, num_up=8, intuition=True))
    prior = model_card(config_of("T-REX", intuition=True, router=False))
    assert "weighted by the meaning of the prompt (" in prior and "a router" not in prior
    assert "`intuition=`" not in model_card(config_of("T-REX"))


def test_an_adapter_of_the_users_own_is_registered_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    class GatedConfig(AdapterConfig):
        """LoRA with gates.

        More of it."""

    class Gated(Adapter):
        config_class = GatedConfig
        __module__ = "gated_lora"

    monkeypatch.setitem(REGISTRY, "gated", Gated)
    monkeypatch.setitem(own.SOURCES, "gated_lora", own.Source(Path("/home/me/gated_lora.py"), b""))
    config = config_of("LoRA-MoE")
    config.system = "gated"
    card = model_card(config)
    assert "Gated: LoRA with gates." in card and "/home/me" not in card
    assert snippet(card).splitlines()[1].startswith('ma.use_adapter("gated_lora.py")')


def test_what_a_run_adds_stands_in_the_card() -> None:
    import pandas as pd

    results = pd.DataFrame({"dataset": ["a|b", "c"], "rows": [3, 4], "accuracy": [0.5, 1.0]})
    card = model_card(
        config_of("SiRA"),
        {"data": "two data sets", "results": results, "steps": 3, "seed": 7, "embedder": "/home/me/mine"},
        sizes=(12, 3),
    )
    for part in (
        "Data: two data sets",
        "| steps | 3 |",
        "| seed | 7 |",
        "| a\\|b | 3 | 0.500 |",
        "| embedder | `mine` |",
        "12 parameters in 3 layers",
    ):
        assert part in card
    assert "## Training" not in model_card(config_of("SiRA"))


def peft_form(folder: Path, base: str = "/home/me/mine") -> str:
    """What PEFT writes; a model of this name."""
    folder.mkdir(parents=True, exist_ok=True)
    card = ModelCard.from_template(ModelCard("---\nlibrary_name: peft\n---\n").data)
    card.data["base_model"], card.data["tags"] = base, [f"base_model:adapter:{base}", "transformers"]
    card.save(folder / "README.md")
    return (folder / "README.md").read_text()


def test_a_card_that_somebody_wrote_keeps_its_words_and_loses_its_paths(tmp_path: Path) -> None:
    form = peft_form(tmp_path)
    assert EMPTY in form
    written = form.replace(f"- **Developed by:** [{EMPTY}]", "- **Developed by:** me")
    assert written != form
    (tmp_path / "README.md").write_text(written)
    write_card(tmp_path, config_of("T-REX", "/home/me/mine"))
    kept = ModelCard.load(tmp_path / "README.md")
    assert "- **Developed by:** me" in kept.text and "/home/me" not in str(kept)
    assert kept.data.base_model == "mine" and kept.data.tags == ["transformers"]


def test_the_card_of_a_file_without_metadata_is_left_as_it_is(tmp_path: Path, capfd) -> None:
    (tmp_path / "README.md").write_bytes(b"My notes \xff\n")
    write_card(tmp_path, config_of("T-REX"))
    assert (tmp_path / "README.md").read_bytes() == b"My notes \xff\n" and capfd.readouterr() == ("", "")


def test_pefts_form_and_an_older_card_of_ours_are_written_anew(tmp_path: Path) -> None:
    peft_form(tmp_path)
    for steps in (3, 4):
        write_card(tmp_path, config_of("T-REX"), {"steps": steps})
        text = (tmp_path / "README.md").read_text()
        assert f"| steps | {steps} |" in text and EMPTY not in text and text.count("# T-REX adapter") == 1


def test_adapters_with_names_have_their_cards_and_one_that_lists_them(tiny_llama, tmp_path: Path) -> None:
    tiny_llama.save_pretrained(tmp_path / "mine")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "mine")
    model = peft.get_peft_model(base, config_of("SiRA", None), adapter_name="first")
    model.add_adapter("second", config_of("SiRA", str(tmp_path / "mine"), num_experts=7))
    model.save_pretrained(tmp_path / "out")
    for name in ("first", "second"):
        write_card(tmp_path / "out" / name, model.peft_config[name])
        assert "# SiRA adapter for mine" in (tmp_path / "out" / name / "README.md").read_text()
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| [first](first/README.md) | SiRA |" in text and "| [second](second/README.md) | SiRA |" in text
    assert EMPTY not in text and str(tmp_path) not in text and ModelCard(text).data.base_model == ["mine"]


def test_saving_an_adapter_with_a_name_leaves_the_card_of_the_first_without_paths(tiny_llama, tmp_path: Path) -> None:
    tiny_llama.save_pretrained(tmp_path / "mine")
    model = saved("SiRA", AutoModelForCausalLM.from_pretrained(tmp_path / "mine"), tmp_path / "out")
    model.add_adapter("second", config_of("SiRA", str(tmp_path / "mine"), num_experts=7))
    model.save_pretrained(tmp_path / "out", selected_adapters=["second"])
    text = (tmp_path / "out" / "README.md").read_text()
    assert str(tmp_path) not in text and "# SiRA adapter for mine" in text and "second" not in text


@pytest.mark.parametrize("label", ["LoRA", "T-REX"])
def test_a_runs_card_tells_data_settings_and_results_without_a_path(label, config, out: Path, suite, backbone) -> None:
    run = ma.train(config(adapter=config_of(label, None), steps=2, seed=5), out)
    text = (run.path / "adapter" / "README.md").read_text()
    assert f"# {label} adapter for {Path(backbone).name}" in text and EMPTY not in text
    assert f"`{Path(suite).name}`" in text and "| steps | 2 |" in text and "| seed | 5 |" in text
    for row in run.evaluation.itertuples():
        assert f"| {row.dataset} | {row.rows} | {row.accuracy:.3f} | {row.loss:.3f} |" in text
    assert f"| mean | {run.evaluation['rows'].sum()} | {run.evaluation['accuracy'].mean():.3f} |" in text
    assert "/" not in re.sub(r"(?m)^\| run .*$|path/to/this/folder", "", text)
    assert "base_model:adapter" not in text, "a folder is no model of the hub"


def test_an_adapter_that_peft_loaded_is_saved_again_without_asking_the_hub(tmp_path: Path, monkeypatch) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("PEFT asked the hub for a model")

    saved("SiRA", ma.load_backbone("compact")[0], tmp_path / "first")
    again = peft.PeftModel.from_pretrained(ma.load_backbone("compact")[0], tmp_path / "first")
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", asked)
    again.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "adapter_config.json").read_text())["base_model_name_or_path"] == "compact"


@pytest.mark.parametrize("label", ["LoRA", "SiRA"])
def test_a_runs_adapter_names_the_compact_backbone_and_is_saved_again_without_asking_the_hub(
    label, out, tmp_path, monkeypatch
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("PEFT asked the hub for a model")

    run = ma.train(
        ma.TrainConfig(
            adapter=config_of(label, None),
            datasets=["add_small"],
            steps=1,
            batch_size=4,
            rows_per_dataset=8,
            eval_rows=2,
        ),
        out,
    )
    stored = json.loads((run.path / "adapter" / "adapter_config.json").read_text())
    assert stored["base_model_name_or_path"] == "compact"
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", asked)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run.model().save_pretrained(tmp_path / "again")


def test_a_card_without_a_task_names_the_class_that_needs_none() -> None:
    """As transformers saves an adapter: neither a task nor a mapping tells AutoPeftModel the model's class."""
    config = ma.SiraConfig(target_modules=["q_proj"], base_model_name_or_path="someone/model")
    assert "model = PeftModel.from_pretrained(base, " in model_card(config)
    config.task_type = "CAUSAL_LM"
    assert "model = AutoPeftModelForCausalLM.from_pretrained(" in model_card(config)
