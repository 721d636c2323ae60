"""The experts of any text: measured, drawn, typed, and refused where there is nothing to show."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import peft
import pytest
import torch
from matplotlib.figure import Figure

import moe_analysis as ma
from moe_analysis.studies import routing
from moe_analysis.studies.routing import RoutedTokens, tokens
from moe_analysis.studies.routing.draw_gates import hover_text
from moe_analysis.studies.routing.draw_text import text_html
from moe_analysis.studies.routing.draw_tokens import OTHERS, bars_of, ribbons_of, set_in_lines
from moe_analysis.studies.routing.measure_tokens import NONE, RoutedBy
from moe_analysis.training.recorders.routing import record_gates
from tests.adapters.cases import randomize
from tests.studies.fake_tokens import routed
from tests.training.recorders.foreign_models import MODELS, TOP_K, Words, foreign

TEXTS = ["The red cat sees two birds.", "What comes first?"]
TARGETS = ["q_proj", "v_proj"]
SYSTEMS = {
    "moelora": lambda: ma.MoeLoraConfig(num_experts=4, r=2, top_k=2, target_modules=TARGETS),
    "sira": lambda: ma.SiraConfig(num_experts=4, r=2, top_k=2, target_modules=TARGETS),
    "hydralora": lambda: ma.HydraLoraConfig(num_experts=3, r=2, target_modules=TARGETS),
    "trex": lambda: ma.TRexConfig(num_down=2, num_up=3, intuition=False, target_modules=TARGETS),
    "momor": lambda: ma.MomorConfig(num_experts=[4, 3], top_k=[2, 1], r=[2, 2], target_modules=TARGETS),
    "smore": lambda: ma.SmoreConfig(num_experts=[4, 3], fanout=[2, 2], r=[2, 2], target_modules=TARGETS),
}
# gates of one router that are not zero, of a token
ACTIVE = {"moelora": 2, "sira": 2, "hydralora": 3, "trex": 6}


@pytest.fixture
def adapted(backbone) -> Callable[[str], tuple[Any, Any]]:
    def make(system: str) -> tuple[Any, Any]:
        model, tokenizer = ma.load_backbone(backbone, torch.float32)
        model = peft.get_peft_model(model, SYSTEMS[system]()).eval()
        randomize(model)
        return model, tokenizer

    return make


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_token_has_the_gates_that_its_text_has_alone(adapted, system) -> None:
    model, tokenizer = adapted(system)
    found = tokens(model, TEXTS, tokenizer)
    assert "".join(found.tokens["space"] + found.tokens["piece"]).replace("<bos>", "") == "".join(TEXTS)
    by_module, alone = record_gates(model, tokenizer, TEXTS[1])
    own = (found.tokens["row"] == 1).to_numpy()
    assert found.tokens.loc[own, "token_id"].tolist() == alone["token_id"].tolist()
    for module, gates in by_module.items():
        mine = np.concatenate([one.gates for one in found.routers.values() if one.module == module], axis=1)
        np.testing.assert_allclose(mine[own], gates, rtol=1e-4, atol=1e-5)
    for router in found.routers.values():
        np.testing.assert_array_equal(router.strongest, np.abs(router.gates).argmax(1))
        if system in ACTIVE:
            assert (np.count_nonzero(router.gates, axis=1) <= ACTIVE[system]).all()
    assert len(found.strongest) == len(found.tokens) * len(found.routers)
    assert {one.matrix for one in found.routers.values()} == ({(2, 3)} if system == "trex" else {None})
    assert bool(found.trees) == (system == "smore")


class Spans(Words):
    """A tokenizer that tells where its tokens stand: of "a  é b" a mark, a letter, a space, half an é each, and a b."""

    is_fast = True

    def __call__(self, texts: list[str], return_offsets_mapping: bool = False, **_: Any) -> dict[str, Any]:
        spans = [(0, 0), (0, 1), (1, 2), (3, 4), (3, 4), (4, 6)]
        return {"input_ids": [[1, 3, 4, 5, 6, 7]], "offset_mapping": [spans]}


def test_blanks_parts_of_characters_and_marks_are_shown_in_their_place() -> None:
    found = tokens(foreign("mixtral"), "a  é b", Spans())
    assert found.tokens["piece"].tolist() == ["w1", "a", "␣", "é", "·", "b"]
    assert found.tokens["space"].tolist() == ["", "", "", " ", "", " "]


def test_trees_are_those_whose_paths_give_the_gates(adapted) -> None:
    found = tokens(*adapted("smore")[:1], TEXTS, adapted("smore")[1])
    for module, (leaves, roots) in found.trees.items():
        upper, lower = (found.routers[f"{module} pool {pool}"].gates for pool in (1, 0))
        for token in range(len(found.tokens)):
            tops, scores = roots.ids[token, 0], roots.scores[token, 0]
            assert upper[token, tops] == pytest.approx(scores, rel=1e-5)
            below = np.zeros(4)
            for parent, score in enumerate(scores):
                np.add.at(below, leaves.ids[token, parent], score * leaves.scores[token, parent])
            np.testing.assert_allclose(lower[token], below, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", MODELS)
def test_a_mixture_of_somebody_elses_is_shown_as_ours(kind) -> None:
    found = tokens(foreign(kind), ["the cat sat on the mat", "no more words"], Words())
    assert found.tokens["piece"].tolist()[:2] == ["w1", found.tokens["piece"][1]] and len(found.tokens) == 11
    for router in found.routers.values():
        assert (np.count_nonzero(router.gates, axis=1) == TOP_K[kind]).all()
    assert isinstance(found.plot(), Figure) and found.interactive().data
    assert found.widget().texts[0].value.count('class="moe-token"') == 7


def test_a_run_is_read_with_its_own_tokenizer_and_intuition(config, out, suite) -> None:
    adapter = ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj"])
    run = ma.train(config(adapter=adapter, name="T-REX"), out)
    prompt = ma.load_suite(suite, split="test")["prompt"].iloc[0]
    found = tokens(run, prompt)
    scores = run.intuition(pd.DataFrame({"prompt": [prompt]}))
    gates, _ = record_gates(run.model(), run.tokenizer, prompt, scores)
    np.testing.assert_allclose(found.routers[found.middle].gates, gates[found.middle], rtol=1e-4, atol=1e-6)
    assert found.runs == (run,) and found.texts == (prompt,)
    again = found.again(["The cat"])
    assert again.texts == ("The cat",) and set(again.routers) == set(found.routers)
    chosen = ma.papers.routing_tokens([run])
    assert len(chosen.texts) == 2 and chosen.texts[0] == prompt  # one of each data set
    plain = ma.train(config(name="LoRA-MoE"), out)
    assert ma.papers.routing_tokens([run, plain]).runs == (plain,)
    assert routing.sentences([run, plain], "T-REX", count=1).runs == (run,)


def test_the_picture_says_whose_it_is_names_every_color_and_shows_the_forms_of_other_systems(config, out) -> None:
    names = {"LoRA-MoE": "moelora", "S'MoRE": "smore", "T-REX": "trex"}
    runs = [ma.train(config(adapter=SYSTEMS[system](), name=name, steps=2), out) for name, system in names.items()]
    found = ma.papers.routing_tokens(runs)
    assert found.label == "LoRA-MoE, seed 0" and "one model: LoRA-MoE, seed 0" in found.origin
    assert [one.label for one in found.beside] == ["T-REX, seed 0", "S'MoRE, seed 0"]
    text, flow, matrix, tree = found.plot().axes
    assert text.get_title(loc="left").startswith("LoRA-MoE, seed 0: strongest expert of each token")
    assert [one.get_text() for one in text.texts[:5]] == ["expert", "0", "1", "2", "3"]
    place = found.routers[found.middle].place
    assert len(flow.texts) == sum(map(len, bars_of(found, place))), "every bar has its expert's number"
    trex, smore = found.beside
    gates = trex.routers[trex.middle].gates[trex.example]
    assert [one.get_text() for one in matrix.texts] == [f"{gate:.2g}" for gate in gates] and len(gates) == 6
    nodes = smore.trees[smore.routers[smore.middle].module]
    wanted = ["x′", *(str(expert) for layer in nodes[::-1] for expert in layer.ids[smore.example].ravel())]
    assert [one.get_text() for one in tree.texts if one.get_fontsize() == 9.5] == wanted
    stored = found.numbers["beside"]
    assert [one["run"] for one in stored] == [runs[2].id, runs[1].id]
    np.testing.assert_allclose(stored[0]["gates"], gates)
    assert trex.plot().axes[-1].get_title(loc="left").startswith("T-REX, seed 0: the gates of ‘")


def test_no_expert_and_many_experts_have_their_places_in_the_key() -> None:
    axes = routed([[[1, 0], [0.6, 0.4], [0, 0]]]).plot().axes[0]
    assert [one.get_text() for one in axes.texts[:4]] == ["expert", "0", "1", "no expert"]
    axes = routed([np.eye(20)[:15]], "abcdefghijklmno").plot().axes[0]
    assert [one.get_text() for one in axes.texts[:14]] == ["expert", *map(str, range(12)), "and 3 more"]


def test_the_flow_counts_tokens_between_their_strongest_experts() -> None:
    found = routed([[[1, 0], [0.6, 0.4], [0, -0.9]], [[0, 1], [1, 0], [0, 0]]])
    flow = found.flow("gate")
    pairs = {(row.expert, row.to_expert): row.tokens for row in flow.itertuples()}
    assert pairs == {(0, 1): 1, (0, 0): 1, (1, NONE): 1}
    assert set(flow["layer"]) == {"layers.0"} and set(flow["to_layer"]) == {"layers.1"}
    assert found.flow("gate", row=0).equals(flow)
    with pytest.raises(ValueError, match="row = 7 is not the number of a text; pass 0 to 0, or None"):
        found.flow("gate", row=7)
    assert "takes no expert" in hover_text(found, "layers.1.gate", 2)
    assert 'aria-label="c: no expert"' in text_html(found, "layers.1.gate", 0)


def test_a_place_is_found_by_a_part_of_its_name_and_refused_if_no_router_is_there() -> None:
    found = routed([[[1, 0], [0.6, 0.4], [0, 1]]] * 2)
    named = {
        f"layers.{layer}.self_attn.{end}": replace(router, layer=f"layers.{layer}", place=f"self_attn.{end}")
        for layer, router in enumerate(found.routers.values())
        for end in ("q_proj", "v_proj")
    }
    found = replace(found, routers=named)
    assert found.flow("q_proj").equals(found.flow("self_attn.q_proj")) and len(found.flow("q_proj"))
    for ask in (found.flow, found.at):
        with pytest.raises(
            ValueError, match="place = 'up_proj' matches no module; pass .*: self_attn.q_proj, self_attn.v"
        ):
            ask("up_proj")
        with pytest.raises(
            ValueError, match="place = 'self_attn' is a part of self_attn.q_proj, self_attn.v_proj; pass"
        ):
            ask("self_attn")


def test_many_experts_are_drawn_by_the_busiest_and_the_others_together() -> None:
    experts, length = 20, 40
    first, second = np.eye(experts)[np.arange(length) % experts], np.eye(experts)[np.arange(length) // 2]
    found = routed([np.zeros((3, experts)).tolist()] * 2)
    frame = found.tokens.loc[np.zeros(length, int)].reset_index(drop=True)
    routers = {name: RoutedBy(name, "gate", name, own) for name, own in (("layers.0", first), ("layers.1", second))}
    many = RoutedTokens(("x",), frame, routers, {}, "made", found.again)
    for bars in bars_of(many, "gate"):
        assert len(bars) == 8 and bars["expert"].iloc[-1] == OTHERS and bars["tokens"].sum() == length
        assert bars["top"].iloc[0] == pytest.approx(1) and bars["bottom"].iloc[-1] == pytest.approx(0)
    (ribbons,) = ribbons_of(many, "gate")
    assert ribbons["tokens"].sum() == length
    assert isinstance(many.plot(), Figure)


def test_lines_break_at_their_width_and_each_text_begins_one() -> None:
    rows = [(0, "", "alpha"), (0, " ", "beta"), (0, " ", "gamma"), (1, "", "x" * 30), (1, "\n", "end")]
    frame = pd.DataFrame(rows, columns=["row", "space", "piece"])
    placed = set_in_lines(frame, 12)
    assert [(one.line, one.start) for one in placed] == [(0, 0), (0, 6), (1, 0), (3, 0), (4, 0)]
    assert placed[3].shown == "x" * 11 + "…" and max(one.start + len(one.shown) for one in placed) <= 12


def test_pictures_pages_and_numbers_are_saved(adapted, tmp_path) -> None:
    model, tokenizer = adapted("trex")
    found = tokens(model, ['a <b>bold</b> & "text"'], tokenizer)
    files = found.save(tmp_path)
    assert {path.suffix for path in files.values()} == {".png", ".pdf", ".html", ".json"}
    page = files["html"].read_text("utf-8")
    assert '"type":"sankey"' in page and '"type":"bar"' in page and "<b>bold</b>" not in found._repr_html_()
    assert found.save(tmp_path / "again")["html"].read_bytes() == files["html"].read_bytes()
    ax = Figure().subplots()
    assert found.plot(ax) is ax and ax.texts
    assert "up vectors" not in page and found.claims.empty


def test_hover_tells_the_matrix_the_tree_and_the_list_of_gates(adapted) -> None:
    for system, wanted in (("trex", "i&nbsp;\\&nbsp;j"), ("smore", "of pool 1:"), ("moelora", "expert ")):
        found = tokens(adapted(system)[0], TEXTS, adapted(system)[1])
        assert wanted in hover_text(found, found.middle, 2)
        html = text_html(found, found.middle, 0)
        assert ("<svg" in html) == (system == "smore") and ("i \\ j" in html) == (system == "trex")


def test_the_widget_reads_what_is_typed_and_refuses_what_cannot_be_read(adapted) -> None:
    model, tokenizer = adapted("moelora")
    explorer = tokens(model, TEXTS[0], tokenizer).widget()
    assert explorer.texts[1].value == "" and "<img" in explorer.flows[0].value
    before = explorer.texts[0].value
    explorer.boxes[1].value = TEXTS[1]
    assert "first" in re.sub("<[^>]*>", "", explorer.texts[1].value) and explorer.texts[0].value == before
    explorer.layer.value = "layers.0"
    assert explorer.texts[0].value != before and "layer 0" in explorer.texts[0].value
    shown = explorer.texts[0].value
    explorer.boxes[0].value = "word " * 200
    assert "more than the model&#x27;s context of 128" in explorer.message.value and explorer.texts[0].value == shown
    explorer.boxes[0].value, explorer.boxes[1].value = "", " "
    assert "both texts are empty" in explorer.message.value
    explorer.boxes[0].value = "The cat"
    assert explorer.message.value == "" and explorer.texts[1].value == ""


def test_what_cannot_be_shown_is_refused_with_the_remedy(adapted, backbone, tiny_llama, tmp_path) -> None:
    model, tokenizer = adapted("trex")
    bare = ma.load_backbone(backbone, torch.float32)[0]
    for arguments, why in (
        ((model, "", tokenizer), r"texts\[0\] = '' is not a text; pass one"),
        ((model, ["fine", "  "], tokenizer), r"texts\[1\] = '  ' is not a text"),
        ((model, [], tokenizer), "texts is empty"),
        ((model, None, tokenizer), r"texts\[0\] = None is not a text"),
        ((model, 3, tokenizer), r"texts\[0\] = 3 is not a text"),
        ((model, [7], tokenizer), r"texts\[0\] = 7 is not a text"),
        ((model, "cat " * 300, tokenizer), "more than the model's context of 128; split it"),
        ((bare, "a text", tokenizer), "LlamaForCausalLM has no routed adapter and no known router of its own"),
        ((foreign("mixtral"), "a text"), "the tokenizer of MixtralForCausalLM is not known; pass tokenizer="),
        (("a run", "a text"), "model = 'a run' is neither a model nor a run"),
        ((model, TEXTS, tokenizer, np.zeros((1, 6))), "intuition has 1 rows for 2 texts; pass one row per text"),
    ):
        with pytest.raises(ValueError, match=why):
            tokens(*arguments)
    found = tokens(model, TEXTS[0], tokenizer)
    explorer = found.widget()
    with pytest.raises(ValueError, match="runs is empty"):
        ma.papers.routing_tokens([])
    assert explorer.message.value == ""


def test_of_a_text_that_is_too_long_nothing_is_said_but_the_error(adapted, monkeypatch) -> None:
    model, tokenizer = adapted("moelora")
    tokenizer.model_max_length = 128
    told: list[str] = []
    logger = logging.getLogger("transformers.tokenization_utils_base")
    monkeypatch.setattr(logger, "warning", lambda text, *_: told.append(text))
    with pytest.raises(ValueError, match=r"has \d+ tokens, more than the model's context of 128; split it"):
        tokens(model, "cat " * 5000, tokenizer)
    assert told == []
    tokenizer(["cat " * 5000])
    assert "Token indices sequence length is longer" in told[0]  # so this is what was listened for


def test_a_layer_is_drawn_by_its_number_or_name(adapted) -> None:
    model, tokenizer = adapted("moelora")
    usual = tokens(model, TEXTS[0], tokenizer)
    for name, router in usual.routers.items():
        number = int(router.layer.rpartition(".")[2])
        chosen = tokens(model, TEXTS[0], tokenizer, layer=number)
        assert chosen.routers[chosen.middle].layer == router.layer
        assert tokens(model, TEXTS[0], tokenizer, layer=name).middle == name
        assert chosen.widget().layer.value == router.layer
    with pytest.raises(ValueError, match="layer = 99 matches no module; pass a layer's number"):
        tokens(model, TEXTS[0], tokenizer, layer=99)


def test_an_intuition_that_was_passed_is_asked_for_again(backbone) -> None:
    model, tokenizer = ma.load_backbone(backbone, torch.float32)
    model = peft.get_peft_model(model, ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj"])).eval()
    scores = torch.rand(1, 6).numpy()
    found = tokens(model, TEXTS[0], tokenizer, scores)
    np.testing.assert_allclose(
        next(iter(found.routers.values())).gates,
        next(iter(record_gates(model, tokenizer, TEXTS[0], scores)[0].values())),
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match="routes by the intuition that you passed; call tokens again"):
        found.again(["another text"])
