"""`set_intuition`: gives a T-REX adapter the clusters that its intuition is measured against."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..tasks.clusters import Clusters
from ..tasks.embed import Embedder
from ..tasks.transformer import MINILM, POOLING_VERSION
from .hooks import watch
from .prompts import first_adapter, give_prompts
from .reader import Reader


def set_intuition(
    model: nn.Module,
    clusters: Clusters | None = None,
    embedder: str | Path | None = None,
    tokenizer: Any = None,
    prompt_begin: str | None = None,
    prompt_ends: Sequence[str] | None = None,
    adapter_name: str = "default",
) -> None:
    """Let a T-REX adapter read its intuition from the prompt, so that its model is called like any other.

    The adapter's checkpoints hold the centroids and say which embedder they belong to, so a saved adapter needs no
    second call. `intuition=` can still be passed, and then counts.

    Args:
        model: A PEFT model, or a model with an injected adapter.
        clusters: Of the training prompts; None keeps those that the adapter holds, to change what else is given.
        embedder: What embedded the prompts: "minilm" (with new clusters the default), or the id or folder of a
            transformer. Without new clusters: where the same weights are now.
        tokenizer: The model's own; None finds it under the model's name when it is first needed.
        prompt_begin: What stands before a prompt in the text that the model reads.
        prompt_ends: What follows it, in order: the prompt ends where the first of them begins. The texts that
            `ma.train` makes end with "\\nOptions: " and "\\nAnswer:". A forward pass without labels does not say where
            an answer begins (lm_eval scores answers so): only these ends can tell, and without them all of its text
            counts as the prompt.
        adapter_name: Of the T-REX adapter.

    Raises:
        ValueError: If the adapter does not route by intuition, has another number of clusters, or the embedder has no
            weights of its own ("tfidf"), or others than those that the clusters were made with.

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
        raise ValueError(
            f"adapter {adapter_name!r} of the model does not route by intuition; give it a TRexConfig(intuition=True)"
        )
    ends = [prompt_ends] if isinstance(prompt_ends, str) else prompt_ends
    if ends is not None and not all(isinstance(end, str) and end for end in ends):
        raise ValueError(f"prompt_ends = {prompt_ends!r} must be texts of at least one character")
    held = getattr(adapter, "prompts", None)
    if clusters is None and held is None:
        raise ValueError(f"adapter {adapter_name!r} holds no clusters; pass clusters=ma.cluster(...)")
    if clusters is not None and clusters.k != config.clusters:
        raise ValueError(
            f"clusters has k = {clusters.k} but the adapter expects {config.clusters}; cluster with k={config.clusters}"
        )
    config = copy.copy(config)  # a configuration that makes several adapters says nothing of the clusters of one
    if clusters is not None:
        config.embedding_dim, config.pooling = clusters.centroids.shape[1], POOLING_VERSION
        config.prompt_begin, config.prompt_ends = prompt_begin or "", list(ends or ())
        embedder = embedder or "minilm"
    else:
        config.prompt_begin = config.prompt_begin if prompt_begin is None else prompt_begin
        config.prompt_ends = config.prompt_ends if ends is None else list(ends)
    if embedder is not None:
        config.embedder, config.embedder_digest = named(embedder, config.embedder_digest if clusters is None else None)
    model.peft_config[adapter_name] = config
    if clusters is None:
        held.reader = Reader(config, tokenizer or held.reader.tokenizer)
        return
    prompts = give_prompts(model, adapter_name, config, tokenizer)
    assert prompts is not None
    prompts.fill(clusters.centroids)
    watch(getattr(model, "get_base_model", lambda: model)())


def named(embedder: str | Path, expected: str | None) -> tuple[str, str]:
    """Name and digest of an embedder as a checkpoint keeps them; a folder by its whole path.

    Raises:
        ValueError: For "tfidf", an embedder that is not here, and one that is not the expected one.
    """
    if str(embedder) == "tfidf":
        raise ValueError(
            "embedder = 'tfidf' is fitted on the training prompts and has no weights to name in a "
            "checkpoint; use 'minilm' or another transformer, or pass intuition= to the model"
        )
    digest = Embedder(embedder, cache=False).digest
    if expected not in (None, digest):
        raise ValueError(
            f"embedder = {str(embedder)!r} has weights with the digest {digest[:12]}, but the adapter's "
            f"clusters were made with {expected[:12]}; pass the same model, or clusters of this one"
        )
    folder = Path(embedder).expanduser()
    return str(folder.resolve()) if str(embedder) != MINILM and folder.is_dir() else str(embedder), digest
