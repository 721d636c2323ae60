"""Situations of devices, dtypes and threads, and of layers that others have changed."""

from __future__ import annotations

import threading

import accelerate
import torch
from torch import nn
from torch.nn.utils import prune

from .contract import situation
from .systems import Case, close, gradients, layers_of, llama


@situation("accelerate's `cpu_offload`")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch()
    with torch.no_grad():
        right = model(**batch).logits
        offloaded = accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
        close(offloaded(**batch).logits, right)
        close(offloaded(**batch).logits, right)


@situation("a base layer whose forward was replaced")
def _(case: Case) -> None:
    model, batch, calls = case.model(), case.batch(), []
    right = model(**batch).logits
    layers = layers_of(model)
    for layer in layers.values():
        base = layer.base_layer
        original = base.forward
        base.forward = lambda x, original=original: calls.append(1) or original(x)
    close(model(**batch).logits, right)
    assert len(calls) == len(layers)


@situation("a hook on a base layer")
def _(case: Case) -> None:
    model, batch, calls = case.model(), case.batch(), []
    for layer in layers_of(model).values():
        layer.base_layer.register_forward_hook(lambda _, args, out: calls.append(1) or out * 2)
    doubled = model(**batch).logits
    assert len(calls) == len(layers_of(model))
    with model.disable_adapter():
        assert not torch.allclose(doubled, model(**batch).logits)


def router_of(adapter: nn.Module) -> nn.Module:
    """A linear layer that takes part in an adapter's routing."""
    return getattr(adapter, "router", None) or getattr(adapter, "down", None) or adapter.gates[0]


@situation("a router with a hook, and one that is pruned")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch()
    before = model(**batch).logits
    for layer in layers_of(model).values():
        router_of(layer.adapters["default"]).register_forward_hook(lambda _, args, out: out * 0.0)
    hooked = model(**batch).logits
    model = case.model()
    for layer in layers_of(model).values():
        router = router_of(layer.adapters["default"])
        prune.custom_from_mask(router, "weight", torch.zeros_like(router.weight))
        if router.bias is not None:
            prune.custom_from_mask(router, "bias", torch.zeros_like(router.bias))
    close(hooked, model(**batch).logits)
    assert not torch.allclose(hooked, before, atol=1e-5)


@situation("float64, bfloat16 and float16 models")
def _(case: Case) -> None:
    batch, plain = case.batch(), case.model()
    right = plain(**batch)
    weights = {name: p.detach() for name, p in plain.named_parameters() if p.requires_grad}
    for dtype, off in ((torch.float64, 1e-4), (torch.bfloat16, 0.2), (torch.float16, 0.05)):
        model = case.model(llama().to(dtype))
        model.load_state_dict(weights, strict=False)
        close(model(**batch).logits.float(), right.logits, off)
        output = model.train()(**batch)
        assert output.logits.dtype == dtype and output.loss.isfinite()
        assert gradients(model, output.loss).isfinite().all()


@situation("bfloat16 autocast")
def _(case: Case) -> None:
    model, batch = case.model().train(), case.batch()
    right = model(**batch)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch)
    close(output.loss, right.loss, 0.05)
    close(output.balance_loss + 1, right.balance_loss + 1, 0.05)
    assert gradients(model, output.loss).isfinite().all()


@situation("DataParallel on a CPU")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch(4)
    right = model(**batch)
    ours = nn.DataParallel(model)(**batch)
    close(ours.logits, right.logits)
    close(ours.loss, right.loss)


@situation("DataParallel's replicas of the model in threads")
def _(case: Case) -> None:
    model, batch = case.model(), case.batch(4)
    right, halves = model(**batch).logits, (slice(0, 2), slice(2, 4))
    outputs: dict[int, torch.Tensor] = {}

    def run(place: int, replica: nn.Module) -> None:
        outputs[place] = replica(**{key: value[halves[place]] for key, value in batch.items()}).logits

    threads = [threading.Thread(target=run, args=(place, replica(model))) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    close(torch.cat([outputs[0], outputs[1]]), right)


def replica(module: nn.Module) -> nn.Module:
    """A copy of the modules that shares weights and hooks, as torch's DataParallel makes one for each device."""
    made = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        made._modules[name] = None if child is None else replica(child)
    for name, parameter in module._parameters.items():
        made._parameters[name] = parameter
    return made
