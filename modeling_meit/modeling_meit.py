"""`ECGLlamaModel` and `ECGLlamaForCausalLM`: an open LLM that reads a 12-lead ECG."""

import os
import warnings
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.dynamic_module_utils import custom_object_save
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from .configuration_meit import ECGLlamaConfig
from .encoder_meit import ECGEncoder, ECGProjector
from .fusion_meit import (
    ECGReplayableCache,
    hide_slot_column,
    holds_ecg,
    seed_cache,
    slot_function,
    tile_to_hidden_size,
)

# Within `try`, because the scan of remote code for missing packages would otherwise ask for peft to load even a full
# checkpoint.
try:
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
except ImportError:
    PeftModel = None

ADAPTER_WEIGHTS = "adapter_model.safetensors"


class ECGLlamaPreTrainedModel(PreTrainedModel):
    """Configuration class and capabilities shared by the model with and without its head."""

    config_class = ECGLlamaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]
    # Small parts with batch statistics, which half precision would spoil.
    _keep_in_fp32_modules_strict = ["ecg_encoder", "ecg_projector"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True


class ECGLlamaModel(ECGLlamaPreTrainedModel):
    """Language model, ECG encoder and projector, without the language-model head.

    The whole ECG logic lives here, not in the class with the head: trainers that fuse head and loss call this one.

    Args:
        config: the configuration.
        language_model: the base model of an already loaded language model; built from `config.text_config` if None.
    """

    def __init__(self, config: ECGLlamaConfig, language_model: PreTrainedModel | None = None):
        super().__init__(config)
        self._slot_of = slot_function(config.text_config.model_type)
        if language_model is None:
            language_model = AutoModel.from_config(config.text_config)
        self.language_model = language_model
        self.ecg_encoder = ECGEncoder(config.ecg_config)
        self.ecg_projector = ECGProjector(config.ecg_config.hidden_size, config.ecg_vector_size)
        for index, layer in enumerate(self.language_model.layers):
            # The cache that such a forward pass is given stores nothing, so that a layer may be run twice.
            layer._can_checkpoint_with_cache = True
            if index not in config.ecg_layers:
                layer.register_forward_pre_hook(hide_slot_column, with_kwargs=True)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_ecg_embeds(self, ecg_values: torch.Tensor) -> torch.Tensor:
        """Encode and project ECGs: (batch, leads, samples) -> (batch, hidden_size), the `e` of the fusion."""
        projected = self.ecg_projector(self.ecg_encoder(ecg_values).pooler_output)
        return tile_to_hidden_size(projected, self.config.text_config.hidden_size).to(self.language_model.dtype)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        ecg_values: torch.Tensor | None = None,
        ecg_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """Run the language model on text with an ECG in front.

        Args:
            input_ids: (batch, tokens); or `inputs_embeds`, (batch, tokens, hidden_size).
            attention_mask: (batch, past and new tokens), 1 for text and 0 for padding; the ECG has no column in it.
            position_ids: (batch, tokens); counted over the text from `attention_mask` where not given.
            past_key_values: an empty `DynamicCache`, or the cache that an earlier call returned: it holds the ECG.
            ecg_values: (batch, leads, samples), as the processor returns them.
            ecg_embeds: (batch, hidden_size), what `get_ecg_embeds` made of them; instead of `ecg_values`. Not read
                where `past_key_values` already holds an ECG.
            use_cache: whether to return a cache.

        Raises:
            ValueError: where there is no ECG, or two, or a shape does not fit.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds")
        text = input_ids if input_ids is not None else inputs_embeds
        batch_size, num_tokens = text.shape[:2]
        use_cache = self._uses_cache(use_cache)

        if holds_ecg(past_key_values):
            if ecg_values is not None:
                raise ValueError("past_key_values already holds an ECG: do not pass ecg_values again")
            cache = past_key_values
        else:
            cache = self._cache_with_ecg(batch_size, ecg_values, ecg_embeds, past_key_values, use_cache)

        num_past_tokens = cache.get_seq_length()
        self._check_window(num_past_tokens + num_tokens)
        if attention_mask is not None:
            self._check_attention_mask(attention_mask, batch_size, num_past_tokens + num_tokens)
            if position_ids is None:
                # The slot has no position, so its distance to a token depends on where the text's positions start:
                # padding must not shift them.
                position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -num_tokens:]
            attention_mask = torch.cat([attention_mask.new_ones(batch_size, 1), attention_mask], dim=-1)
        elif position_ids is None:
            positions = torch.arange(num_tokens, device=text.device) + num_past_tokens
            position_ids = positions.expand(batch_size, -1)

        outputs = self.language_model(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=use_cache,
            **kwargs,
        )
        if not use_cache:
            outputs.past_key_values = None
        return outputs

    def _uses_cache(self, use_cache: bool | None) -> bool:
        if self.training and getattr(self.language_model, "gradient_checkpointing", False):
            return False
        if use_cache is None:
            return bool(self.config.text_config.use_cache) and not self.training
        return use_cache

    def _cache_with_ecg(
        self,
        batch_size: int,
        ecg_values: torch.Tensor | None,
        ecg_embeds: torch.Tensor | None,
        past_key_values: Cache | None,
        use_cache: bool,
    ) -> Cache:
        if (ecg_values is None) == (ecg_embeds is None):
            found = "neither" if ecg_values is None else "both"
            raise ValueError(
                f"the model reads text with an ECG: pass exactly one of ecg_values and ecg_embeds, found {found} "
                "(model.model.language_model is the text-only model)"
            )
        if ecg_embeds is None:
            ecg_embeds = self.get_ecg_embeds(ecg_values)
        if ecg_embeds.shape[0] != batch_size:
            raise ValueError(f"found {ecg_embeds.shape[0]} ECGs for {batch_size} texts; expected one per text")
        slots = {
            index: self._slot_of(self.language_model.layers[index], ecg_embeds) for index in self.config.ecg_layers
        }
        if not use_cache:
            return ECGReplayableCache(slots, self.config.text_config.num_hidden_layers)
        cache = DynamicCache(config=self.config.text_config) if past_key_values is None else past_key_values
        seed_cache(cache, slots)
        return cache

    def _check_window(self, num_tokens: int) -> None:
        window = getattr(self.config.text_config, "sliding_window", None)
        if window is not None and num_tokens >= window:
            raise ValueError(
                f"{num_tokens} text tokens, padding included, and the ECG do not fit the language model's sliding "
                f"window of {window}: beyond it the ECG would be out of sight; at most {window - 1} tokens"
            )

    def _check_attention_mask(self, attention_mask: torch.Tensor, batch_size: int, num_tokens: int) -> None:
        if tuple(attention_mask.shape) != (batch_size, num_tokens):
            raise ValueError(
                f"attention_mask has shape {tuple(attention_mask.shape)}; expected ({batch_size}, {num_tokens}): one "
                "column per past and new text token, none for the ECG"
            )


class ECGLlamaForCausalLM(ECGLlamaPreTrainedModel, GenerationMixin):
    """An open LLM that drafts a report from a 12-lead ECG.

    Args:
        config: the configuration.
        text_model: an already loaded causal language model whose modules are taken over; built from
            `config.text_config`, with random weights, if None.
    """

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}

    def __init__(self, config: ECGLlamaConfig, text_model: PreTrainedModel | None = None):
        super().__init__(config)
        if text_model is None:
            self.model = ECGLlamaModel(config)
            text_config = config.text_config
            self.lm_head = nn.Linear(text_config.hidden_size, text_config.vocab_size, bias=False)
        else:
            self.model = ECGLlamaModel(config, language_model=text_model.base_model)
            self.lm_head = text_model.get_output_embeddings()
            self.generation_config = text_model.generation_config
        self.post_init()

    @classmethod
    def from_text_pretrained(
        cls,
        text_model: str | os.PathLike,
        *,
        config: ECGLlamaConfig | None = None,
        ecg_config: PreTrainedConfig | dict | None = None,
        **kwargs: Any,
    ) -> "ECGLlamaForCausalLM":
        """Build the model around a pretrained language model; encoder and projector start with random weights.

        Args:
            text_model: Hub id or folder of a causal language model. For a GGUF file in that folder pass
                `gguf_file=` (and `quantization_config=GgufConfig(dequantize=True)` to train or save it).
            config: a whole configuration, whose `text_config` is replaced by the language model's; or
            ecg_config: that of the encoder, with any other field of `ECGLlamaConfig` among `kwargs`.
            **kwargs: fields of `ECGLlamaConfig`; what remains goes to `AutoModelForCausalLM.from_pretrained`
                (`dtype`, `device_map`, `attn_implementation`, `quantization_config`, ...).

        Raises:
            ValueError: for a family that is not supported; the message names those that are.
        """
        fields = ("fusion", "fusion_layers", "ecg_projection", "text_model_id", "text_model_path")
        overrides = {name: kwargs.pop(name) for name in fields if name in kwargs}
        loaded = AutoModelForCausalLM.from_pretrained(text_model, **kwargs)
        slot_function(loaded.config.model_type)
        attn_implementation = loaded.config._attn_implementation
        if config is None:
            is_folder = os.path.isdir(text_model)
            overrides.setdefault("text_model_id", None if is_folder else os.fspath(text_model))
            overrides.setdefault("text_model_path", os.path.abspath(text_model) if is_folder else None)
            config = cls.config_class(text_config=loaded.config, ecg_config=ecg_config, **overrides)
        elif ecg_config is not None or overrides:
            raise ValueError("pass either config or ecg_config and fields of ECGLlamaConfig, not both")
        else:
            config.text_config = loaded.config
        # A new configuration resets its parts to no implementation at all, with which a built model would attend
        # without a causal mask.
        config._attn_implementation = attn_implementation
        model = cls(config, text_model=loaded)
        for part in (model.model.ecg_encoder, model.model.ecg_projector):
            part.to(loaded.device)
        return model.eval()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *model_args: Any,
        text_model: str | os.PathLike | None = None,
        config: PreTrainedConfig | None = None,
        **kwargs: Any,
    ) -> "ECGLlamaForCausalLM":
        """Load a full checkpoint, or an adapter folder (LoRA, encoder and projector, no backbone weights).

        Args:
            pretrained_model_name_or_path: folder or Hub id.
            text_model: for an adapter folder, the backbone's folder or Hub id, where it is not at the place that
                the config records.
            config: the configuration, where it is already loaded.
            **kwargs: as of `PreTrainedModel.from_pretrained`; `is_trainable=True` leaves an adapter trainable.

        Raises:
            OSError: where an adapter's backbone is nowhere to be found; the message names the places looked at.
            ValueError: where the adapter's weights are not those that its configuration asks for.
        """
        adapter_kwargs = kwargs.pop("adapter_kwargs", None) or {}
        adapter = adapter_kwargs.pop("_adapter_model_path", None) or pretrained_model_name_or_path
        hub_names = (
            "cache_dir",
            "force_download",
            "local_files_only",
            "proxies",
            "revision",
            "subfolder",
            "token",
        )
        hub_kwargs = {name: kwargs[name] for name in hub_names if kwargs.get(name) is not None}
        if adapter is None or find_adapter_config_file(adapter, **{**hub_kwargs, **adapter_kwargs}) is None:
            if text_model is not None:
                raise ValueError(
                    f"{pretrained_model_name_or_path} is a full checkpoint, not an adapter: text_model has no use"
                )
            return super().from_pretrained(pretrained_model_name_or_path, *model_args, config=config, **kwargs)

        if PeftModel is None:
            raise ImportError(f"{adapter} is a LoRA adapter; loading it needs peft: pip install peft")
        # Of where to look and as whom, all but these holds for the backbone's repository too.
        for name in ("revision", "subfolder"):
            kwargs.pop(name, None)
        is_trainable = kwargs.pop("is_trainable", False)
        kwargs.pop("trust_remote_code", None)
        kwargs.pop("_from_auto", None)
        if config is None:
            config = cls.config_class.from_pretrained(adapter, **hub_kwargs)
        model = cls._from_recorded_text_model(adapter, text_model, config, kwargs)
        return model._add_adapter(adapter, is_trainable, {**hub_kwargs, **adapter_kwargs})

    @classmethod
    def _from_recorded_text_model(
        cls,
        adapter: str | os.PathLike,
        text_model: str | os.PathLike | None,
        config: ECGLlamaConfig,
        kwargs: dict[str, Any],
    ) -> "ECGLlamaForCausalLM":
        path, hub_id = config.text_model_path, config.text_model_id
        if text_model is None:
            text_model = path if path is not None and os.path.isdir(path) else hub_id
        try:
            if text_model is None:
                raise OSError("no Hub id is recorded")
            return cls.from_text_pretrained(text_model, config=config, **kwargs)
        except OSError as error:
            raise OSError(
                f"{adapter} is an adapter without backbone weights, and its backbone was not found (tried "
                f"{text_model or path}; recorded are the folder {path} and the Hub id {hub_id}): pass "
                "text_model=FOLDER_OR_HUB_ID"
            ) from error

    def _add_adapter(
        self, adapter: str | os.PathLike, is_trainable: bool, hub_kwargs: dict[str, Any]
    ) -> "ECGLlamaForCausalLM":
        # safetensors or nothing: a pickle from elsewhere runs code when it is read.
        weights = cached_file(adapter, ADAPTER_WEIGHTS, _raise_exceptions_for_missing_entries=False, **hub_kwargs)
        if weights is None:
            raise OSError(f"{adapter} has an adapter_config.json but no {ADAPTER_WEIGHTS}")
        peft_config = PeftConfig.from_pretrained(adapter, **hub_kwargs)
        peft_config.inference_mode = not is_trainable
        with warnings.catch_warnings():
            # peft asks for it by the name that transformers is about to drop.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            peft_model = PeftModel(self, peft_config)
        _check_adapter_keys(peft_model, weights)
        peft_model.load_adapter(adapter, "default", is_trainable=is_trainable, **hub_kwargs)
        # The layers are injected in place. What remains is to tell transformers, whose own calls (save_pretrained,
        # disable_adapters, ...) then act on the adapter.
        self.peft_config = peft_model.peft_config
        self._hf_peft_config_loaded = True
        return self.train(is_trainable)

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.lm_head = value

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        ecg_values: torch.Tensor | None = None,
        ecg_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits, and with `labels` the mean cross-entropy of the next token in nats.

        Args:
            labels: (batch, tokens), token ids, -100 where no loss is wanted.
            logits_to_keep: number of last positions (0: all), or their indices, to compute logits for.

        The other arguments and the errors are those of `ECGLlamaModel.forward`.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            ecg_values=ecg_values,
            ecg_embeds=ecg_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, kept, :])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **kwargs
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        *args: Any,
        ecg_values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """`GenerationMixin.generate` for text with an ECG.

        The ECG is encoded here, once, before beams or several returned sequences multiply the batch.

        Args:
            inputs: token ids, (batch, tokens), or `input_ids` among the keywords.
            ecg_values: (batch, leads, samples), as the processor returns them.
        """
        if ecg_values is not None:
            if holds_ecg(kwargs.get("past_key_values")):
                raise ValueError("past_key_values already holds an ECG: do not pass ecg_values again")
            device = self.model.ecg_encoder.device
            kwargs["ecg_embeds"] = self.model.get_ecg_embeds(ecg_values.to(device))
        return super().generate(inputs, *args, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save the model (or, where one is loaded, its adapter), its configuration and the code to load it."""
        super().save_pretrained(save_directory, *args, **kwargs)
        self.save_config_and_code(save_directory)

    def save_config_and_code(self, folder: str | os.PathLike) -> None:
        """Write the configuration and the modelling code into `folder`: what AutoModel needs beside the weights."""
        self.config.save_pretrained(folder)
        custom_object_save(ECGLlamaForCausalLM, folder)


def _check_adapter_keys(peft_model: nn.Module, weights: str) -> None:
    """Compare the tensors in the file `weights` with those that the adapter asks for."""
    with safe_open(weights, framework="pt") as file:
        found = set(file.keys())
    expected = set(get_peft_model_state_dict(peft_model))
    if found != expected:
        raise ValueError(
            f"{weights} does not fit its adapter_config.json: {len(expected - found)} of {len(expected)} tensors "
            f"are missing (e.g. {sorted(expected - found)[:1]}) and {len(found - expected)} are not expected "
            f"(e.g. {sorted(found - expected)[:1]})"
        )
