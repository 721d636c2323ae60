"""A model that cannot answer what it is asked is refused before the first row, in words that name the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers
from peft import BOFTConfig, LoraConfig
from torch import nn
from transformers import AutoTokenizer

import moe_analysis as ma
from moe_analysis.backbones import BackboneError, load_backbone
from moe_analysis.training.evaluation import evaluate, evaluate_rows
from moe_analysis.training.sweep.running import sweep
from moe_analysis.training.unfit import refuse_unfit
from tests.peft_bridge.systems import t5

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture
def tokenizer(backbone: str) -> Any:
    return AutoTokenizer.from_pretrained(backbone)


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Any) -> Callable[..., Path]:
    """A function that saves a random model of a class with the tiny tokenizer."""

    def save(name: str, config: str, **sizes: Any) -> Path:
        torch.manual_seed(0)
        options = getattr(transformers, config)(**{"vocab_size": len(tokenizer)} | sizes)
        getattr(transformers, name)(options).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return save


def gpt2(tokenizer: Any, places: int) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": places}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=len(tokenizer), **sizes)).eval()


def refused(folder: Path) -> str:
    with pytest.raises(BackboneError) as caught:
        load_backbone(folder, torch.float32)
    return str(caught.value)


# Backbones


def test_an_encoder_is_no_backbone(saved) -> None:
    folder = saved("BertForMaskedLM", "BertConfig", **SIZES)
    assert f"backbone = '{folder}' cannot be used: model = BertLMHeadModel reads from both sides" in refused(folder)


def test_a_model_without_its_head_is_no_backbone_unless_the_head_is_tied(saved) -> None:
    text = refused(saved("LlamaModel", "LlamaConfig", **SIZES))
    assert "has no weights for lm_head.weight and 0 more of LlamaForCausalLM, which would be random each time" in text
    tied = saved("GPT2Model", "GPT2Config", n_embd=16, n_layer=1, n_head=2)
    model, _ = load_backbone(tied, torch.float32)
    assert torch.equal(model.lm_head.weight, model.transformer.wte.weight)


def widened(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 32}))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:500])),
        ("model.safetensors", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\nsize 1\n")),
        ("config.json", widened),
        ("tokenizer.json", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\nsize 1\n")),
    ],
    ids=["cut weights", "pointer", "other width", "no tokenizer"],
)
def test_damaged_files_of_a_backbone_are_told_as_such(file: str, damage: Callable[[Path], Any], saved) -> None:
    folder = saved("LlamaForCausalLM", "LlamaConfig", **SIZES)
    damage(folder / file)
    text = refused(folder)
    assert f"files of {folder} are missing, damaged, or do not belong together" in text and "git lfs pull" in text


# Evaluation


def test_only_causal_models_are_evaluated(tokenizer, suite: str) -> None:
    rows = ma.load_suite(suite, split="test")
    config = transformers.BertConfig(vocab_size=len(tokenizer), **SIZES)
    with pytest.raises(ValueError, match="model = BertLMHeadModel reads from both sides"):
        evaluate(transformers.BertLMHeadModel(config).eval(), tokenizer, rows)
    (model := t5()).resize_token_embeddings(len(tokenizer))
    with pytest.raises(ValueError, match="model = T5ForConditionalGeneration has an encoder and a decoder"):
        evaluate(model, tokenizer, rows)


def test_rows_that_fill_a_models_places_are_evaluated_and_longer_ones_refused(tokenizer, suite: str) -> None:
    rows = ma.load_suite(suite, split="test", datasets=["choose"])
    model = gpt2(tokenizer, places=24)
    with pytest.raises(ValueError, match=r"max_length = 256 allows rows of \d+ tokens, .* pass max_length=24"):
        evaluate(model, tokenizer, rows)
    found = evaluate_rows(model, tokenizer, rows, max_length=24)
    roomy = gpt2(tokenizer, places=256)
    roomy.load_state_dict(model.state_dict() | {"transformer.wpe.weight": roomy.transformer.wpe.weight})
    roomy.transformer.wpe.weight.data[:24] = model.transformer.wpe.weight.data
    pd.testing.assert_frame_equal(found, evaluate_rows(roomy, tokenizer, rows, max_length=24), rtol=1e-4)


def test_a_token_that_the_model_does_not_know_is_refused(tokenizer, suite: str) -> None:
    rows = ma.load_suite(suite, split="test")
    model = gpt2(tokenizer, places=256)
    model.resize_token_embeddings(len(tokenizer) - 20)
    with pytest.raises(ValueError, match=r"tokenizer makes the token \d+, but GPT2LMHeadModel knows"):
        evaluate(model, tokenizer, rows)


# Training


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"adapter": ma.TRexConfig(target_modules=["q_proj", "qq"])}, r"\['qq'\] are not in the model; choose from"),
        ({"adapter": LoraConfig(target_modules=["q_proj", "qq"])}, r"\['qq'\] are not in the model; choose from"),
        ({"adapter": LoraConfig(target_modules="qq.*")}, r"qq\.\* not found .*; its linear layers are \['down_proj'"),
        ({"adapter": ma.MoeLoraConfig(target_modules=["norm"])}, "model.norm is a LlamaRMSNorm; only linear layers"),
        ({"adapter": LoraConfig(target_modules=["norm"])}, "adapter = 'lora' does not fit .* is not supported"),
        ({"adapter": LoraConfig(target_modules=["q_proj"], layers_to_transform=[9])}, "layers_to_transform"),
        ({"optimizer": "riemannian_sgd", "adapter": ma.TRexConfig(target_modules=["q_proj"])}, "no pair of low-rank"),
        ({"record_trees_every": 1, "adapter": LoraConfig(target_modules=["q_proj"])}, "record_trees_every = 1 needs"),
        (
            {"record_experts_every": 1, "adapter": LoraConfig(target_modules=["q_proj"])},
            "record_experts_every = 1 needs",
        ),
        ({"adapter": ma.TRexConfig(num_down=20, num_up=30, target_modules=["q_proj"])}, "k = 600 clusters of prompts"),
        (
            {"adapter": LoraConfig(target_modules=["q_proj"], modules_to_save=["hed"])},
            "modules_to_save has 'hed', with which no module's name ends",
        ),
        ({"datasets": ["sya"]}, "sya"),
        ({"suite": "no/such/folder"}, "no/such/folder"),
        ({"backbone": "no/such/folder"}, "backbone = 'no/such/folder' cannot be loaded"),
    ],
)
def test_what_fits_no_backbone_or_data_is_refused_before_weights_are_loaded_and_leaves_nothing(
    changes: dict[str, Any], told: str, config, out: Path, monkeypatch
) -> None:
    monkeypatch.setattr("moe_analysis.training.trainer.prepare_model", lambda _: pytest.fail("weights were loaded"))
    with pytest.raises(ValueError, match=told):
        ma.train(config(**changes), out)
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match=told):
        sweep([config(seed=1), config(**changes)], out, pool)  # not even the run that could be trained
    assert not out.exists()


def test_a_run_that_fits_is_tried_on_without_its_weights_in_every_system(config) -> None:
    targets = {"target_modules": ["q_proj", "down_proj"]}
    systems = [
        LoraConfig(init_lora_weights="pissa", **targets),  # which reads weights
        LoraConfig(target_modules="all-linear"),
        BOFTConfig(**targets),  # which cannot be put on a model without weights
        *(kind(**targets) for kind in (ma.MoeLoraConfig, ma.MomorConfig, ma.SmoreConfig, ma.TRexConfig)),
    ]
    refuse_unfit([config(adapter=adapter) for adapter in systems])
    refuse_unfit([config(adapter=systems[3], optimizer="riemannian_adamw", record_experts_every=1)])
    refuse_unfit([config(adapter=systems[5], gradient_checkpointing=True, record_trees_every=1)])


def test_a_run_whose_weights_are_damaged_leaves_nothing_and_takes_nothing_away(saved, config, out: Path) -> None:
    folder = saved("LlamaForCausalLM", "LlamaConfig", **SIZES)
    (folder / "model.safetensors").write_bytes(b"none")
    for kept in ([], ["notes.txt"]):
        one = config(backbone=str(folder), adapter=LoraConfig(target_modules=["q_proj"]))
        for name in kept:
            (out / one.run_name).mkdir(parents=True)
            (out / one.run_name / name).touch()
        with pytest.raises(BackboneError, match="missing, damaged"):
            ma.train(one, out)
        assert sorted(path.name for path in out.glob("*/*") if path.name != ".lock") == kept
        assert out.exists() == bool(kept)


def test_a_run_whose_rows_its_backbone_cannot_read_does_not_begin(saved, config, out: Path) -> None:
    small = saved("GPT2LMHeadModel", "GPT2Config", n_embd=16, n_layer=1, n_head=2, n_positions=24)
    lora = LoraConfig(r=2, target_modules=["c_attn"])
    with pytest.raises(ValueError, match=r"max_length = 256 allows rows of \d+ tokens, .* pass max_length=24"):
        ma.train(config(backbone=str(small), adapter=lora), out)
    assert ma.train(config(backbone=str(small), adapter=lora, steps=1, max_length=24), out).finished
    grown = AutoTokenizer.from_pretrained(small)
    grown.add_tokens(["number"])
    grown.save_pretrained(small)
    with pytest.raises(ValueError, match=r"tokenizer makes the token \d+, but GPT2LMHeadModel knows"):
        ma.train(config(backbone=str(small), adapter=lora, max_length=24, seed=1), out)
