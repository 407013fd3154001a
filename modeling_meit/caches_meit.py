"""KV caches that hold the ECG: what stock attention code reads it from."""

from collections.abc import Callable

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, EncoderDecoderCache, StaticCache

Slot = tuple[torch.Tensor, torch.Tensor]


class ECGCache:
    """Mark of a cache whose text belongs to an ECG.

    Attributes:
        ecg_layers: "concat": the layers that hold a slot.
        ecg_features: "flamingo": the ECG along time, (batch, time, size).
        ecg_key_values: "flamingo": each layer's keys and values of it, once they are computed; None keeps none.
    """

    ecg_layers: tuple[int, ...] = ()
    ecg_features: torch.Tensor | None = None
    ecg_key_values: dict[int, Slot] | None = None

    def _for_each_feature(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        if self.ecg_features is not None:
            self.ecg_features = change(self.ecg_features)
        for index, parts in (self.ecg_key_values or {}).items():
            self.ecg_key_values[index] = tuple(map(change, parts))

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Take the rows `beam_idx` of the batch, the ECG's with the text's."""
        super().reorder_cache(beam_idx)
        self._for_each_feature(lambda part: part.index_select(0, beam_idx.to(part.device)))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows `indices` of the batch, the ECG's with the text's."""
        super().batch_select_indices(indices)
        self._for_each_feature(lambda part: part[indices, ...])

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row of the batch, the ECG's with the text's."""
        super().batch_repeat_interleave(repeats)
        self._for_each_feature(lambda part: part.repeat_interleave(repeats, dim=0))

    def reset(self) -> None:
        """Forget text and ECG: the cache is again what it was before it was marked."""
        super().reset()
        for name in ("ecg_layers", "ecg_features", "ecg_key_values"):
            vars(self).pop(name, None)
        self.__class__ = next(plain for plain, marked in _MARKED.items() if type(self) in marked)


class ECGSlotAccounting(ECGCache):
    """Makes a cache that holds the ECG slot count text alone, except towards the attention mask.

    Positions, the slicing of a continued prompt and a sliding window's text all follow `get_seq_length`, which
    therefore leaves the slot out; the mask has one column for it, the first.
    """

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Number of text tokens held; the same for every layer, fused or not."""
        return super().get_seq_length(self.ecg_layers[0]) - 1

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Mask row of the next token: the text tokens held, and the slot."""
        return super().get_seq_length(self.ecg_layers[0])

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Mask columns, the slot's included, and their offset, for all layers of the same kind as `layer_idx`."""
        is_sliding = self.is_sliding
        same_kind = [index for index in self.ecg_layers if is_sliding[index] == is_sliding[layer_idx]]
        if same_kind:
            return super().get_mask_sizes(query_length, same_kind[0])
        # Its layers have no slot, and each takes the column off again; a static cache's stays as wide as it is.
        length, offset = super().get_mask_sizes(query_length, layer_idx)
        return length + (not self.is_compileable), offset

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """Number of text tokens that fit, or -1 where there is no limit."""
        length = super().get_max_length()
        return length - 1 if length > 0 else length

    def crop(self, tokens: int) -> None:
        """Remove `-tokens` of the last text tokens, or where positive, keep that many; the slot stays."""
        num_text = self.get_seq_length()
        super().crop(min(tokens - num_text, 0) if tokens > 0 else max(tokens, -num_text))


class ECGDynamicCache(ECGSlotAccounting, DynamicCache):
    """A `DynamicCache` seeded with the ECG: what decoding steps read and extend."""


class ECGStaticCache(ECGSlotAccounting, StaticCache):
    """A `StaticCache` seeded with the ECG: one column of each layer is the slot's."""


class ECGMarkedDynamicCache(ECGCache, DynamicCache):
    """A `DynamicCache` of text that an ECG without a slot belongs to."""


class ECGMarkedStaticCache(ECGCache, StaticCache):
    """The same, static."""


# What a cache becomes: (with slots, without).
_MARKED = {
    DynamicCache: (ECGDynamicCache, ECGMarkedDynamicCache),
    StaticCache: (ECGStaticCache, ECGMarkedStaticCache),
}


class ReplayableLayer(CacheLayerMixin):
    """A cache layer that stores no text, so that activation checkpointing may run its layer a second time.

    Args:
        slot: computes the layer's slot. It is called when the layer reads it, within the layer's own forward pass:
            where processes share out a model's weights (FSDP), a layer's are there only then.
    """

    def __init__(self, slot: Callable[[], Slot] | None = None):
        super().__init__()
        self.slot = slot
        self.was_read = False
        self.is_initialized = True

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing to prepare: the slot is given from the start."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The slot, where this layer has one, in front of the given keys and values."""
        self.was_read = True
        if self.slot is None:
            return key_states, value_states
        key, value = (part.to(key_states.dtype) for part in self.slot())
        return torch.cat([key, key_states], dim=-2), torch.cat([value, value_states], dim=-2)

    def get_seq_length(self) -> int:
        return 0 if self.slot is None else 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1


class ReplayableCache(ECGCache, Cache):
    """The cache of a forward pass that keeps none; without slots, it only carries `ecg_features`."""

    def __init__(self, num_layers: int, slots: dict[int, Callable[[], Slot]] | None = None):
        slots = slots or {}
        super().__init__(layers=[ReplayableLayer(slots.get(index)) for index in range(num_layers)])
        self.ecg_layers = tuple(slots)


class ECGReplayableCache(ECGSlotAccounting, ReplayableCache):
    """The same with slots: it hands each layer its own and stores nothing."""


class _NothingUpdated(dict):
    """Forgets that a layer's cross-attention has run, so that a second run computes its keys and values again."""

    def __setitem__(self, layer_idx: int, is_updated: bool) -> None:
        """Keep nothing."""


class ReplayableEncoderDecoderCache(EncoderDecoderCache):
    """An encoder-decoder's cache that stores neither text nor the encoder's states."""

    def __init__(self, self_attention: ReplayableCache):
        super().__init__(self_attention, ReplayableCache(len(self_attention)))
        self.is_updated = _NothingUpdated()


def self_attention_cache(cache: Cache | None) -> Cache | None:
    """The part of a cache that the ECG is in: an encoder-decoder's has another one for its cross-attention."""
    return cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache


def holds_ecg(cache: Cache | None) -> bool:
    """Whether `cache` holds an ECG."""
    return isinstance(self_attention_cache(cache), ECGCache)


def mark_cache(cache: Cache, slots: dict[int, Slot], ecg_features: torch.Tensor | None = None) -> None:
    """Put an ECG into an empty cache, which becomes an `ECGCache` in place.

    In place, because a caller who passed the cache goes on with that very object.

    Args:
        cache: a `DynamicCache` or `StaticCache`, or an `EncoderDecoderCache` of one.
        slots: key and value of the ECG for each layer that has a slot.
        ecg_features: what a gated cross-attention reads instead.

    Raises:
        TypeError: for another kind of cache, which would count the slot as a text token.
        ValueError: for a cache that already holds text, in front of which the ECG can no longer stand.
    """
    cache = self_attention_cache(cache)
    if type(cache) not in _MARKED:
        raise TypeError(
            f"the ECG cannot be put into a {type(cache).__name__}; pass a DynamicCache or a StaticCache, or no cache "
            '(cache_implementation="dynamic" or "static")'
        )
    if cache.get_seq_length() > 0:
        raise ValueError(
            f"past_key_values already holds {int(cache.get_seq_length())} text tokens but no ECG; the ECG must come "
            "first: pass an empty cache"
        )
    for layer_idx, (key, value) in slots.items():
        cache.update(key, value, layer_idx)
    with_slots, without = _MARKED[type(cache)]
    cache.__class__ = with_slots if slots else without
    cache.ecg_layers = tuple(slots)
    if ecg_features is not None:
        cache.ecg_features, cache.ecg_key_values = ecg_features, {}
