"""`ECGLlamaForConditionalGeneration`: the twin of `ECGLlamaForCausalLM` for encoder-decoder language models."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel, AutoModelForSeq2SeqLM, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.utils import can_return_tuple

from .base_meit import ECGFusionModel
from .caches_meit import ReplayableEncoderDecoderCache, holds_ecg
from .configuration_meit import ECGLlamaSeq2SeqConfig
from .generation_meit import ECGGenerationMixin
from .loading_meit import ECGLoadableModel, base_of


class ECGLlamaSeq2SeqModel(ECGFusionModel):
    """Encoder-decoder language model, ECG encoder and projector, without the language-model head.

    Args:
        config: the configuration.
        language_model: the base model of an already loaded language model; built from `config.text_config` if None.
    """

    config_class = ECGLlamaSeq2SeqConfig

    def __init__(self, config: ECGLlamaSeq2SeqConfig, language_model: PreTrainedModel | None = None):
        super().__init__(config, language_model or AutoModel.from_config(config.text_config))

    def get_encoder(self, *args: Any, **kwargs: Any) -> nn.Module:
        return self.language_model.get_encoder(*args, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        ecg_values: torch.Tensor | None = None,
        ecg_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> Seq2SeqModelOutput:
        """Run the language model on a text and a report with an ECG, or where none is given on the text alone.

        Args:
            input_ids: (batch, tokens) of the encoder's text; or `inputs_embeds`; or `encoder_outputs`, what the encoder
                made of it.
            attention_mask: (batch, tokens) of the encoder's text, 1 for text and 0 for padding.
            decoder_input_ids: (batch, report tokens); or `decoder_inputs_embeds`.
            decoder_attention_mask: (batch, past and new report tokens); the ECG has no column in it.
            past_key_values: an empty `EncoderDecoderCache`, or the cache that an earlier call returned.
            ecg_values: (batch, leads, samples), as the processor returns them.
            ecg_embeds: what `get_ecg_embeds` made of them; instead of `ecg_values`.
            use_cache: whether to return a cache.

        Raises:
            ValueError: where there are two ECGs, or a shape does not fit.
            TypeError: for a cache that cannot hold the ECG.
        """
        if (decoder_input_ids is None) == (decoder_inputs_embeds is None):
            raise ValueError("pass exactly one of decoder_input_ids and decoder_inputs_embeds")
        text = decoder_input_ids if decoder_input_ids is not None else decoder_inputs_embeds
        batch_size, num_tokens = text.shape[:2]
        use_cache = self._uses_cache(use_cache)

        cache = past_key_values
        ecg_embeds = self._ecg_of(batch_size, ecg_values, ecg_embeds, cache)
        if self.config.fusion == "llava" and encoder_outputs is not None and ecg_values is not None:
            raise ValueError('fusion "llava" puts the ECG into the encoder\'s text: pass ecg_values or encoder_outputs')
        if past_key_values is not None and not isinstance(past_key_values, EncoderDecoderCache):
            raise TypeError(f"past_key_values is a {type(past_key_values).__name__}; expected an EncoderDecoderCache")
        if encoder_outputs is None:
            inputs_embeds = self.embeds_with_ecg(input_ids, inputs_embeds, ecg_embeds, holds_ecg(cache))
        if ecg_embeds is not None:
            self._check_padding_side(attention_mask)
            if self._needs_bridge(ecg_embeds):
                if decoder_inputs_embeds is None:
                    decoder_inputs_embeds = self.get_input_embeddings()(decoder_input_ids)
                decoder_inputs_embeds, ecg_embeds = self._bridged(decoder_inputs_embeds, ecg_embeds)
            cache = self._with_ecg(ecg_embeds, cache, self._new_cache if use_cache else None)
            if not use_cache and not isinstance(cache, EncoderDecoderCache):
                cache = ReplayableEncoderDecoderCache(cache)

        decoder_attention_mask = self._text_mask(decoder_attention_mask, cache, batch_size, num_tokens)
        if holds_ecg(cache):
            decoder_attention_mask = self._mask_with_slot(
                decoder_attention_mask, cache, batch_size, num_tokens, text.device
            )
        outputs = self.language_model(
            input_ids=input_ids if inputs_embeds is None else None,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids if decoder_inputs_embeds is None else None,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=cache,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        self._check_ecg_was_read(cache)
        if not use_cache:
            outputs.past_key_values = None
        return outputs

    def _check_padding_side(self, attention_mask: torch.Tensor | None) -> None:
        if not self.family.pads_right or attention_mask is None or torch.compiler.is_compiling():
            return
        if attention_mask.shape[1] and not attention_mask[:, 0].all():
            raise ValueError(
                f"the encoder's text is padded on the left, where {self.config.text_config.model_type} would count the "
                'padding as positions: pad it on the right (padding_side="right")'
            )

    def _new_cache(self) -> EncoderDecoderCache:
        config = self.language_model.get_decoder().config
        return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))


class ECGLlamaForConditionalGeneration(ECGGenerationMixin, ECGLoadableModel, GenerationMixin):
    """An open encoder-decoder LLM that drafts a report from a 12-lead ECG.

    Args:
        config: the configuration.
        text_model: an already loaded sequence-to-sequence language model whose modules are taken over; built from
            `config.text_config`, with random weights, if None.
    """

    config_class = ECGLlamaSeq2SeqConfig
    text_auto_class = AutoModelForSeq2SeqLM

    def __init__(self, config: ECGLlamaSeq2SeqConfig, text_model: PreTrainedModel | None = None):
        super().__init__(config)
        self._check_text_config(config.text_config)
        is_new = text_model is None
        text_model = AutoModelForSeq2SeqLM.from_config(config.text_config) if is_new else text_model
        self.model = ECGLlamaSeq2SeqModel(config, language_model=base_of(text_model))
        self.lm_head = text_model.get_output_embeddings()
        bias = getattr(text_model, "final_logits_bias", None)  # BART's
        self.register_buffer("final_logits_bias", bias)
        self._adopt(text_model, is_new)
        self.post_init()

    def get_encoder(self, *args: Any, **kwargs: Any) -> nn.Module:
        return self.model.get_encoder(*args, **kwargs)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        embeddings = super().resize_token_embeddings(*args, **kwargs)
        if self.final_logits_bias is not None:
            missing = embeddings.weight.shape[0] - self.final_logits_bias.shape[-1]
            self.final_logits_bias = functional.pad(self.final_logits_bias, (0, missing))
        return embeddings

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: BaseModelOutput | tuple | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        ecg_values: torch.Tensor | None = None,
        ecg_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        num_items_in_batch: int | torch.Tensor | None = None,
        **kwargs,
    ) -> Seq2SeqLMOutput:
        """Logits, and with `labels` the mean cross-entropy of the report's tokens in nats.

        Args:
            labels: (batch, report tokens), token ids, -100 where no loss is wanted. Not shifted: the token at place i
                is predicted from `decoder_input_ids` up to place i, which are made of the labels where not given.
            num_items_in_batch: what to divide the sum of the losses by, where not by the number of labels.

        The other arguments and the errors are those of `ECGLlamaSeq2SeqModel.forward`.
        """
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            ecg_values=ecg_values,
            ecg_embeds=ecg_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        if getattr(self.config.text_config, "scale_decoder_outputs", False):  # T5, where it ties its head
            hidden = hidden * self.config.text_config.hidden_size**-0.5
        logits = self.lm_head(hidden)
        if self.final_logits_bias is not None:
            logits = logits + self.final_logits_bias.to(logits)
        loss = None
        if labels is not None:
            total = functional.cross_entropy(
                logits.float().flatten(0, 1), labels.flatten().to(logits.device), ignore_index=-100, reduction="sum"
            )
            loss = total / ((labels != -100).sum() if num_items_in_batch is None else num_items_in_batch)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )

    def prepare_decoder_input_ids_from_labels(self, labels: torch.LongTensor) -> torch.LongTensor:
        """The labels one place later, behind the token that a decoder starts with; padding in place of -100."""
        text_config = self.config.text_config
        start = labels.new_full((labels.shape[0], 1), text_config.decoder_start_token_id)
        shifted = torch.cat([start, labels[:, :-1]], dim=1)
        return shifted.masked_fill(shifted == -100, text_config.pad_token_id)
