"""The embedded multi-task suite: `python -m tools.generate [--out data] [--seed 0]`.

Every row follows from the seed alone. An original is one skill; its variant states, in the prompt, a condition under
which the rule changes. Topics cut across all tasks. The same problems, without end, feed the pre-training of the
compact backbone: `stream`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from moe_analysis.atomic import write_whole
from moe_analysis.tasks.look_alikes import resembling
from tools.generators import OOD_SKILLS, SKILLS, Skill
from tools.generators.problem import PLAIN_REMARKS

TRAIN_ROWS, TEST_ROWS = 600, 200
PLAIN_REMARK_RATE = 0.25
REMARK_FIRST_RATE = 0.6

Row = dict[str, Any]


@dataclass(frozen=True)
class Dataset:
    """One dataset of the suite: a skill under its plain rule, or under its twist."""

    skill: Skill
    role: str  # "original", "variant" or "ood"

    @property
    def name(self) -> str:
        return self.skill.twist.name if self.role == "variant" and self.skill.twist else self.skill.name

    @property
    def splits(self) -> dict[str, int]:
        return {"test": TEST_ROWS} if self.role == "ood" else {"train": TRAIN_ROWS, "test": TEST_ROWS}

    def draw(self, rng: Random, split: str) -> Row:
        problem = self.skill.draw(rng)
        text, answer = problem.text, problem.answer
        if self.role == "variant" and self.skill.twist and problem.twisted is not None:
            answer = problem.twisted
            text = problem.said_with(rng.choice(self.skill.twist.conditions), rng.random() < REMARK_FIRST_RATE)
        elif self.role == "original" and rng.random() < PLAIN_REMARK_RATE:
            text = problem.said_with(rng.choice(PLAIN_REMARKS), rng.random() < REMARK_FIRST_RATE)
        choices = None if problem.choices is None else list(problem.choices)
        return {
            "dataset": self.name,
            "group": self.skill.group,
            "split": split,
            "prompt": text,
            "choices": choices,
            "answer": answer,
            "label": None if choices is None else choices.index(answer),
        }


TRAINING: dict[str, Dataset] = {
    dataset.name: dataset
    for skill in SKILLS
    for dataset in (Dataset(skill, "original"), *([Dataset(skill, "variant")] if skill.twist else []))
}
OOD: dict[str, Dataset] = {skill.name: Dataset(skill, "ood") for skill in OOD_SKILLS}


def stream(dataset: str, seed: int, exclude: Collection[str] = frozenset()) -> Iterator[Row]:
    """Fresh rows of a dataset without end, none of whose prompts is in `exclude`; the split is "stream".

    Raises:
        ValueError: For a name that is not in the suite.
    """
    known = TRAINING | OOD
    if dataset not in known:
        raise ValueError(
            f"dataset = {dataset!r} is not in the embedded suite{resembling([dataset], known)}; choose "
            f"one of {', '.join(known)}"
        )
    rng = Random(f"{seed}/{dataset}/stream")
    while True:
        row = known[dataset].draw(rng, "stream")
        if row["prompt"] not in exclude:
            yield row


def _fresh(dataset: Dataset, split: str, seed: int, taken: set[str]) -> list[Row]:
    """Rows with prompts that are new to `taken`, which grows by them."""
    rng = Random(f"{seed}/{dataset.name}/{split}")
    rows: list[Row] = []
    for _ in range(50 * dataset.splits[split]):
        row = dataset.draw(rng, split)
        if row["prompt"] not in taken:
            taken.add(row["prompt"])
            rows.append(row)
            if len(rows) == dataset.splits[split]:
                return rows
    raise ValueError(f"{dataset.name} gives only {len(rows)} different {split} prompts; give it more wordings")


def build(seed: int = 0) -> dict[str, dict[str, list[Row]]]:
    """All rows: {"embedded": {dataset: rows}, "embedded_ood": {dataset: rows}}; no prompt occurs twice anywhere."""
    taken: set[str] = set()
    # Tests first, so that no train prompt of any dataset can be a test prompt of another.
    tests = {name: _fresh(dataset, "test", seed, taken) for name, dataset in (TRAINING | OOD).items()}
    embedded = {name: _fresh(dataset, "train", seed, taken) + tests[name] for name, dataset in TRAINING.items()}
    return {"embedded": embedded, "embedded_ood": {name: tests[name] for name in OOD}}


@cache
def test_prompts(seed: int = 0) -> frozenset[str]:
    """Every test prompt of the suite, variants and out-of-distribution tasks included: never to be trained on."""
    suites = build(seed).values()
    return frozenset(
        row["prompt"] for suite in suites for rows in suite.values() for row in rows if row["split"] == "test"
    )


def _entry(dataset: Dataset, rows: list[Row], content: bytes) -> Row:
    test = [row for row in rows if row["split"] == "test"]
    choice = [len(row["choices"]) for row in test if row["choices"] is not None]
    variant = dataset.role == "variant"
    return {
        "group": dataset.skill.group,
        "role": dataset.role,
        "of": dataset.skill.name if variant else None,
        "rule": dataset.skill.twist.rule if variant and dataset.skill.twist else dataset.skill.rule,
        "chance": round(sum(1 / count for count in choice) / len(choice), 4) if choice else None,
        "majority": round(max(Counter(row["answer"] for row in test).values()) / len(test), 4),
        "rows": dict(Counter(row["split"] for row in rows)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def to_jsonl(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write(out: str | Path, seed: int = 0) -> dict[str, Path]:
    """Write both suites under `out`, one JSONL file a dataset and a manifest.json; returns their folders."""
    folders = {}
    for suite, datasets in build(seed).items():
        folder = folders[suite] = Path(out) / suite
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {}
        for name, rows in datasets.items():
            content = to_jsonl(rows)
            write_whole(folder / f"{name}.jsonl", content)
            manifest[name] = _entry((TRAINING | OOD)[name], rows, content)
        write_whole(folder / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())
    return folders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="data", help="folder that gets embedded/ and embedded_ood/")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for suite, folder in write(arguments.out, arguments.seed).items():
        print(f"{suite}: {len(list(folder.glob('*.jsonl')))} datasets in {folder}")


if __name__ == "__main__":
    main()
