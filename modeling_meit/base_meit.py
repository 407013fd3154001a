"""What the decoder-only model and its encoder-decoder twin share: the ECG's parts, and its way into the layers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import MODEL_MAPPING, PreTrainedModel, initialization
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging

from .caches_meit import (
    ECGReplayableCache,
    ReplayableCache,
    ReplayableLayer,
    holds_ecg,
    mark_cache,
    self_attention_cache,
)
from .configuration_meit import ECGLlamaConfig
from .encoder_meit import ECGEncoder, ECGProjector, FrozenBatchNorm
from .families_meit import family_of, layer_argument_names
from .fusion_meit import (
    ECGCrossAttention,
    GatedCrossAttention,
    GradientBridge,
    LayerHook,
    fill_placeholders,
    mean_over_parts,
    tile_to_hidden_size,
    with_time_positions,
)

logger = logging.get_logger(__name__)

# Later releases checkpoint a layer's `forward`; these, its call, hooks included.
HOOKS_ARE_CHECKPOINTED = "__call__" in vars(GradientCheckpointingLayer)


class ECGLlamaPreTrainedModel(PreTrainedModel):
    """Configuration class and capabilities shared by the models with and without their head."""

    config_class = ECGLlamaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]
    # Small parts with batch statistics, and parts that are trained whole: half precision would spoil them.
    _keep_in_fp32_modules_strict = ["ecg_encoder", "ecg_projector", "ecg_cross_attention"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, GatedCrossAttention):
            initialization.zeros_(module.attn_gate)
            initialization.zeros_(module.ff_gate)
        elif isinstance(module, FrozenBatchNorm):
            module.init_weights()

    def _check_and_adjust_attn_implementation(self, attn_implementation: str | None, *args: Any, **kwargs: Any) -> str:
        """The language model's own choice: some families have no sdpa."""
        text_class = MODEL_MAPPING[type(self.config.text_config)]
        if attn_implementation is None and not text_class._supports_sdpa:
            attn_implementation = "eager"
        return super()._check_and_adjust_attn_implementation(attn_implementation, *args, **kwargs)

    def _set_gradient_checkpointing(self, *args: Any, **kwargs: Any) -> None:
        super()._set_gradient_checkpointing(*args, **kwargs)
        # The layers' flags are what checkpoints. Where its own flag is set too, GPT-2 takes the cache from its layers,
        # and with it the ECG.
        base = self.model if hasattr(self, "model") else self
        for module in base.language_model.modules():
            if isinstance(module, PreTrainedModel):
                module.gradient_checkpointing = False


class ECGFusionModel(ECGLlamaPreTrainedModel):
    """A language model without its head, the ECG encoder and the projector.

    The whole ECG logic lives here, not in the class with the head: trainers that fuse head and loss call this one.

    Args:
        config: the configuration.
        language_model: the base model of a language model.
    """

    def __init__(self, config: ECGLlamaConfig, language_model: PreTrainedModel):
        super().__init__(config)
        self.family = family_of(config.text_config.model_type)
        if config.fusion == "llava" and config.ecg_token_id is None:
            raise ValueError('fusion "llava" needs an ecg_token_id: from_text_pretrained appends a row for one')
        self.language_model = language_model
        self.ecg_encoder = ECGEncoder(config.ecg_config)
        self.ecg_projector = ECGProjector(config.ecg_config.hidden_size, config.ecg_vector_size, config.ecg_config.norm)
        if config.fusion == "flamingo":
            text_config = config.text_config
            self.ecg_cross_attention = ECGCrossAttention(
                config.ecg_layers, text_config.hidden_size, text_config.num_attention_heads
            )
        # Whoever splits a model over processes looks for a module of each of these classes.
        own_parts = ("ECGEncoder", "GatedCrossAttention") if config.fusion == "flamingo" else ("ECGEncoder",)
        self._no_split_modules = [*(language_model._no_split_modules or ()), *own_parts]
        self._can_compile_fullgraph = language_model._can_compile_fullgraph
        if self.family.prepare is not None:
            self.family.prepare(language_model)
        for index, layer in enumerate(self.decoder_layers):
            # The cache that such a forward pass is given stores nothing, so that a layer may be run twice.
            layer._can_checkpoint_with_cache = True
            is_fused = index in config.ecg_layers
            if self.family.adjust is not None or is_fused == (config.fusion == "flamingo"):
                hook = LayerHook(self, self.family, layer_argument_names(layer), index)
                layer.register_forward_pre_hook(hook, with_kwargs=True)
        self.post_init()

    def train(self, mode: bool = True) -> "ECGFusionModel":
        """Switch to training; where the encoder and projector are frozen, their batch statistics stay as they are."""
        super().train(mode)
        for part in (self.ecg_encoder, self.ecg_projector):
            if not any(weight.requires_grad for weight in part.parameters()):
                part.eval()
        return self

    @property
    def decoder_layers(self) -> nn.ModuleList:
        """The language model's decoder layers."""
        return self.family.decoder_layers(self.language_model)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_ecg_embeds(self, ecg_values: torch.Tensor) -> torch.Tensor:
        """Encode and project ECGs.

        Args:
            ecg_values: (batch, leads, samples), as the processor returns them.

        Returns:
            "concat": (batch, hidden_size), the `e` of the fusion. "llava": (batch, num_ecg_tokens, embedding size).
            "flamingo": (batch, time, hidden_size).
        """
        encoded = self.ecg_encoder(ecg_values)
        if self.config.fusion == "concat":
            embeds = tile_to_hidden_size(self.ecg_projector(encoded.pooler_output), self.config.text_config.hidden_size)
        elif self.config.fusion == "llava":
            embeds = self.ecg_projector(mean_over_parts(encoded.last_hidden_state, self.config.num_ecg_tokens))
        else:
            embeds = with_time_positions(self.ecg_projector(encoded.last_hidden_state))
        return embeds.to(self.language_model.dtype)

    def _ecg_of(
        self,
        batch_size: int,
        ecg_values: torch.Tensor | None,
        ecg_embeds: torch.Tensor | None,
        past_key_values: Cache | None,
    ) -> torch.Tensor | None:
        """What `get_ecg_embeds` made of the ECG; None where the cache holds it, or there is none."""
        if getattr(self, "_is_replica", False):
            raise RuntimeError(
                "nn.DataParallel is not supported: start one process per device, with torchrun or accelerate launch"
            )
        if holds_ecg(past_key_values):
            if ecg_values is not None:
                raise ValueError("past_key_values already holds an ECG: do not pass ecg_values again")
            return None
        if ecg_values is not None:
            if ecg_embeds is not None:
                raise ValueError("pass one of ecg_values and ecg_embeds, found both")
            ecg_embeds = self.get_ecg_embeds(ecg_values)
        if ecg_embeds is None:
            logger.warning_once("no ECG was given: the language model answers from the text alone")
            return None
        if ecg_embeds.shape[0] != batch_size:
            raise ValueError(f"found {ecg_embeds.shape[0]} ECGs for {batch_size} texts; expected one per text")
        config = self.config
        size = config.embedding_size if config.fusion == "llava" else config.text_config.hidden_size
        if ecg_embeds.ndim != (2 if config.fusion == "concat" else 3) or ecg_embeds.shape[-1] != size:
            expected = f"(batch, {size})" if config.fusion == "concat" else f"(batch, vectors, {size})"
            raise ValueError(
                f'ecg_embeds has shape {tuple(ecg_embeds.shape)}; expected {expected} for fusion "{config.fusion}"'
            )
        if past_key_values is not None and self._checkpoints():
            raise ValueError("activation checkpointing runs layers twice and keeps no cache: pass no past_key_values")
        return ecg_embeds

    def _checkpoints(self) -> bool:
        return self.training and any(getattr(layer, "gradient_checkpointing", False) for layer in self.decoder_layers)

    def _uses_cache(self, use_cache: bool | None) -> bool:
        if self._checkpoints():
            return False
        if use_cache is None:
            return bool(self.config.text_config.use_cache) and not self.training
        return use_cache

    def _needs_bridge(self, ecg_embeds: torch.Tensor) -> bool:
        """Whether layers that are checkpointed re-entrantly read an ECG that is trained."""
        layers = [layer for layer in self.decoder_layers if getattr(layer, "gradient_checkpointing", False)]
        reads_inside = self.config.fusion == "concat" or (self.config.fusion == "flamingo" and HOOKS_ARE_CHECKPOINTED)
        if not reads_inside or not self.training or not layers or not ecg_embeds.requires_grad:
            return False
        return bool(getattr(layers[0]._gradient_checkpointing_func, "keywords", {}).get("use_reentrant", False))

    def _bridged(self, inputs_embeds: torch.Tensor, ecg_embeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The text's embeddings and the ECG, as re-entrant checkpointing needs them."""
        leaf = ecg_embeds.detach().requires_grad_()
        return GradientBridge.apply(inputs_embeds, ecg_embeds, leaf), leaf

    def _with_ecg(
        self, ecg_embeds: torch.Tensor, past_key_values: Cache | None, new_cache: Callable[[], Cache] | None
    ) -> Cache:
        """The cache that carries the ECG to the layers.

        Args:
            ecg_embeds: of `get_ecg_embeds`.
            past_key_values: an empty cache to put it in, if the caller passed one.
            new_cache: makes one, where a cache is to be returned; None where the forward pass keeps none.
        """
        slots, features = {}, None
        if self.config.fusion == "concat":
            head_dim = self.config.head_dim
            layers = self.decoder_layers
            slots = {
                index: partial(self.family.slot, layers[index], ecg_embeds, head_dim)
                for index in self.config.ecg_layers
            }
        elif self.config.fusion == "flamingo":
            features = ecg_embeds
        if new_cache is None and past_key_values is None:
            num_layers = self.config.num_decoder_layers
            cache = ECGReplayableCache(num_layers, slots) if slots else ReplayableCache(num_layers)
            cache.ecg_features = features
            return cache
        cache = new_cache() if past_key_values is None else past_key_values
        mark_cache(cache, {index: slot() for index, slot in slots.items()}, features)
        return cache

    def embeds_with_ecg(
        self,
        input_ids: torch.LongTensor | None,
        inputs_embeds: torch.Tensor | None,
        ecg_embeds: torch.Tensor | None,
        has_ecg: bool = False,
    ) -> torch.Tensor | None:
        """The text's embeddings, of "llava" with the ECG in the place of the placeholders; None: those of input_ids.

        `has_ecg` says that earlier text, in the cache, held it: there is none left to put in.
        """
        if self.config.fusion != "llava" or has_ecg:
            return inputs_embeds
        embedding = self.get_input_embeddings()
        if input_ids is not None:
            is_placeholder = input_ids == self.config.ecg_token_id
        else:
            row = embedding(torch.tensor(self.config.ecg_token_id, device=inputs_embeds.device))
            is_placeholder = (inputs_embeds == row).all(-1)
        if ecg_embeds is not None:
            inputs_embeds = embedding(input_ids) if inputs_embeds is None else inputs_embeds
            return fill_placeholders(inputs_embeds, is_placeholder, ecg_embeds)
        if is_placeholder.any():
            raise ValueError("the text holds ECG placeholder tokens, but no ECG was given for them")
        return inputs_embeds

    def _check_window(self, num_tokens: int | torch.Tensor) -> None:
        window = self.config.ecg_window
        if window is None:
            return
        # Of a static cache, whose length is a tensor, compiled code cannot ask; generate checks what it makes.
        if isinstance(num_tokens, torch.Tensor) and torch.compiler.is_compiling():
            return
        if num_tokens >= window:
            raise ValueError(
                f"{int(num_tokens)} text tokens, padding included, and the ECG do not fit the language model's sliding "
                f"window of {window}: beyond it the ECG would be out of sight; at most {window - 1} tokens"
            )

    def _text_mask(
        self, mask: torch.Tensor | None, cache: Cache | None, batch_size: int, num_tokens: int
    ) -> torch.Tensor | None:
        """Check a 2-D mask of the text; make it as wide as a static cache is."""
        marked = self_attention_cache(cache)
        num_past = marked.get_seq_length() if marked is not None else 0
        if marked is None or not marked.is_compileable:
            if mask is not None and tuple(mask.shape) != (batch_size, num_past + num_tokens):
                raise ValueError(
                    f"attention_mask has shape {tuple(mask.shape)}; expected ({batch_size}, {num_past + num_tokens}): "
                    "one column per past and new text token, none for the ECG"
                )
            return mask
        width = marked.get_max_length()
        if not torch.compiler.is_compiling() and num_past + num_tokens > width:
            raise ValueError(
                f"{int(num_past) + num_tokens} text tokens do not fit a static cache that has room for {width} beside "
                "the ECG: make max_cache_len one larger than for the text alone"
            )
        if mask is None:
            return None
        is_short = not torch.compiler.is_compiling() and bool(mask.shape[-1] < num_past + num_tokens)
        if mask.ndim != 2 or mask.shape[0] != batch_size or is_short:
            raise ValueError(
                f"attention_mask has shape {tuple(mask.shape)}; expected ({batch_size}, {int(num_past) + num_tokens}) "
                "or more columns: one per past and new text token, none for the ECG"
            )
        return functional.pad(mask[:, :width], (0, max(width - mask.shape[1], 0)))

    def _mask_with_slot(
        self, mask: torch.Tensor | None, cache: Cache, batch_size: int, num_tokens: int, device: torch.device
    ) -> torch.Tensor | None:
        """Put the ECG's column in front of a 2-D mask of the text."""
        marked = self_attention_cache(cache)
        if not marked.ecg_layers:
            return mask
        if mask is None:
            if not self.family.needs_mask:
                return None
            width = marked.get_max_length() if marked.is_compileable else marked.get_seq_length() + num_tokens
            mask = torch.ones(batch_size, width, dtype=torch.long, device=device)
        column = mask.new_ones(batch_size, 1).long() * self.family.ecg_column
        return torch.cat([column, mask.long()], dim=-1)

    def _check_ecg_was_read(self, cache: Cache | None) -> None:
        """Where no cache is kept: some layer must have asked for its slot, or the ECG was lost in silence."""
        layers = self_attention_cache(cache).layers if holds_ecg(cache) else []
        slotted = [layer for layer in layers if isinstance(layer, ReplayableLayer) and layer.slot is not None]
        if slotted and not any(layer.was_read for layer in slotted):
            raise RuntimeError(
                f"the {self.config.text_config.model_type} layers never read the cache that holds the ECG; with "
                "checkpointing, turn it on at the ECG model and not at its language model"
            )
