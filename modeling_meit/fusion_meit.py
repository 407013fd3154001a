"""The concatenated fusion of MEIT: one ECG key and value in front of the text's, held by the KV cache.

For layer l, with e the L2-normalised projected ECG vector tiled to the hidden size, `K_ecg = W_k e` and
`V_ecg = W_v e` (arXiv 2403.04945, section 3.3), by that layer's own projections, with no position: attention then is
one softmax over [K_ecg; K_text]. A cache that already holds this slot makes stock transformers compute exactly
that, so that no attention code is written anew here.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache

Slot = tuple[torch.Tensor, torch.Tensor]


def _slot_of_separate_projections(layer: nn.Module, ecg: torch.Tensor) -> Slot:
    attention = layer.self_attn
    shape = (ecg.shape[0], 1, -1, attention.head_dim)
    return (
        attention.k_proj(ecg).view(shape).transpose(1, 2),
        attention.v_proj(ecg).view(shape).transpose(1, 2),
    )


# How a family's decoder layer projects the (batch, hidden) ECG to its key and value, (batch, kv_heads, 1, head_dim).
# The projections are called as modules, so that a LoRA on them acts on the ECG too.
SLOT_OF: dict[str, Callable[[nn.Module, torch.Tensor], Slot]] = {
    "llama": _slot_of_separate_projections,
    "mistral": _slot_of_separate_projections,
}


def slot_function(model_type: str) -> Callable[[nn.Module, torch.Tensor], Slot]:
    """The entry of `SLOT_OF` for a language model's family, or a `ValueError` that names the supported ones."""
    if model_type not in SLOT_OF:
        raise ValueError(
            f'a language model of type "{model_type}" is not supported; supported: {", ".join(sorted(SLOT_OF))}'
        )
    return SLOT_OF[model_type]


def tile_to_hidden_size(projected: torch.Tensor, hidden_size: int) -> torch.Tensor:
    """L2-normalise (batch, size) ECG vectors and tile them over the heads to (batch, hidden_size)."""
    normalised = functional.normalize(projected, dim=-1)
    return normalised.repeat(1, hidden_size // projected.shape[-1])


class ECGSlotAccounting:
    """Makes a cache that holds the ECG slot count text alone, except towards the attention mask.

    Positions, the slicing of a continued prompt and a sliding window's text all follow `get_seq_length`, which
    therefore leaves the slot out; the mask has one column for it, the first.
    """

    ecg_layers: tuple[int, ...] = ()

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of text tokens held; the same for every layer, fused or not."""
        return super().get_seq_length(self.ecg_layers[0]) - 1

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Mask row of the next token: the text tokens held, and the slot."""
        return super().get_seq_length(self.ecg_layers[0])

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Mask columns, the slot's included, and their offset."""
        return super().get_mask_sizes(query_length, self.ecg_layers[0])


class ECGDynamicCache(ECGSlotAccounting, DynamicCache):
    """A `DynamicCache` seeded with the ECG: what decoding steps read and extend."""


class ReplayableLayer(CacheLayerMixin):
    """A cache layer that stores no text, so that activation checkpointing may run its layer a second time."""

    def __init__(self, slot: Slot | None):
        super().__init__()
        self.slot = slot
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to prepare: the slot is given from the start."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The slot, where this layer has one, in front of the given keys and values."""
        if self.slot is None:
            return key_states, value_states
        key, value = (part.to(key_states.dtype) for part in self.slot)
        return torch.cat([key, key_states], dim=-2), torch.cat([value, value_states], dim=-2)

    def get_seq_length(self) -> int:
        return 0 if self.slot is None else 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1


class ECGReplayableCache(ECGSlotAccounting, Cache):
    """The cache of a forward pass that keeps none: it hands each layer its slot and stores nothing."""

    def __init__(self, slots: dict[int, Slot], num_layers: int):
        super().__init__(layers=[ReplayableLayer(slots.get(index)) for index in range(num_layers)])
        self.ecg_layers = tuple(slots)


def holds_ecg(cache: Cache | None) -> bool:
    """Whether `cache` was seeded with an ECG."""
    return isinstance(cache, ECGSlotAccounting)


def seed_cache(cache: Cache, slots: dict[int, Slot]) -> None:
    """Put the ECG slots into an empty `DynamicCache`, which becomes an `ECGDynamicCache` in place.

    In place, because a caller who passed the cache goes on with that very object.

    Raises:
        TypeError: for another kind of cache, which would count the slot as a text token.
        ValueError: for a cache that already holds text, in front of which the slot can no longer stand.
    """
    if type(cache) is not DynamicCache:
        raise TypeError(
            f"the ECG cannot be put into a {type(cache).__name__}; pass a DynamicCache, or no cache "
            '(cache_implementation="dynamic")'
        )
    if cache.get_seq_length() > 0:
        raise ValueError(
            f"past_key_values already holds {cache.get_seq_length()} text tokens but no ECG; the ECG must come "
            "first: pass an empty cache"
        )
    for layer_idx, (key, value) in slots.items():
        cache.update(key, value, layer_idx)
    cache.__class__ = ECGDynamicCache
    cache.ecg_layers = tuple(slots)


def hide_slot_column(layer: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Forward pre-hook of a decoder layer that has no slot: take the slot's column off the shared mask.

    All layers are given one mask, as wide as a layer with the slot needs it. On keys without the slot, sdpa would
    accept it shifted by one token, without an error.
    """
    mask = kwargs.get("attention_mask")
    if holds_ecg(kwargs.get("past_key_values")) and mask is not None:
        if not isinstance(mask, torch.Tensor):
            raise TypeError(
                f"fusion_layers cannot take the ECG's column off a {type(mask).__name__}: use "
                'attn_implementation="sdpa" or "eager"'
            )
        mask = mask[..., 1:]
        if mask.is_floating_point():
            # Without the slot, a padding token sees nothing. Eager attention takes its softmax in float32, where
            # float64's lowest number is -inf and such a row would become NaN.
            mask = mask.clamp(min=torch.finfo(torch.float32).min)
        kwargs = {**kwargs, "attention_mask": mask}
    return args, kwargs
