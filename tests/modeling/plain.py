"""The equations of DESIGN.md section 4, written out: no modelling file of transformers, none of ours.

Everything is computed token by token and head by head from a state dict, in the dtype of its tensors.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def batch_norm(hidden: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scale = state[f"{name}.weight"] / torch.sqrt(variance + 1e-5)
    return (hidden - mean[None, :, None]) * scale[None, :, None] + state[f"{name}.bias"][None, :, None]


def resnet18(ecg: Tensor, state: dict[str, Tensor]) -> Tensor:
    """(batch, leads, samples) -> (batch, channels): ResNet-18 with 1-D convolutions, averaged over time."""
    hidden = functional.conv1d(ecg, state["conv1.weight"], stride=2, padding=3)
    hidden = functional.max_pool1d(batch_norm(hidden, state, "bn1").clamp(min=0), 3, stride=2, padding=1)
    for stage in range(1, 5):
        for block in range(2):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            shortcut = hidden
            if f"{name}.downsample.0.weight" in state:
                shortcut = functional.conv1d(hidden, state[f"{name}.downsample.0.weight"], stride=stride)
                shortcut = batch_norm(shortcut, state, f"{name}.downsample.1")
            hidden = functional.conv1d(hidden, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            hidden = batch_norm(hidden, state, f"{name}.bn1").clamp(min=0)
            hidden = functional.conv1d(hidden, state[f"{name}.conv2.weight"], padding=1)
            hidden = (batch_norm(hidden, state, f"{name}.bn2") + shortcut).clamp(min=0)
    return hidden.mean(-1)


def project(features: Tensor, state: dict[str, Tensor], hidden_size: int) -> Tensor:
    """BatchNorm, two linear layers with a GELU between them, L2-normalised and tiled to the hidden size."""
    features = batch_norm(features[:, :, None], state, "norm")[:, :, 0]
    hidden = features @ state["linear_1.weight"].T + state["linear_1.bias"]
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    vector = hidden @ state["linear_2.weight"].T + state["linear_2.bias"]
    vector = vector / vector.square().sum(-1, keepdim=True).sqrt()
    return torch.cat([vector] * (hidden_size // vector.shape[-1]), dim=-1)


def rms_norm(hidden: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * hidden / torch.sqrt((hidden * hidden).mean() + eps)


def rotate(head: Tensor, position: int, theta: float) -> Tensor:
    """Rotary embedding (Su et al. 2021) of one head vector, halves paired as in Llama."""
    half = head.shape[0] // 2
    out = torch.empty_like(head)
    for i in range(half):
        angle = position * theta ** (-2.0 * i / head.shape[0])
        cos, sin = math.cos(angle), math.sin(angle)
        out[i] = head[i] * cos - head[i + half] * sin
        out[i + half] = head[i + half] * cos + head[i] * sin
    return out


def llama_logits(
    ids: list[int],
    state: dict[str, Tensor],
    config,
    ecg: Tensor | None = None,
    fusion_layers: list[int] | None = None,
) -> Tensor:
    """Logits, (tokens, vocabulary), of one unpadded text; `ecg` is e, (hidden_size,), or None for text alone.

    Llama and Mistral below its sliding window: pre-norm, grouped-query attention with rotary positions, SwiGLU.
    """
    heads, kv_heads, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    theta = config.rope_parameters["rope_theta"]
    stream = [state["model.embed_tokens.weight"][token] for token in ids]
    for index in range(config.num_hidden_layers):
        prefix = f"model.layers.{index}."
        weight = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        normed = [rms_norm(x, weight["input_layernorm.weight"], config.rms_norm_eps) for x in stream]
        queries, keys, values = (
            [(weight[f"self_attn.{name}_proj.weight"] @ x).view(-1, size) for x in normed] for name in "qkv"
        )
        fused = ecg is not None and (fusion_layers is None or index in fusion_layers)
        if fused:
            ecg_keys = (weight["self_attn.k_proj.weight"] @ ecg).view(kv_heads, size)
            ecg_values = (weight["self_attn.v_proj.weight"] @ ecg).view(kv_heads, size)
        attended = []
        for i in range(len(ids)):
            outputs = []
            for h in range(heads):
                g = h // (heads // kv_heads)
                query = rotate(queries[i][h], i, theta)
                seen_keys = [rotate(keys[j][g], j, theta) for j in range(i + 1)]
                seen_values = [values[j][g] for j in range(i + 1)]
                if fused:
                    seen_keys.insert(0, ecg_keys[g])
                    seen_values.insert(0, ecg_values[g])
                scores = torch.stack([query @ key for key in seen_keys]) / math.sqrt(size)
                weights = torch.exp(scores - scores.max())
                weights = weights / weights.sum()
                outputs.append(sum(w * v for w, v in zip(weights, seen_values, strict=True)))
            attended.append(weight["self_attn.o_proj.weight"] @ torch.cat(outputs))
        stream = [x + a for x, a in zip(stream, attended, strict=True)]
        for i, x in enumerate(stream):
            normed_x = rms_norm(x, weight["post_attention_layernorm.weight"], config.rms_norm_eps)
            gate, up = weight["mlp.gate_proj.weight"] @ normed_x, weight["mlp.up_proj.weight"] @ normed_x
            stream[i] = x + weight["mlp.down_proj.weight"] @ (gate * torch.sigmoid(gate) * up)
    normed = [rms_norm(x, state["model.norm.weight"], config.rms_norm_eps) for x in stream]
    return torch.stack([state["lm_head.weight"] @ x for x in normed])
