"""`set_intuition`: gives a T-REX adapter the clusters that its intuition is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..tasks.clusters import Clusters
from ..tasks.embed import Embedder
from ..tasks.transformer import POOLING_VERSION
from .hooks import watch
from .prompts import first_adapter, give_prompts


def set_intuition(model: nn.Module, clusters: Clusters | None = None, embedder: str | Path = "minilm",
                  tokenizer: Any = None, prompt_begin: str = "", prompt_ends: Sequence[str] = (),
                  adapter_name: str = "default") -> None:  # fmt: skip
    """Let a T-REX adapter read its intuition from the prompt, so that its model is called like any other.

    The adapter's checkpoints hold the centroids and say which embedder they belong to, so a saved adapter needs no
    second call. `intuition=` can still be passed, and then counts.

    Args:
        model: A PEFT model, or a model with an injected adapter.
        clusters: Of the training prompts; None keeps those that the adapter holds, to give it a tokenizer.
        embedder: What embedded the prompts: "minilm", or the id or folder of a transformer.
        tokenizer: The model's own; None finds it under the model's name when it is first needed.
        prompt_begin: What stands before a prompt in the text that the model reads.
        prompt_ends: What stands behind it, in order: the prompt ends where the first of them begins. The texts that
            `ma.train` makes end with "\\nOptions: " and "\\nAnswer:".
        adapter_name: Of the T-REX adapter.

    Raises:
        ValueError: If the adapter does not route by intuition, has another number of clusters, or the embedder has no
            weights of its own ("tfidf").

    Example:
        >>> import peft
        >>> model, tokenizer = ma.load_backbone("compact")
        >>> model = peft.get_peft_model(model, ma.TRexConfig(num_down=2, num_up=2, target_modules=["q_proj"]))
        >>> prompts = ["What is 2 + 3?", "What is 4 + 4?", "Where is the cat?", "Was the film good?"]
        >>> ma.set_intuition(model, ma.cluster(ma.embed(prompts), k=4))
        >>> model(**tokenizer(prompts[:2], return_tensors="pt")).logits.shape[:1]
        torch.Size([2])
    """
    config = getattr(model, "peft_config", {}).get(adapter_name)
    adapter = first_adapter(model, adapter_name)
    if adapter is None or not getattr(config, "intuition", False):
        raise ValueError(f"adapter {adapter_name!r} of the model does not route by intuition; give it a "
                         "TRexConfig(intuition=True)")
    if clusters is None:
        if getattr(adapter, "prompts", None) is None:
            raise ValueError(f"adapter {adapter_name!r} holds no clusters; pass clusters=ma.cluster(...)")
        adapter.prompts.reader.tokenizer = tokenizer
        return
    if clusters.k != config.clusters:
        raise ValueError(f"clusters has k = {clusters.k} but the adapter expects {config.clusters}; cluster with "
                         f"k={config.clusters}")
    if str(embedder) == "tfidf":
        raise ValueError("embedder = 'tfidf' is fitted on the training prompts and has no weights to name in a "
                         "checkpoint; use 'minilm' or another transformer, or pass intuition= to the model")
    config.embedder, config.embedder_digest = str(embedder), Embedder(embedder, cache=False).digest
    config.embedding_dim, config.pooling = clusters.centroids.shape[1], POOLING_VERSION
    config.prompt_begin, config.prompt_ends = prompt_begin, list(prompt_ends)
    prompts = give_prompts(model, adapter_name, config, tokenizer)
    assert prompts is not None
    prompts.fill(clusters.centroids)
    watch(getattr(model, "get_base_model", lambda: model)())
