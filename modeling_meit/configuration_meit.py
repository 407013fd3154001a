"""Configurations of the ECG encoder and of the ECG language model."""

import os
import re

import transformers
from transformers import AutoConfig, PreTrainedConfig

# The fusion rests on cache internals (`Cache.get_query_offset`, checkpointing with a cache) that came with 5.17.
# The upper end is the first release that nobody has run the tests on.
MINIMUM_TRANSFORMERS = (5, 17)
FIRST_UNTESTED_TRANSFORMERS = (5, 24)

# Raised whenever an older reader could no longer load, or would misread, a new artifact.
FORMAT_VERSION = 1

# AutoModel gives the class with the head: there is one thing that users load.
AUTO_MAP = {
    "AutoConfig": "configuration_meit.ECGLlamaConfig",
    "AutoModel": "modeling_meit.ECGLlamaForCausalLM",
    "AutoModelForCausalLM": "modeling_meit.ECGLlamaForCausalLM",
}

ENCODER_DEPTHS = (18, 34, 50, 101, 152)


def check_transformers_version(version: str) -> None:
    """Raise `ImportError` where `version` of transformers lies outside the supported range."""
    release = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if not MINIMUM_TRANSFORMERS <= release < FIRST_UNTESTED_TRANSFORMERS:
        supported = ">={}.{},<{}.{}".format(*MINIMUM_TRANSFORMERS, *FIRST_UNTESTED_TRANSFORMERS)
        raise ImportError(
            f"meit-ecg supports transformers{supported}, but transformers {version} is installed. The ECG enters the "
            f"model through the KV cache, whose internals differ between releases: pip install "
            f'"transformers{supported}"'
        )


check_transformers_version(transformers.__version__)


class ECGEncoderConfig(PreTrainedConfig):
    """Configuration of the 1-D ResNet that reads the ECG.

    Args:
        depth: 18 or 34 (basic blocks), 50, 101 or 152 (bottleneck blocks).
        in_channels: number of leads.
        widths: channels of the four stages, before the expansion by 4 of a bottleneck block.
        kernel_size: odd width, in samples, of the convolutions inside the blocks.
        stem_kernel_size: odd width, in samples, of the first convolution, which has a stride of 2.
    """

    model_type = "meit_ecg_encoder"

    depth: int = 18
    in_channels: int = 12
    widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    kernel_size: int = 3
    stem_kernel_size: int = 7

    def __post_init__(self, **kwargs):
        if self.depth not in ENCODER_DEPTHS:
            raise ValueError(f"ECGEncoderConfig.depth is {self.depth}; it must be one of {ENCODER_DEPTHS}")
        if len(self.widths) != 4:
            raise ValueError(f"ECGEncoderConfig.widths holds {len(self.widths)} stages; a ResNet has 4")
        for name in ("kernel_size", "stem_kernel_size"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"ECGEncoderConfig.{name} is {getattr(self, name)}; it must be odd")
        super().__post_init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Channels of the encoder's output."""
        return self.widths[-1] * (1 if self.depth < 50 else 4)


class ECGLlamaConfig(PreTrainedConfig):
    """Configuration of `ECGLlamaForCausalLM`: an open LLM that reads a 12-lead ECG.

    Args:
        text_config: configuration of the language model; its `model_type` names the family.
        ecg_config: configuration of the ECG encoder.
        fusion: how the ECG meets the text. "concat" is MEIT's: one key and one value in front of the text's.
        fusion_layers: indices of the decoder layers that see the ECG; None means every layer. A layer that is
            not listed runs as in the text-only model.
        ecg_projection: "head_dim" projects the ECG to one attention head and tiles it over the heads, as the paper
            does; "hidden_size" projects to the whole hidden size. None takes "head_dim" where it divides the hidden
            size and "hidden_size" where it does not.
        text_model_id: Hub id of the language model that the weights of an adapter folder are added to.
        text_model_path: local folder of that language model, looked at before the Hub.
        format_version: version of the artifact's format.
    """

    model_type = "ecg_llama"
    sub_configs = {"text_config": AutoConfig, "ecg_config": ECGEncoderConfig}

    text_config: dict | PreTrainedConfig | None = None
    ecg_config: dict | PreTrainedConfig | None = None
    fusion: str = "concat"
    fusion_layers: list[int] | tuple[int, ...] | None = None
    ecg_projection: str | None = None
    text_model_id: str | None = None
    text_model_path: str | None = None
    format_version: int = FORMAT_VERSION
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        if self.format_version > FORMAT_VERSION:
            raise ValueError(
                f"this artifact has format version {self.format_version}, and this code reads up to "
                f"{FORMAT_VERSION}: upgrade meit-ecg"
            )
        if self.text_config is None:
            self.text_config = AutoConfig.for_model("llama")
        elif isinstance(self.text_config, dict):
            text_config = dict(self.text_config)
            self.text_config = AutoConfig.for_model(text_config.pop("model_type", "llama"), **text_config)
        if self.ecg_config is None:
            self.ecg_config = ECGEncoderConfig()
        elif isinstance(self.ecg_config, dict):
            self.ecg_config = ECGEncoderConfig(**self.ecg_config)
        self.tie_word_embeddings = self.text_config.tie_word_embeddings

        if self.fusion != "concat":
            raise ValueError(f'ECGLlamaConfig.fusion is "{self.fusion}"; supported: "concat"')
        self.fusion_layers = self._checked_fusion_layers()
        if self.ecg_projection is None:
            divides = self.text_config.hidden_size % self.head_dim == 0
            self.ecg_projection = "head_dim" if divides else "hidden_size"
        if self.ecg_projection not in ("head_dim", "hidden_size"):
            raise ValueError(
                f'ECGLlamaConfig.ecg_projection is "{self.ecg_projection}"; supported: "head_dim", "hidden_size"'
            )
        if self.ecg_projection == "head_dim" and self.text_config.hidden_size % self.head_dim != 0:
            raise ValueError(
                f"a vector of head size {self.head_dim} does not tile to hidden size "
                f'{self.text_config.hidden_size}: use ecg_projection="hidden_size"'
            )
        super().__post_init__(**kwargs)

    def _checked_fusion_layers(self) -> list[int] | None:
        if self.fusion_layers is None:
            return None
        layers = sorted(set(self.fusion_layers))
        count = self.text_config.num_hidden_layers
        if not layers or layers[0] < 0 or layers[-1] >= count:
            raise ValueError(
                f"ECGLlamaConfig.fusion_layers is {list(self.fusion_layers)}; it must name at least one of the "
                f"language model's layers 0 to {count - 1}, or be None for all of them"
            )
        return layers

    @property
    def head_dim(self) -> int:
        """Size of one attention head of the language model."""
        text_config = self.text_config
        head_dim = getattr(text_config, "head_dim", None)
        return head_dim or text_config.hidden_size // text_config.num_attention_heads

    @property
    def ecg_vector_size(self) -> int:
        """Size of the projected ECG vector, before it is tiled to the hidden size."""
        return self.head_dim if self.ecg_projection == "head_dim" else self.text_config.hidden_size

    @property
    def ecg_layers(self) -> list[int]:
        """Indices of the layers that see the ECG."""
        if self.fusion_layers is None:
            return list(range(self.text_config.num_hidden_layers))
        return list(self.fusion_layers)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """Save as config.json, which names the classes that the Auto classes load."""
        self.auto_map = dict(AUTO_MAP)
        # Otherwise the folder that the language model was read from on this machine.
        self.text_config._name_or_path = self.text_model_id or ""
        super().save_pretrained(save_directory, **kwargs)
