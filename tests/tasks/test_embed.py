"""Embeddings: their definition, their invariances, their cache and their refusals."""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.tasks import cache, encoders, transformer
from moe_analysis.tasks.embed import Embedder, EmbeddingError, embed

TEXTS = [
    "How many apples are left when three of seven are eaten?",
    "Sort the words: pear, fig, apple.",
    "Is the review friendly? The soup was cold and the waiter was rude.",
    "7 - 3 =",
    "A long story " + "about a train that never arrives " * 60,
]


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    return Embedder("minilm", cache=False, progress=False)


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOE_ANALYSIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_told_unwritable", set())
    return tmp_path / "cache"


def no_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments, **named) -> None:
        raise AssertionError("the model was opened although the result is cached")

    monkeypatch.setattr(transformer, "_open", refuse)
    monkeypatch.setattr(encoders.TfidfEncoder, "_fit", refuse)


# MiniLM


def test_minilm_rows_are_the_normalised_mean_of_the_last_hidden_states(minilm: Embedder) -> None:
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
    np.testing.assert_array_equal(minilm.transform([TEXTS[i] for i in order]), minilm.transform(TEXTS)[order])


def test_a_repeated_text_is_computed_once(minilm: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    encode = minilm._encoder.encode
    monkeypatch.setattr(
        minilm._encoder, "encode", lambda texts, *rest: seen.extend(texts) or encode(texts, *rest)
    )
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


def test_a_decoder_without_a_padding_token_embeds_batches_like_single_texts(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(["<end>", "red", "blue", "green", "sky"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>").save_pretrained(tmp_path)
    GPT2Model(GPT2Config(vocab_size=5, n_positions=8, n_embd=16, n_layer=1, n_head=2)).save_pretrained(
        tmp_path
    )
    embedder = Embedder(tmp_path, cache=False)
    texts = ["red", "blue sky green", "green " * 20]
    alone = np.vstack([embedder.transform([text]) for text in texts])
    np.testing.assert_allclose(embedder.transform(texts), alone, atol=1e-6)


@pytest.mark.parametrize("model", ["", None, 3])
def test_a_model_that_is_no_name_is_refused(model: object) -> None:
    with pytest.raises(EmbeddingError, match="model = "):
        Embedder(model)


# TF-IDF


WORDS = st.lists(
    st.sampled_from(["red", "blue", "sky", "1", "2", "+", "=", "rain"]), min_size=1, max_size=6
).map(" ".join)


@settings(max_examples=30, deadline=None)
@given(
    train=st.lists(WORDS, min_size=1, max_size=12),
    test=st.lists(st.text(min_size=1).filter(str.strip), max_size=4),
)
def test_tfidf_places_any_text_in_the_fitted_space_with_length_one(train: list[str], test: list[str]) -> None:
    test = [text for text in test if text.isprintable()] + ["entirely unheard"]
    embedder = Embedder("tfidf", cache=False).fit(train)
    known, new = embedder.transform(train), embedder.transform(test)
    assert known.shape[1] == new.shape[1] <= 256
    np.testing.assert_allclose(np.linalg.norm(np.vstack([known, new]), axis=1), 1, atol=1e-5)


def test_tfidf_does_not_depend_on_order_or_repeats_of_the_fitted_texts() -> None:
    first = Embedder("tfidf", cache=False).fit(TEXTS).transform(TEXTS)
    second = Embedder("tfidf", cache=False).fit([*TEXTS[::-1], TEXTS[2]]).transform(TEXTS)
    np.testing.assert_array_equal(first, second)


def test_tfidf_of_a_text_alone_equals_its_row_among_others() -> None:
    embedder = Embedder("tfidf", cache=False).fit(TEXTS)
    np.testing.assert_allclose(embedder.transform(TEXTS[1:2])[0], embedder.transform(TEXTS)[1], atol=1e-6)


def test_tfidf_keeps_the_cosines_of_the_full_word_space_when_no_axis_is_dropped() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    full = TfidfVectorizer(token_pattern=r"\w+|[^\w\s]", ngram_range=(1, 2), sublinear_tf=True).fit_transform(
        TEXTS
    )
    ours = embed(TEXTS, "tfidf", cache=False)
    np.testing.assert_allclose(ours @ ours.T, (full @ full.T).toarray(), atol=1e-5)


def test_tfidf_must_be_fitted_before_it_transforms() -> None:
    with pytest.raises(EmbeddingError, match="not fitted"):
        Embedder("tfidf", cache=False).transform(["red"])


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


# Cache


@pytest.mark.parametrize("model", ["minilm", "tfidf"])
def test_a_second_call_reads_the_same_bytes_and_opens_no_model(
    model: str, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = embed(TEXTS[:3], model)
    no_computing(monkeypatch)
    assert embed(TEXTS[:3], model).tobytes() == first.tobytes()
    assert embed(TEXTS[2::-1], model).tobytes() == first[::-1].tobytes()


def test_other_texts_are_not_taken_from_the_cache(cache_home: Path) -> None:
    embedder = Embedder("tfidf").fit(TEXTS)
    embedder.transform(["ab", "c"])
    embedder.transform(["a", "bc"])
    assert len(list(cache_home.rglob("*.npy"))) == 2


def test_another_fit_is_not_taken_from_the_cache(cache_home: Path) -> None:
    first = Embedder("tfidf").fit(TEXTS).transform(TEXTS[:2])
    second = Embedder("tfidf").fit(TEXTS[:3]).transform(TEXTS[:2])
    assert first.shape != second.shape


def test_other_weights_are_not_taken_from_the_cache(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"first")
    before = transformer.TransformerEncoder(folder).identity()
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert transformer.TransformerEncoder(folder).identity() != before


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_cache_file_is_named_and_computed_anew(damage: str, cache_home: Path) -> None:
    first = embed(TEXTS, "tfidf")
    (path,) = cache_home.rglob("*.npy")
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes({"flip": content, "cut": content[:150], "empty": b""}[damage])
    with pytest.warns(cache.CacheWarning, match=path.name):
        assert embed(TEXTS, "tfidf").tobytes() == first.tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert embed(TEXTS, "tfidf").tobytes() == first.tobytes()


def test_a_cache_that_cannot_be_written_warns_once_and_the_work_goes_on(cache_home: Path) -> None:
    cache_home.write_text("a file where the folder should be")
    with pytest.warns(cache.CacheWarning, match="MOE_ANALYSIS_CACHE") as caught:
        first, second = embed(TEXTS, "tfidf"), embed(TEXTS, "tfidf")
    assert len(caught) == 1
    assert first.tobytes() == second.tobytes()


def test_a_write_that_fails_leaves_nothing_behind(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(source: Path, target: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.warns(cache.CacheWarning, match="no space left"):
        embed(TEXTS, "tfidf")
    assert [path for path in cache_home.rglob("*") if path.is_file()] == []


def test_without_cache_nothing_is_written(cache_home: Path) -> None:
    embed(TEXTS, "tfidf", cache=False)
    assert not cache_home.exists()


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
