from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import moe_analysis as ma
from moe_analysis.tasks.batches import encode, render
from moe_analysis.training.evaluate import evaluate, evaluate_rows, length_batches


def load(backbone: str):
    return AutoModelForCausalLM.from_pretrained(backbone).eval(), AutoTokenizer.from_pretrained(backbone)


def log_likelihood(model, tokenizer, row) -> tuple[float, int, bool]:
    """Token by token, one text at a time, with no padding: the definition."""
    prompt, answer = render(row)
    ids = tokenizer(prompt)["input_ids"]
    rest = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    total, greedy = 0.0, True
    for token in rest:
        with torch.no_grad():
            scores = model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
        total, greedy = total + scores[token].item(), greedy and scores.argmax().item() == token
        ids = [*ids, token]
    return total, len(rest), greedy


def test_accuracy_and_loss_equal_a_token_by_token_computation(backbone: str, suite: str) -> None:
    model, tokenizer = load(backbone)
    frame = ma.load_suite(suite, split="test")
    table = evaluate(model, tokenizer, frame).set_index("dataset")
    for dataset, rows in frame.groupby("dataset"):
        correct, total, tokens = [], 0.0, 0
        for row in rows.to_dict("records"):
            gold, count, greedy = log_likelihood(model, tokenizer, row)
            total, tokens = total + gold, tokens + count
            if row["choices"] is None:
                correct.append(greedy)
            else:
                scores = [log_likelihood(model, tokenizer, {**row, "answer": choice})[0] for choice in row["choices"]]
                correct.append(int(np.argmax(scores)) == row["label"])
        assert np.isclose(table.loc[dataset, "loss"], -total / tokens, atol=1e-5)
        assert table.loc[dataset, "accuracy"] == np.mean(correct)
        assert table.loc[dataset, "rows"] == len(rows)


def test_rows_are_kept_in_order_with_both_rankings_of_the_choices(backbone: str, suite: str) -> None:
    model, tokenizer = load(backbone)
    frame = ma.load_suite(suite, split="test").iloc[::-1].reset_index(drop=True)
    rows = evaluate_rows(model, tokenizer, frame)
    assert rows["dataset"].tolist() == frame["dataset"].tolist() and rows["row"].is_unique
    for found, row in zip(rows.itertuples(), frame.to_dict("records")):
        gold, tokens, greedy = log_likelihood(model, tokenizer, row)
        assert np.isclose(found.log_likelihood, gold, atol=1e-4) and found.tokens == tokens
        if row["choices"] is None:
            assert found.correct == found.correct_norm == greedy
            continue
        scores = [log_likelihood(model, tokenizer, {**row, "answer": choice})[0] for choice in row["choices"]]
        by_length = [score / len(choice) for score, choice in zip(scores, row["choices"])]
        assert found.correct == (int(np.argmax(scores)) == row["label"])
        assert found.correct_norm == (int(np.argmax(by_length)) == row["label"])


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
    batches = list(length_batches(lengths, tokens=200))
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
