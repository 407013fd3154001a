"""What the backbones are made of: norms, activations, rotary positions, and attention with the ECG's slot."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

State = dict[str, Tensor]
Stream = list[Tensor]  # one vector for each token
Projection = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]  # a vector's query, key and value, (heads, head size)

# What is added to the score of the ECG's slot where text gets ALiBi or a relative bias. It has a name for the sake of
# the test that asks whether another value would be noticed.
SLOT_BIAS = 0.0


@dataclass(frozen=True)
class Text:
    """One unpadded text, and what is fused into the decoder that reads it."""

    ids: list[int]
    ecg: Tensor | None = None  # e, (hidden size,)
    fusion_layers: list[int] | None = None  # None: all
    replace: dict[int, Tensor] | None = None
    before_layer: Callable[[int, Stream], Stream] | None = None

    def embeddings(self, table: Tensor, scale: float = 1.0) -> Stream:
        """The lookup with its scale; a replaced row comes as it is, like a row of stock `inputs_embeds`."""
        rows = [table[token] * scale for token in self.ids]
        for index, vector in (self.replace or {}).items():
            rows[index] = vector
        return rows

    def slot(self, layer: int, projection: Projection) -> tuple[Tensor, Tensor] | None:
        """Key and value of the ECG in one layer, or None where it is not fused: neither input norm nor position."""
        if self.ecg is None or (self.fusion_layers is not None and layer not in self.fusion_layers):
            return None
        _, key, value = projection(self.ecg)
        return key, value

    def through(self, layers: int, stream: Stream, layer: Callable[[int, Stream], Stream]) -> Stream:
        for index in range(layers):
            if self.before_layer is not None:
                stream = self.before_layer(index, stream)
            stream = layer(index, stream)
        return stream


def part(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def linear(weights: State, name: str, x: Tensor) -> Tensor:
    out = weights[f"{name}.weight"] @ x
    return out + weights[f"{name}.bias"] if f"{name}.bias" in weights else out


def add(stream: Stream, change: Stream) -> Stream:
    return [x + c for x, c in zip(stream, change, strict=True)]


def layer_norm(weights: State, name: str, x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean()
    normed = centred / torch.sqrt((centred * centred).mean() + eps)
    return weights[f"{name}.weight"] * normed + weights[f"{name}.bias"]


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return weight * x / torch.sqrt((x * x).mean() + eps)


def relu(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def gelu_tanh(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {
    "relu": relu,
    "silu": silu,
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
}


def halves(size: int) -> list[tuple[int, int]]:
    """Which two of `size` dimensions turn together in Llama and GPT-NeoX."""
    return [(i, i + size // 2) for i in range(size // 2)]


def neighbours(size: int) -> list[tuple[int, int]]:
    """Which two of `size` dimensions turn together in GPT-J, as in the rotary paper."""
    return [(2 * i, 2 * i + 1) for i in range(size // 2)]


def rotate(heads: Tensor, position: int, theta: float, pairs: list[tuple[int, int]]) -> Tensor:
    """Rotary embedding (Su et al. 2021) of (heads, size); dimensions in no pair stay as they are."""
    out = heads.clone()
    for i, (a, b) in enumerate(pairs):
        angle = position * theta ** (-i / len(pairs))
        cos, sin = math.cos(angle), math.sin(angle)
        out[:, a] = heads[:, a] * cos - heads[:, b] * sin
        out[:, b] = heads[:, b] * cos + heads[:, a] * sin
    return out


def everywhere(query: int, key: int) -> bool:
    return True


def causal(window: int | None = None) -> Callable[[int, int], bool]:
    """Which key a query sees: itself and those before it, `window` of them in all."""
    return lambda query, key: key <= query and (window is None or query - key < window)


def attention(
    queries: Stream,
    keys: Stream,
    values: Stream,
    scale: float,
    visible: Callable[[int, int], bool],
    bias: Callable[[int, int, int], Tensor | float] | None = None,
    slot: tuple[Tensor, Tensor] | None = None,
) -> Stream:
    """For each query the heads' outputs, one after the other.

    Queries are (heads, size); keys and values (key-value heads, size), each shared by as many consecutive heads.
    `visible` is asked of (query, key), `bias` of (head, query, key). The slot stands before all keys, and every query
    sees it, whatever `visible` says of text.
    """
    attended = []
    for i, query in enumerate(queries):
        seen = [j for j in range(len(keys)) if visible(i, j)]
        outputs = []
        for h in range(len(query)):
            g = h // (len(query) // len(keys[0]))
            scores = [scale * (query[h] @ keys[j][g]) + (0.0 if bias is None else bias(h, i, j)) for j in seen]
            seen_values = [values[j][g] for j in seen]
            if slot is not None:
                scores.insert(0, scale * (query[h] @ slot[0][g]) + SLOT_BIAS)
                seen_values.insert(0, slot[1][g])
            weights = torch.exp(torch.stack(scores) - max(scores))
            weights = weights / weights.sum()
            outputs.append(sum(w * v for w, v in zip(weights, seen_values, strict=True)))
        attended.append(torch.cat(outputs))
    return attended
