"""T-REX as an ordinary model: without `intuition`, its numbers are those with the prompt's intuition given."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import Trainer, TrainingArguments, pipeline

import moe_analysis as ma
from moe_analysis.peft_bridge.hooks import adapted_of
from moe_analysis.tasks.batches import collate, encode
from moe_analysis.tasks.embed import Embedder
from moe_analysis.tasks.prompts import AROUND_PROMPT, render
from tests.new_process import printed

from .in_trainers import Look
from .systems import calm, collected, llama

SIZES = {"num_down": 2, "num_up": 3, "target_modules": ["q_proj", "down_proj"]}


def backbone():
    return ma.load_backbone("compact")[0]


@pytest.fixture(scope="module")
def rows():
    frame = ma.load_suite("embedded", split="train")
    return frame.groupby("dataset").head(4)


@pytest.fixture(scope="module")
def clusters(rows):
    return ma.cluster(ma.embed(rows["prompt"]), k=6)


@pytest.fixture(scope="module")
def tokenizer():
    return ma.load_backbone("compact")[1]


@pytest.fixture(scope="module")
def model(clusters):
    """A T-REX model of the compact backbone that holds its clusters."""
    adapted = calm(get_peft_model(backbone(), ma.TRexConfig(**SIZES)).eval())
    ma.set_intuition(adapted, clusters, prompt_ends=AROUND_PROMPT["options"][1])
    return adapted


@pytest.fixture(scope="module")
def batch(rows, tokenizer):
    """Four rows with their answers, of different data sets; two of them with options."""
    chosen = rows[rows["choices"].notna()].iloc[[0, 9]], rows[rows["choices"].isna()].iloc[[0, 9]]
    frame = type(rows)([row for part in chosen for row in part.to_dict("records")])
    return collate(encode(frame, tokenizer, 256), tokenizer.pad_token_id), frame


@pytest.fixture(scope="module")
def right(model, batch, clusters):
    """The intuition by hand, and the output that it gives."""
    tokens, frame = batch
    scores = clusters.intuition(ma.embed(frame["prompt"]))
    return scores, model(**tokens, intuition=scores)


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)  # a text is embedded in a batch of another size


def test_a_forward_pass_with_labels_without_labels_and_without_a_mask(model, batch, right):
    tokens, _ = batch
    same(model(**tokens).logits, right[1].logits)
    same(model(**tokens).loss, right[1].loss)
    same(model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits, right[1].logits)
    whole = model(input_ids=tokens["input_ids"], intuition=right[0]).logits
    same(model(input_ids=tokens["input_ids"]).logits, whole)  # the answer behind the prompt is not part of it


def test_arrays_and_lists_are_taken_and_a_wrong_number_of_rows_is_refused(model, batch, right):
    tokens, _ = batch
    scores = np.asarray(right[0])
    assert torch.equal(model(**tokens, intuition=scores).logits, right[1].logits)
    assert torch.equal(model(**tokens, intuition=scores.tolist()).logits, right[1].logits)
    with pytest.raises(ValueError, match="intuition has 3 rows but the batch has 4 samples"):
        model(**tokens, intuition=scores[:3])
    with pytest.raises(ValueError, match=r"intuition has the shape \(6,\); pass \(samples, clusters\)"):
        model(**tokens, intuition=scores[0])


@pytest.mark.parametrize("options", [{}, {"num_beams": 3, "num_return_sequences": 2}, {"use_cache": False}])
def test_generation_takes_the_prompts_intuition_for_all_of_its_steps(model, batch, right, tokenizer, options):
    texts = [render(row)[0] for row in batch[1].to_dict("records")]
    padded = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False)
    options |= {"max_new_tokens": 4, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    ours, given = model.generate(**padded, **options), model.generate(**padded, **options, intuition=right[0])
    assert torch.equal(ours.sequences, given.sequences)
    for one, other in zip(ours.logits, given.logits, strict=True):
        same(one, other)


@torch.no_grad()
def test_a_loop_with_a_cache_goes_on_with_its_prompt(model, batch):
    ids = batch[0]["input_ids"][:1, :12]
    prompts = adapted_of(model.get_base_model()).held["default"]
    scores = prompts.of_tokens({"input_ids": ids[:, :10]}, model.get_base_model())
    cache = model(input_ids=ids[:, :10], use_cache=True).past_key_values
    for place in (10, 11):
        step = model(input_ids=ids[:, place : place + 1], past_key_values=cache)
    whole = model(input_ids=ids, intuition=scores).logits[:, -1]
    torch.testing.assert_close(step.logits[:, -1], whole, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="this cache was not filled by a pass that read it"):
        model(input_ids=ids[:, :1], past_key_values=copy.deepcopy(cache))


def test_a_pipeline_generates_as_the_model_does(model, batch, right, tokenizer):
    text = render(batch[1].iloc[0])[0]
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    given = model.generate(ids, max_new_tokens=4, do_sample=False, intuition=right[0][:1])
    made = pipeline("text-generation", model=model, tokenizer=tokenizer)(text, max_new_tokens=4, do_sample=False)
    assert made[0]["generated_text"] == tokenizer.decode(given[0], skip_special_tokens=True)


def test_a_saved_adapter_keeps_it_by_every_way_in(model, batch, right, tmp_path):
    tokens, _ = batch
    model.save_pretrained(tmp_path)
    held = json.loads((tmp_path / "adapter_config.json").read_text())
    assert held["embedder"] == "minilm" and held["pooling"] == "mean-pooling-1"
    assert held["embedder_digest"] == Embedder("minilm").digest
    same(PeftModel.from_pretrained(backbone(), tmp_path, adapter_name="other").eval()(**tokens).logits, right[1].logits)
    plain = backbone()
    plain.load_adapter(str(tmp_path))
    same(plain(**tokens).logits, right[1].logits)
    other = get_peft_model(backbone(), ma.TRexConfig(**SIZES)).eval()
    other.load_adapter(tmp_path, "second")
    other.set_adapter("second")
    same(other.eval()(**tokens).logits, right[1].logits)


def test_a_folder_that_was_copied_works_in_another_place_and_process(model, batch, right, tmp_path):
    model.save_pretrained(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    torch.save({name: batch[0][name] for name in ("input_ids", "attention_mask")}, tmp_path / "batch.pt")
    code = (
        "import moe_analysis as ma, torch; from peft import PeftModel; "
        "model = PeftModel.from_pretrained(ma.load_backbone('compact')[0], 'there').eval(); "
        "torch.save(model(**torch.load('batch.pt')).logits, 'logits.pt')"
    )
    assert printed(code, folder=tmp_path) == [""]
    same(torch.load(tmp_path / "logits.pt"), right[1].logits)


def test_copies_pickles_and_casts_of_a_model_keep_it_and_no_embedder(model, batch, right):
    tokens, frame = batch
    same(copy.deepcopy(model)(**tokens).logits, right[1].logits)
    pickled = pickle.dumps(model)
    same(pickle.loads(pickled)(**tokens).logits, right[1].logits)
    assert len(pickled) < 6_000_000  # MiniLM alone has 90 MB
    cast = adapted_of(copy.deepcopy(model).half().get_base_model()).held["default"]
    same(cast.of_texts(list(frame["prompt"])), torch.as_tensor(right[0]))
    assert not [name for name, _ in model.named_parameters() if "prompts" in name]


def test_threads_read_their_own_prompts(model, batch):
    alone = [{name: value[row : row + 1] for name, value in batch[0].items()} for row in range(4)]
    one_by_one, together, done = copy.deepcopy(model), copy.deepcopy(model), []
    for own in (one_by_one, together):
        ma.set_intuition(own, prompt_ends=AROUND_PROMPT["options"][1])  # remembers no prompt yet
    expected = [one_by_one(**tokens).logits for tokens in alone]

    def run(row: int) -> None:
        for _ in range(3):
            same(together(**alone[row]).logits, expected[row])
            done.append(row)

    threads = [threading.Thread(target=run, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted([0, 1, 2, 3] * 3)


def test_trainer_needs_no_column_of_intuition(model, batch, right, tmp_path):
    tokens, _ = batch
    own = copy.deepcopy(model).train()
    own(**tokens, intuition=right[0]).loss.backward()
    expected = collected(own)
    rows = [{name: value[row] for name, value in tokens.items()} for row in range(4)]
    arguments = TrainingArguments(
        tmp_path,
        per_device_train_batch_size=4,
        max_steps=1,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        max_grad_norm=0.0,
        disable_tqdm=True,
    )
    look = Look()
    Trainer(copy.deepcopy(model), arguments, train_dataset=rows, callbacks=[look]).train()
    torch.testing.assert_close(look.gradient, expected, rtol=1e-3, atol=1e-5)  # the rows of the batch are shuffled


def test_a_prompt_is_embedded_once(clusters, monkeypatch):
    own = get_peft_model(backbone(), ma.TRexConfig(**SIZES)).eval()
    ma.set_intuition(own, clusters)
    prompts, seen = adapted_of(own.get_base_model()).held["default"], []
    transform = Embedder.transform
    monkeypatch.setattr(Embedder, "transform", lambda self, texts: seen.append(len(texts)) or transform(self, texts))
    prompts.of_texts(["one", "two", "one"])
    prompts.of_texts(["two", "three"])
    assert seen == [2, 1]


def test_a_disabled_adapter_reads_nothing(model, batch, monkeypatch):
    monkeypatch.setattr(Embedder, "transform", None)
    with model.disable_adapter():
        model(input_ids=batch[0]["input_ids"] + 1)


def test_another_embedder_than_the_one_that_made_the_clusters_is_refused(model, batch):
    own = copy.deepcopy(model)
    reader = adapted_of(own.get_base_model()).held["default"].reader
    held = adapted_of(own.get_base_model()).held["default"]
    held.reader = type(reader)(replace(reader.config, embedder_digest="0" * 64), reader.tokenizer)
    with pytest.raises(ValueError, match="has weights with the digest .*, but the adapter was made with 000000000000"):
        own(**batch[0])


@pytest.mark.parametrize(
    "call, message",
    [
        ({"inputs_embeds": torch.zeros(2, 3, 16)}, "input_ids were not passed; pass intuition="),
        ({"input_ids": torch.ones(2, 3, dtype=torch.long)}, "no tokenizer was found: the model has no name"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_remedy(clusters, call, message):
    own = get_peft_model(llama(), ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj"]))
    ma.set_intuition(own, clusters)
    with pytest.raises(ValueError, match=message):
        own(**call)


def test_a_tokenizer_can_be_given_afterwards(clusters, tokenizer):
    own = get_peft_model(llama(vocab_size=2000), ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj"]))
    ma.set_intuition(own, clusters)
    ma.set_intuition(own, tokenizer=tokenizer)
    assert own(**tokenizer(["one dog"], return_tensors="pt", return_token_type_ids=False)).logits.shape[0] == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"clusters": ma.cluster(np.eye(5), k=5)}, "clusters has k = 5 but the adapter expects 6"),
        ({"clusters": ma.cluster(np.eye(6), k=6), "embedder": "tfidf"}, "has no weights to identify in a checkpoint"),
        ({}, "has no clusters; pass clusters="),
        ({"adapter_name": "german"}, "adapter 'german' of the model does not route by intuition"),
    ],
)
def test_clusters_that_do_not_fit_are_refused(options, message):
    own = get_peft_model(llama(), ma.TRexConfig(num_down=2, num_up=3, target_modules=["q_proj"]))
    with pytest.raises(ValueError, match=message):
        ma.set_intuition(own, **options)


def test_a_trained_run_is_an_ordinary_model(tmp_path):
    config = ma.TrainConfig(
        adapter=ma.TRexConfig(num_down=2, num_up=2, target_modules=["q_proj"]),
        steps=2,
        datasets=["add_small", "where_is"],
        batch_size=4,
        eval_rows=2,
        record_every=0,
    )
    run = ma.train(config, tmp_path)
    frame = ma.load_suite("embedded", datasets=["add_small", "where_is"], split="test").head(3)
    tokens = collate(encode(frame, run.tokenizer, 256), run.tokenizer.pad_token_id)
    model = run.model()
    same(model(**tokens).logits, model(**tokens, intuition=run.intuition(frame)).logits)
