"""The decoder-only families, each from its paper and what its configuration says.

They are called as LOGITS[model_type](ids, state, config, ecg=None, fusion_layers=None, *, replace=None,
before_layer=None) and return the logits, (tokens, vocabulary).
"""

import math
from collections.abc import Callable
from functools import partial
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
    halves,
    layer_norm,
    linear,
    neighbours,
    part,
    rms_norm,
    rotate,
)

LOGITS: dict[str, Callable[..., Tensor]] = {}


def family(*names: str) -> Callable[[Callable[[Text, State, Any], Tensor]], Callable[..., Tensor]]:
    """Gives a function of a Text the signature that all families share, and files it under their names."""

    def shared(compute: Callable[[Text, State, Any], Tensor]) -> Callable[..., Tensor]:
        def logits(
            ids: list[int],
            state: State,
            config: Any,
            ecg: Tensor | None = None,
            fusion_layers: list[int] | None = None,
            *,
            replace: dict[int, Tensor] | None = None,
            before_layer: Callable[[int, Stream], Stream] | None = None,
        ) -> Tensor:
            return compute(Text(ids, ecg, fusion_layers, replace, before_layer), state, config)

        logits.__doc__ = compute.__doc__
        LOGITS.update(dict.fromkeys(names, logits))
        return logits

    return shared


def head(state: State, config: Any, embeddings: str) -> Tensor:
    """The output head: its own weight where the state has one, else, tied, that of the embeddings."""
    if "lm_head.weight" in state:
        return state["lm_head.weight"]
    assert config.tie_word_embeddings
    return state[embeddings]


def window(config: Any, layer: int) -> int | None:
    """How many tokens one of Llama's relatives sees from a layer; None for all."""
    types = getattr(config, "layer_types", None)
    if types is not None and types[layer] != "sliding_attention":
        return None
    return getattr(config, "sliding_window", None)


def separate_projections(config: Any, weights: State, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    size = head_size(config)
    query, key, value = (linear(weights, f"self_attn.{name}_proj", x).view(-1, size) for name in "qkv")
    return query, key, value


def qwen3_projections(config: Any, weights: State, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """An RMS norm over each head of the queries and of the keys, with one weight for all heads."""
    query, key, value = separate_projections(config, weights, x)
    eps = config.rms_norm_eps
    query = torch.stack([rms_norm(q, weights["self_attn.q_norm.weight"], eps) for q in query])
    key = torch.stack([rms_norm(k, weights["self_attn.k_norm.weight"], eps) for k in key])
    return query, key, value


def phi3_projections(config: Any, weights: State, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of the one projection are all queries, then all keys, then all values."""
    rows = linear(weights, "self_attn.qkv_proj", x).view(-1, head_size(config))
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    return rows[:heads], rows[heads : heads + kv_heads], rows[heads + kv_heads :]


def head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def separate_gate_and_up(weights: State, x: Tensor) -> tuple[Tensor, Tensor]:
    return linear(weights, "mlp.gate_proj", x), linear(weights, "mlp.up_proj", x)


def phi3_gate_and_up(weights: State, x: Tensor) -> tuple[Tensor, Tensor]:
    gate, up = linear(weights, "mlp.gate_up_proj", x).chunk(2)
    return gate, up


def llama_like(
    text: Text,
    state: State,
    config: Any,
    projections: Callable[[Any, State, Tensor], tuple[Tensor, Tensor, Tensor]] = separate_projections,
    gate_and_up: Callable[[State, Tensor], tuple[Tensor, Tensor]] = separate_gate_and_up,
    norm: Callable[[Tensor, Tensor, float], Tensor] = rms_norm,
    embedding_scale: float = 1.0,
    rotated: float = 1.0,
) -> Tensor:
    """Pre-norm, grouped-query attention with rotary positions, and a gated feed-forward network."""
    assert config.rope_parameters["rope_type"] == "default"
    size, eps, theta = head_size(config), config.rms_norm_eps, config.rope_parameters["rope_theta"]
    pairs = halves(int(size * rotated))
    activation = ACTIVATIONS[config.hidden_act]

    def layer(index: int, stream: Stream) -> Stream:
        weights = part(state, f"model.layers.{index}.")
        project = partial(projections, config, weights)
        normed = [norm(x, weights["input_layernorm.weight"], eps) for x in stream]
        queries, keys, values = zip(*map(project, normed), strict=True)
        queries = [rotate(query, i, theta, pairs) for i, query in enumerate(queries)]
        keys = [rotate(key, j, theta, pairs) for j, key in enumerate(keys)]
        visible = causal(window(config, index))
        attended = attention(queries, keys, values, size**-0.5, visible, slot=text.slot(index, project))
        stream = add(stream, [linear(weights, "self_attn.o_proj", a) for a in attended])
        change = []
        for x in stream:
            gate, up = gate_and_up(weights, norm(x, weights["post_attention_layernorm.weight"], eps))
            change.append(linear(weights, "mlp.down_proj", activation(gate) * up))
        return add(stream, change)

    stream = text.embeddings(state["model.embed_tokens.weight"], embedding_scale)
    stream = text.through(config.num_hidden_layers, stream, layer)
    output = head(state, config, "model.embed_tokens.weight")
    return torch.stack([output @ norm(x, state["model.norm.weight"], eps) for x in stream])


@family("llama", "mistral", "qwen2")
def llama_logits(text: Text, state: State, config: Any) -> Tensor:
    """Llama, and what differs from it in its numbers: Mistral by a window, Qwen2 by biases of its projections."""
    return llama_like(text, state, config)


@family("qwen3")
def qwen3_logits(text: Text, state: State, config: Any) -> Tensor:
    return llama_like(text, state, config, projections=qwen3_projections)


@family("gemma")
def gemma_logits(text: Text, state: State, config: Any) -> Tensor:
    """Norm weights are distances from 1, and the embeddings are scaled by sqrt(hidden size)."""

    def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return rms_norm(x, 1 + weight, eps)

    return llama_like(text, state, config, norm=norm, embedding_scale=math.sqrt(config.hidden_size))


@family("phi3")
def phi3_logits(text: Text, state: State, config: Any) -> Tensor:
    rotated = config.rope_parameters.get("partial_rotary_factor", 1.0)
    return llama_like(text, state, config, phi3_projections, phi3_gate_and_up, rotated=rotated)


@family("gpt2")
def gpt2_logits(text: Text, state: State, config: Any) -> Tensor:
    """Pre-norm with learned positions; weights are (in, out), queries, keys and values come from one of them."""
    size, eps = head_size(config), config.layer_norm_epsilon
    activation = ACTIVATIONS[config.activation_function]

    def conv1d(weights: State, name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def layer(index: int, stream: Stream) -> Stream:
        weights = part(state, f"transformer.h.{index}.")

        def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            query, key, value = conv1d(weights, "attn.c_attn", x).view(3, -1, size)
            return query, key, value

        scale = size**-0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            scale /= index + 1
        queries, keys, values = zip(*[project(layer_norm(weights, "ln_1", x, eps)) for x in stream], strict=True)
        attended = attention(queries, keys, values, scale, causal(), slot=text.slot(index, project))
        stream = add(stream, [conv1d(weights, "attn.c_proj", a) for a in attended])
        inner = [activation(conv1d(weights, "mlp.c_fc", layer_norm(weights, "ln_2", x, eps))) for x in stream]
        return add(stream, [conv1d(weights, "mlp.c_proj", x) for x in inner])

    positions = state["transformer.wpe.weight"][: len(text.ids)]
    stream = add(text.embeddings(state["transformer.wte.weight"]), list(positions))
    stream = text.through(config.num_hidden_layers, stream, layer)
    output = head(state, config, "transformer.wte.weight")
    return torch.stack([output @ layer_norm(state, "transformer.ln_f", x, eps) for x in stream])


@family("gpt_neo")
def gpt_neo_logits(text: Text, state: State, config: Any) -> Tensor:
    """GPT-2 without a scale of the scores; a local layer sees `window_size` tokens."""
    size, eps = head_size(config), config.layer_norm_epsilon
    activation = ACTIVATIONS[config.activation_function]

    def layer(index: int, stream: Stream) -> Stream:
        weights = part(state, f"transformer.h.{index}.")

        def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            query, key, value = (linear(weights, f"attn.attention.{name}_proj", x).view(-1, size) for name in "qkv")
            return query, key, value

        visible = causal(config.window_size if config.attention_layers[index] == "local" else None)
        queries, keys, values = zip(*[project(layer_norm(weights, "ln_1", x, eps)) for x in stream], strict=True)
        attended = attention(queries, keys, values, 1.0, visible, slot=text.slot(index, project))
        stream = add(stream, [linear(weights, "attn.attention.out_proj", a) for a in attended])
        inner = [activation(linear(weights, "mlp.c_fc", layer_norm(weights, "ln_2", x, eps))) for x in stream]
        return add(stream, [linear(weights, "mlp.c_proj", x) for x in inner])

    positions = state["transformer.wpe.weight"][: len(text.ids)]
    stream = add(text.embeddings(state["transformer.wte.weight"]), list(positions))
    stream = text.through(config.num_hidden_layers, stream, layer)
    output = head(state, config, "transformer.wte.weight")
    return torch.stack([output @ layer_norm(state, "transformer.ln_f", x, eps) for x in stream])


def interleaved(weights: State, name: str, x: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of one head after the other, the heads of each stacked: GPT-NeoX and BLOOM."""
    rows = linear(weights, name, x).view(-1, 3, size)
    return rows[:, 0], rows[:, 1], rows[:, 2]


@family("gpt_neox")
def gpt_neox_logits(text: Text, state: State, config: Any) -> Tensor:
    """A part of each head is rotated; attention and feed-forward network read the same stream, each by its norm."""
    assert config.rope_parameters["rope_type"] == "default"
    size, eps, theta = head_size(config), config.layer_norm_eps, config.rope_parameters["rope_theta"]
    pairs = halves(int(size * config.rope_parameters["partial_rotary_factor"]))
    activation = ACTIVATIONS[config.hidden_act]

    def layer(index: int, stream: Stream) -> Stream:
        weights = part(state, f"gpt_neox.layers.{index}.")

        def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return interleaved(weights, "attention.query_key_value", x, size)

        normed = [layer_norm(weights, "input_layernorm", x, eps) for x in stream]
        queries, keys, values = zip(*map(project, normed), strict=True)
        queries = [rotate(query, i, theta, pairs) for i, query in enumerate(queries)]
        keys = [rotate(key, j, theta, pairs) for j, key in enumerate(keys)]
        attended = attention(queries, keys, values, size**-0.5, causal(), slot=text.slot(index, project))
        with_attended = add(stream, [linear(weights, "attention.dense", a) for a in attended])
        read = stream if config.use_parallel_residual else with_attended
        inner = [
            linear(weights, "mlp.dense_h_to_4h", layer_norm(weights, "post_attention_layernorm", x, eps)) for x in read
        ]
        return add(with_attended, [linear(weights, "mlp.dense_4h_to_h", activation(x)) for x in inner])

    stream = text.embeddings(state["gpt_neox.embed_in.weight"])
    stream = text.through(config.num_hidden_layers, stream, layer)
    output = head(state, config, "gpt_neox.embed_in.weight")
    return torch.stack([output @ layer_norm(state, "gpt_neox.final_layer_norm", x, eps) for x in stream])


@family("gptj")
def gptj_logits(text: Text, state: State, config: Any) -> Tensor:
    """A part of each head is rotated in neighbouring pairs; attention and feed-forward network share one norm."""
    size, eps, pairs = head_size(config), config.layer_norm_epsilon, neighbours(config.rotary_dim)
    activation = ACTIVATIONS[config.activation_function]

    def layer(index: int, stream: Stream) -> Stream:
        weights = part(state, f"transformer.h.{index}.")

        def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            query, key, value = (linear(weights, f"attn.{name}_proj", x).view(-1, size) for name in "qkv")
            return query, key, value

        normed = [layer_norm(weights, "ln_1", x, eps) for x in stream]
        queries, keys, values = zip(*map(project, normed), strict=True)
        queries = [rotate(query, i, 10000.0, pairs) for i, query in enumerate(queries)]
        keys = [rotate(key, j, 10000.0, pairs) for j, key in enumerate(keys)]
        attended = attention(queries, keys, values, size**-0.5, causal(), slot=text.slot(index, project))
        stream = add(stream, [linear(weights, "attn.out_proj", a) for a in attended])
        return add(stream, [linear(weights, "mlp.fc_out", activation(linear(weights, "mlp.fc_in", x))) for x in normed])

    stream = text.embeddings(state["transformer.wte.weight"])
    stream = text.through(config.num_hidden_layers, stream, layer)
    output, bias = head(state, config, "transformer.wte.weight"), state["lm_head.bias"]
    return torch.stack([output @ layer_norm(state, "transformer.ln_f", x, eps) + bias for x in stream])


def alibi_slopes(heads: int) -> list[float]:
    """Press et al. 2022: geometric for a power of two; else that of the power below, filled up from the one above."""

    def geometric(count: int) -> list[float]:
        return [2 ** (-8 * (i + 1) / count) for i in range(count)]

    below = 2 ** int(math.log2(heads))
    return geometric(below) + geometric(2 * below)[::2][: heads - below]


def alibi(slope: float, position: int) -> float:
    """ALiBi as BLOOM has it: by the place of the key alone, which the softmax cannot tell from its distance."""
    return slope * position


@family("bloom")
def bloom_logits(text: Text, state: State, config: Any) -> Tensor:
    """ALiBi instead of positions, and a norm of the embeddings.

    The slot keeps a bias of 0, as the first token does.
    """
    size, eps, slopes = head_size(config), config.layer_norm_epsilon, alibi_slopes(config.num_attention_heads)
    activation = ACTIVATIONS["gelu_new"]

    def layer(index: int, stream: Stream) -> Stream:
        weights = part(state, f"transformer.h.{index}.")

        def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return interleaved(weights, "self_attention.query_key_value", x, size)

        def bias(head: int, query: int, key: int) -> float:
            return alibi(slopes[head], key)

        normed = [layer_norm(weights, "input_layernorm", x, eps) for x in stream]
        queries, keys, values = zip(*map(project, normed), strict=True)
        attended = attention(queries, keys, values, size**-0.5, causal(), bias, text.slot(index, project))
        residual = normed if config.apply_residual_connection_post_layernorm else stream
        stream = add(residual, [linear(weights, "self_attention.dense", a) for a in attended])
        normed = [layer_norm(weights, "post_attention_layernorm", x, eps) for x in stream]
        inner = [activation(linear(weights, "mlp.dense_h_to_4h", x)) for x in normed]
        residual = normed if config.apply_residual_connection_post_layernorm else stream
        return add(residual, [linear(weights, "mlp.dense_4h_to_h", x) for x in inner])

    stream = text.embeddings(state["transformer.word_embeddings.weight"])
    stream = [layer_norm(state, "transformer.word_embeddings_layernorm", x, eps) for x in stream]
    stream = text.through(config.num_hidden_layers, stream, layer)
    output = head(state, config, "transformer.word_embeddings.weight")
    return torch.stack([output @ layer_norm(state, "transformer.ln_f", x, eps) for x in stream])


@family("opt")
def opt_logits(text: Text, state: State, config: Any) -> Tensor:
    """Learned positions from row 2 on; norms before each block or, as in OPT-350m, after it.

    There too the embeddings and the head are narrower than the stream, and a projection stands on either side.
    """
    size, eps = head_size(config), 1e-5
    activation = ACTIVATIONS[config.activation_function]
    before = config.do_layer_norm_before

    def layer(index: int, stream: Stream) -> Stream:
        weights = part(state, f"model.decoder.layers.{index}.")

        def project(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            query, key, value = (linear(weights, f"self_attn.{name}_proj", x).view(-1, size) for name in "qkv")
            return query, key, value

        def attention_norm(stream: Stream) -> Stream:
            return [layer_norm(weights, "self_attn_layer_norm", x, eps) for x in stream]

        def final_norm(stream: Stream) -> Stream:
            return [layer_norm(weights, "final_layer_norm", x, eps) for x in stream]

        queries, keys, values = zip(*map(project, attention_norm(stream) if before else stream), strict=True)
        attended = attention(queries, keys, values, size**-0.5, causal(), slot=text.slot(index, project))
        stream = add(stream, [linear(weights, "self_attn.out_proj", a) for a in attended])
        stream = stream if before else attention_norm(stream)
        inner = [activation(linear(weights, "fc1", x)) for x in (final_norm(stream) if before else stream)]
        stream = add(stream, [linear(weights, "fc2", x) for x in inner])
        return stream if before else final_norm(stream)

    stream = text.embeddings(state["model.decoder.embed_tokens.weight"])
    if config.word_embed_proj_dim != config.hidden_size:
        stream = [linear(state, "model.decoder.project_in", x) for x in stream]
    stream = add(stream, list(state["model.decoder.embed_positions.weight"][2 : 2 + len(text.ids)]))
    stream = text.through(config.num_hidden_layers, stream, layer)
    if before:
        stream = [layer_norm(state, "model.decoder.final_layer_norm", x, eps) for x in stream]
    if config.word_embed_proj_dim != config.hidden_size:
        stream = [linear(state, "model.decoder.project_out", x) for x in stream]
    output = head(state, config, "model.decoder.embed_tokens.weight")
    return torch.stack([output @ x for x in stream])
