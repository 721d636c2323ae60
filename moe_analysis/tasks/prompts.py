"""The forms in which a row of a suite is put before a language model, and what its answers look like there.

The form affects the accuracy of a pretrained model more than any adapter does, so it is part of a run.
Sources: the cloze form is that of lm-evaluation-harness' multiple-choice tasks, the instruction form that of
LLM-Adapters (Hu et al. 2023), whose wording of the commonsense sets is used for every set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

Row = Mapping[Any, Any]
PREAMBLE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)


@dataclass(frozen=True)
class PromptForm:
    """One way to ask.

    Args:
        name: what `prompt_form` calls it.
        prompt: row -> the text put before the model.
        answers: row -> the texts to answer with: one of each choice, or the answer alone if there are no choices.
        tail: the last character of every prompt.
        ranks_with_end: whether the end token counts when choices are ranked. It does not in lm-evaluation-harness;
            the compact backbone's results have counted it from the start.
    """

    name: str
    prompt: Callable[[Row], str]
    answers: Callable[[Row], list[str]]
    tail: str
    ranks_with_end: bool


# what stands before and after a row's prompt in the text that the model reads; the instruction form rewords it
AROUND_PROMPT = {"options": ("", ("\nOptions: ", "\nAnswer:")), "cloze": ("Question: ", ("\nAnswer:",))}


def after_space(row: Row) -> list[str]:
    """Answers that start with their space, so that prompt and answer can be tokenized apart and joined."""
    return [f" {text}" for text in ([row["answer"]] if row["choices"] is None else row["choices"])]


def listed(row: Row) -> str:
    options = "" if row["choices"] is None else "\nOptions: " + ", ".join(row["choices"])
    return f"{row['prompt']}{options}\nAnswer:"


def question(row: Row) -> str:
    return f"Question: {row['prompt']}\nAnswer:"


def instruction(row: Row) -> str:
    return PREAMBLE.format(instruction=instruction_of(row))


def instruction_of(row: Row) -> str:
    prompt, choices = row["prompt"], row["choices"]
    if choices is None:
        return prompt
    if is_true_or_false(choices):
        return (
            f"Please answer the following question with true or false, question: {prompt}\n\nAnswer format: true/false"
        )
    numbered = " ".join(f"Answer{number}: {text}" for number, text in enumerate(choices, 1))
    names = "/".join(f"answer{number}" for number in range(1, len(choices) + 1))
    return f"Please choose the correct answer to the question: {prompt}\n\n{numbered}\n\nAnswer format: {names}"


def named_answers(row: Row) -> list[str]:
    choices = row["choices"]
    if choices is None:
        return [row["answer"]]
    if is_true_or_false(choices):
        return [f"the correct answer is {text}" for text in choices]
    return [f"the correct answer is answer{number}" for number in range(1, len(choices) + 1)]


def is_true_or_false(choices: list[str]) -> bool:
    return sorted(choices) == ["false", "true"]


PROMPT_FORMS = {
    "options": PromptForm("options", listed, after_space, ":", ranks_with_end=True),
    "cloze": PromptForm("cloze", question, after_space, ":", ranks_with_end=False),
    "instruction": PromptForm("instruction", instruction, named_answers, "\n", ranks_with_end=False),
}


def form_named(name: str) -> PromptForm:
    """The form of that name; raises ValueError naming the known ones.

    >>> form_named("cloze").prompt({"prompt": "Is ice cold?", "choices": ["yes", "no"], "answer": "yes"})
    'Question: Is ice cold?\\nAnswer:'
    """
    if name not in PROMPT_FORMS:
        raise ValueError(f"prompt_form = {name!r} is unknown; choose one of {', '.join(PROMPT_FORMS)}")
    return PROMPT_FORMS[name]


def default_form(backbone: str) -> str:
    """The form for a backbone: the compact one is pre-trained on listed options, any other has read free text.

    >>> default_form("compact"), default_form("smollm2-135m")
    ('options', 'cloze')
    """
    return "options" if backbone == "compact" else "cloze"


def render(row: Row, prompt_form: str = "options") -> tuple[str, str]:
    """The text put before the model and the text it must answer with.

    The tokenizer adds the beginning token before the first where it has one; the end token belongs after the second.

    Args:
        row: one row of a suite: `prompt`, `choices`, `answer`; of repeated choices `label` says which is meant.
        prompt_form: a name in `PROMPT_FORMS`.

    Raises:
        ValueError: for an unknown form.

    Example:
        >>> render({"prompt": "Is ice cold?", "choices": ["yes", "no"], "answer": "no"}, "options")
        ('Is ice cold?\\nOptions: yes, no\\nAnswer:', ' no')
    """
    form = form_named(prompt_form)
    return form.prompt(row), form.answers(row)[gold_position(row)]


def gold_position(row: Row) -> int:
    """Which of a form's answers is the right one: 0 if there are no choices."""
    if row["choices"] is None:
        return 0
    label = row.get("label")
    return row["choices"].index(row["answer"]) if label is None or label != label else int(label)


def check_form(frame: pd.DataFrame, prompt_form: str, suite: str) -> None:
    """Raise ValueError for a suite that the form cannot ask: cloze ranks choices, and needs some in some row."""
    form_named(prompt_form)
    if prompt_form == "cloze" and len(frame) and frame["choices"].isna().all():
        raise ValueError(
            f"prompt_form = 'cloze' ranks choices, and suite {suite!r} has none in any row; pass "
            "prompt_form='options' (free answers after the bare prompt) or 'instruction'"
        )
