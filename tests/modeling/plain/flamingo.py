"""Flamingo's gated cross-attention layer (Alayrac et al. 2022)."""

import math

import torch
from torch import Tensor

from .blocks import State, Stream, add, attention, everywhere, gelu, layer_norm, linear


def gated_cross_attention(stream: Stream, features: Tensor, state: State, num_heads: int, eps: float = 1e-5) -> Stream:
    """The residual stream after it has looked at the features, (time, width): every token at all of them."""

    def heads(name: str, x: Tensor) -> Tensor:
        return linear(state, name, x).view(num_heads, -1)

    queries = [heads("q_proj", layer_norm(state, "attn_norm", y, eps)) for y in stream]
    keys = [heads("k_proj", x) for x in features]
    values = [heads("v_proj", x) for x in features]
    attended = attention(queries, keys, values, 1 / math.sqrt(queries[0].shape[1]), everywhere)
    stream = add(stream, [torch.tanh(state["attn_gate"]) * linear(state, "o_proj", a) for a in attended])
    inner = [gelu(linear(state, "ff_in", layer_norm(state, "ff_norm", y, eps))) for y in stream]
    return add(stream, [torch.tanh(state["ff_gate"]) * linear(state, "ff_out", x) for x in inner])
