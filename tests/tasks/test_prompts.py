"""How a row is asked: the three forms, what each answers with, and what of them is tokenized."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moe_analysis as ma
from moe_analysis.backbones import load_tokenizer
from moe_analysis.tasks.batches import answer_ids, answers_fit, encode, encode_questions
from moe_analysis.tasks.prompts import PROMPT_FORMS, check_form, default_form, form_named, render

ROW = {"prompt": "Which is a fruit?", "choices": ["a stone", "an apple"], "answer": "an apple", "label": 1}
FREE = {"prompt": "2 + 2", "choices": None, "answer": "4", "label": None}


def frame_of(*rows: dict) -> pd.DataFrame:
    frame = pd.DataFrame([{"dataset": "d", "group": "g", "split": "test", **row} for row in rows])
    return frame.assign(choices=pd.Series([row["choices"] for row in rows], dtype=object))


def test_cloze_asks_without_listing_the_options() -> None:
    assert render(ROW, "cloze") == ("Question: Which is a fruit?\nAnswer:", " an apple")
    assert form_named("cloze").answers(ROW) == [" a stone", " an apple"]
    assert render(FREE, "cloze") == ("Question: 2 + 2\nAnswer:", " 4")


def test_the_instruction_form_numbers_the_options_and_answers_with_a_number() -> None:
    prompt, answer = render(ROW, "instruction")
    assert prompt.startswith("Below is an instruction that describes a task.")
    assert prompt.endswith(
        "### Instruction:\nPlease choose the correct answer to the question: Which is a fruit?\n\n"
        "Answer1: a stone Answer2: an apple\n\nAnswer format: answer1/answer2\n\n### Response:\n"
    )
    assert answer == "the correct answer is answer2"


def test_the_instruction_form_answers_true_or_false_and_free_rows_as_its_source_does() -> None:
    row = {"prompt": "ice is cold", "choices": ["true", "false"], "answer": "false"}
    prompt, answer = render(row, "instruction")
    assert "Please answer the following question with true or false, question: ice is cold\n\n" in prompt
    assert "Answer format: true/false" in prompt and answer == "the correct answer is false"
    prompt, answer = render(FREE, "instruction")
    assert "### Instruction:\n2 + 2\n\n### Response:\n" in prompt and answer == "4"


def test_of_repeated_choices_the_label_says_which_is_meant() -> None:
    row = {"prompt": "?", "choices": ["x", "y", "x"], "answer": "x", "label": 2}
    assert render(row, "instruction")[1] == "the correct answer is answer3"
    assert render({**row, "label": None}, "instruction")[1] == "the correct answer is answer1"


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5), st.text(), st.sampled_from(sorted(PROMPT_FORMS)))
def test_every_form_has_an_answer_for_every_choice_and_ends_its_prompts_with_its_mark(choices, prompt, name) -> None:
    form = PROMPT_FORMS[name]
    for row in (
        {"prompt": prompt, "choices": choices, "answer": choices[-1], "label": len(choices) - 1},
        {"prompt": prompt, "choices": None, "answer": choices[0], "label": None},
    ):
        assert form.prompt(row)[-1] == form.tail
        answers = form.answers(row)
        assert len(answers) == (1 if row["choices"] is None else len(choices))
        assert render(row, name) == (form.prompt(row), answers[-1])


@pytest.mark.parametrize("name", PROMPT_FORMS)
def test_tokens_of_prompt_and_answer_are_those_of_the_whole_text(name: str) -> None:
    tokenizer = load_tokenizer("compact")
    rows = ma.load_suite("embedded", split="test").groupby("dataset").head(2).reset_index(drop=True)
    for example, row in zip(encode(rows, tokenizer, 4096, prompt_form=name), rows.to_dict("records"), strict=True):
        whole = tokenizer("".join(render(row, name)))["input_ids"]
        assert example.input_ids == [*whole, tokenizer.eos_token_id]


def test_a_tokenizer_that_puts_a_space_before_every_text_does_not_get_two() -> None:
    """As SentencePiece models do: alone, " Paris" would be a lone space and the word."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "▁": 1, "▁Paris": 2, "▁:": 3, ":": 4, "▁Answer": 5, "▁x": 6, "▁y": 7}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.normalizer = normalizers.Prepend(" ")
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(":", "isolated"), pre_tokenizers.Metaspace(prepend_scheme="never", split=True)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    whole = tokenizer("Answer: Paris", add_special_tokens=False)["input_ids"]
    assert answer_ids([" Paris"], form_named("cloze"), tokenizer) == [whole[-1:]] == [[2]]
    assert tokenizer(" Paris", add_special_tokens=False)["input_ids"] != [2], "alone it is another text"


def test_the_choices_of_a_row_share_a_prompt_that_leaves_the_longest_its_room() -> None:
    tokenizer = load_tokenizer("compact")
    row = {**ROW, "prompt": "red " * 60, "choices": ["yes", "yes no yes no"], "answer": "yes"}
    question = encode_questions(frame_of(row), tokenizer, 40, "cloze")[0]
    short, long = map(len, question.answers)
    assert (short, long) == (1, 4) and len(question.prompt) == 40 - long - 1
    assert question.prompt[0] == tokenizer.bos_token_id


def test_answers_that_fit_are_counted_in_the_form_that_is_asked() -> None:
    tokenizer = load_tokenizer("compact")
    frame = frame_of({**ROW, "choices": ["yes", "no"], "answer": "no"})
    needed = len(tokenizer("the correct answer is answer1", add_special_tokens=False)["input_ids"]) + 3
    assert answers_fit(frame, tokenizer, 4, "cloze").all()
    assert not answers_fit(frame, tokenizer, needed - 1, "instruction").any()
    assert answers_fit(frame, tokenizer, needed, "instruction").all()
    with pytest.raises(ValueError, match=f"max_length = {needed - 1} is too short for an answer of {needed - 3} tok"):
        encode(frame, tokenizer, needed - 1, prompt_form="instruction")


def test_an_unknown_form_is_named_with_the_known_ones() -> None:
    for call in (
        lambda: render(ROW, "closed"),
        lambda: check_form(frame_of(ROW), "closed", "s"),
        lambda: ma.TrainConfig(prompt_form="closed").check(),
    ):
        with pytest.raises(ValueError, match="prompt_form = 'closed' is unknown; choose one of options, cloze, instr"):
            call()


def test_a_suite_without_choices_is_refused_in_cloze_form_alone() -> None:
    with pytest.raises(ValueError, match="prompt_form = 'cloze' ranks choices, and suite 'sums' has none in any row"):
        check_form(frame_of(FREE, FREE), "cloze", "sums")
    check_form(frame_of(FREE, ROW), "cloze", "mixed")
    for name in ("options", "instruction"):
        check_form(frame_of(FREE), name, "sums")


@pytest.mark.parametrize(
    ("backbone", "form"),
    [
        ("compact", "options"),
        ("smollm2-135m", "cloze"),
        ("HuggingFaceTB/SmolLM2-360M", "cloze"),
        ("a/folder", "cloze"),
    ],
)
def test_pretrained_backbones_are_asked_in_cloze_form_unless_said(backbone: str, form: str) -> None:
    assert default_form(backbone) == form == ma.TrainConfig(backbone=backbone).form
    assert ma.TrainConfig(backbone=backbone, prompt_form="instruction").form == "instruction"
