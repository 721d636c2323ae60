"""The first training steps: distances, the experts of a sentence, the sentence that sums them up, and both drawings."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import moe_analysis as ma
from moe_analysis.studies.first_steps import FirstSteps, measure
from moe_analysis.studies.first_steps.measure import distances
from tests.studies.fake_runs import MODULES, fake_run

SENTENCE = "Find the odd word in apple, tiger."


def made_up() -> FirstSteps:
    """Two routers, three tokens; the second router moved further, and its last token changed its expert."""
    moved = pd.DataFrame({"module": np.repeat(MODULES, 2), "step": [0, 1, 0, 1], "distance": [0.0, 1.0, 0.0, 2.0]})
    words = pd.DataFrame(
        {
            "module": np.repeat(MODULES, 6),
            "when": ["before", "before", "before", "after", "after", "after"] * 2,
            "position": [0, 1, 2] * 4,
            "token": ["one", "two", "three"] * 4,
            "expert": [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 0],
            "gate": 0.5,
        }
    )
    return FirstSteps(pd.DataFrame({"step": [1, 2], "loss": [3.0, 1.0]}), moved, words)


def test_the_distance_is_that_of_the_whole_weights_from_their_start() -> None:
    weights = np.zeros((2, 2, 3))
    weights[1] = [[3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]
    assert distances(fake_run(weights), MODULES[0])["distance"].tolist() == [0.0, 5.0]


def test_the_router_that_moved_furthest_is_shown_and_its_changes_are_counted() -> None:
    found = made_up()
    assert found.module == MODULES[1]
    assert found.sentence["changed"].tolist() == [False, False, True]
    assert not found.sentence_in(MODULES[0])["changed"].any()
    assert found.in_short == (
        "In 2 training steps the loss went from 3.00 to 1.00 nats per token, and 1 of the sentence's 3 tokens now take "
        "another expert in layers.0.v_proj."
    )


def test_the_picture_frames_what_changed_and_the_interactive_one_has_every_router() -> None:
    found = made_up()
    figure = found.plot()
    assert isinstance(figure, Figure)
    frames = [patch for patch in figure.axes[2].patches if not patch.get_fill()]
    assert [frame.get_x() for frame in frames] == [1.5]
    drawn = found.interactive()
    assert [trace.visible for trace in drawn.data] == [True, False]
    assert [button.label for button in drawn.layout.updatemenus[0].buttons] == [MODULES[1], MODULES[0]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ma.Run:
    adapter = ma.MoeLoraConfig(num_experts=3, r=2, target_modules=["v_proj"])
    sizes = {"steps": 3, "batch_size": 4, "eval_rows": 2, "warmup_steps": 0}
    config = ma.TrainConfig(adapter=adapter, datasets=["add_small"], lr=0.05, **sizes)
    return ma.train(config, out=tmp_path_factory.mktemp("runs"))


def test_a_trained_run_has_a_largest_gate_for_each_token_before_and_after(run: ma.Run) -> None:
    found = measure(run, SENTENCE)
    tokens = run.tokenizer([SENTENCE])["input_ids"][0]
    assert found.words.groupby(["module", "when"]).size().eq(len(tokens)).all()
    assert found.words["gate"].between(1 / 3, 1).all()
    assert found.moved["distance"].max() > 0


def test_a_sentence_that_cannot_be_read_is_refused(run: ma.Run) -> None:
    with pytest.raises(ValueError, match="sentence = ' ' is not a text; pass one"):
        measure(run, " ")
    with pytest.raises(ValueError, match="tokens, more than max_length = 256; cut it"):
        measure(run, "apple " * 300)
