"""Situations of saving and loading: under any name, by every way in.

Outputs are compared to rounding: a loaded adapter is frozen, and torch.matmul chooses its kernel by whether an operand
requires a gradient.
"""

from __future__ import annotations

import copy
import json
import pickle
import tempfile
from pathlib import Path

import pytest
import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from peft.utils.save_and_load import load_peft_weights
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import moe_analysis as ma
from moe_analysis.optim import build_optimizer

from .contract import situation
from .systems import Case, calm, close, collected, llama

ALL = ("moelora", "sira", "hydralora", "trex", "momor", "smore")
OLD = Path(__file__).parents[1] / "data" / "adapters_0_1"


def saved(case: Case, **options) -> tuple[Path, dict, torch.Tensor]:
    """(folder, batch, logits of the model that was saved there)."""
    model, batch = case.model(**options), case.batch()
    batch.pop("labels")
    folder = Path(tempfile.mkdtemp())
    model.save_pretrained(folder)
    return folder, batch, model(**batch).logits


@situation("loaded under another adapter name")
def _(case: Case) -> None:
    folder, batch, right = saved(case)
    keys = load_file(folder / "adapter_model.safetensors")
    assert not [key for key in keys if "default" in key]
    for name in ("other", "A", "router"):
        close(PeftModel.from_pretrained(llama(), folder, adapter_name=name).eval()(**batch).logits, right)


@situation("`load_adapter` of a second adapter, then selected")
def _(case: Case) -> None:
    folder, batch, right = saved(case)
    model = get_peft_model(llama(), case.config()).eval()
    before = model(**batch).logits
    model.load_adapter(folder, "second")
    assert torch.equal(model(**batch).logits, before)
    model.set_adapter("second")
    close(model.eval()(**batch).logits, right)


@situation("an adapter with its own name, saved and loaded")
def _(case: Case) -> None:
    model, batch = get_peft_model(llama(), case.config(), adapter_name="french").eval(), case.batch()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0, 0.5 if parameter.dim() else 0.005)
    folder = tempfile.mkdtemp()
    model.save_pretrained(folder)
    again = PeftModel.from_pretrained(llama(), Path(folder, "french")).eval()
    close(again(**batch).logits, model(**batch).logits)


@situation("adapters whose names are those of weights, such as A, B and router, saved and loaded")
def _(case: Case) -> None:
    names, batch, folder = ("A", "B", "router", "0"), case.batch(), Path(tempfile.mkdtemp())
    model = get_peft_model(llama(), case.config(), adapter_name=names[0])
    for name in names[1:]:
        model.add_adapter(name, case.config())
    for name, parameter in model.named_parameters():
        if f"{case.system}_adapter" in name:
            parameter.data.normal_(0, 0.5 if parameter.dim() else 0.005)
    model.save_pretrained(folder)
    for name in names:
        model.set_adapter(name)
        again = PeftModel.from_pretrained(llama(), folder / name, adapter_name=name).eval()
        close(again(**batch).loss, model.eval()(**batch).loss)
    given = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="which PEFT therefore takes out of a state that it is given"):
        get_peft_model_state_dict(model, given, adapter_name="A")


@situation("another PEFT method on the same layers, inside or around, saved and loaded by every way")
def _(case: Case) -> None:
    lora, batch = LoraConfig(r=2, target_modules=["q_proj", "v_proj"]), case.batch()
    for configs in ((case.config(), lora), (lora, case.config())):
        model, folder = llama(), Path(tempfile.mkdtemp())
        for config in configs:
            model.add_adapter(config, "lora" if config is lora else "own")
        model.set_adapter("own")
        calm(model)
        right = model(**batch).loss
        model.save_pretrained(folder)
        assert not [key for key in load_file(folder / "adapter_model.safetensors") if "base_layer" in key]
        close(PeftModel.from_pretrained(llama(), folder).eval()(**batch).loss, right)
        plain = llama()
        plain.load_adapter(str(folder))
        close(plain(**batch).loss, right)
        for parameter in (value for name, value in model.named_parameters() if ".own." in name):
            parameter.data.zero_()
        ma.hotswap_adapter(model, folder, "own")
        close(model(**batch).loss, right)


@situation(
    "an adapter of a model with more layers",
    dict.fromkeys(ALL, "weights that this model has no place for (model.layers.1.mlp.down_proj."),
)
def _(case: Case) -> None:
    folder = saved(case)[0]
    PeftModel.from_pretrained(llama(num_hidden_layers=1), folder)


@situation("hot-swapped, by `ma.hotswap_adapter` and by `set_peft_model_state_dict`")
def _(case: Case) -> None:
    folder, batch, right = saved(case)
    for swap in (
        lambda model: ma.hotswap_adapter(model, folder),
        lambda model: set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu")),
    ):
        model = get_peft_model(llama(), case.config()).eval()
        places = [parameter.data_ptr() for parameter in model.parameters()]
        swap(model)
        close(model(**batch).logits, right)
        assert places == [parameter.data_ptr() for parameter in model.parameters()]


@situation("transformers' `load_adapter`, and `from_pretrained` of the adapter's folder")
def _(case: Case) -> None:
    folder, batch, right = saved(case)
    for name in ("default", "other"):
        model = llama()
        model.load_adapter(str(folder), adapter_name=name)
        close(model(**batch).logits, right)
    home = tempfile.mkdtemp()
    llama().save_pretrained(home)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": home}))
    again = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    close(again(**batch).logits, right)


@situation("transformers' `add_adapter`")
def _(case: Case) -> None:
    batch, wrapped, plain = case.batch(), case.model(), llama()
    plain.add_adapter(case.config())
    values = {key.removeprefix("base_model.model."): value for key, value in wrapped.state_dict().items()}
    plain.load_state_dict(values)
    ours, right = plain.eval()(**batch), wrapped(**batch)
    close(ours.logits, right.logits)
    close(ours.loss, right.loss)
    folder = tempfile.mkdtemp()
    plain.save_pretrained(folder)
    close(PeftModel.from_pretrained(llama(), folder, adapter_name="x").eval()(**batch).loss, right.loss)


@situation("`inject_adapter_in_model`")
def _(case: Case) -> None:
    batch, wrapped = case.batch(), case.model()
    plain = inject_adapter_in_model(case.config(), llama(), adapter_name="mine")
    values = {
        key.removeprefix("base_model.model.").replace(".default.", ".mine."): value
        for key, value in wrapped.state_dict().items()
    }
    plain.load_state_dict(values)
    close(plain.eval()(**batch).loss, wrapped(**batch).loss)


@situation("loaded with `low_cpu_mem_usage`")
def _(case: Case) -> None:
    folder, batch, right = saved(case)
    close(PeftModel.from_pretrained(llama(), folder, low_cpu_mem_usage=True).eval()(**batch).logits, right)
    for autocast in (True, False):
        usual, frugal = (
            PeftModel.from_pretrained(
                llama().bfloat16(), folder, low_cpu_mem_usage=low, autocast_adapter_dtype=autocast
            )
            for low in (False, True)
        )
        loaded = frugal.state_dict()
        for name, value in usual.state_dict().items():
            assert value.dtype == loaded[name].dtype and torch.equal(value, loaded[name]), name


@situation("a folder written by version 0.1")
def _(case: Case) -> None:
    small = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1}
    folder = OLD / case.system
    model = PeftModel.from_pretrained(llama(**small), folder, adapter_name="new")
    held = model.state_dict()
    for key, value in load_file(folder / "adapter_model.safetensors").items():
        head, mark, tail = key.partition(f".{case.system}_adapter.")
        assert torch.equal(held[f"{head}{mark}new.{tail.removeprefix('default.')}"], value), key


OLD_BY_TRANSFORMERS = "load it once with PeftModel.from_pretrained"


@situation(
    "a folder written by version 0.1, by transformers' `load_adapter`",
    dict.fromkeys(ALL, OLD_BY_TRANSFORMERS),
)
def _(case: Case) -> None:
    llama(hidden_size=8, intermediate_size=12, num_hidden_layers=1).load_adapter(str(OLD / case.system))


@situation("`modules_to_save`")
def _(case: Case) -> None:
    model, batch = case.model(modules_to_save=["lm_head"]), case.batch()
    folder = tempfile.mkdtemp()
    model.save_pretrained(folder)
    again = PeftModel.from_pretrained(llama(), folder, adapter_name="x").eval()
    close(again(**batch).loss, model(**batch).loss)
    assert [key for key in load_file(Path(folder, "adapter_model.safetensors")) if "lm_head" in key]


@situation("deepcopy and pickle of the model and its optimizer")
def _(case: Case) -> None:
    model, batch = case.model().train(), case.batch()
    optimizer = build_optimizer("adamw", model, 1e-2)
    model(**batch).loss.backward()
    optimizer.step()
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        close(copied(**batch).loss, model(**batch).loss)
        copied.zero_grad()
        copied(**batch).loss.backward()
        model.zero_grad()
        model(**batch).loss.backward()
        assert torch.equal(collected(copied), collected(model))
    state = pickle.loads(pickle.dumps(optimizer.state_dict()))
    build_optimizer("adamw", copied, 1e-2).load_state_dict(state)
    assert pickle.loads(pickle.dumps(model(**batch))).loss.item() == model(**batch).loss.item()


@situation("`unload` gives the model back")
def _(case: Case) -> None:
    batch = case.batch()
    batch.pop("intuition", None)
    base = case.model().unload()
    close(base(**batch).logits, llama()(**batch).logits)
    assert not base._forward_hooks and not base._forward_pre_hooks and "generate" not in vars(base)


@situation("a second system on the same model", dict.fromkeys(ALL, "and a model has those of one system"))
def _(case: Case) -> None:
    other = Case("sira" if case.system == "moelora" else "moelora")
    folder, base = saved(other)[0], llama()
    base.add_adapter(case.config())
    before = set(base.state_dict())
    ways = (
        lambda: base.load_adapter(str(folder), adapter_name="second"),
        lambda: get_peft_model(base, other.config(["v_proj"]), "second"),
        lambda: inject_adapter_in_model(other.config(), base, "second"),
        lambda: base.add_adapter(other.config(), "second"),
    )
    for number, way in enumerate(ways):
        try:
            way()
        except ValueError:
            assert set(base.state_dict()) == before
            if number + 1 == len(ways):
                raise


@situation("another system on the same model, after `unload`")
def _(case: Case) -> None:
    other, batch = Case("sira" if case.system == "moelora" else "moelora"), case.batch()
    batch.pop("intuition", None)
    close(other.model(case.model().unload())(**batch).loss, other.model()(**batch).loss)


@situation("`add_weighted_adapter`", dict.fromkeys(ALL, "routed adapters have no weighted sum"))
def _(case: Case) -> None:
    case.model().add_weighted_adapter(["default"], [1.0], "sum")
