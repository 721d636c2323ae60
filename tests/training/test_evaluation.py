from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import moe_analysis as ma
from moe_analysis.tasks.batches import encode
from moe_analysis.tasks.prompts import PROMPT_FORMS, render
from moe_analysis.training.evaluation import choice_likelihoods, evaluate, evaluate_rows, length_batches
from moe_analysis.training.recorders.routing import layer_batches, record_gates


def load(backbone: str):
    return AutoModelForCausalLM.from_pretrained(backbone).eval(), AutoTokenizer.from_pretrained(backbone)


def token_scores(model, tokenizer, prompt: str, answer: str) -> tuple[list[float], bool]:
    """Token by token, one text at a time, with no padding: the definition. The end token's comes last."""
    ids = tokenizer(prompt)["input_ids"]
    rest = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    found, greedy = [], True
    for token in rest:
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
        found, greedy = [*found, scores[token].item()], greedy and scores.argmax().item() == token
        ids = [*ids, token]
    return found, greedy


@pytest.mark.parametrize("name", PROMPT_FORMS)
def test_accuracies_and_loss_equal_a_token_by_token_computation(name: str, backbone: str, suite: str) -> None:
    model, tokenizer = load(backbone)
    frame, form = ma.load_suite(suite, split="test"), PROMPT_FORMS[name]
    table = evaluate(model, tokenizer, frame, prompt_form=name).set_index("dataset")
    for dataset, rows in frame.groupby("dataset"):
        right, total, tokens = [], 0.0, 0
        for row in rows.to_dict("records"):
            scores = [token_scores(model, tokenizer, form.prompt(row), text) for text in form.answers(row)]
            gold, greedy = scores[row["label"] if row["choices"] else 0]
            total, tokens = total + sum(gold), tokens + len(gold)
            if row["choices"] is None:
                right.append((greedy, np.nan))
                continue
            sums = np.array([sum(values if name == "options" else values[:-1]) for values, _ in scores])
            lengths = [len(choice) for choice in row["choices"]]
            right.append((np.argmax(sums) == row["label"], np.argmax(sums / lengths) == row["label"]))
        found = table.loc[dataset]
        assert np.isclose(found["loss"], -total / tokens, atol=1e-5)
        accuracy, per_character = np.mean(right, axis=0)
        assert found["accuracy"] == accuracy and found["rows"] == len(rows)
        expected = (np.nan, np.nan) if rows["choices"].isna().all() else (accuracy, per_character)
        np.testing.assert_array_equal(found[["acc", "acc_norm"]].to_numpy(float), expected)


def test_a_choice_that_is_right_twice_counts_whichever_is_ranked_first(backbone: str, suite: str) -> None:
    model, tokenizer = load(backbone)
    row = ma.load_suite(suite, split="test", datasets=["choose"]).iloc[:1]
    twice = row.assign(choices=pd.Series([["red", "red"]], index=row.index, dtype=object), answer="red", label=1)
    assert evaluate(model, tokenizer, twice)["accuracy"].item() == 1.0


def test_rows_are_kept_in_order_with_both_rankings_of_the_choices(backbone: str, suite: str) -> None:
    model, tokenizer = load(backbone)
    frame = ma.load_suite(suite, split="test").iloc[::-1].reset_index(drop=True)
    rows = evaluate_rows(model, tokenizer, frame)
    assert rows["dataset"].tolist() == frame["dataset"].tolist() and rows["row"].is_unique
    for found, row in zip(rows.itertuples(), frame.to_dict("records")):
        gold, greedy = token_scores(model, tokenizer, *render(row))
        assert np.isclose(found.log_likelihood, sum(gold), atol=1e-4) and found.tokens == len(gold)
        if row["choices"] is None:
            assert found.correct == found.correct_norm == greedy
            continue
        form = PROMPT_FORMS["options"]
        scores = [sum(token_scores(model, tokenizer, form.prompt(row), text)[0]) for text in form.answers(row)]
        by_length = [score / len(choice) for score, choice in zip(scores, row["choices"])]
        chosen = [row["choices"][int(np.argmax(values))] for values in (scores, by_length)]
        assert [found.correct, found.correct_norm] == [text == row["answer"] for text in chosen]


def test_greedy_exact_match_agrees_with_generation(backbone: str, suite: str) -> None:
    """A model trained to repeat one answer is right exactly where generation gives that answer."""
    model, tokenizer = load(backbone)
    rows = ma.load_suite(suite, split="test", datasets=["say"])
    torch.manual_seed(0)
    example = encode(rows.iloc[:1], tokenizer, 128)[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        labels = torch.tensor([example.input_ids])
        labels[:, : example.prompt_length] = -100
        loss = model(input_ids=torch.tensor([example.input_ids]), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    generated = []
    for row in rows.to_dict("records"):
        prompt = tokenizer(render(row)[0], return_tensors="pt")["input_ids"]
        text = model.generate(prompt, max_new_tokens=6, do_sample=False)[0, prompt.shape[1] :]
        generated.append(tokenizer.decode(text, skip_special_tokens=True).strip() == row["answer"])
    table = evaluate(model, tokenizer, rows)
    assert table["accuracy"].item() == np.mean(generated) > 0


def test_batches_of_similar_length_hold_every_row_once_within_the_budget() -> None:
    lengths = np.array([5, 90, 7, 300, 6, 80])
    batches = list(length_batches(lengths, torch.device("cpu"), on_cpu=200))
    assert sorted(np.concatenate(batches)) == list(range(6))
    assert all(len(rows) == 1 or lengths[rows].max() * len(rows) <= 200 for rows in batches)


def test_a_long_prompt_loses_its_beginning_but_keeps_its_first_token_and_its_end(backbone: str, suite: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    frame = ma.load_suite(suite, split="test").iloc[:1]
    long = pd.concat([frame.assign(prompt="red blue " * 100 + frame["prompt"].item())])
    short, cut = encode(frame, tokenizer, 64)[0], encode(long, tokenizer, 32)[0]
    assert len(cut.input_ids) == 32 and cut.input_ids[0] == tokenizer.bos_token_id
    assert cut.input_ids[-20:] == short.input_ids[-20:]


def test_a_model_that_diverged_is_wrong_everywhere_and_has_no_loss(backbone: str, suite: str) -> None:
    model, tokenizer = load(backbone)
    model.model.norm.weight.data.fill_(float("nan"))
    table = evaluate(model, tokenizer, ma.load_suite(suite, split="test"))
    assert (table["accuracy"] == 0).all() and table["loss"].isna().all()


@pytest.mark.parametrize("form", ["options", "cloze", "instruction"])
def test_the_choice_that_is_best_is_the_one_that_evaluation_counts(form: str) -> None:
    model, tokenizer = ma.load_backbone("compact")
    rows = ma.load_suite("embedded", split="test", datasets=["review_mood", "where_is"])
    rows = rows[rows["choices"].notna()].groupby("dataset").head(5)
    told = choice_likelihoods(model, tokenizer, rows, prompt_form=form)
    assert told["choice"].tolist() == [choice for choices in rows["choices"] for choice in choices]
    assert told.groupby("row")["best"].sum().eq(1).all() and told.groupby("row")["right"].sum().eq(1).all()
    best = told[told["best"]].set_index("row")["right"]
    counted = evaluate_rows(model, tokenizer, rows, prompt_form=form)
    assert best.tolist() == counted["correct"].astype(bool).tolist()
    longest = told["choice"].str.len()
    np.testing.assert_allclose(told["per_character"] * longest, told["log_likelihood"])


def test_rows_without_choices_have_no_choice_to_rank() -> None:
    model, tokenizer = ma.load_backbone("compact")
    with pytest.raises(ValueError, match="frame has rows without choices"):
        choice_likelihoods(model, tokenizer, ma.load_suite("embedded", datasets=["add_small"]).head(2))


@pytest.mark.parametrize("read", [evaluate, evaluate_rows, record_gates, layer_batches])
@pytest.mark.parametrize("rows", [2, 4])
def test_an_intuition_of_other_rows_is_refused_wherever_one_is_given(
    read, rows: int, backbone: str, suite: str
) -> None:
    model, tokenizer = load(backbone)
    frame = ma.load_suite(suite, split="test").head(3)
    adapted = get_peft_model(model, ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match=rf"intuition has shape \({rows}, 6\), but there are 3 rows"):
        read(adapted, tokenizer, frame, intuition=np.zeros((rows, 6)))


def test_a_tokenizer_without_padding_evaluates_as_one_with_it(backbone: str, suite: str) -> None:
    model, tokenizer = load(backbone)
    frame = ma.load_suite(suite, split="test")
    expected = evaluate_rows(model, tokenizer, frame)
    tokenizer.pad_token = None
    pd.testing.assert_frame_equal(evaluate_rows(model, tokenizer, frame), expected)


def test_a_frame_that_cannot_be_asked_is_refused_before_the_model_is(backbone: str, suite: str) -> None:
    model, tokenizer = load(backbone)
    frame = ma.load_suite(suite, split="test", datasets=["choose"])
    with pytest.raises(ValueError, match="frame has no rows"):
        evaluate(model, tokenizer, frame.head(0))
    with pytest.raises(ValueError, match="frame, row 0: label = 9 is outside the"):
        evaluate(model, tokenizer, frame.assign(label=9))


def test_evaluation_leaves_each_part_of_a_model_in_its_mode(backbone: str, suite: str) -> None:
    model, tokenizer = load(backbone)
    model.train().model.norm.eval()
    before = [part.training for part in model.modules()]
    evaluate(model, tokenizer, ma.load_suite(suite, split="test").head(1))
    assert [part.training for part in model.modules()] == before and len(set(before)) == 2
