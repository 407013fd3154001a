"""BART and T5: the ECG stands in the self-attention of the decoder.

They are called as LOGITS[model_type](ids, decoder_ids, state, config, ecg=None, fusion_layers=None, *, replace=None,
before_layer=None) and return the logits, (decoder tokens, vocabulary). `replace` is of the encoder's tokens,
`before_layer` of the decoder's layers.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .blocks import (
    ACTIVATIONS,
    State,
    Stream,
    Text,
    add,
    attention,
    causal,
    everywhere,
    layer_norm,
    linear,
    part,
    rms_norm,
)
from .decoders import head

LOGITS: dict[str, Callable[..., Tensor]] = {}


def family(name: str) -> Callable[[Callable[[Text, Text, State, Any], Tensor]], Callable[..., Tensor]]:
    """Gives a function of two Texts, source and target, the signature that both families share."""

    def shared(compute: Callable[[Text, Text, State, Any], Tensor]) -> Callable[..., Tensor]:
        def logits(
            ids: list[int],
            decoder_ids: list[int],
            state: State,
            config: Any,
            ecg: Tensor | None = None,
            fusion_layers: list[int] | None = None,
            *,
            replace: dict[int, Tensor] | None = None,
            before_layer: Callable[[int, Stream], Stream] | None = None,
        ) -> Tensor:
            source = Text(ids, replace=replace)
            target = Text(decoder_ids, ecg, fusion_layers, before_layer=before_layer)
            return compute(source, target, state, config)

        logits.__doc__ = compute.__doc__
        LOGITS[name] = logits
        return logits

    return shared


@family("bart")
def bart_logits(source: Text, target: Text, state: State, config: Any) -> Tensor:
    """A norm after each block, and learned positions from row 2 on, normed together with the embeddings."""
    eps, activation = 1e-5, ACTIVATIONS[config.activation_function]

    def heads(weights: State, name: str, x: Tensor, count: int) -> Tensor:
        return linear(weights, name, x).view(count, -1)

    def normed_sum(weights: State, name: str, stream: Stream, change: Stream) -> Stream:
        return [layer_norm(weights, name, x, eps) for x in add(stream, change)]

    def feed_forward(weights: State, stream: Stream) -> Stream:
        inner = [activation(linear(weights, "fc1", x)) for x in stream]
        return normed_sum(weights, "final_layer_norm", stream, [linear(weights, "fc2", x) for x in inner])

    def embed(text: Text, side: str) -> Stream:
        scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0
        rows = text.embeddings(state["model.shared.weight"], scale)
        positions = state[f"model.{side}.embed_positions.weight"][2 : 2 + len(rows)]
        return normed_sum(state, f"model.{side}.layernorm_embedding", rows, list(positions))

    def attend(
        weights: State, block: str, count: int, stream: Stream, memory: Stream, visible: Callable, slot: Any = None
    ) -> Stream:
        queries = [heads(weights, f"{block}.q_proj", x, count) for x in stream]
        keys = [heads(weights, f"{block}.k_proj", x, count) for x in memory]
        values = [heads(weights, f"{block}.v_proj", x, count) for x in memory]
        attended = attention(queries, keys, values, queries[0].shape[1] ** -0.5, visible, slot=slot)
        change = [linear(weights, f"{block}.out_proj", a) for a in attended]
        return normed_sum(weights, f"{block}_layer_norm", stream, change)

    def encoder_layer(index: int, stream: Stream) -> Stream:
        weights = part(state, f"model.encoder.layers.{index}.")
        stream = attend(weights, "self_attn", config.encoder_attention_heads, stream, stream, everywhere)
        return feed_forward(weights, stream)

    def decoder_layer(index: int, stream: Stream) -> Stream:
        weights, count = part(state, f"model.decoder.layers.{index}."), config.decoder_attention_heads

        def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            query, key, value = (heads(weights, f"self_attn.{name}_proj", x, count) for name in "qkv")
            return query, key, value

        stream = attend(weights, "self_attn", count, stream, stream, causal(), target.slot(index, project))
        stream = attend(weights, "encoder_attn", count, stream, encoded, everywhere)
        return feed_forward(weights, stream)

    encoded = source.through(config.encoder_layers, embed(source, "encoder"), encoder_layer)
    stream = target.through(config.decoder_layers, embed(target, "decoder"), decoder_layer)
    output = head(state, config, "model.shared.weight")
    return torch.stack([output @ x + state["final_logits_bias"][0] for x in stream])


def t5_bucket(distance: int, buckets: int, furthest: int, bidirectional: bool) -> int:
    """Which row of the bias table a key has that stands `distance` tokens after the query.

    Half of the rows are for one distance each, the other half for ranges that grow by a constant factor.
    """
    offset = 0
    if bidirectional:
        buckets //= 2
        offset = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return offset + distance
    growth = math.log(distance / exact) / math.log(furthest / exact)
    return offset + min(exact + int(growth * (buckets - exact)), buckets - 1)


@family("t5")
def t5_logits(source: Text, target: Text, state: State, config: Any) -> Tensor:
    """Norms before each block, no scale of the scores, and a relative bias that all layers of a side share.

    The slot gets no such bias, and neither does the attention to the encoder.
    """
    eps, activation = config.layer_norm_epsilon, ACTIVATIONS[config.dense_act_fn]

    def heads(weights: State, name: str, x: Tensor) -> Tensor:
        return linear(weights, name, x).view(config.num_heads, config.d_kv)

    def norm(weights: State, name: str, stream: Stream) -> Stream:
        return [rms_norm(x, weights[f"{name}.weight"], eps) for x in stream]

    def bias(side: str) -> Callable[[int, int, int], Tensor]:
        table = state[f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        buckets, furthest = config.relative_attention_num_buckets, config.relative_attention_max_distance
        return lambda head, query, key: table[t5_bucket(key - query, buckets, furthest, side == "encoder"), head]

    def attend(weights: State, block: str, normed: Stream, memory: Stream, visible: Callable, **extra: Any) -> Stream:
        queries = [heads(weights, f"{block}.q", x) for x in normed]
        keys = [heads(weights, f"{block}.k", x) for x in memory]
        values = [heads(weights, f"{block}.v", x) for x in memory]
        attended = attention(queries, keys, values, 1.0, visible, **extra)
        return [linear(weights, f"{block}.o", a) for a in attended]

    def feed_forward(weights: State, stream: Stream) -> Stream:
        change = []
        for x in norm(weights, "layer_norm", stream):
            if config.is_gated_act:
                inner = activation(linear(weights, "DenseReluDense.wi_0", x)) * linear(
                    weights, "DenseReluDense.wi_1", x
                )
            else:
                inner = activation(linear(weights, "DenseReluDense.wi", x))
            change.append(linear(weights, "DenseReluDense.wo", inner))
        return add(stream, change)

    def encoder_layer(index: int, stream: Stream) -> Stream:
        weights = part(state, f"encoder.block.{index}.layer.0.")
        normed = norm(weights, "layer_norm", stream)
        stream = add(stream, attend(weights, "SelfAttention", normed, normed, everywhere, bias=bias("encoder")))
        return feed_forward(part(state, f"encoder.block.{index}.layer.1."), stream)

    def decoder_layer(index: int, stream: Stream) -> Stream:
        weights = part(state, f"decoder.block.{index}.layer.0.")

        def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            query, key, value = (heads(weights, f"SelfAttention.{name}", x) for name in "qkv")
            return query, key, value

        normed, slot = norm(weights, "layer_norm", stream), target.slot(index, project)
        change = attend(weights, "SelfAttention", normed, normed, causal(), bias=bias("decoder"), slot=slot)
        stream = add(stream, change)
        weights = part(state, f"decoder.block.{index}.layer.1.")
        normed = norm(weights, "layer_norm", stream)
        stream = add(stream, attend(weights, "EncDecAttention", normed, encoded, everywhere))
        return feed_forward(part(state, f"decoder.block.{index}.layer.2."), stream)

    encoded = source.through(config.num_layers, source.embeddings(state["shared.weight"]), encoder_layer)
    encoded = norm(state, "encoder.final_layer_norm", encoded)
    stream = target.through(config.num_decoder_layers, target.embeddings(state["shared.weight"]), decoder_layer)
    stream = norm(state, "decoder.final_layer_norm", stream)
    # The original T5 has one matrix at both ends and scales before the last; v1.1 has two, and does not.
    scale = config.d_model**-0.5 if config.scale_decoder_outputs else 1.0
    output = head(state, config, "shared.weight")
    return torch.stack([output @ (scale * x) for x in stream])
