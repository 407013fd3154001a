"""The ECG encoder and the projector."""

import torch
from torch import Tensor
from torch.nn import functional

from .blocks import State, gelu


def batch_norm(hidden: Tensor, state: State, name: str) -> Tensor:
    """Of (batch, channels, time), with running statistics."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scale = state[f"{name}.weight"] / torch.sqrt(variance + 1e-5)
    return (hidden - mean[None, :, None]) * scale[None, :, None] + state[f"{name}.bias"][None, :, None]


def resnet18_features(ecg: Tensor, state: State) -> Tensor:
    """(batch, leads, samples) -> (batch, channels, time): ResNet-18 with 1-D convolutions."""
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
    return hidden


def resnet18(ecg: Tensor, state: State) -> Tensor:
    """(batch, leads, samples) -> (batch, channels): the features, averaged over time."""
    return resnet18_features(ecg, state).mean(-1)


def project_features(features: Tensor, state: State) -> Tensor:
    """BatchNorm over the channels and two linear layers with a GELU between them.

    Features are (batch, channels) or (batch, time, channels); so is what comes out, with the channels of the last
    layer.
    """
    if features.ndim == 2:
        return project_features(features[:, None], state)[:, 0]
    features = batch_norm(features.transpose(1, 2), state, "norm").transpose(1, 2)
    hidden = gelu(features @ state["linear_1.weight"].T + state["linear_1.bias"])
    return hidden @ state["linear_2.weight"].T + state["linear_2.bias"]


def project(features: Tensor, state: State, hidden_size: int) -> Tensor:
    """e: the projected features, L2-normalised and tiled to the hidden size."""
    vector = project_features(features, state)
    vector = vector / vector.square().sum(-1, keepdim=True).sqrt()
    return torch.cat([vector] * (hidden_size // vector.shape[-1]), dim=-1)
