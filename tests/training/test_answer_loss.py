"""A training step that scores the answers alone is the step that scores every token, or is not taken."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn

import moe_analysis as ma
from moe_analysis.training import answers
from moe_analysis.training import trainer as trainer_module
from moe_analysis.training.answers import answer_head, at_answers, gathers_loss, scores_at
from tests.peft_bridge.systems import OPTIONS, calm, close, collected, llama, mixtral, t5
from tests.training.test_likelihoods import DECODER, adapted, made

SYSTEMS = ["lora", *OPTIONS]


def batch_of(samples: int = 3) -> dict[str, torch.Tensor]:
    """Rows of six tokens, the last two of them answers; the second row is padded, the third has no answer."""
    torch.manual_seed(3)
    ids = torch.randint(3, 40, (samples, 6))
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[:, :4] = -100
    if samples > 1:
        ids[1, 5], mask[1, 5], labels[1, 5], labels[2] = 0, 0, -100, -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def extra(system: str, samples: int) -> dict[str, torch.Tensor]:
    return {"intuition": torch.rand(samples, 6, generator=torch.Generator().manual_seed(1))} if system == "trex" else {}


def step(model: nn.Module, inputs: dict[str, Any], answers_only: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss, and gradients in one vector."""
    model.zero_grad()
    row, place, labels = at_answers(inputs["labels"])
    if answers_only:
        inputs = inputs | {"labels": labels, "shift_labels": labels}
    with scores_at(answer_head(model) if answers_only else None, row, place):
        out = model(**inputs)
    out.loss.backward()
    return out.loss.detach(), collected(model)


@pytest.mark.parametrize("items", [None, 7])
@pytest.mark.parametrize("system", SYSTEMS)
def test_loss_and_gradients_are_those_of_all_scores(system: str, items: int | None) -> None:
    model = calm(adapted(system, llama(attn_implementation="sdpa"))).train()
    inputs = batch_of() | extra(system, 3) | ({} if items is None else {"num_items_in_batch": torch.tensor(items)})
    loss, gradients = step(model, inputs, answers_only=True)
    whole_loss, whole_gradients = step(model, inputs, answers_only=False)
    assert loss.item() == pytest.approx(whole_loss.item(), rel=1e-5) and gradients.norm() > 0
    close(gradients, whole_gradients)


def trained_weights(run: ma.Run) -> torch.Tensor:
    saved = load_file(run.path / "adapter" / "adapter_model.safetensors")
    return torch.cat([value.flatten() for _, value in sorted(saved.items())])


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_run_is_the_one_that_scores_every_token(system: str, config, out: Path, monkeypatch) -> None:
    targets = ["q_proj", "v_proj"]
    made_of = LoraConfig(r=2, target_modules=targets) if system == "lora" else None
    adapter = made_of or ma.peft_bridge.CONFIGS[system](target_modules=targets, **OPTIONS[system])
    asked = config(adapter=adapter, steps=3, batch_size=5, gradient_accumulation=2, lr=1e-4, warmup_steps=0)
    seen: list[bool] = []
    right = answers.gathers_loss
    monkeypatch.setattr(answers, "gathers_loss", lambda *given: seen.append(right(*given)) or seen[-1])
    run = ma.train(asked, out / "answers")
    monkeypatch.setattr(answers, "gathers_loss", lambda *_: False)
    whole = ma.train(asked, out / "whole")
    assert seen == [True]
    pd.testing.assert_frame_equal(run.history, whole.history, rtol=1e-3, atol=1e-6)
    close(trained_weights(run), trained_weights(whole))


@pytest.mark.parametrize("batch_size, wanted", [(3, 5), (8, 4)])
def test_an_update_with_fewer_batches_than_wanted_weighs_its_balance_loss_as_if_they_were_wanted(
    batch_size: int, wanted: int, config, out: Path
) -> None:
    """Six rows are all batches of an epoch, and of every update."""
    adapter = ma.MoeLoraConfig(num_experts=4, gate="switch", top_k=1, balance_coef=1.0, r=2, target_modules=["q_proj"])
    of_a_step = {"datasets": ["say"], "rows_per_dataset": 6, "adapter": adapter, "steps": 2, "batch_size": batch_size}
    there = -(-6 // batch_size)
    partial_ones = ma.train(config(**of_a_step, gradient_accumulation=wanted), out)
    whole = ma.train(config(**of_a_step, gradient_accumulation=there), out)
    assert whole.history["balance_loss"].min() > 1.0 and partial_ones.id != whole.id
    pd.testing.assert_frame_equal(partial_ones.history, whole.history)
    for name in ("router_grad", "router_weight"):
        np.testing.assert_array_equal(partial_ones.records[name], whole.records[name])


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_vocabulary_is_scored_at_answers_and_nowhere_else(precision: str, config, out: Path, monkeypatch) -> None:
    scored: list[tuple[int, ...]] = []
    counted: list[int] = []
    original = answers.AnswerLoss.compute_loss

    def watched(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        counted.append(int((inputs["labels"] != -100).sum()))
        loss, outputs = original(self, model, inputs, True, num_items_in_batch)
        scored.append(tuple(outputs.logits.shape[:2]))
        return loss

    monkeypatch.setattr(answers.AnswerLoss, "compute_loss", watched)
    ma.train(config(steps=3, precision=precision), out)
    assert scored == [(1, count) for count in counted] and len(scored) == 3


FAMILIES = {
    "GPT2": {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "Gemma2": DECODER | {"head_dim": 8, "final_logit_softcapping": 0.05},
    "Cohere": DECODER | {"logit_scale": 3.0},
    "Bloom": {"vocab_size": 40, "hidden_size": 16, "n_layer": 2, "n_head": 2},
    "GPTJ": {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "rotary_dim": 4},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_families_that_rescale_or_bias_their_scores_give_the_same_loss(name: str) -> None:
    model = made(name, **FAMILIES[name])
    assert gathers_loss(model, batch_of(1))
    loss, gradients = step(model, batch_of(), answers_only=True)
    whole_loss, whole_gradients = step(model, batch_of(), answers_only=False)
    assert loss.item() == pytest.approx(whole_loss.item(), rel=1e-5)
    close(gradients, whole_gradients)


def test_the_balance_loss_of_a_backbone_of_experts_stays_part_of_the_loss() -> None:
    model = mixtral()
    model.config.output_router_logits = True
    assert gathers_loss(model, batch_of(1))
    losses = [step(model, batch_of(), answers_only)[0].item() for answers_only in (True, False)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_models_whose_loss_needs_every_score_are_found_out(monkeypatch) -> None:
    inputs = batch_of(1)
    assert not gathers_loss(t5(), inputs)  # its labels are another sequence
    adapted_head = LoraConfig(r=2, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM")
    assert not gathers_loss(calm(get_peft_model(llama(), adapted_head)), inputs)
    model = llama()
    right = model.loss_function

    def shifts_again(logits: torch.Tensor, labels: torch.Tensor, shift_labels: Any = None, **given: Any) -> Any:
        return right(logits=logits, labels=labels, **given)

    model.loss_function = shifts_again
    assert not gathers_loss(model, inputs)
    model.loss_function = lambda logits, **_: logits.pow(2).mean()
    assert not gathers_loss(model, inputs)


def test_a_model_whose_scores_depend_on_each_other_is_found_out() -> None:
    model = llama()
    model.lm_head.register_forward_hook(lambda _, __, scores: scores - scores.mean(1, keepdim=True))
    assert not gathers_loss(model, batch_of(1))


@pytest.mark.parametrize("own", ["smoothing", "function"])
def test_a_loss_of_the_users_own_sees_every_score(own: str, config, out: Path, monkeypatch) -> None:
    plain = ma.train(config(steps=2), out / "plain")

    def smoothed(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any) -> torch.Tensor:
        assert outputs.logits.shape[:2] == labels.shape
        flat = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        return nn.functional.cross_entropy(*flat, label_smoothing=0.2, reduction="sum") / num_items_in_batch

    if own == "smoothing":
        smoothing = partial(trainer_module.TrainingArguments, label_smoothing_factor=0.2)
        monkeypatch.setattr(trainer_module, "TrainingArguments", smoothing)
    else:
        build = trainer_module.build_trainer

        def with_function(*given: Any) -> Any:
            made_trainer = build(*given)
            made_trainer.compute_loss_func = smoothed
            return made_trainer

        monkeypatch.setattr(trainer_module, "build_trainer", with_function)
    run = ma.train(config(steps=2), out / "own")
    monkeypatch.setattr(answers, "gathers_loss", lambda *_: False)
    whole = ma.train(config(steps=2), out / "whole")
    np.testing.assert_allclose(run.history["loss"], whole.history["loss"], rtol=1e-6)
    assert (run.history["loss"] - plain.history["loss"]).abs().iloc[0] > 1e-5
