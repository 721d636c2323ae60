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

    The adapter's checkpoints hold the centroids and identify their embedder, so a saved adapter needs no second call.
    `intuition=` can still be passed and then takes precedence.

    Args:
        model: A PEFT model, or a model with an injected adapter.
        clusters: Clusters of the training prompts; None keeps those of the adapter and changes only the other arguments.
        embedder: The model that embedded the prompts: "minilm" (the default for new clusters), or the id or folder of
            a transformer. Without new clusters: the new place of the same weights.
        tokenizer: The model's tokenizer; None finds it by the model's name when it is first needed.
        prompt_begin: The text before a prompt in what the model reads.
        prompt_ends: The texts that may follow the prompt, in order: it ends where the first of them begins. The texts
            that `ma.train` makes end with "\\nOptions: " and "\\nAnswer:". A forward pass without labels (as lm_eval
            scores answers) does not mark where an answer begins: only these ends do, and without them all of the text
            counts as the prompt.
        adapter_name: Name of the T-REX adapter.

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
        raise ValueError(f"prompt_ends = {prompt_ends!r} must be non-empty texts")
    held = getattr(adapter, "prompts", None)
    if clusters is None and held is None:
        raise ValueError(f"adapter {adapter_name!r} has no clusters; pass clusters=ma.cluster(...)")
    if clusters is not None and clusters.k != config.clusters:
        raise ValueError(
            f"clusters has k = {clusters.k} but the adapter expects {config.clusters}; cluster with k={config.clusters}"
        )
    config = copy.copy(config)  # a configuration shared by several adapters does not describe the clusters of one
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
            "embedder = 'tfidf' is fitted on the training prompts and has no weights to identify in a "
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
