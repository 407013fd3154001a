"""What differs between the families of language models: where a layer keeps its attention, and what a slot disturbs."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from .caches_meit import Slot, holds_ecg, self_attention_cache


class LayerCall:
    """The arguments of one call of a decoder layer, by name, whether they were passed by position or by keyword."""

    def __init__(self, names: tuple[str, ...], args: tuple, kwargs: dict[str, Any]):
        self.names, self.args, self.kwargs = names, list(args), dict(kwargs)

    def get(self, name: str) -> Any:
        """The argument, or None."""
        index = self.names.index(name)
        return self.args[index] if index < len(self.args) else self.kwargs.get(name)

    def set(self, name: str, value: Any) -> None:
        """Replace the argument, in the way that it was passed: re-entrant checkpointing tells the two apart."""
        index = self.names.index(name)
        if index < len(self.args):
            self.args[index] = value
        else:
            self.kwargs[name] = value


def layer_argument_names(layer: nn.Module) -> tuple[str, ...]:
    """Names of the arguments of a decoder layer's `forward`, in order."""
    return tuple(inspect.signature(type(layer).forward).parameters)[1:]


@dataclass(frozen=True)
class Family:
    """How the ECG reaches the layers of one family.

    Attributes:
        layers: path of the decoder layers in the base model.
        attention: path of the self-attention in a decoder layer.
        key_value: (attention, (batch, hidden) ECG, head size) -> its key and value, (batch, kv_heads, 1, head size), by
            the attention's own projections. They are called as modules, so that a LoRA on them acts on the ECG too.
        cache_argument: a layer's name for the cache.
        needs_mask: whether a missing 2-D attention mask would be made without the ECG's column.
        ecg_column: what stands in the ECG's column of the 2-D mask; any number but 0 is visible to the causal mask.
        is_encoder_decoder: whether the layers are those of a decoder beside an encoder.
        pads_right: whether the encoder counts positions by column, so that padding on the left would shift the text's.
        prepare: changes a base model once.
        adjust: changes the arguments of a layer's call, given (call, layer, its index, the layers with a slot).
    """

    layers: str
    attention: str
    key_value: Callable[[nn.Module, torch.Tensor, int], Slot]
    cache_argument: str = "past_key_values"
    needs_mask: bool = False
    ecg_column: int = 1
    is_encoder_decoder: bool = False
    pads_right: bool = False
    prepare: Callable[[PreTrainedModel], None] | None = None
    adjust: Callable[[LayerCall, nn.Module, int, tuple[int, ...]], None] | None = None

    def decoder_layers(self, language_model: nn.Module) -> nn.ModuleList:
        """The decoder layers of a base model."""
        return language_model.get_submodule(self.layers)

    def slot(self, layer: nn.Module, ecg: torch.Tensor, head_dim: int) -> Slot:
        """Key and value of a (batch, hidden) ECG in a decoder layer."""
        return self.key_value(layer.get_submodule(self.attention), ecg, head_dim)


def _heads(projected: torch.Tensor, head_dim: int) -> torch.Tensor:
    """(batch, heads * head_dim) -> (batch, heads, 1, head_dim)."""
    return projected.view(projected.shape[0], -1, 1, head_dim)


def _separate(attention: nn.Module, ecg: torch.Tensor, head_dim: int) -> Slot:
    return _heads(attention.k_proj(ecg), head_dim), _heads(attention.v_proj(ecg), head_dim)


def _separate_with_key_norm(attention: nn.Module, ecg: torch.Tensor, head_dim: int) -> Slot:
    key, value = _separate(attention, ecg, head_dim)
    return attention.k_norm(key), value


def _t5(attention: nn.Module, ecg: torch.Tensor, head_dim: int) -> Slot:
    return _heads(attention.k(ecg), head_dim), _heads(attention.v(ecg), head_dim)


def _phi3(attention: nn.Module, ecg: torch.Tensor, head_dim: int) -> Slot:
    """One projection for all queries, then all keys, then all values."""
    size = attention.num_key_value_heads * head_dim
    _, key, value = attention.qkv_proj(ecg).split([attention.o_proj.in_features, size, size], dim=-1)
    return _heads(key, head_dim), _heads(value, head_dim)


def _gpt2(attention: nn.Module, ecg: torch.Tensor, head_dim: int) -> Slot:
    """One projection in three equal parts."""
    _, key, value = attention.c_attn(ecg).chunk(3, dim=-1)
    return _heads(key, head_dim), _heads(value, head_dim)


def _interleaved(attention: nn.Module, ecg: torch.Tensor, head_dim: int) -> Slot:
    """One projection that holds query, key and value of the first head, then of the second, ..."""
    _, key, value = _heads(attention.query_key_value(ecg), 3 * head_dim).chunk(3, dim=-1)
    return key, value


def without_first(tensor: torch.Tensor, is_static: bool, fill: float | bool) -> torch.Tensor:
    """Take the first column, the ECG's, off the last axis. A static cache is as wide as before: one is added behind."""
    return functional.pad(tensor[..., 1:], (0, 1), value=fill) if is_static else tensor[..., 1:]


def mask_without_slot(mask: Any, is_static: bool) -> Any:
    """The attention mask of a layer without a slot, from the one that all layers are given.

    On keys without the slot, sdpa would accept the shared mask shifted by one token, without an error.
    """
    if mask is None:
        return None
    if not isinstance(mask, torch.Tensor):  # flex attention's block mask
        from torch.nn.attention.flex_attention import create_block_mask

        batch, heads, queries, keys = mask.shape[0], mask.shape[1], mask.seq_lengths[0], mask.seq_lengths[1]
        inner = mask.mask_mod
        num_keys = keys if is_static else keys - 1

        def shifted(batch_index, head, query, key):
            return inner(batch_index, head, query, (key + 1).clamp(max=keys - 1)) & (key < keys - 1)

        return create_block_mask(shifted, batch, heads, queries, num_keys, device=mask.kv_indices.device)
    if mask.is_floating_point():
        lowest = _lowest(mask.dtype)
        return without_first(mask, is_static, lowest).clamp(min=lowest)
    return without_first(mask, is_static, False)


def _lowest(dtype: torch.dtype) -> float:
    """What hides a column in a mask of numbers.

    A padding token may see nothing at all. Eager attention takes its softmax in float32, where float64's lowest number
    is -inf, and such a row would become NaN.
    """
    return max(torch.finfo(dtype).min, torch.finfo(torch.float32).min)


def _is_static(cache: Cache) -> bool:
    return bool(self_attention_cache(cache).is_compileable)


def _save_compactly(language_model: PreTrainedModel) -> None:
    """GPT-2: let training keep what attention saves, and no more.

    Query, key and value are views of one projection. With the slot, key and value become tensors of their own, and the
    query alone would keep all three parts of the projection until backward.
    """
    for layer in language_model.h:
        layer.attn.forward = partial(_forward_saving_compactly, layer.attn)


def _forward_saving_compactly(attention: nn.Module, *args: Any, **kwargs: Any) -> Any:
    forward = type(attention).forward
    if not torch.is_grad_enabled() or not holds_ecg(kwargs.get("past_key_values")):
        return forward(attention, *args, **kwargs)
    with torch.autograd.graph.saved_tensors_hooks(_without_the_rest_of_its_storage, lambda saved: saved):
        return forward(attention, *args, **kwargs)


def _without_the_rest_of_its_storage(saved: torch.Tensor) -> torch.Tensor:
    is_small_part = saved.untyped_storage().nbytes() > 2 * saved.nbytes
    return saved.clone() if is_small_part else saved


def _make_windowless(language_model: PreTrainedModel) -> None:
    """GPT-Neo: attend by the attention mask alone.

    Its attention holds a triangle of n_positions x n_positions with the local window in it, by column: the slot would
    fall out of the window, and be a column too many.
    """
    for layer in language_model.h:
        attention = layer.attn.attention
        attention._attn = partial(_attend_by_mask, attention)


def _attend_by_mask(
    attention: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """GPT-Neo's attention: unscaled scores in float32."""
    scores = query.float() @ key.float().transpose(-1, -2) + attention_mask
    weights = attention.attn_dropout(scores.softmax(-1).to(value.dtype))
    return weights @ value, weights


def _add_local_window(call: LayerCall, layer: nn.Module, index: int, fused: tuple[int, ...]) -> None:
    """GPT-Neo: hide what is out of a local layer's window from the text, and never the slot."""
    attention = layer.attn.attention
    if attention.attention_type != "local":
        return
    mask = call.get("attention_mask")
    if mask is None or mask.ndim != 4:
        raise TypeError('the local windows of "gpt_neo" with an ECG need attn_implementation="eager"')
    lowest = _lowest(mask.dtype)
    columns = torch.arange(mask.shape[-1], device=mask.device)
    # A query's own column is the last that it sees.
    own = (columns * (mask > lowest / 2)).amax(-1, keepdim=True)
    is_near = own - columns < attention.config.window_size
    if holds_ecg(call.get("layer_past")) and index in fused:
        is_near = is_near | (columns == 0)
    call.set("attention_mask", mask.masked_fill(~is_near, lowest))


def _count_alibi_without_slot(language_model: PreTrainedModel) -> None:
    """BLOOM: build ALiBi from the text's columns of the mask, so that slot and first token have a bias of 0."""
    build = language_model.build_alibi_tensor
    language_model.build_alibi_tensor = _AlibiOfText(build)


class _AlibiOfText:
    """BLOOM's `build_alibi_tensor`, to which the ECG's column, marked by a 2, counts as padding: its bias is 0."""

    def __init__(self, build: Callable[..., torch.Tensor]):
        self.build = build

    def __call__(self, attention_mask: torch.Tensor, num_heads: int, dtype: torch.dtype) -> torch.Tensor:
        return self.build((attention_mask == 1).long(), num_heads, dtype)


def _take_slot_off_alibi(call: LayerCall, layer: nn.Module, index: int, fused: tuple[int, ...]) -> None:
    """BLOOM: a layer without a slot is given its ALiBi without the slot's column."""
    cache = call.get("layer_past")
    if fused and index not in fused and holds_ecg(cache):
        call.set("alibi", without_first(call.get("alibi"), _is_static(cache), 0.0))


def _set_relative_bias(call: LayerCall, layer: nn.Module, index: int, fused: tuple[int, ...]) -> None:
    """T5: give the first layer its relative bias with 0 for the slot, and the others as many columns as they have.

    The first layer would count the slot as a token. Each hands the bias that it was given on to the next.
    """
    cache = call.get("past_key_values")
    if not fused or not holds_ecg(cache):
        return
    is_static = _is_static(cache)
    bias = call.get("position_bias")
    if bias is None:
        attention = layer.layer[0].SelfAttention
        num_past = cache.get_seq_length()
        if isinstance(num_past, torch.Tensor):
            num_past = num_past.clone()  # a static cache counts on in place
        num_tokens = call.get("hidden_states").shape[1]
        num_columns, _ = self_attention_cache(cache).get_mask_sizes(num_tokens, index)
        text = attention.compute_bias(num_tokens, num_columns - 1, past_seen_tokens=num_past)
        bias = functional.pad(text, (1, 0) if index in fused else (0, int(is_static)))
    elif (index in fused) != (index - 1 in fused):
        if index in fused:
            bias = functional.pad(bias[..., :-1] if is_static else bias, (1, 0))
        else:
            bias = without_first(bias, is_static, 0.0)
    call.set("position_bias", bias)


_LLAMA_LIKE = Family(layers="layers", attention="self_attn", key_value=_separate)

FAMILIES: dict[str, Family] = {
    "bart": Family(
        layers="decoder.layers",
        attention="self_attn",
        key_value=_separate,
        needs_mask=True,
        is_encoder_decoder=True,
        pads_right=True,
    ),
    "bloom": Family(
        layers="h",
        attention="self_attention",
        key_value=_interleaved,
        cache_argument="layer_past",
        needs_mask=True,
        ecg_column=2,
        prepare=_count_alibi_without_slot,
        adjust=_take_slot_off_alibi,
    ),
    "gemma": _LLAMA_LIKE,
    "gpt2": Family(layers="h", attention="attn", key_value=_gpt2, prepare=_save_compactly),
    "gpt_neo": Family(
        layers="h",
        attention="attn.attention",
        key_value=_separate,
        cache_argument="layer_past",
        prepare=_make_windowless,
        adjust=_add_local_window,
    ),
    "gpt_neox": Family(layers="layers", attention="attention", key_value=_interleaved, cache_argument="layer_past"),
    "gptj": Family(layers="h", attention="attn", key_value=_separate, cache_argument="layer_past"),
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "opt": Family(layers="decoder.layers", attention="self_attn", key_value=_separate, needs_mask=True),
    "phi3": Family(layers="layers", attention="self_attn", key_value=_phi3),
    "qwen2": _LLAMA_LIKE,
    "qwen3": Family(layers="layers", attention="self_attn", key_value=_separate_with_key_norm),
    "t5": Family(
        layers="decoder.block",
        attention="layer.0.SelfAttention",
        key_value=_t5,
        is_encoder_decoder=True,
        adjust=_set_relative_bias,
    ),
}


def family_of(model_type: str) -> Family:
    """The family of a language model, or a `ValueError` that names the supported ones."""
    if model_type not in FAMILIES:
        raise ValueError(
            f'a language model of type "{model_type}" is not supported; supported: {", ".join(sorted(FAMILIES))}'
        )
    return FAMILIES[model_type]
