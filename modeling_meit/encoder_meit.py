"""The ECG encoder: a 1-D ResNet over the leads, and the projector into the language model."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel, initialization
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_meit import ECGEncoderConfig

BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
MAX_GROUPS = 32
MIN_CHANNELS_PER_GROUP = 4


class FrozenBatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) by fixed statistics, whatever the batch and mode.

    y = (x - running_mean) / sqrt(running_var + eps) * weight + bias, per channel, of (batch, channels) or (batch,
    channels, time): `nn.BatchNorm1d` in evaluation, whose names it has, so that one's weights load into the other. The
    affine part is trained. It does not derive from torch's batch normalisations, which take the batch's statistics in
    training and which `SyncBatchNorm.convert_sync_batchnorm` replaces.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))

    def init_weights(self) -> None:
        """Make it the identity, but for `eps`; tensors that a checkpoint filled stay as they are."""
        initialization.ones_(self.weight)
        initialization.zeros_(self.bias)
        initialization.zeros_(self.running_mean)
        initialization.ones_(self.running_var)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(
            hidden, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # BatchNorm counts its batches; here there are none to count.
        state_dict.pop(f"{prefix}num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args)


def group_norm(num_channels: int) -> nn.GroupNorm:
    """Group normalisation (Wu & He 2018, arXiv 1803.08494) with as many groups as divide the channels.

    There are at most 32, the paper's default, and each has at least 4 channels: statistics of fewer would take the
    differences between channels away.
    """
    most = max(1, min(MAX_GROUPS, num_channels // MIN_CHANNELS_PER_GROUP))
    return nn.GroupNorm(next(groups for groups in range(most, 0, -1) if num_channels % groups == 0), num_channels)


# Of `ECGEncoderConfig.norm`: makes the normalisation of a number of channels.
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm1d,
    "group": group_norm,
    "frozen_batch": FrozenBatchNorm,
}


def _convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv1d:
    return nn.Conv1d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)


class ResidualBlock(nn.Module):
    """Residual block of He et al. 2016 (arXiv 1512.03385) in one dimension.

    Depths below 50 use the basic block (two convolutions), the others the bottleneck (1, k, 1; four times as
    wide at its end). The stride sits on the widest convolution.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        kernel_size: int,
        stride: int,
        bottleneck: bool,
        norm: Callable[[int], nn.Module],
    ):
        super().__init__()
        out_channels = width * 4 if bottleneck else width
        if bottleneck:
            self.conv1, self.bn1 = _convolution(in_channels, width, 1), norm(width)
            self.conv2, self.bn2 = _convolution(width, width, kernel_size, stride), norm(width)
            self.conv3, self.bn3 = _convolution(width, out_channels, 1), norm(out_channels)
        else:
            self.conv1, self.bn1 = _convolution(in_channels, width, kernel_size, stride), norm(width)
            self.conv2, self.bn2 = _convolution(width, width, kernel_size), norm(width)
        self.bottleneck = bottleneck
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(_convolution(in_channels, out_channels, 1, stride), norm(out_channels))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        shortcut = hidden if self.downsample is None else self.downsample(hidden)
        hidden = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(hidden)))))
        if self.bottleneck:
            hidden = self.bn3(self.conv3(torch.relu(hidden)))
        return torch.relu(hidden + shortcut)


class ECGEncoder(PreTrainedModel):
    """1-D ResNet: (batch, leads, samples) -> one feature vector per ECG, and the features along time."""

    config_class = ECGEncoderConfig
    base_model_prefix = "ecg_encoder"
    main_input_name = "ecg_values"
    # BatchNorm's counters, which FrozenBatchNorm has no use for.
    _keys_to_ignore_on_load_unexpected = [r"num_batches_tracked"]
    # It has no attention, so that whichever implementation the language model is given suits it.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, config: ECGEncoderConfig):
        super().__init__(config)
        bottleneck = config.depth >= 50
        channels = config.widths[0]
        self.conv1 = _convolution(config.in_channels, channels, config.stem_kernel_size, stride=2)
        norm = NORMS[config.norm]
        self.bn1 = norm(channels)
        self.maxpool = nn.MaxPool1d(3, stride=2, padding=1) if config.stem_pool else nn.Identity()
        stages = []
        for stage, (width, num_blocks) in enumerate(zip(config.widths, BLOCKS_PER_STAGE[config.depth], strict=True)):
            blocks = []
            for block in range(num_blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(ResidualBlock(channels, width, config.kernel_size, stride, bottleneck, norm))
                channels = width * 4 if bottleneck else width
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv1d) and not getattr(module.weight, "_is_hf_initialized", False):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, FrozenBatchNorm):
            module.init_weights()

    def forward(self, ecg_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """Encode ECGs.

        Args:
            ecg_values: (batch, leads, samples), as `ECGFeatureExtractor` returns them.

        Returns:
            `pooler_output` (batch, hidden_size) and `last_hidden_state` (batch, samples / 32, hidden_size), or
            samples / 16 without the stem's pooling.

        Raises:
            ValueError: where the number of leads is not the encoder's.
        """
        leads = self.config.in_channels
        if ecg_values.ndim != 3 or ecg_values.shape[1] != leads:
            raise ValueError(
                f"ecg_values has shape {tuple(ecg_values.shape)}; expected (batch, {leads} leads, samples)"
            )
        hidden = ecg_values.to(self.conv1.weight.dtype)
        hidden = self.maxpool(torch.relu(self.bn1(self.conv1(hidden))))
        hidden = self.layer4(self.layer3(self.layer2(self.layer1(hidden))))
        return BaseModelOutputWithPooling(last_hidden_state=hidden.transpose(1, 2), pooler_output=hidden.mean(dim=-1))


class ECGProjector(nn.Module):
    """Two-layer projection of the encoder's features, (batch, in_size) or (batch, time, in_size), to `out_size`.

    Features behind a ReLU are all positive, and so point the same way for any ECG. The fusion keeps the direction of
    the projected vector alone: without the normalisation in front, ECGs would begin as all but the same vector. That
    takes statistics over ECGs, which no group normalisation has: for an encoder whose `norm` is not "batch" they are
    fixed, and those of some ECGs are to be put in before training starts.
    """

    def __init__(self, in_size: int, out_size: int, norm: str = "batch"):
        super().__init__()
        self.norm = nn.BatchNorm1d(in_size) if norm == "batch" else FrozenBatchNorm(in_size)
        self.linear_1 = nn.Linear(in_size, in_size)
        self.linear_2 = nn.Linear(in_size, out_size)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        rows = features.flatten(0, -2)
        if isinstance(self.norm, nn.BatchNorm1d) and self.norm.training and len(rows) == 1:
            raise ValueError("found 1 ECG in a training batch; expected at least 2, as features are normalised over it")
        normed = self.norm(rows).view_as(features)
        return self.linear_2(functional.gelu(self.linear_1(normed)))
