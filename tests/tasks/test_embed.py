"""Embeddings: their definition, their invariances and their refusals."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

from moe_analysis.tasks import transformer
from moe_analysis.tasks.embed import Embedder, EmbeddingError, embed

from .texts import TEXTS

WORDS = ["<end>", "red", "blue", "green", "sky"]


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    return Embedder("minilm", cache=False, progress=False)


# MiniLM


def test_minilm_rows_are_the_normalized_mean_of_the_last_hidden_states(minilm: Embedder) -> None:
    from transformers import BertModel, BertTokenizerFast

    tokenizer = BertTokenizerFast.from_pretrained(transformer.minilm_folder())
    model = BertModel.from_pretrained(transformer.minilm_folder(), attn_implementation="eager").eval()
    ours = minilm.transform(TEXTS)
    for text, row in zip(TEXTS, ours, strict=True):
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        # One text alone has no padding, so the plain mean over its tokens is the definition.
        mean = model(**tokens).last_hidden_state[0].mean(dim=0).detach().numpy()
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=2e-6)


def test_minilm_gives_float32_rows_of_length_one(minilm: Embedder) -> None:
    table = minilm.transform(TEXTS)
    assert table.dtype == np.float32 and table.shape == (len(TEXTS), 384)
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1, atol=1e-6)


def test_one_text_at_a_time_equals_a_batch(minilm: Embedder) -> None:
    together = minilm.transform(TEXTS)
    alone = np.vstack([minilm.transform([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_rows_follow_the_order_of_the_texts_and_repeats_are_equal(minilm: Embedder) -> None:
    order = [3, 0, 4, 3, 1, 2, 0]
    found = minilm.transform([TEXTS[i] for i in order])
    # a text's place in the batch decides which part of a product's kernel it goes through
    np.testing.assert_allclose(found, minilm.transform(TEXTS)[order], atol=2e-6)
    assert (found[0] == found[3]).all() and (found[2] != found[3]).any()


def test_a_repeated_text_is_computed_once(minilm: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    encode = minilm._encoder.encode
    monkeypatch.setattr(minilm._encoder, "encode", lambda texts, *rest: seen.extend(texts) or encode(texts, *rest))
    minilm.transform(["red", "blue", "red", "red"])
    assert sorted(seen) == ["blue", "red"]


def test_like_meanings_are_closer_than_unlike_ones(minilm: Embedder) -> None:
    cat, kitten, tax = minilm.transform(["a cat sleeps", "a kitten is sleeping", "the tax form is due"])
    assert cat @ kitten > cat @ tax + 0.3


def test_a_folder_with_the_same_weights_gives_the_same_rows(minilm: Embedder) -> None:
    folder = Embedder(transformer.minilm_folder(), cache=False)
    np.testing.assert_array_equal(folder.transform(TEXTS[:2]), minilm.transform(TEXTS[:2]))


def test_weights_with_one_flipped_byte_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(transformer.minilm_folder(), tmp_path / "model")
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)[0]
        file.seek(50_000_000)
        file.write(bytes([byte ^ 1]))
    monkeypatch.setattr(transformer, "minilm_folder", lambda: folder)
    with pytest.raises(EmbeddingError, match=r"SHA-256 .* refused"):
        Embedder("minilm")


def test_a_missing_package_names_itself_and_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "MINILM_PACKAGE", "no-such-package-anywhere")
    with pytest.raises(EmbeddingError, match=r"no-such-package-anywhere.*tfidf"):
        Embedder("minilm")


# Other models


def test_a_model_that_cannot_be_fetched_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def offline(*arguments, **named) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(EmbeddingError, match=r"'someone/model' is neither a folder.*ConnectionError"):
        Embedder("someone/model")


def test_a_folder_that_holds_no_model_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match="could not be opened"):
        embed(["text"], tmp_path, cache=False)


def saved(folder: Path, model: PreTrainedModel, pad: str | None = "<end>") -> Path:
    """The model with a tokenizer of five words."""
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<end>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", pad_token=pad).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def bert(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    return saved(folder, BertModel(BertConfig(vocab_size=5, **sizes)))


def test_a_decoder_without_a_padding_token_embeds_batches_like_single_texts(tmp_path: Path) -> None:
    folder = saved(tmp_path, GPT2Model(GPT2Config(vocab_size=5, n_positions=8, n_embd=16, n_layer=1, n_head=2)), None)
    embedder = Embedder(folder, cache=False)
    texts = ["red", "blue sky green", "green " * 20]
    alone = np.vstack([embedder.transform([text]) for text in texts])
    np.testing.assert_allclose(embedder.transform(texts), alone, atol=1e-6)


def test_a_text_is_cut_to_the_places_that_a_model_has_for_tokens(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = RobertaConfig(vocab_size=5, max_position_embeddings=10, pad_token_id=1, **sizes)  # 0 and 1 are padding's
    folder = saved(tmp_path, RobertaModel(config))
    np.testing.assert_allclose(*embed(["red " * 60, "red " * 8], folder, cache=False), atol=1e-6)


def test_an_embedder_stays_the_model_that_it_opened_whatever_its_files_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOE_ANALYSIS_CACHE", str(tmp_path / "cache"))
    folder = bert(tmp_path / "model", seed=0)
    before, expected = Embedder(folder), embed(["blue sky"], folder, cache=False)
    before.transform(["red"])
    digest = before.digest
    bert(folder, seed=1)
    assert before.digest == digest != Embedder(folder).digest
    np.testing.assert_array_equal(before.transform(["blue sky"]), expected)
    replaced = embed(["blue sky"], folder)
    np.testing.assert_array_equal(replaced, embed(["blue sky"], folder, cache=False))
    assert (replaced != expected).any()


def test_a_model_that_was_replaced_before_it_was_opened_is_refused(tmp_path: Path) -> None:
    embedder = Embedder(bert(tmp_path, seed=0), cache=False)
    assert embedder.digest
    bert(tmp_path, seed=1)
    with pytest.raises(EmbeddingError, match="the files in .* have changed since .* make a new Embedder"):
        embedder.transform(["red"])


@pytest.mark.parametrize("model", ["", None, 3])
def test_a_model_that_is_no_name_is_refused(model: object) -> None:
    with pytest.raises(EmbeddingError, match="model = "):
        Embedder(model)


# Texts


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], "texts is empty"),
        ("one text", "is one text; pass a list"),
        (["a", None], r"texts\[1\] = None"),
        (["a", "b", float("nan")], r"texts\[2\] = nan"),
        (["a", 3], r"texts\[1\] = 3"),
        (["", "a"], r"texts\[0\] = ''"),
        (["a", " \n"], r"texts\[1\]"),
        (["a", "b\ud800"], r"texts\[1\] holds half a character"),
    ],
    ids=["none", "string", "None", "NaN", "number", "empty", "blank", "surrogate"],
)
def test_a_text_that_cannot_be_embedded_is_named_by_its_index(texts: object, expected: str) -> None:
    with pytest.raises(EmbeddingError, match=expected):
        embed(texts, "tfidf", cache=False)


@pytest.mark.parametrize("size", [0, 2.5, True])
def test_a_batch_size_that_is_no_count_is_named(size: object) -> None:
    with pytest.raises(EmbeddingError, match=f"batch_size = {size}"):
        Embedder("tfidf", batch_size=size)


# Progress


def test_a_bar_is_drawn_on_request_and_never_into_a_pipe_by_itself(
    minilm: Embedder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    minilm.transform(["quiet"])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(minilm, "progress", True)
    minilm.transform(["loud", "louder"])
    shown = capsys.readouterr()
    assert "embedding" in shown.err and "2/2" in shown.err and shown.out == ""


def test_importing_the_module_opens_no_heavy_library() -> None:
    import subprocess

    heavy = "{'torch', 'transformers', 'sklearn'}"
    code = f"import sys, moe_analysis.tasks.embed; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
