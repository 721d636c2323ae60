"""The adapters inside Hugging Face models, through PEFT's own functions: injection, configuration, storage."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model

from moe_analysis.adapters import RoutingContext
from moe_analysis.peft_bridge import CONFIGS, AdapterLayer, Call, opened
from moe_analysis.peft_bridge.hooks import adapted_of
from moe_analysis.peft_bridge.hotswap import hotswap_adapter

from .adapters.cases import randomize
from .tiny_models import SWITCH, TREX, adapt, adapted_layers, scores


@pytest.mark.parametrize("name, options", [("trex", TREX), ("moelora", SWITCH), ("sira", {"r": 2})])
def test_a_llama_trains_only_its_adapters(tiny_llama, tokens, name, options):
    model = adapt(tiny_llama, name, **options).train()
    extra = {"intuition": scores()} if name == "trex" else {}
    model(**tokens, **extra).loss.backward()
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all(f"{name}_adapter.default" in key for key in trained)
    parameters = dict(model.named_parameters())
    assert [key for key in trained if parameters[key].grad is None or not parameters[key].grad.any()] == []
    assert [key for key in parameters if key not in trained and parameters[key].grad is not None] == []


@pytest.mark.parametrize("name, options", [("trex", TREX), ("moelora", SWITCH)])
def test_the_transposed_linear_layers_of_gpt2_are_adapted_too(tiny_gpt2, tokens, name, options):
    plain = copy.deepcopy(tiny_gpt2)(**tokens).logits
    model = get_peft_model(tiny_gpt2, CONFIGS[name](target_modules=["c_attn", "c_proj"], **options)).eval()
    extra = {"intuition": scores()} if name == "trex" else {}
    assert torch.equal(model(**tokens, **extra).logits, plain)
    shapes = {(layer.in_features, layer.out_features) for layer in adapted_layers(model)}
    assert shapes == {(16, 48), (16, 16), (64, 16)}
    randomize(model)
    assert not torch.equal(model(**tokens, **extra).logits, plain)


def test_an_adapted_linear_layer_adds_the_pure_modules_update(tiny_llama, tokens):
    model = adapt(tiny_llama, **TREX)
    intuition = scores()
    layer, x = adapted_layers(model)[0], torch.randn(2, 6, 16)
    delta, _ = layer.adapters["default"](x, RoutingContext(intuition))
    with opened(Call(intuition=intuition)):
        torch.testing.assert_close(layer(x), layer.base_layer(x) + delta)  # fused, and as two products


def test_all_linear_adapts_everything_but_the_head(tiny_llama):
    model = adapt(tiny_llama, targets="all-linear", **TREX)
    assert len(adapted_layers(model)) == 2 * 7
    assert not isinstance(model.base_model.model.lm_head, AdapterLayer)


def test_all_linear_of_a_second_adapter_adapts_the_same_layers(tiny_llama):
    model = adapt(tiny_llama, targets="all-linear", **TREX)
    model.add_adapter("second", CONFIGS["trex"](target_modules="all-linear", **TREX))
    assert [set(layer.adapters) for layer in adapted_layers(model)] == [{"default", "second"}] * 2 * 7


def test_without_targets_the_models_usual_ones_are_taken(tiny_llama):
    model = get_peft_model(tiny_llama, CONFIGS["moelora"](r=2))
    names = {key.rpartition(".")[2] for key, module in model.named_modules() if isinstance(module, AdapterLayer)}
    assert names == {"q_proj", "v_proj"}


def test_an_unknown_target_module_is_named_beside_those_that_exist(tiny_llama):
    with pytest.raises(ValueError, match=r"target_modules \['wq'\] are not in the model; choose from .*'q_proj'"):
        adapt(tiny_llama, targets=["q_proj", "wq"], **TREX)


def test_an_unknown_target_of_a_second_adapter_is_named_too(tiny_llama):
    model = adapt(tiny_llama, **TREX)
    with pytest.raises(ValueError, match=r"target_modules \['wq'\] are not in the model"):
        model.add_adapter("second", CONFIGS["trex"](target_modules=["q_proj", "wq"], **TREX))


def test_a_target_that_is_no_linear_layer_is_refused_before_any_layer_is_adapted(tiny_llama):
    with pytest.raises(ValueError, match="LlamaRMSNorm; only linear layers can be adapted"):
        adapt(tiny_llama, targets=["q_proj", "input_layernorm"], **TREX)
    assert not adapted_layers(tiny_llama)


def test_merging_is_refused_and_unloading_gives_the_base_back(tiny_llama, tokens):
    plain = tiny_llama(**tokens).logits
    model = adapt(tiny_llama, **TREX)
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(ValueError, match="a routed adapter has no merge"):
            merge()
    base = model.unload()
    assert not adapted_layers(base)
    assert torch.equal(base(**tokens).logits, plain)


def test_a_second_adapter_waits_until_it_is_chosen_and_leaves_without_a_trace(tiny_llama, tokens):
    model, intuition = adapt(tiny_llama, **TREX), scores()
    first = model(**tokens, intuition=intuition).logits
    model.add_adapter("second", CONFIGS["trex"](target_modules=["q_proj", "v_proj"], **TREX))
    assert torch.equal(model(**tokens, intuition=intuition).logits, first)
    assert not [key for key, p in model.named_parameters() if ".second." in key and p.requires_grad]

    model.set_adapter("second")
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if ".second.B" in key:
                parameter.normal_()
    second = model(**tokens, intuition=intuition).logits
    assert not torch.equal(second, first)
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained and all(".second." in key for key in trained)

    model.set_adapter("default")
    assert torch.equal(model(**tokens, intuition=intuition).logits, first)
    model.delete_adapter("second")
    assert not [key for key in model.state_dict() if ".second." in key]
    assert torch.equal(model(**tokens, intuition=intuition).logits, first)


def test_a_disabled_adapter_takes_an_intuition_and_ignores_it(tiny_llama, tokens):
    plain = tiny_llama(**tokens)
    model = adapt(tiny_llama, **TREX)
    with model.disable_adapter():
        output = model(**tokens, intuition=scores())
    assert torch.equal(output.logits, plain.logits) and torch.equal(output.loss, plain.loss)


def test_a_saved_adapter_loads_bit_equal_and_reads_its_own_configuration(tiny_llama, tokens, tmp_path):
    base, intuition = copy.deepcopy(tiny_llama), scores(width=5)
    model = adapt(tiny_llama, **TREX, intuition_mapper=True, num_clusters=5)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base, tmp_path)
    assert torch.equal(loaded(**tokens, intuition=intuition).logits, model(**tokens, intuition=intuition).logits)
    assert loaded.peft_config["default"].num_clusters == 5
    assert not [key for key, parameter in loaded.named_parameters() if parameter.requires_grad]
    trainable = PeftModel.from_pretrained(copy.deepcopy(loaded.unload()), tmp_path, is_trainable=True)
    assert [key for key, parameter in trainable.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("name, options", [("trex", {**TREX, "router_coef": 8.0}), ("moelora", SWITCH), ("sira", {})])
def test_a_configuration_survives_its_json(tmp_path, name, options):
    config = CONFIGS[name](target_modules=["v_proj", "q_proj"], **options)
    config.save_pretrained(tmp_path)
    read = PeftConfig.from_pretrained(tmp_path)
    assert type(read) is CONFIGS[name]
    assert read.to_dict() == config.to_dict()
    assert read.to_dict()["target_modules"] == ["q_proj", "v_proj"]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_has_no_task_type_unless_it_is_given_one_as_pefts_own(name):
    assert CONFIGS[name]().task_type is LoraConfig().task_type is None
    assert CONFIGS[name](task_type="SEQ_CLS").task_type == "SEQ_CLS"


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_can_be_pickled_for_another_process(name):
    config = CONFIGS[name](target_modules="all-linear")
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_bad_configuration_is_refused_before_any_model_is_touched():
    with pytest.raises(ValueError, match="top_k = 9 must be between 1 and num_experts = 8"):
        CONFIGS["moelora"](top_k=9)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
def test_a_copied_model_has_hooks_of_its_own(tiny_llama, tokens, duplicate):
    model, intuition = adapt(tiny_llama, **TREX), scores()
    model(**tokens, intuition=intuition).loss.backward()
    twin = duplicate(model)
    assert torch.equal(twin(**tokens, intuition=intuition).logits, model(**tokens, intuition=intuition).logits)
    inner, outer = adapted_of(twin.get_base_model()), adapted_of(model.get_base_model())
    assert inner.model is twin.get_base_model() and outer.model is model.get_base_model()
    assert inner.model.generate.adapted is inner


def test_an_adapter_of_the_head_is_swapped_in_from_a_folder_without_the_heads_own_weight(tiny_llama, tokens, tmp_path):
    model = adapt(tiny_llama, targets=["lm_head"], **TREX)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    right = model(**tokens, intuition=torch.ones(2, 6)).logits
    randomize(model)
    hotswap_adapter(model, tmp_path)
    assert torch.equal(model(**tokens, intuition=torch.ones(2, 6)).logits, right)
