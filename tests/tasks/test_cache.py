"""The disk cache: same bytes without the model, and nothing lost when it is damaged or closed."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from moe_analysis.tasks import cache, encoders, transformer
from moe_analysis.tasks.embed import Embedder, embed

from .texts import TEXTS


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

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.warns(cache.CacheWarning, match="no space left"):
        embed(TEXTS, "tfidf")
    assert [path for path in cache_home.rglob("*") if path.is_file()] == []


def test_without_cache_nothing_is_written(cache_home: Path) -> None:
    embed(TEXTS, "tfidf", cache=False)
    assert not cache_home.exists()
