"""The intuition is read from the prompt, and something changes: clusters, adapters, embedder, the kind of model."""

from __future__ import annotations

import copy
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForTokenClassification,
    T5Config,
    T5ForConditionalGeneration,
)

import moe_analysis as ma
from moe_analysis.peft_bridge.hooks import adapted_of
from moe_analysis.tasks.batches import collate, encode
from moe_analysis.tasks.embed import Embedder
from moe_analysis.tasks.prompts import AROUND_PROMPT, render
from moe_analysis.tasks.transformer import minilm_folder

from .systems import calm

PROMPT_ENDS = AROUND_PROMPT["options"][1]
SIZES = {"num_down": 2, "num_up": 3}
TARGETS = ["q_proj", "down_proj"]
SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def tokenizer():
    return ma.load_backbone("compact")[1]


@pytest.fixture(scope="module")
def rows():
    return ma.load_suite("embedded", split="train").groupby("dataset").head(4).reset_index(drop=True)


@pytest.fixture(scope="module")
def clusters(rows):
    return ma.cluster(ma.embed(rows["prompt"]), k=6)


@pytest.fixture(scope="module")
def others(rows):
    """Other clusters of the same number and width."""
    return ma.cluster(ma.embed(rows["prompt"][::3]), k=6, seed=1)


@pytest.fixture(scope="module")
def batch(rows, tokenizer):
    frame = rows.iloc[[0, 17, 41, 66]]
    return SimpleNamespace(
        frame=frame,
        texts=list(frame["prompt"]),
        emb=ma.embed(frame["prompt"]),
        **collate(encode(frame, tokenizer, 256), tokenizer.pad_token_id),
    )


def inputs(batch, *names):
    return {name: getattr(batch, name) for name in names or ("input_ids", "attention_mask", "labels")}


def adapted(base, clusters=None, targets=TARGETS, **given):
    """A model in which half of the routing is the intuition's."""
    model = get_peft_model(base, ma.TRexConfig(**SIZES, target_modules=targets)).eval()
    calm(model)
    if clusters is not None:
        ma.set_intuition(model, clusters, **{"prompt_ends": PROMPT_ENDS, **given})
    return model


def compact(clusters=None, **given):
    return adapted(ma.load_backbone("compact")[0], clusters, **given)


def two(clusters, others):
    """A model whose adapters have different weights, and different clusters where there are two sets."""
    model = compact(clusters)
    model.add_adapter("second", ma.TRexConfig(**SIZES, target_modules=TARGETS))
    calm(model, seed=1)
    if others is not None:
        ma.set_intuition(model, others, prompt_ends=PROMPT_ENDS, adapter_name="second")
    return model.eval()


def held(model):
    return adapted_of(model.get_base_model()).held["default"]


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def differ(ours, theirs):
    assert (ours - theirs).abs().max() > 3e-2


def test_the_clusters_of_another_checkpoint_take_effect_in_place(clusters, others, batch, tmp_path):
    model, other = compact(clusters), compact(others)
    before = model(**inputs(batch)).logits
    other.save_pretrained(tmp_path)
    expected = other(**inputs(batch), intuition=others.intuition(batch.emb)).logits
    differ(before, expected)
    kept = copy.deepcopy(model)
    ma.hotswap_adapter(model, tmp_path)
    same(model(**inputs(batch)).logits, expected)
    same(kept(**inputs(batch)).logits, before)
    kept.load_state_dict(other.state_dict())
    same(kept(**inputs(batch)).logits, expected)


def test_autocast_changes_nothing_about_the_intuition(clusters, batch):
    model = compact(clusters)
    with torch.autocast("cpu", torch.bfloat16):
        scores = held(model).of_tokens(inputs(batch), model.get_base_model())
    torch.testing.assert_close(scores, torch.from_numpy(clusters.intuition(batch.emb)), rtol=0, atol=1e-5)


def test_the_rows_of_a_mixed_batch_read_the_clusters_of_their_own_adapters(clusters, others, batch, tokenizer):
    model, names = two(clusters, others), ["second", "__base__", "default", "second"]
    given = inputs(batch, "input_ids", "attention_mask")
    mixed = model(**given, adapter_names=names).logits
    with model.disable_adapter():
        same(mixed[1], model(**given).logits[1])
    for name, theirs in (("default", clusters), ("second", others)):
        model.set_adapter(name)
        alone = model(**given, intuition=theirs.intuition(batch.emb)).logits
        own = [place for place, one in enumerate(names) if one == name]
        same(mixed[own], alone[own])
    texts = [render(row)[0] for row in batch.frame.to_dict("records")]
    padded = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False)
    options = {"max_new_tokens": 3, "do_sample": False, "num_beams": 2}
    made = model.generate(**padded, **options, adapter_names=names)
    scores = torch.stack(
        [
            torch.as_tensor((others if name == "second" else clusters).intuition(batch.emb)[place])
            for place, name in enumerate(names)
        ]
    )
    assert made.tolist() == model.generate(**padded, **options, adapter_names=names, intuition=scores).tolist()


def test_adapters_that_do_not_agree_on_the_clusters_are_refused(clusters, others, batch):
    model = two(clusters, others)
    model.base_model.set_adapter(["default", "second"])
    with pytest.raises(ValueError, match="are active together and have different clusters"):
        model(**inputs(batch))
    ma.set_intuition(model, clusters, prompt_ends=PROMPT_ENDS, adapter_name="second")
    same(model(**inputs(batch)).logits, model(**inputs(batch), intuition=clusters.intuition(batch.emb)).logits)


def test_an_adapter_without_clusters_takes_none_from_another(clusters, batch):
    model = two(clusters, None)
    with pytest.raises(ValueError, match="adapter 'second' routes by intuition but has no clusters"):
        model(**inputs(batch, "input_ids", "attention_mask"), adapter_names=["second", *["default"] * 3])
    model.set_adapter("second")
    with pytest.raises(ValueError, match="routes by intuition, but intuition = None"):
        model(**inputs(batch))


def test_labels_of_single_tokens_leave_the_whole_text_the_prompt(clusters, batch, tokenizer):
    torch.manual_seed(0)
    base = LlamaForTokenClassification(LlamaConfig(vocab_size=len(tokenizer), num_labels=3, **SMALL)).eval()
    model = adapted(base, clusters, tokenizer=tokenizer, prompt_ends=())
    texts = tokenizer(batch.texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    labels = texts["attention_mask"].clone().masked_fill(texts["input_ids"].cumsum(-1) < 2000, -100)
    model(**texts, labels=labels)
    same(model(**texts, labels=labels).logits, model(**texts, intuition=clusters.intuition(batch.emb)).logits)


def test_the_prompt_of_an_encoder_and_decoder_is_what_the_encoder_reads(clusters, batch, tokenizer):
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=24,
        num_layers=1,
        num_heads=2,
        pad_token_id=0,
        decoder_start_token_id=0,
        dropout_rate=0.0,
    )
    model = adapted(T5ForConditionalGeneration(config), clusters, ["q", "v"], tokenizer=tokenizer)
    texts = tokenizer(batch.texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    scores = clusters.intuition(batch.emb)
    labels = texts["input_ids"].clone()
    labels[:, 0] = -100  # of the same shape, and none of the encoder's business
    same(model(**texts, labels=labels).logits, model(**texts, labels=labels, intuition=scores).logits)
    options = {"max_new_tokens": 3, "do_sample": False, "num_beams": 2}
    assert model.generate(**texts, **options).tolist() == model.generate(**texts, **options, intuition=scores).tolist()


def test_several_texts_packed_into_one_row_are_refused(clusters, batch):
    lengths = batch.attention_mask.sum(-1)
    flat = {
        name: torch.cat([getattr(batch, name)[row, :length] for row, length in enumerate(lengths)])[None]
        for name in ("input_ids", "labels")
    }
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    with pytest.raises(ValueError, match="several texts are packed into one sample"):
        compact(clusters)(**flat, position_ids=positions)


def test_a_batch_without_rows_has_an_intuition_without_rows(clusters, batch):
    model = compact(clusters)
    empty = {name: value[:0] for name, value in inputs(batch).items()}
    assert held(model).of_tokens(empty, model.get_base_model()).shape == (0, 6)


@torch.no_grad()
def test_generation_that_goes_on_from_a_cache_knows_the_whole_prompt(clusters, batch):
    model, whole = compact(clusters), batch.input_ids[:1, :12]
    scores = held(model).of_tokens({"input_ids": whole}, model.get_base_model())
    beginning = held(model).of_tokens({"input_ids": whole[:, :5]}, model.get_base_model())
    differ(scores, beginning)
    options = {"max_new_tokens": 2, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}

    def cache():
        return copy.deepcopy(filled_cache)  # a copy, as transformers' manual reuses a prefix

    filled_cache = model(whole[:, :5], use_cache=True).past_key_values
    ours = model.generate(whole, past_key_values=cache(), **options)
    same(ours.logits[0], model.generate(whole, past_key_values=cache(), intuition=scores, **options).logits[0])
    rest = {"input_ids": whole[:, 5:], "attention_mask": torch.ones_like(whole)}
    with pytest.raises(ValueError, match="this cache was not filled by a pass that read it"):
        model.generate(**rest, past_key_values=cache(), **options)
    given = model.generate(**rest, past_key_values=cache(), intuition=beginning, **options)
    same(model.generate(**rest, past_key_values=filled_cache, **options).logits[0], given.logits[0])


@torch.no_grad()
def test_a_cache_in_a_tuple_of_outputs_keeps_its_prompt(clusters, batch):
    model, ids = compact(clusters), batch.input_ids[:1, :9]
    cache = model(ids[:, :8], use_cache=True, return_dict=False)[-1]
    step = model(ids[:, 8:], past_key_values=cache, return_dict=False)[0]
    scores = held(model).of_tokens({"input_ids": ids[:, :8]}, model.get_base_model())
    torch.testing.assert_close(step[:, -1], model(ids, intuition=scores).logits[:, -1], rtol=1e-3, atol=1e-3)


def test_a_compiled_model_reads_outside_of_its_graphs_or_is_refused(clusters, batch):
    model, given = compact(clusters), inputs(batch, "input_ids", "attention_mask")
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="eager")
    same(compiled(**given).logits, compiled(**given, intuition=clusters.intuition(batch.emb)).logits)
    torch._dynamo.reset()
    with pytest.raises(Exception, match="a compiled graph cannot read it; pass intuition="):
        torch.compile(model, backend="eager", fullgraph=True)(**given)
    torch._dynamo.reset()
    with pytest.raises(ValueError, match="an exported model cannot read it; pass intuition="):
        torch.export.export(model, (), given)


def test_one_configuration_makes_models_with_and_without_clusters(clusters, batch, tmp_path):
    config = ma.TRexConfig(**SIZES, target_modules=TARGETS)
    first, second = (get_peft_model(ma.load_backbone("compact")[0], config) for _ in range(2))
    ma.set_intuition(first, clusters)
    third = get_peft_model(ma.load_backbone("compact")[0], config)
    for model in (second, third):
        with pytest.raises(ValueError, match="routes by intuition, but intuition = None"):
            model(**inputs(batch))
        model.save_pretrained(tmp_path)
        assert json.loads((tmp_path / "adapter_config.json").read_text())["embedding_dim"] is None
    first.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["embedding_dim"] == 384


def test_one_end_of_the_prompts_can_be_a_text_and_none_can_be_empty(clusters, batch):
    model = compact(clusters, prompt_ends="\nAnswer:")
    assert model.peft_config["default"].prompt_ends == ["\nAnswer:"]
    with pytest.raises(ValueError, match="must be non-empty texts"):
        ma.set_intuition(model, clusters, prompt_ends=["\nAnswer:", ""])
    ma.set_intuition(model, prompt_ends=PROMPT_ENDS)
    same(held(model).of_tokens(inputs(batch), model.get_base_model()), torch.as_tensor(clusters.intuition(batch.emb)))
    assert model.peft_config["default"].prompt_ends == list(PROMPT_ENDS)


@pytest.fixture
def embedder(tmp_path):
    """A folder with a small transformer that embeds."""
    folder = tmp_path / "embedder"
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(tokenizer), **SMALL)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_an_embedder_that_lies_in_another_place_is_named_anew(rows, batch, embedder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    theirs = ma.cluster(ma.embed(rows["prompt"], model=embedder, cache=False), k=6)
    model = compact(theirs, embedder="embedder")
    expected = model(**inputs(batch)).logits
    model.save_pretrained(tmp_path / "adapter")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = PeftModel.from_pretrained(ma.load_backbone("compact")[0], tmp_path / "adapter").eval()
    same(again(**inputs(batch)).logits, expected)  # found by its whole path
    embedder = embedder.rename(tmp_path / "moved")
    lost = PeftModel.from_pretrained(ma.load_backbone("compact")[0], tmp_path / "adapter").eval()
    with pytest.raises(ValueError, match=r"is neither a folder .* ma.set_intuition\(model, embedder=folder\)"):
        lost(**inputs(batch))
    with pytest.raises(ValueError, match="but the adapter's clusters were made with"):
        ma.set_intuition(lost, embedder="minilm")
    (embedder / "more.json").write_text("{}")  # another download of the same weights
    ma.set_intuition(lost, embedder=embedder)
    same(lost(**inputs(batch)).logits, expected)


def test_the_digest_is_that_of_the_weights_alone(embedder):
    first = Embedder(embedder, cache=False).digest
    (embedder / "notes.txt").write_text("downloaded today")
    assert Embedder(embedder, cache=False).digest == first
    weights = load_file(embedder / "model.safetensors")
    weights["embeddings.LayerNorm.bias"] += 1
    save_file(weights, embedder / "model.safetensors", metadata={"format": "pt"})
    assert Embedder(embedder, cache=False).digest != first


def test_clusters_of_another_pooling_are_refused(clusters, batch):
    model = compact(clusters)
    held(model).reader.config.pooling = "last-token-1"
    with pytest.raises(ValueError, match="made with pooling = 'last-token-1', but this version"):
        model(**inputs(batch))


def test_what_is_pushed_to_the_hub_holds_the_clusters(clusters, batch, tmp_path, monkeypatch):
    hub = SimpleNamespace(create_repo=lambda name, **_: SimpleNamespace(repo_id=name))
    card = SimpleNamespace(save=lambda file: None)
    monkeypatch.setattr("transformers.utils.hub.hf_api", lambda: hub)
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *_, **__: card)
    monkeypatch.setattr(
        "transformers.utils.PushToHubMixin._upload_modified_files",
        lambda self, folder, *_, **__: shutil.copytree(folder, tmp_path / "hub"),
    )
    model = compact(clusters)
    model.push_to_hub("me/adapter")
    pulled = PeftModel.from_pretrained(ma.load_backbone("compact")[0], tmp_path / "hub").eval()
    same(pulled(**inputs(batch)).logits, model(**inputs(batch)).logits)


def test_a_run_of_the_first_version_reads_its_prompts_too(tmp_path):
    config = ma.TrainConfig(
        adapter=ma.TRexConfig(num_down=2, num_up=2, target_modules=["q_proj"]),
        steps=1,
        datasets=["add_small", "where_is"],
        rows_per_dataset=20,
        batch_size=4,
        eval_rows=2,
        record_every=0,
    )
    run = ma.train(config, tmp_path)
    weights = load_file(run.path / "adapter" / "adapter_model.safetensors")
    bare = {key: value for key, value in weights.items() if not key.endswith("centroids")}
    assert len(bare) == len(weights) - 1
    save_file(bare, run.path / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    file = run.path / "adapter" / "adapter_config.json"
    new = ("embedder", "embedder_digest", "embedding_dim", "pooling", "prompt_begin", "prompt_ends")
    file.write_text(json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key not in new}))
    frame = ma.load_suite("embedded", datasets=["add_small", "where_is"], split="test").head(3)
    tokens = collate(encode(frame, run.tokenizer, 256), run.tokenizer.pad_token_id)
    model = ma.Run.load(run.path).model()
    same(model(**tokens).logits, model(**tokens, intuition=run.intuition(frame)).logits)
