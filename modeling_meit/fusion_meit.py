"""The three fusions: how the ECG that `ECGEncoder` and `ECGProjector` made a vector of meets the text.

concat (MEIT): for layer l, with e the L2-normalised projected ECG vector tiled to the hidden size, `K_ecg = W_k e` and
`V_ecg = W_v e` (arXiv 2403.04945, section 3.3), by that layer's own projections, with no position: attention then is
one softmax over [K_ecg; K_text]. A cache that already holds this slot makes stock transformers compute exactly
that, so that no attention code is written anew here.

llava: projected vectors stand in the place of placeholder tokens (Liu et al. 2023, arXiv 2304.08485).

flamingo: in front of a decoder layer, the text attends to the ECG along time by a gated cross-attention (Alayrac et
al. 2022, arXiv 2204.14198).
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from .caches_meit import Slot, holds_ecg, self_attention_cache
from .families_meit import Family, LayerCall, mask_without_slot


def tile_to_hidden_size(projected: torch.Tensor, hidden_size: int) -> torch.Tensor:
    """L2-normalise (batch, size) ECG vectors and tile them over the heads to (batch, hidden_size)."""
    normalised = functional.normalize(projected, dim=-1)
    return normalised.repeat(1, hidden_size // projected.shape[-1])


def mean_over_parts(features: torch.Tensor, num_parts: int) -> torch.Tensor:
    """(batch, time, channels) -> (batch, num_parts, channels): means of equal parts of the time axis."""
    return functional.adaptive_avg_pool1d(features.transpose(1, 2), num_parts).transpose(1, 2)


def with_time_positions(features: torch.Tensor) -> torch.Tensor:
    """Normalise (batch, time, size) features and add the sinusoids of Vaswani et al. 2017 (arXiv 1706.03762), sec. 3.5.

    Attention alone would not know the order in which the parts of a recording follow each other.
    """
    time, size = features.shape[1:]
    # In half precision an angle of a hundred is off by half a radian.
    dtype = torch.promote_types(features.dtype, torch.float32)
    rates = 10000.0 ** (-torch.arange(0, size, 2, device=features.device, dtype=dtype) / size)
    angles = torch.arange(time, device=features.device, dtype=dtype)[:, None] * rates
    positions = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :size]
    return functional.layer_norm(features.to(dtype), (size,)) + positions


def fill_placeholders(
    inputs_embeds: torch.Tensor, is_placeholder: torch.Tensor, ecg_embeds: torch.Tensor
) -> torch.Tensor:
    """Put ECG vectors in the place of placeholder tokens.

    Args:
        inputs_embeds: (batch, tokens, size) embeddings of the text.
        is_placeholder: (batch, tokens), where they are to be replaced.
        ecg_embeds: (batch, vectors, size).

    Raises:
        ValueError: where a text has not one placeholder for each vector of its ECG.
    """
    expected = ecg_embeds.shape[1]
    found = is_placeholder.sum(-1).tolist()
    if any(count != expected for count in found):
        raise ValueError(
            f"found {found} ECG placeholder tokens in the texts; expected {expected} in each (the processor adds them)"
        )
    return inputs_embeds.masked_scatter(is_placeholder[..., None], ecg_embeds.to(inputs_embeds.dtype))


class GatedCrossAttention(nn.Module):
    """Gated cross-attention and feed-forward layer of Flamingo (its figure 4), in front of one decoder layer.

    y + tanh(a) * Attention(LN(y), x), then y + tanh(b) * FF(LN(y)). Both gates start at 0, at which the language model
    is as it was.
    """

    def __init__(self, hidden_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.attn_norm = nn.LayerNorm(hidden_size)
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.o_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.attn_gate = nn.Parameter(torch.zeros(()))
        self.ff_norm = nn.LayerNorm(hidden_size)
        self.ff_in = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.ff_out = nn.Linear(4 * hidden_size, hidden_size, bias=False)
        self.ff_gate = nn.Parameter(torch.zeros(()))

    def _heads(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def key_values(self, features: torch.Tensor) -> Slot:
        """Keys and values of (batch, time, hidden) ECG features, each (batch, heads, time, hidden / heads)."""
        return self._heads(self.k_proj(features)), self._heads(self.v_proj(features))

    def forward(self, hidden: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, hidden) -> the same, having looked at the ECG."""
        query = self._heads(self.q_proj(self.attn_norm(hidden)))
        attended = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        hidden = hidden + self.attn_gate.tanh() * self.o_proj(attended)
        return hidden + self.ff_gate.tanh() * self.ff_out(functional.gelu(self.ff_in(self.ff_norm(hidden))))


class ECGCrossAttention(nn.Module):
    """The gated cross-attentions of all layers that have one."""

    def __init__(self, layers: list[int], hidden_size: int, num_heads: int):
        super().__init__()
        self.layers = nn.ModuleDict({str(index): GatedCrossAttention(hidden_size, num_heads) for index in layers})

    def forward(self, hidden: torch.Tensor, index: int, cache: Any) -> torch.Tensor:
        """The residual stream in front of decoder layer `index`, given the cache that carries the ECG.

        It is computed in this module's own precision, and returned in that of the stream.
        """
        layer = self.layers[str(index)]
        dtype = layer.attn_gate.dtype
        key_values = (cache.ecg_key_values or {}).get(index)
        if key_values is None:
            key_values = layer.key_values(cache.ecg_features.to(hidden.device, dtype))
            if cache.ecg_key_values is not None:
                cache.ecg_key_values[index] = key_values
        return layer(hidden.to(dtype), *key_values).to(hidden.dtype)


class LayerHook:
    """Forward pre-hook of one decoder layer: what the layer must be given beyond stock transformers' arguments.

    Args:
        model: the model whose `ecg_cross_attention` is asked for, of "flamingo". It is looked up at each call, because
            PEFT replaces it.
        family: of the language model.
        names: the arguments of the layer's `forward`.
        index: of the layer.
    """

    def __init__(self, model: nn.Module, family: Family, names: tuple[str, ...], index: int):
        self.model, self.family, self.names, self.index = model, family, names, index

    def __call__(self, layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        call = LayerCall(self.names, args, kwargs)
        cache = call.get(self.family.cache_argument)
        slots = ()
        if holds_ecg(cache):
            marked = self_attention_cache(cache)
            slots = marked.ecg_layers
            if slots and self.index not in slots:
                mask = mask_without_slot(call.get("attention_mask"), marked.is_compileable)
                call.set("attention_mask", mask)
            if marked.ecg_features is not None and self.index in self.model.config.ecg_layers:
                hidden = self.model.ecg_cross_attention(call.get("hidden_states"), self.index, marked)
                call.set("hidden_states", hidden)
        if self.family.adjust is not None:
            self.family.adjust(call, layer, self.index, slots)
        return tuple(call.args), call.kwargs


class GradientBridge(torch.autograd.Function):
    """Carries the ECG's gradient past re-entrant checkpointing.

    A layer that is checkpointed that way sends gradients only to its positional arguments; what it reads from the
    cache is a leaf, which gathers its gradient by itself. This function stands in front of the first layer, so that
    its backward comes after all of theirs, and hands on what was gathered.
    """

    @staticmethod
    def forward(ctx, inputs_embeds: torch.Tensor, ecg_embeds: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
        ctx.leaf = leaf
        return inputs_embeds.view_as(inputs_embeds)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        gathered = ctx.leaf.grad
        ctx.leaf.grad = None
        return gradient, torch.zeros_like(ctx.leaf) if gathered is None else gathered, None
