"""Routers that are not ours are recorded as ours are: weights, gradients, gates, loads."""

from __future__ import annotations

import copy
import warnings
from types import SimpleNamespace

import numpy as np
import peft
import pytest
import torch
from torch.optim import SGD

import moe_analysis as ma
from moe_analysis.studies.records import gate_entropy
from moe_analysis.studies.router_paths.paths import router_paths
from moe_analysis.studies.router_paths.smoothness import smoothness
from moe_analysis.studies.routing.agreement import between_layers
from moe_analysis.studies.routing.load import load_summary
from moe_analysis.training.recorders.foreign_routers import foreign_routers
from moe_analysis.training.recorders.routing import record_gates
from tests.training.recorders.foreign_models import (
    MODELS,
    TOP_K,
    Words,
    arrow,
    batch,
    foreign,
    independent_gates,
    inputs_of,
    mixtral,
    xlora,
)

KINDS = list(MODELS)


def seen_gates(view, model, **options):
    """(gates of one forward pass of the model, what the view's module was given and gave)."""
    found = []
    handle = view.register_forward_hook(lambda adapter, inputs, output: found.append(output[1].gates))
    seen = inputs_of(view.module, model, **options)
    handle.remove()
    assert len(found) == 1
    return found[0].detach(), seen


@pytest.mark.parametrize("kind", KINDS)
def test_gates_are_those_that_the_routers_own_logits_give(kind) -> None:
    model = foreign(kind).eval()
    views = foreign_routers(model)
    assert views and {view.top_k for view in views.values()} == {TOP_K[kind]}
    for view in views.values():
        gates, seen = seen_gates(view, model, **batch())
        wanted = independent_gates(kind, view.module, seen.args[0].reshape(-1, 16))
        torch.testing.assert_close(gates, wanted.detach(), rtol=1e-5, atol=1e-6)
        assert gates.count_nonzero(-1).eq(TOP_K[kind]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_recorded_with_the_gradient_that_autograd_gives(kind, folder) -> None:
    model = foreign(kind).train()
    views = foreign_routers(model)
    weights = [view.weight for view in views.values()]
    loss = model(**batch()).loss
    grads = torch.autograd.grad(loss, weights)
    optimizer = SGD(model.parameters(), lr=0.1)
    with ma.attach(model, folder, optimizer, name="theirs") as handle:
        for _ in range(2):
            loss = model(**batch()).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            handle.log(loss)
    records = ma.open_records(folder)
    found = [str(name) for name in records["module"].values]
    assert found == list(views) and records["router_grad"].dims == ("step", "module", "expert", "feature")
    for number, grad in enumerate(grads):
        np.testing.assert_allclose(records["router_grad"].values[0, number], grad.numpy(), rtol=1e-4, atol=1e-7)
    moved = records["router_weight"].values[0] - 0.1 * records["router_grad"].values[0]
    np.testing.assert_allclose(records["router_weight"].values[1], moved, rtol=1e-5, atol=1e-6)
    assert any(np.abs(grad.numpy()).max() > 0 for grad in grads)
    np.testing.assert_allclose(records["gate_load"].sum("expert").values, TOP_K[kind], rtol=1e-5)
    assert records["gate_entropy"].values.min() >= 0 and records["gate_entropy"].values.max() <= 1
    assert len(gate_entropy([handle])) == 2 and set(router_paths([handle], found[0])["method"]) == {"theirs"}


def test_statistics_are_of_the_real_tokens_alone(folder) -> None:
    model = foreign("mixtral").train()
    view = foreign_routers(model)["layers.0.mlp.gate"]
    gates, _ = seen_gates(view, model, **batch())
    with ma.attach(model, folder) as handle:
        model(**batch()).loss.backward()
        handle.step()
        load = handle.records["gate_load"].values[0, 0]
    real = gates[batch()["attention_mask"].flatten().bool()]
    np.testing.assert_allclose(load, (real != 0).float().mean(0).numpy(), rtol=1e-6)
    assert not np.allclose(load, (gates != 0).float().mean(0).numpy())


def test_a_decoders_real_tokens_are_those_with_a_label(folder) -> None:
    model = foreign("switch").train()
    labels = batch()["labels"].clone()
    labels[0, 2:], labels[1, 1:] = -100, -100  # the encoder reads 11 tokens, the decoder answers with 3
    view = foreign_routers(model)["decoder.block.1.layer.2.mlp.router"]
    gates, _ = seen_gates(view, model, **batch() | {"labels": labels})
    with ma.attach(model, folder) as handle:
        model(**batch() | {"labels": labels}).loss.backward()
        handle.step()
        load = handle.records["gate_load"].values[0, 1]
    np.testing.assert_allclose(load, (gates[labels.flatten() != -100] != 0).float().mean(0).numpy(), rtol=1e-6)


def test_a_token_beyond_an_experts_capacity_has_no_gate() -> None:
    model = foreign("switch").eval()
    view = foreign_routers(model)["encoder.block.1.layer.1.mlp.router"]
    view.module.expert_capacity = 1
    gates, seen = seen_gates(view, model, **batch())
    busy = gates.unflatten(0, (2, 7)) != 0
    assert busy.sum(1).max() == 1 and busy.sum() < 14
    full = independent_gates("switch", view.module, seen.args[0].reshape(-1, 16)).detach()
    torch.testing.assert_close(gates[gates != 0], full[gates != 0], rtol=1e-5, atol=1e-6)


def test_a_copy_of_the_model_is_not_recorded(folder) -> None:
    model = foreign("mixtral").train()
    with ma.attach(model, folder) as handle:
        model(**batch()).loss.backward()
        load = {name: gates[0].clone() for name, gates in handle.recorder.gates.items()}
        copy.deepcopy(model)(**batch(1))
        assert all(torch.equal(handle.recorder.gates[name][0], gates) for name, gates in load.items())
        handle.step()
    assert not model._forward_pre_hooks and not model.model.layers[0].mlp.gate._forward_hooks


@pytest.mark.parametrize("kind", KINDS)
def test_plain_strings_are_recorded_token_by_token(kind) -> None:
    model = foreign(kind).eval()
    texts = ["the cat sat on the mat", "no", "seven words are enough for this one"]
    gates, tokens = record_gates(model, Words(), texts)
    assert tokens.columns.tolist() == ["row", "position", "token_id"]
    assert tokens.groupby("row").size().tolist() == [7, 2, 8]
    for values in gates.values():
        assert values.shape[0] == len(tokens) and (np.count_nonzero(values, axis=1) == TOP_K[kind]).all()
    alone, its = record_gates(model, Words(), texts[1])
    module = next(iter(gates))
    np.testing.assert_allclose(gates[module][tokens["row"] == 1], alone[module], rtol=1e-4, atol=1e-5)
    assert its["token_id"].tolist() == tokens.loc[tokens["row"] == 1, "token_id"].tolist()


def test_the_studies_of_routing_take_the_gates_of_an_attached_mixture(folder) -> None:
    model = foreign("olmoe").train()
    optimizer = SGD(model.parameters(), lr=0.1)
    with ma.attach(model, folder, optimizer, name="OLMoE", seed=1) as handle:
        for number in range(4):
            model(**batch(number)).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        texts = [" ".join(f"word{place * number % 31}" for place in range(8)) for number in range(1, 13)]
        gates, tokens = record_gates(model, Words(), texts)
        recorded = [(handle, gates, tokens)]
        loads, layers = load_summary(recorded), between_layers(recorded, 3)
        assert np.isfinite(smoothness([handle])["relative_tortuosity"]).all()
    assert set(loads["method"]) == {"OLMoE"} and len(loads) == 2 and loads["mass_peak"].between(1, 6).all()
    assert layers["same_top1"].between(0, 1).all() and len(layers) == 1
    pooled = SimpleNamespace(config=SimpleNamespace(name="S'MoRE", seed=0, system="smore"))
    with pytest.raises(ValueError, match="its record has no sizes of its pools; pass a run"):
        load_summary([(pooled, gates, tokens)])


def test_recomputed_activations_leave_the_record_as_it_is(tmp_path) -> None:
    loads = []
    for checkpointed in (False, True):
        model = foreign("mixtral").train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        optimizer = SGD(model.parameters(), lr=0.1)
        with ma.attach(model, tmp_path / str(checkpointed), optimizer) as handle:
            model(**batch()).loss.backward()
            optimizer.step()
            loads.append({name: handle.records[name].values for name in ("gate_load", "router_grad", "gate_entropy")})
    for name, plain in loads[0].items():
        np.testing.assert_allclose(loads[1][name], plain, rtol=1e-4, atol=1e-6)


def test_texts_that_cannot_be_read_are_refused_before_the_model_runs() -> None:
    model = foreign("mixtral")
    for texts, why in (
        ([], "texts is empty"),
        ("", r"texts\[0\] = '' is empty"),
        (["fine", " \n"], r"texts\[1\] = ' \\n' is empty"),
        (["fine", 3], r"texts\[1\] = 3 is int; pass strings"),
        ("word " * 64, r"texts\[0\] = .* has 65 tokens, more than the model's context of 64; split it"),
    ):
        with pytest.raises(ValueError, match=why):
            record_gates(model, Words(), texts)


@pytest.mark.parametrize("layerwise, k", [(True, 2), (True, None), (False, 2)])
def test_xlora_shows_the_scalings_of_every_layer(layerwise, k, tiny_llama, folder, tmp_path) -> None:
    options = {"layerwise_scalings": layerwise, "top_k_lora": k, "global_scaling_weight": 1.5}
    model = xlora(lambda: copy.deepcopy(tiny_llama), tmp_path, **options).train()
    views = foreign_routers(model)
    names = ["layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj"]
    assert list(views) == (names if layerwise else ["internal_xlora_classifier"])
    classifier = model.base_model.internal_xlora_classifier
    chosen = k or 3
    for number, view in enumerate(views.values()):
        gates, seen = seen_gates(view, model, **batch())
        shares = seen.output[:, :, number].detach().flatten(0, 1)  # (tokens, adapters)
        kept = shares * (shares >= shares.sort(-1, descending=True).values[:, chosen - 1 : chosen])
        torch.testing.assert_close(gates, 1.5 * kept)
    whole = classifier.layers[-1].weight
    wanted = torch.autograd.grad(model(**batch()).loss, whole)[0]
    optimizer = SGD(model.parameters(), lr=0.1)
    with ma.attach(model, folder, optimizer) as handle:
        model(**batch()).loss.backward()
        optimizer.step()
        records = handle.records
        assert handle.config.system == "xlora"
        found = records["router_grad"].values[0].reshape(-1, 16)
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(records["gate_load"].sum("expert").values, chosen, rtol=1e-6)
    assert np.abs(found).max() > 0


def test_arrow_shows_prototypes_and_the_weights_of_its_experts(tiny_llama, folder, tmp_path) -> None:
    model = arrow(lambda: copy.deepcopy(tiny_llama), tmp_path).train()
    views = foreign_routers(model)
    assert list(views) == ["layers.0.self_attn.q_proj", "layers.1.self_attn.q_proj"]
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    gates, seen = seen_gates(views["layers.0.self_attn.q_proj"], model, **batch())
    adapters = [f"task_{number}" for number in range(3)]
    maps = [layer.lora_B[name].weight @ layer.lora_A[name].weight for name in adapters]
    leading = torch.stack([torch.linalg.svd(one).Vh[0] for one in maps])  # (experts, in), up to sign
    likeness = (seen.args[0].flatten(0, 1) @ leading.T).abs()
    kept = likeness >= likeness.sort(-1, descending=True).values[:, 1:2]
    wanted = (likeness / 0.5).masked_fill(~kept, -torch.inf).softmax(-1)
    real = batch()["attention_mask"].flatten().bool()  # a padded token is zero here, like all prototypes alike
    torch.testing.assert_close(gates[real], wanted[real].detach(), rtol=1e-2, atol=2e-3)  # PEFT's direction is iterated
    # with the router's own weights the layer's output is that of PEFT
    outputs = torch.stack(
        [layer.scaling[name] * seen.args[0].flatten(0, 1) @ one.T for name, one in zip(adapters, maps)]
    )
    torch.testing.assert_close((gates.T[..., None] * outputs).sum(0), seen.output.flatten(0, 1), rtol=1e-4, atol=1e-5)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("task_" in name)
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with ma.attach(model, folder, optimizer) as handle:
        model(**batch()).loss.backward()
        optimizer.step()
        records = handle.records
        np.testing.assert_allclose(records["gate_load"].sum("expert").values, 2.0, rtol=1e-6)
        assert not records["router_grad"].values.any()  # prototypes are computed, not trained
        assert (np.linalg.norm(records["router_weight"].values[0, 0], axis=1) > 0.99).all()


def test_a_lora_on_a_mixture_leaves_its_routers_to_be_recorded(folder) -> None:
    model = peft.get_peft_model(foreign("mixtral"), peft.LoraConfig(r=2, target_modules=["q_proj"])).train()
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with ma.attach(model, folder, optimizer) as handle:
        model(**batch()).loss.backward()
        optimizer.step()
        records = handle.records
        assert records["module"].values.tolist() == ["layers.0.mlp.gate", "layers.1.mlp.gate"]
        assert handle.config.system == "mixtral" and not records["router_grad"].values.any()


def test_a_router_that_peft_saves_whole_is_the_trained_copy(folder) -> None:
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["gate"])
    model = peft.get_peft_model(foreign("mixtral"), config).train()
    assert list(foreign_routers(model)) == ["layers.0.mlp.gate", "layers.1.mlp.gate"]
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with ma.attach(model, folder, optimizer) as handle:
        model(**batch()).loss.backward()
        trained = model.base_model.model.model.layers[0].mlp.gate.modules_to_save["default"].weight
        grad = trained.grad.numpy().copy()
        optimizer.step()
        np.testing.assert_allclose(handle.records["router_grad"].values[0, 0], grad, rtol=1e-6)
        np.testing.assert_allclose(handle.records["gate_load"].sum("expert").values, 2.0, rtol=1e-6)
    assert np.abs(grad).max() > 0


def test_a_router_whose_weight_peft_adds_to_is_refused_with_a_remedy(folder) -> None:
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], target_parameters=["mlp.gate.weight"], lora_dropout=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(foreign("mixtral"), config)
    with pytest.raises(ValueError, match="adapted by target_parameters, .* train it whole, with modules_to_save"):
        ma.attach(model, folder)


def test_an_adapter_of_ours_on_a_mixture_is_what_is_recorded(folder) -> None:
    model = peft.get_peft_model(foreign("mixtral"), ma.MoeLoraConfig(num_experts=3, r=2, target_modules=["q_proj"]))
    with ma.attach(model.train(), folder) as handle:
        model(**batch()).loss.backward()
        handle.step()
        assert handle.records["module"].values.tolist() == [f"layers.{i}.self_attn.q_proj" for i in range(2)]


class OddRouter(torch.nn.Module):
    """A router of a form that nobody knows."""

    def __init__(self, known: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 16))
        self.num_experts = 4
        if known:
            self.top_k = 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.T


def test_a_router_of_another_form_is_refused_by_name(folder) -> None:
    model = torch.nn.Sequential(OddRouter(known=False))
    with pytest.raises(
        ValueError, match=r"routers that cannot be read: OddRouter \(0\); supported are routers that return"
    ):
        ma.attach(model, folder)
    with (
        ma.attach(torch.nn.Sequential(OddRouter(known=True)), folder) as handle,
        pytest.raises(ValueError, match="OddRouter returns nothing in which its gates could be found"),
    ):
        next(iter(handle.recorder.adapters.values())).root(torch.randn(3, 16))


def test_a_model_without_any_router_is_refused_with_the_remedy(tiny_llama, folder) -> None:
    with pytest.raises(ValueError, match="LlamaForCausalLM has no routed adapter to record; wrap it with .* Mixtral"):
        ma.attach(tiny_llama, folder)
    with pytest.raises(ValueError, match="LlamaForCausalLM has no routed adapter and no known router of its own"):
        record_gates(tiny_llama, Words(), "a text")


def test_the_routers_of_a_model_from_disk_are_recorded_as_before(tmp_path) -> None:
    model = mixtral().eval()
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    first, second = (record_gates(one, Words(), "a few words")[0] for one in (model, again))
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=1e-5, atol=1e-6)
