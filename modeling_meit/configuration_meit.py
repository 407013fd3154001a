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
FORMAT_VERSION = 2

ENCODER_DEPTHS = (18, 34, 50, 101, 152)
ENCODER_NORMS = ("batch", "group", "frozen_batch")
FUSIONS = ("concat", "llava", "flamingo")


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
        stem_pool: whether a max pooling with a stride of 2 follows the first convolution; MERL's ResNets have none.
        norm: how features are normalised. "batch" takes the statistics of the batch, so that the loss depends on how
            a batch is split over processes and accumulation steps. With the others it does not: "group" normalises
            groups of channels of one recording, "frozen_batch" takes fixed statistics in the place of the batch's. The
            projector then has fixed statistics too, which are to be measured before training starts.
    """

    model_type = "meit_ecg_encoder"

    depth: int = 18
    in_channels: int = 12
    widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    kernel_size: int = 3
    stem_kernel_size: int = 7
    stem_pool: bool = True
    norm: str = "batch"

    def __post_init__(self, **kwargs):
        if self.depth not in ENCODER_DEPTHS:
            raise ValueError(f"ECGEncoderConfig.depth is {self.depth}; it must be one of {ENCODER_DEPTHS}")
        if len(self.widths) != 4:
            raise ValueError(f"ECGEncoderConfig.widths holds {len(self.widths)} stages; a ResNet has 4")
        for name in ("kernel_size", "stem_kernel_size"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"ECGEncoderConfig.{name} is {getattr(self, name)}; it must be odd")
        if self.norm not in ENCODER_NORMS:
            supported = ", ".join(f'"{name}"' for name in ENCODER_NORMS)
            raise ValueError(f'ECGEncoderConfig.norm is "{self.norm}"; supported: {supported}')
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
        fusion: how the ECG meets the text. "concat" is MEIT's: one key and one value in front of the text's, in each
            layer. "llava" puts projected ECG vectors in the place of placeholder tokens. "flamingo" lets the text
            attend to the ECG's time axis by gated cross-attention in front of decoder layers.
        fusion_layers: indices of the decoder layers that see the ECG ("concat") or that a cross-attention stands in
            front of ("flamingo"); None means every layer. A layer that is not listed runs as in the text-only model.
        ecg_projection: of "concat": "head_dim" projects the ECG to one attention head and tiles it over the heads, as
            the paper does; "hidden_size" projects to the whole hidden size. None takes "head_dim" where it divides
            the hidden size and "hidden_size" where it does not.
        ecg_token_id: of "llava": id of the placeholder token. `from_text_pretrained` appends a row for it.
        num_ecg_tokens: of "llava": placeholder tokens per ECG. One takes the encoder's mean over time, N take the
            means of N equal parts of the recording.
        text_model_id: Hub id of the language model that the weights of an adapter folder are added to.
        text_model_path: local folder of that language model, looked at before the Hub.
        format_version: version of the artifact's format.
    """

    model_type = "ecg_llama"
    sub_configs = {"text_config": AutoConfig, "ecg_config": ECGEncoderConfig}
    # AutoModel gives the class with the head: there is one thing that users load.
    auto_classes = {
        "AutoConfig": "configuration_meit.ECGLlamaConfig",
        "AutoModel": "modeling_meit.ECGLlamaForCausalLM",
        "AutoModelForCausalLM": "modeling_meit.ECGLlamaForCausalLM",
    }

    text_config: dict | PreTrainedConfig | None = None
    ecg_config: dict | PreTrainedConfig | None = None
    fusion: str = "concat"
    fusion_layers: list[int] | tuple[int, ...] | None = None
    ecg_projection: str | None = None
    ecg_token_id: int | None = None
    num_ecg_tokens: int = 1
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
            self.text_config = AutoConfig.for_model(self.default_text_model_type)
        elif isinstance(self.text_config, dict):
            text_config = dict(self.text_config)
            model_type = text_config.pop("model_type", self.default_text_model_type)
            self.text_config = AutoConfig.for_model(model_type, **text_config)
        if self.ecg_config is None:
            self.ecg_config = ECGEncoderConfig()
        elif isinstance(self.ecg_config, dict):
            self.ecg_config = ECGEncoderConfig(**self.ecg_config)
        self.tie_word_embeddings = self.text_config.tie_word_embeddings
        self._check_fusion()
        self.fusion_layers = self._checked_fusion_layers()
        self.ecg_projection = self._checked_projection()
        super().__post_init__(**kwargs)

    @property
    def default_text_model_type(self) -> str:
        """Family of the language model where none is given."""
        return "llama"

    def _check_fusion(self) -> None:
        if self.fusion not in FUSIONS:
            supported = ", ".join(f'"{name}"' for name in FUSIONS)
            raise ValueError(f'{type(self).__name__}.fusion is "{self.fusion}"; supported: {supported}')
        if self.fusion != "llava":
            if self.ecg_token_id is not None or self.num_ecg_tokens != 1:
                raise ValueError(f'ecg_token_id and num_ecg_tokens are of fusion "llava"; found "{self.fusion}"')
            return
        if self.fusion_layers is not None:
            raise ValueError('fusion "llava" puts the ECG among the tokens: fusion_layers has no use')
        if self.num_ecg_tokens < 1:
            raise ValueError(f"num_ecg_tokens is {self.num_ecg_tokens}; expected at least 1")
        vocabulary = self.text_config.vocab_size
        if self.ecg_token_id is not None and not 0 <= self.ecg_token_id < vocabulary:
            raise ValueError(
                f"ecg_token_id is {self.ecg_token_id}, and the language model's vocabulary has {vocabulary} rows: "
                "from_text_pretrained appends one for it"
            )

    def _checked_fusion_layers(self) -> list[int] | None:
        if self.fusion_layers is None:
            return None
        layers = sorted(set(self.fusion_layers))
        count = self.num_decoder_layers
        if not layers or layers[0] < 0 or layers[-1] >= count:
            raise ValueError(
                f"{type(self).__name__}.fusion_layers is {list(self.fusion_layers)}; it must name at least one of the "
                f"language model's layers 0 to {count - 1}, or be None for all of them"
            )
        return layers

    def _checked_projection(self) -> str:
        divides = self.text_config.hidden_size % self.head_dim == 0
        projection = self.ecg_projection or ("head_dim" if divides else "hidden_size")
        if projection not in ("head_dim", "hidden_size"):
            raise ValueError(
                f'{type(self).__name__}.ecg_projection is "{projection}"; supported: "head_dim", "hidden_size"'
            )
        if projection == "head_dim" and not divides:
            raise ValueError(
                f"a vector of head size {self.head_dim} does not tile to hidden size "
                f'{self.text_config.hidden_size}: use ecg_projection="hidden_size"'
            )
        return projection

    @property
    def num_decoder_layers(self) -> int:
        """Number of the language model's decoder layers, those that a fusion reaches."""
        return self.text_config.num_hidden_layers

    @property
    def head_dim(self) -> int:
        """Size of one attention head of the language model's decoder."""
        text_config = self.text_config
        head_dim = getattr(text_config, "head_dim", None)
        return head_dim or text_config.hidden_size // text_config.num_attention_heads

    @property
    def embedding_size(self) -> int:
        """Size of a token embedding of the language model; some of OPT project it to the hidden size."""
        return getattr(self.text_config, "word_embed_proj_dim", None) or self.text_config.hidden_size

    @property
    def ecg_vector_size(self) -> int:
        """Size of the projector's output; of "concat", before it is tiled to the hidden size."""
        if self.fusion == "llava":
            return self.embedding_size
        if self.fusion == "concat" and self.ecg_projection == "head_dim":
            return self.head_dim
        return self.text_config.hidden_size

    @property
    def ecg_window(self) -> int | None:
        """Tokens at which a sliding window of the language model would hide the ECG from them; None: it never does."""
        return None if self.fusion == "flamingo" else getattr(self.text_config, "sliding_window", None)

    @property
    def ecg_layers(self) -> list[int]:
        """Indices of the decoder layers that the fusion changes."""
        if self.fusion == "llava":
            return []
        if self.fusion_layers is None:
            return list(range(self.num_decoder_layers))
        return list(self.fusion_layers)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """Save as config.json, which names the classes that the Auto classes load."""
        self.auto_map = dict(self.auto_classes)
        # Otherwise the folder that the language model was read from on this machine.
        self.text_config._name_or_path = self.text_model_id or ""
        super().save_pretrained(save_directory, **kwargs)


class ECGLlamaSeq2SeqConfig(ECGLlamaConfig):
    """Configuration of `ECGLlamaForConditionalGeneration`: the same for an encoder-decoder language model.

    The ECG enters the decoder ("concat": its self-attention; "flamingo") or the encoder's text ("llava").
    """

    model_type = "ecg_llama_seq2seq"
    auto_classes = {
        "AutoConfig": "configuration_meit.ECGLlamaSeq2SeqConfig",
        "AutoModel": "modeling_seq2seq_meit.ECGLlamaForConditionalGeneration",
        "AutoModelForSeq2SeqLM": "modeling_seq2seq_meit.ECGLlamaForConditionalGeneration",
    }

    is_encoder_decoder: bool = True

    @property
    def default_text_model_type(self) -> str:
        return "t5"

    @property
    def num_decoder_layers(self) -> int:
        text_config = self.text_config
        return getattr(text_config, "num_decoder_layers", None) or text_config.decoder_layers

    @property
    def head_dim(self) -> int:
        text_config = self.text_config
        heads = getattr(text_config, "decoder_attention_heads", None)
        return text_config.hidden_size // heads if heads else text_config.head_dim

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """The language model's configuration, as it would itself return it for its decoder or encoder."""
        return self.text_config.get_text_config(decoder=decoder, encoder=encoder)
