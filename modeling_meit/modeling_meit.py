"""`ECGLlamaModel` and `ECGLlamaForCausalLM`: an open decoder-only LLM that reads a 12-lead ECG."""

from functools import partial

import torch
from transformers import AutoModel, AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from .base_meit import ECGFusionModel
from .caches_meit import holds_ecg
from .configuration_meit import ECGLlamaConfig
from .generation_meit import ECGGenerationMixin
from .loading_meit import ECGLoadableModel, base_of


class ECGLlamaModel(ECGFusionModel):
    """Language model, ECG encoder and projector, without the language-model head.

    Args:
        config: the configuration.
        language_model: the base model of an already loaded language model; built from `config.text_config` if None.
    """

    def __init__(self, config: ECGLlamaConfig, language_model: PreTrainedModel | None = None):
        super().__init__(config, language_model or AutoModel.from_config(config.text_config))

    @can_return_tuple
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
        """Run the language model on text with an ECG, or where none is given on the text alone.

        Args:
            input_ids: (batch, tokens); or `inputs_embeds`, (batch, tokens, embedding size).
            attention_mask: (batch, past and new tokens), 1 for text and 0 for padding; the ECG has no column in it.
            position_ids: (batch, tokens); counted over the text from `attention_mask` where not given.
            past_key_values: an empty `DynamicCache` or `StaticCache` (one longer than the text, for "concat"), or the
                cache that an earlier call returned: it holds the ECG.
            ecg_values: (batch, leads, samples), as the processor returns them.
            ecg_embeds: what `get_ecg_embeds` made of them; instead of `ecg_values`. Not read where `past_key_values`
                already holds an ECG.
            use_cache: whether to return a cache.

        Returns:
            `last_hidden_state` (batch, tokens, hidden_size), the cache, and where asked for `hidden_states` and
            `attentions`, which with "concat" have the ECG as their first column.

        Raises:
            ValueError: where there are two ECGs, or a shape does not fit.
            TypeError: for a cache that cannot hold the ECG.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass exactly one of input_ids and inputs_embeds")
        text = input_ids if input_ids is not None else inputs_embeds
        batch_size, num_tokens = text.shape[:2]
        use_cache = self._uses_cache(use_cache)

        cache = past_key_values
        ecg_embeds = self._ecg_of(batch_size, ecg_values, ecg_embeds, cache)
        inputs_embeds = self.embeds_with_ecg(input_ids, inputs_embeds, ecg_embeds, holds_ecg(cache))
        if ecg_embeds is not None:
            if self._needs_bridge(ecg_embeds):
                inputs_embeds = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
                inputs_embeds, ecg_embeds = self._bridged(inputs_embeds, ecg_embeds)
            new_cache = partial(DynamicCache, config=self.config.text_config) if use_cache else None
            cache = self._with_ecg(ecg_embeds, cache, new_cache)

        num_past = cache.get_seq_length() if cache is not None else 0
        if holds_ecg(cache):
            self._check_window(num_past + num_tokens)
        attention_mask = self._text_mask(attention_mask, cache, batch_size, num_tokens)
        if position_ids is None:
            columns = torch.arange(num_tokens, device=text.device) + num_past
            position_ids = columns.expand(batch_size, -1)
            if attention_mask is not None:
                # The slot has no position, so its distance to a token depends on where the text's positions start:
                # padding must not shift them.
                position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, columns]
        if holds_ecg(cache):
            attention_mask = self._mask_with_slot(attention_mask, cache, batch_size, num_tokens, text.device)

        outputs = self.language_model(
            input_ids=input_ids if inputs_embeds is None else None,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=use_cache,
            **kwargs,
        )
        self._check_ecg_was_read(cache)
        if not use_cache:
            outputs.past_key_values = None
        return outputs


class ECGLlamaForCausalLM(ECGGenerationMixin, ECGLoadableModel, GenerationMixin):
    """An open LLM that drafts a report from a 12-lead ECG.

    Args:
        config: the configuration.
        text_model: an already loaded causal language model whose modules are taken over; built from
            `config.text_config`, with random weights, if None.
    """

    text_auto_class = AutoModelForCausalLM

    def __init__(self, config: ECGLlamaConfig, text_model: PreTrainedModel | None = None):
        super().__init__(config)
        self._check_text_config(config.text_config)
        is_new = text_model is None
        text_model = AutoModelForCausalLM.from_config(config.text_config) if is_new else text_model
        self.model = ECGLlamaModel(config, language_model=base_of(text_model))
        self.lm_head = text_model.get_output_embeddings()
        self._adopt(text_model, is_new)
        self.post_init()

    @can_return_tuple
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
