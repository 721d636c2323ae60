"""PEFT's tuner for one system: puts the layers into a model, names their weights in a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import Tensor, nn

from .call import Call, opened
from .hooks import adapted_of, unwatch, watch
from .layer import NO_MERGE, NO_WEIGHTED_SUM, AdapterLayer
from .prompts import give_prompts
from .targets import check_target_modules, expand_all_linear, refuse_other_systems, refuse_unfit, why_not

LAYOUT = 2  # of the keys in a checkpoint: no adapter name inside
PREFIX = "base_model.model."  # of the keys of a PeftModel
OLD_LAYOUT = (
    "this adapter was saved by moe_analysis 0.1; only PEFT's own loading reads that layout; load it "
    "once with PeftModel.from_pretrained(model, folder) and save it again with save_pretrained"
)
NAME_IN_KEYS = (
    "one of the other adapters, {}, has a name that is a part of the key {}, which PEFT therefore takes out of a state "
    "that it is given; give that adapter another name, or save without state_dict"
)
NOT_THIS_MODEL = (
    "the adapter has {count} weights that this model has no place for ({some}, ...); load it into a model like the one "
    "that it was saved from"
)


class AdapterTuner(BaseTuner):
    """Injects the layers and the hooks that hand them intuition and token mask and collect their balance losses."""

    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    layer_class: type[AdapterLayer]

    def __init__(self, model: nn.Module, peft_config: Any, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        if isinstance(peft_config, PeftConfig) and peft_config.layout is None:  # injected by another than PeftModel
            raise ValueError(OLD_LAYOUT)
        refuse_other_systems(model, self.layer_class)
        super().__init__(model, peft_config, adapter_name, *args, **kwargs)

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        targets = self.peft_config[adapter_name].target_modules
        if isinstance(targets, (set, list)):
            check_target_modules(model, targets)  # here, because PEFT's add_adapter comes by no other hook
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        give_prompts(model, adapter_name, self.peft_config[adapter_name])
        watch(model)

    def _prepare_model(self, peft_config: PeftConfig, model: nn.Module) -> None:
        """Here PEFT has the targets of the model's family, and has changed nothing yet."""
        super()._prepare_model(peft_config, model)
        expand_all_linear(peft_config, model)
        refuse_unfit(peft_config, model, self._check_target_module_exists)

    def _create_and_replace(
        self,
        config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        **_: Any,
    ) -> None:
        if isinstance(target, self.layer_class):
            target.update_layer(adapter_name, config)
            return
        if reason := why_not(current_key, target, self.model):  # found by the keys of a checkpoint
            raise ValueError(f"target module {current_key} {reason}")
        layer = self.layer_class(target, current_key)
        layer.update_layer(adapter_name, config)
        self._replace_module(parent, target_name, layer, target)

    def _cast_adapter_dtype(self, adapter_name: str, autocast_adapter_dtype: bool = True) -> None:
        super()._cast_adapter_dtype(adapter_name, autocast_adapter_dtype)
        if not autocast_adapter_dtype:  # loaded weights may have kept the precision of their file
            for layer in self.model.modules():
                if isinstance(layer, self.layer_class):
                    BaseTunerLayer._move_adapter_to_device_of_base_layer(layer, adapter_name)

    @contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Give each row of the batch the adapter that `adapter_names` says, as PEFT's LoRA does."""
        names = kwargs.get("adapter_names")
        if names is None:
            yield
            return
        with opened(Call(opened_by=adapted_of(self.model), adapter_names=list(names))):
            yield

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        """A checkpoint's key: `….moelora_adapter.router.weight`, whatever the adapter is called."""
        place, own, weight = key.partition(f".{cls.prefix}adapter.{adapter_name}.")
        if own:
            return cls._of_the_layer(f"{place}.{cls.prefix}adapter.{weight}")
        return super()._remove_adapter_name_from_key(key, adapter_name)

    @classmethod
    def _of_the_layer(cls, key: str) -> str:
        """A checkpoint's key without the layers that another PEFT method put around the adapted one."""
        return re.sub(rf"(\.base_layer)+(?=\.{cls.prefix}adapter\.)", "", key)

    @classmethod
    def _get_adapter_state_dict(
        cls,
        model: nn.Module,
        config: PeftConfig,
        adapter_name: str,
        state_dict: dict[str, Tensor],
        unwanted_adapter_names: list[str],
    ) -> dict[str, Tensor]:
        """The adapter's weights, also those with a key of which another adapter's name is a part, such as "B".

        Raises:
            ValueError: If there are such keys and the state was given: PEFT has taken them out of it.
        """
        found = super()._get_adapter_state_dict(model, config, adapter_name, state_dict, unwanted_adapter_names)
        for name, layer in model.named_modules():
            if not isinstance(layer, cls.layer_class) or adapter_name not in layer.adapters:
                continue
            held = layer.adapters[adapter_name].state_dict(prefix=f"{name}.{cls.prefix}adapter.{adapter_name}.")
            left_out = {key for key in held if not set(key.split(".")).isdisjoint(unwanted_adapter_names)} - set(found)
            if left_out and any(found[key].data_ptr() != held[key].data_ptr() for key in set(held) & set(found)):
                raise ValueError(NAME_IN_KEYS.format(unwanted_adapter_names, min(left_out)))
            found |= {key: held[key] for key in left_out}
        return found

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: PeftConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The model's keys of a checkpoint of this version or of 0.1.

        Raises:
            ValueError: If the checkpoint has weights of layers that the model does not have; PEFT would drop them.
        """
        state_dict = cls.renamed_from_old_layout(model, adapter_name, state_dict)
        weights = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        held = {key.removeprefix(PREFIX) for key in model.state_dict()}
        own = (key.removeprefix(PREFIX) for key in weights if f".{cls.prefix}adapter." in key)
        if lacking := sorted(key for key in own if key not in held):
            raise ValueError(NOT_THIS_MODEL.format(some=", ".join(lacking[:3]), count=len(lacking)))
        return weights

    @classmethod
    def renamed_from_old_layout(
        cls, model: nn.Module, adapter_name: str, weights: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """A checkpoint with today's keys; version 0.1 left the adapter's name inside the keys of nested weights."""
        today = (cls._remove_adapter_name_from_key(key, adapter_name) for key in model.state_dict())
        known = {key.removeprefix(PREFIX) for key in today}
        old = re.compile(rf"^(.*\.{cls.prefix}adapter)\.[^.]+\.(.+)$")
        renamed = {}
        for key, value in weights.items():
            key = cls._of_the_layer(key)
            found = None if key.removeprefix(PREFIX) in known else old.match(key)
            without = f"{found[1]}.{found[2]}" if found else key
            renamed[without if without.removeprefix(PREFIX) in known else key] = value
        return renamed

    def add_weighted_adapter(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError(NO_WEIGHTED_SUM)

    def _unload_and_optionally_merge(self, merge: bool = True, **kwargs: Any) -> nn.Module:
        if merge:
            raise ValueError(NO_MERGE)
        for module in self.model.modules():
            unwatch(module)
        return super()._unload_and_optionally_merge(merge=False, **kwargs)
