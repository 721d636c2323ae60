"""The compact decoder that ships with the project, and what happens when a backbone is not there."""

from __future__ import annotations

import json
import re
from itertools import islice

import pandas as pd
import pytest
import torch
from transformers import LlamaForCausalLM

from moe_analysis.backbones import COMPACT, load_backbone
from moe_analysis.tasks.prompts import render
from moe_analysis.training.evaluation import evaluate
from tools import generate, pretrain
from tools.compact import PIECES, compact_config, train_tokenizer


@pytest.fixture(scope="module")
def compact():
    return load_backbone("compact")


@pytest.fixture(scope="module")
def suites():
    return generate.build(0)


@pytest.fixture(scope="module")
def record():
    return json.loads((COMPACT / "training.json").read_text())


def test_the_compact_backbone_is_a_small_float32_decoder_in_evaluation_mode(compact, record):
    model, tokenizer = compact
    assert not model.training and model.dtype == torch.float32
    assert model.num_parameters() == record["parameters"] < 1_100_000
    assert len(tokenizer) == record["vocabulary"] == model.config.vocab_size
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == ("<pad>", "<bos>", "<eos>")
    assert tokenizer.padding_side == "right"


def test_another_precision_can_be_asked_for():
    assert load_backbone("compact", dtype=torch.bfloat16)[0].dtype == torch.bfloat16


def test_every_word_of_the_suite_is_one_token_and_the_text_begins_with_bos(compact, suites):
    _, tokenizer = compact
    for rows in (rows for suite in suites.values() for rows in suite.values()):
        texts = ["".join(render(row)) for row in rows[:20]]
        for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
            assert ids[0] == tokenizer.bos_token_id
            assert len(ids) == 1 + len(re.findall(PIECES, text)), text


@pytest.mark.parametrize("text", ["Zürich 🙂", "tabs\tand  two spaces\n", "ΔW = B·A", "unseen wordings 2024", ""])
def test_any_text_survives_a_round_trip_through_the_tokenizer(compact, text):
    _, tokenizer = compact
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_prompt_and_answer_tokens_join_to_those_of_the_whole_text(compact, suites):
    _, tokenizer = compact
    for rows in suites["embedded"].values():
        prompt, answer = render(rows[0])
        apart = tokenizer(prompt)["input_ids"] + tokenizer(answer, add_special_tokens=False)["input_ids"]
        assert apart == tokenizer(prompt + answer)["input_ids"]


def test_the_backbone_knows_an_easy_original_and_generates_its_answer(compact):
    model, tokenizer = compact
    rows = list(islice(generate.stream("opposite_word", 7, exclude=generate.test_prompts()), 20))
    right = 0
    for row in rows:
        prompt, answer = render(row)
        inputs = tokenizer(prompt, return_tensors="pt")
        out = model.generate(**inputs, max_new_tokens=6, do_sample=False)
        right += tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True) == answer
    assert right / len(rows) > 0.8


def test_the_shipped_record_is_that_of_the_shipped_weights(compact, record, suites):
    model, tokenizer = compact
    for role, dataset in (("original", "opposite_word"), ("variant", "review_mood_sarcastic")):
        test = pd.DataFrame([row for row in suites["embedded"][dataset] if row["split"] == "test"])
        # A last bit of another processor's arithmetic may turn one close row.
        accuracy = evaluate(model, tokenizer, test)["accuracy"].item()
        assert accuracy == pytest.approx(record["accuracy"][role][dataset], abs=0.011)
    assert set(record["accuracy"]["original"]) | set(record["accuracy"]["variant"]) == set(generate.TRAINING)


def test_pretraining_never_sees_a_test_prompt_nor_a_variant(compact):
    _, tokenizer = compact
    config = pretrain.PretrainConfig()
    batches = islice(pretrain.batches(tokenizer, config), 16)
    seen = [example for halves in batches for half in halves for example in half]
    assert len(seen) == 16 * config.batch_size
    prompts = [example.input_ids[: example.prompt_length] for example in seen]
    texts = [tokenizer.decode(ids, skip_special_tokens=True).removesuffix("\nAnswer:") for ids in prompts]
    assert not generate.test_prompts() & {text.split("\nOptions:")[0] for text in texts}
    twists = [dataset.skill.twist for dataset in generate.TRAINING.values() if dataset.role == "variant"]
    assert not any(condition in "\n".join(texts) for twist in twists for condition in twist.conditions)


def test_a_few_steps_of_pretraining_lower_the_loss_and_repeat_exactly(suites):
    rows = suites["embedded"]["add_small"]
    tokenizer = train_tokenizer("".join(render(row)) for row in rows)
    config = pretrain.PretrainConfig(steps=6, batch_size=8, warmup=2, seed=3)
    curves = []
    for _ in range(2):
        torch.manual_seed(3)
        curves.append(pretrain.train(LlamaForCausalLM(compact_config(tokenizer)), tokenizer, config, every=3))
    assert curves[0] == curves[1]
    assert curves[0][-1][1] < curves[0][0][1]


def test_a_pad_token_is_set_where_a_model_has_none(compact, tmp_path):
    model, tokenizer = compact
    tokenizer.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (tmp_path / name).exists():
            settings = json.loads((tmp_path / name).read_text())
            settings.pop("pad_token", None)
            (tmp_path / name).write_text(json.dumps(settings))
    _, reloaded = load_backbone(tmp_path)
    assert reloaded.pad_token == reloaded.eos_token == "<eos>"


@pytest.mark.parametrize("name", ["no/such/folder", "compakt"])
def test_an_unknown_backbone_is_named_with_the_remedy(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=f"'{name}' cannot be loaded.*'compact'"):
        load_backbone(name)
