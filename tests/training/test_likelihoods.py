"""A prompt computed once for all its answers gives the likelihoods of one row per answer, or is not packed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from torch import nn

import moe_analysis as ma
from moe_analysis.tasks.batches import Question, encode_questions
from moe_analysis.tasks.prompts import AROUND_PROMPT
from moe_analysis.training.answers import Way, way_for
from moe_analysis.training.evaluation import evaluate_rows, score
from tests.peft_bridge.systems import OPTIONS, Case, calm, llama, mixtral
from tests.training.test_evaluation import load

PACKED, PLAIN, WHOLE = Way(True, True), Way(False, True), Way(False, False)
QUESTIONS = [  # choices of different lengths, one choice alone, an empty one, and the same prompt twice
    Question([1, 7, 8, 9, 10, 11], [[12, 13, 14, 15], [16], [17, 18]]),
    Question([1, 20, 21], [[22, 23, 24]]),
    Question([1, 5, 6, 7, 8, 9, 10, 11, 12, 13], [[30], [31, 32], [], [33, 34, 35, 36, 37]]),
    Question([1, 20, 21], [[25, 26], [27]]),
]
SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DECODER = SIZES | {"intermediate_size": 24, "num_key_value_heads": 2, "max_position_embeddings": 64}


def made(name: str, **options: Any) -> nn.Module:
    """A random decoder of another family."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**options)
    head = "LMHeadModel" if name == "GPT2" else "ForCausalLM"
    return getattr(transformers, f"{name}{head}")(config).eval()


def adapted(system: str, base: nn.Module) -> nn.Module:
    targets = ["q_proj", "v_proj", "down_proj"]
    if system == "lora":
        config = LoraConfig(r=2, target_modules=targets, task_type="CAUSAL_LM")
        return calm(get_peft_model(base, config)).eval()
    return Case(system).model(base, targets)


def intuition_for(system: str) -> np.ndarray | None:
    return np.random.default_rng(0).random((len(QUESTIONS), 6)).astype("float32") if system == "trex" else None


def agree(model: nn.Module, intuition: np.ndarray | None = None, questions: list[Question] = QUESTIONS) -> Way:
    """The way that is chosen gives the numbers of the plainest; returns it."""
    ended = [
        [number == 0 or bool(index) for index, _ in enumerate(one.answers)] for number, one in enumerate(questions)
    ]
    way = way_for(model, questions, intuition, 0)
    found, whole = (score(model, questions, intuition, 0, [2], ended, one) for one in (way, WHOLE))
    pd.testing.assert_frame_equal(found, whole, rtol=1e-4, atol=1e-5)
    return way


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("system", ["lora", *OPTIONS])
def test_packed_rows_have_the_likelihoods_of_plain_ones(system: str, attention: str) -> None:
    way = agree(adapted(system, llama(attn_implementation=attention)), intuition_for(system))
    assert way.packed and way.gathered


def test_intuition_belongs_to_the_prompt_also_in_a_packed_row() -> None:
    model, scores = adapted("trex", llama(attn_implementation="sdpa")), intuition_for("trex")
    right = score(model, QUESTIONS, scores, 0, [2], None, PACKED)["log_likelihood"]
    other = score(model, QUESTIONS, scores[[1, 0, 2, 3]], 0, [2], None, PACKED)["log_likelihood"]
    changed = (right - other).abs().groupby(np.repeat(np.arange(4), [3, 1, 4, 2])).max() > 1e-3
    assert changed.tolist() == [True, True, False, False]


FAMILIES = {
    "GPT2": (
        {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
        Way(True, True),
    ),
    "GPTNeo": (
        {
            "vocab_size": 40,
            "hidden_size": 16,
            "num_layers": 2,
            "num_heads": 2,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 6,
        },
        Way(False, True),
    ),
    "GPTNeoX": (SIZES | {"intermediate_size": 24, "max_position_embeddings": 64}, Way(True, True)),
    "Gemma2": (DECODER | {"head_dim": 8, "final_logit_softcapping": 0.05}, Way(True, True, torch.float32)),
    "Cohere": (DECODER | {"logit_scale": 3.0}, Way(True, True)),
    "Mamba": (
        {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "pad_token_id": 0},
        Way(False, True),
    ),
    "Bloom": ({"vocab_size": 40, "hidden_size": 16, "n_layer": 2, "n_head": 2}, Way(False, True)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_of_models_is_packed_where_its_numbers_allow_it(name: str) -> None:
    options, expected = FAMILIES[name]
    assert agree(made(name, **options)) == expected


def test_a_mixture_of_experts_as_backbone_is_packed() -> None:
    assert agree(mixtral()).packed


@pytest.mark.parametrize("window, packed", [(64, True), (12, False)])
def test_rows_longer_than_an_attention_window_are_not_packed(window: int, packed: bool) -> None:
    assert agree(made("Mistral", **DECODER, sliding_window=window)).packed == packed


def test_rows_longer_than_the_model_reads_are_not_packed() -> None:
    assert not agree(llama(attn_implementation="sdpa", max_position_embeddings=17)).packed


def test_rows_at_whose_length_all_angles_change_are_not_packed() -> None:
    angles = {"rope_type": "longrope", "rope_theta": 1e4, "long_factor": [4.0] * 4, "short_factor": [1.0] * 4}
    for most, packed in ((64, True), (16, False)):
        rope = angles | {"original_max_position_embeddings": most}
        model = made("Phi3", **DECODER, original_max_position_embeddings=most, rope_parameters=rope)
        assert way_for(model, QUESTIONS, None, 0).packed == packed


def test_a_model_whose_positions_cannot_be_said_is_found_out(monkeypatch) -> None:
    """As one would be that takes position_ids and counts for itself."""
    model = llama(attn_implementation="sdpa")
    inner = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda **inputs: inner(**{**inputs, "position_ids": None}))
    assert not agree(model).packed


def test_a_model_that_overrides_a_mask_is_found_out(monkeypatch) -> None:
    model = llama(attn_implementation="sdpa")
    inner = model.model.forward

    def causal(**inputs: Any) -> Any:
        mask = inputs["attention_mask"]
        return inner(**{**inputs, "attention_mask": mask if mask.dim() == 2 else None})

    monkeypatch.setattr(model.model, "forward", causal)
    assert not agree(model).packed


def test_questions_of_one_answer_need_no_packing() -> None:
    assert agree(llama(attn_implementation="sdpa"), questions=[QUESTIONS[1]]) == PLAIN


def test_an_adapted_output_layer_sees_every_token() -> None:
    config = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM")
    assert agree(calm(get_peft_model(llama(attn_implementation="sdpa"), config)).eval()) == Way(True, False)
    saved = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    assert agree(calm(get_peft_model(llama(attn_implementation="sdpa"), saved)).eval()) == Way(True, False)


def test_methods_of_peft_that_read_tokens_alone_are_packed_and_virtual_tokens_are_not() -> None:
    ia3 = IA3Config(target_modules=["k_proj"], feedforward_modules=[], task_type="CAUSAL_LM")
    assert agree(calm(get_peft_model(llama(attn_implementation="sdpa"), ia3)).eval()).packed
    prompt = PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    model = get_peft_model(llama(attn_implementation="sdpa"), prompt).eval()
    assert not way_for(model, QUESTIONS, None, 0).packed


def test_a_model_with_weights_in_half_precision_is_packed() -> None:
    model = llama(attn_implementation="sdpa")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(20)  # far from uniform, as a trained model
    model = model.bfloat16()
    precise = copy.deepcopy(model).double()
    way = way_for(model, QUESTIONS, None, 0)
    exact, packed, whole = (
        score(one, QUESTIONS, None, 0, [2], None, by)["with_end"]
        for one, by in ((precise, WHOLE), (model, way), (model, WHOLE))
    )
    assert way.packed
    assert (packed - exact).abs().mean() < 3 * (whole - exact).abs().mean()


def test_no_questions_make_no_rows() -> None:
    assert score(llama(), [], None, 0, [2]).empty


@pytest.mark.parametrize("max_length", [18, 256])
@pytest.mark.parametrize("form", ["options", "cloze"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_of_the_padding_and_cut_prompts_change_nothing(
    side: str, form: str, max_length: int, backbone: str, suite: str, monkeypatch
) -> None:
    model, tokenizer = load(backbone)
    frame = ma.load_suite(suite, split="test")
    questions = encode_questions(frame, tokenizer, 256, form)
    assert (min(len(one.prompt) for one in questions) > 18) and max(len(one.answers) for one in questions) == 3
    tokenizer.padding_side = side
    found = evaluate_rows(model, tokenizer, frame, max_length=max_length, prompt_form=form)
    monkeypatch.setattr("moe_analysis.training.evaluation.way_for", lambda *_: WHOLE)
    tokenizer.padding_side = "right"
    expected = evaluate_rows(model, tokenizer, frame, max_length=max_length, prompt_form=form)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5)


@pytest.mark.parametrize("system", ["lora", *OPTIONS])
def test_a_run_is_evaluated_as_one_row_per_answer_would_be(
    system: str, config, out: Path, suite: str, monkeypatch
) -> None:
    targets = ["q_proj", "v_proj"]
    adapter = LoraConfig(r=2, target_modules=targets) if system == "lora" else Case(system).config(targets)
    run = ma.train(config(adapter=adapter, steps=2, prompt_form="cloze", eval_rows=None), out)
    rows = ma.load_suite(suite, split="test")
    monkeypatch.setattr("moe_analysis.training.evaluation.way_for", lambda *_: WHOLE)
    expected = evaluate_rows(run.model(), run.tokenizer, rows, run.intuition(rows), prompt_form="cloze")
    found = run.outcomes.drop(columns="suite").astype({"correct": bool, "correct_norm": bool})
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4, check_dtype=False)


def test_a_model_that_reads_its_intuition_from_prompts_is_given_one_prompt_per_row() -> None:
    rows = ma.load_suite("embedded", split="test", datasets=["add_small", "where_is"]).groupby("dataset").head(6)
    rows = rows.reset_index(drop=True)
    clusters = ma.cluster(ma.embed(rows["prompt"]), k=6)
    base, tokenizer = ma.load_backbone("compact")
    model = Case("trex").model(base, ["q_proj"])
    ma.set_intuition(model, clusters, tokenizer=tokenizer, prompt_ends=AROUND_PROMPT["options"][1])
    given = clusters.intuition(ma.embed(rows["prompt"]))
    found, expected = (evaluate_rows(model, tokenizer, rows, scores) for scores in (None, given))
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4)
