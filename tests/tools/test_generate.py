"""The embedded suite: what ships is what the generator makes, and what it claims about its rows is true."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.tasks.prompts import render
from tools import generate
from tools.generators import OOD_SKILLS, SKILLS
from tools.generators.problem import PLAIN_REMARKS
from tools.generators.topics import BLAME, CONTAINERS, NAMES, OPPOSITES, PRAISE, TOPICS, plural

DATA = Path(__file__).resolve().parents[2] / "data"
TOPIC_OF_WORD = {
    form: topic.name for topic in TOPICS for word in (*topic.things, *topic.places) for form in (word, plural(word))
}


def topics_of(text: str) -> set[str]:
    """Names of the topics whose things or places occur in the text."""
    return {TOPIC_OF_WORD[word] for word in re.findall(r"\b[a-z]+\b", text) if word in TOPIC_OF_WORD}


@pytest.fixture(scope="module")
def built():
    return generate.build(0)


@pytest.fixture(scope="module")
def rows(built):
    return [row for suite in built.values() for rows in suite.values() for row in rows]


def of(rows, dataset):
    return [row for row in rows if row["dataset"] == dataset]


@pytest.mark.parametrize("suite", ["embedded", "embedded_ood"])
def test_the_shipped_files_are_what_seed_zero_makes_byte_for_byte(built, suite):
    manifest = json.loads((DATA / suite / "manifest.json").read_text())
    assert set(manifest) == set(built[suite]) == {path.stem for path in (DATA / suite).glob("*.jsonl")}
    for name, rows in built[suite].items():
        shipped = (DATA / suite / f"{name}.jsonl").read_bytes()
        assert generate.to_jsonl(rows) == shipped, name
        assert manifest[name]["sha256"] == hashlib.sha256(shipped).hexdigest()


def test_another_seed_makes_other_rows(built):
    other = generate.build(1)["embedded"]["add_small"]
    assert {row["prompt"] for row in other} != {row["prompt"] for row in built["embedded"]["add_small"]}


def test_written_files_do_not_depend_on_the_folder(tmp_path, built):
    folder = generate.write(tmp_path, seed=0)["embedded_ood"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in (DATA / "embedded_ood").iterdir() if path.suffix in (".jsonl", ".json")
    )
    assert (folder / "manifest.json").read_bytes() == (DATA / "embedded_ood" / "manifest.json").read_bytes()


def test_the_suite_has_the_promised_size(built):
    embedded, ood = built["embedded"], built["embedded_ood"]
    assert len(embedded) >= 20 and len(ood) >= 8
    assert len({rows[0]["group"] for rows in embedded.values()}) >= 6
    assert all(Counter(row["split"] for row in rows) == {"train": 600, "test": 200} for rows in embedded.values())
    assert all(Counter(row["split"] for row in rows) == {"test": 200} for rows in ood.values())
    roles = Counter(dataset.role for dataset in generate.TRAINING.values())
    assert roles["variant"] >= 12 and roles["original"] >= 12


def test_no_prompt_occurs_twice_in_either_suite(rows):
    repeated = [prompt for prompt, count in Counter(row["prompt"] for row in rows).items() if count > 1]
    assert repeated == []


def test_every_row_is_valid(rows):
    for row in rows:
        assert list(row) == ["dataset", "group", "split", "prompt", "choices", "answer", "label"]
        assert row["prompt"] == row["prompt"].strip() and "{" not in row["prompt"]
        assert 1 <= len(row["answer"].split()) <= 4
        if row["choices"] is None:
            assert row["label"] is None
        else:
            assert 2 <= len(row["choices"]) <= 5 and len(set(row["choices"])) == len(row["choices"])
            assert row["choices"][row["label"]] == row["answer"]


def test_both_answer_formats_are_common(built):
    free = [name for suite in built.values() for name, rows in suite.items() if rows[0]["choices"] is None]
    assert 0.4 <= len(free) / (len(built["embedded"]) + len(built["embedded_ood"])) <= 0.6


def test_each_topic_occurs_in_every_task_and_each_task_speaks_of_every_topic(rows):
    speaks = defaultdict(Counter)
    for row in rows:
        speaks[row["dataset"]].update(topics_of(row["prompt"]))
    for dataset, topics in speaks.items():
        assert set(topics) == {topic.name for topic in TOPICS}, dataset
        # No topic marks a task: the most frequent is at most three times as frequent as the rarest.
        assert max(topics.values()) <= 3 * min(topics.values()), dataset


@pytest.mark.parametrize("skill", [*SKILLS, *OOD_SKILLS], ids=lambda skill: skill.name)
def test_each_task_has_eight_wordings_or_more(rows, skill):
    nouns = {form for topic in TOPICS for word in (*topic.things, *topic.places) for form in (word, word + "s")}
    content = nouns | {*PRAISE, *BLAME, *NAMES, *CONTAINERS} | {word for pair in OPPOSITES for word in pair}

    def shape(prompt):
        """How a prompt begins and ends, whatever it speaks of."""
        words = ["*" if word in content or word.isdigit() else word for word in re.findall(r"\w+|[.?!:]", prompt)]
        return *words[:2], *words[-3:]

    prompts = [row["prompt"] for row in of(rows, skill.name)]
    shapes = Counter(shape(text) for text in prompts if not any(remark in text for remark in PLAIN_REMARKS))
    assert sum(count >= 5 for count in shapes.values()) >= 8


@pytest.mark.parametrize("skill", [skill for skill in SKILLS if skill.twist], ids=lambda skill: skill.name)
def test_a_variant_states_its_condition_in_many_wordings_and_the_original_never_does(rows, skill):
    variant, original = of(rows, skill.twist.name), of(rows, skill.name)
    used = Counter(condition for row in variant for condition in skill.twist.conditions if condition in row["prompt"])
    assert len(used) >= 8 and sum(used.values()) >= len(variant)
    assert not any(condition in row["prompt"] for row in original for condition in skill.twist.conditions)


def numbers(prompt):
    return [int(number) for number in re.findall(r"\d+", prompt)]


RECOMPUTED = {
    "add_small": lambda prompt: str(sum(numbers(prompt))),
    "add_small_one_over": lambda prompt: str(sum(numbers(prompt)) + 1),
    "subtract_two_digit": lambda prompt: str(max(numbers(prompt)) - min(numbers(prompt))),
    "largest_number": lambda prompt: str(max(numbers(prompt))),
    "largest_number_mirror": lambda prompt: str(min(numbers(prompt))),
    "sum_of_three": lambda prompt: str(sum(numbers(prompt))),
    "back_at_start": lambda prompt: "yes" if len(set(numbers(prompt))) == 1 else "no",
}


@pytest.mark.parametrize("dataset", RECOMPUTED)
def test_answers_about_numbers_follow_from_the_prompt(rows, dataset):
    for row in of(rows, dataset):
        assert RECOMPUTED[dataset](row["prompt"]) == row["answer"], row["prompt"]


def the_list(prompt):
    """The longest run of things with commas between."""
    things = "|".join(thing for topic in TOPICS for thing in topic.things)
    return max(re.findall(rf"(?:{things})(?:, (?:{things}))+", prompt), key=len).split(", ")


@pytest.mark.parametrize("dataset", ["first_or_last", "first_or_last_swapped"])
def test_the_end_of_a_list_follows_from_the_prompt(rows, dataset):
    for row in of(rows, dataset):
        conditions = next(skill.twist.conditions for skill in SKILLS if skill.name == "first_or_last")
        question = row["prompt"]
        for condition in conditions:
            question = question.replace(condition, "")
        at_front = ("first" in question) == (dataset == "first_or_last")
        assert row["answer"] == the_list(question)[0 if at_front else -1], row["prompt"]


def test_flips_are_followed_one_by_one(rows):
    for row in of(rows, "flip_side"):
        start = re.search(r"(?:faces|points|starts|was) (up|down)", row["prompt"]).group(1)
        flips = len(re.findall(r"[A-Z][a-z]+ flips it", row["prompt"]))
        assert row["answer"] == (start if flips % 2 == 0 else {"up": "down", "down": "up"}[start]), row["prompt"]


def test_the_odd_word_is_the_only_one_of_its_topic(rows):
    topic_of = {thing: topic.name for topic in TOPICS for thing in topic.things}
    for row in of(rows, "odd_one_out"):
        counts = Counter(topic_of[choice] for choice in row["choices"])
        assert [choice for choice in row["choices"] if counts[topic_of[choice]] == 1] == [row["answer"]]


def test_a_variant_that_contradicts_its_original_does_so_on_most_rows():
    """On a problem both can be asked; an adapter that ignores the condition must be wrong on at least half."""
    from random import Random

    for skill in SKILLS:
        if skill.twist:
            problems = list(map(skill.draw, [Random(seed) for seed in range(200)]))
            changed = sum(problem.answer != problem.twisted for problem in problems)
            assert changed >= 100, skill.name


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from([*generate.TRAINING]))
def test_the_stream_never_gives_an_excluded_prompt_and_repeats_for_a_seed(seed, name):
    first = list(islice(generate.stream(name, seed), 20))
    assert first == list(islice(generate.stream(name, seed), 20))
    excluded = {row["prompt"] for row in first[:10]}
    assert not excluded & {row["prompt"] for row in islice(generate.stream(name, seed, exclude=excluded), 40)}


def test_an_unknown_dataset_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="'add_smal'.*add_small"):
        next(generate.stream("add_smal", 0))


def test_a_row_is_rendered_with_its_options_and_a_leading_space_before_the_answer():
    row = {"prompt": "Who?", "choices": ["Ann", "Bob"], "answer": "Bob"}
    assert render(row) == ("Who?\nOptions: Ann, Bob\nAnswer:", " Bob")
    assert render({**row, "choices": None}) == ("Who?\nAnswer:", " Bob")
