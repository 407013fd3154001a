"""Decoding with an ECG: what `GenerationMixin.generate` must be told."""

from typing import Any

import torch
from transformers.cache_utils import Cache
from transformers.generation import GenerationConfig

from .caches_meit import holds_ecg


class ECGGenerationMixin:
    """`generate` for text with an ECG, in front of `GenerationMixin`."""

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *args: Any,
        ecg_values: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """`GenerationMixin.generate` for text with an ECG.

        The ECG is encoded here, once, before beams or several returned sequences multiply the batch.

        Args:
            inputs: token ids, (batch, tokens), or `input_ids` among the keywords.
            generation_config: as of `GenerationMixin.generate`.
            ecg_values: (batch, leads, samples), as the processor returns them.

        Raises:
            ValueError: for a way of decoding that is not supported with an ECG.
        """
        asked_for = vars(generation_config or self.generation_config) | kwargs
        self._refuse_unsupported(asked_for)
        if self.config.fusion == "llava":
            suppressed = asked_for.get("suppress_tokens") or ()
            kwargs["suppress_tokens"] = sorted({*suppressed, self.config.ecg_token_id})
        if ecg_values is not None:
            if holds_ecg(kwargs.get("past_key_values")):
                raise ValueError("past_key_values already holds an ECG: do not pass ecg_values again")
            if self.config.fusion == "llava" and kwargs.get("encoder_outputs") is not None:
                raise ValueError(
                    'fusion "llava" puts the ECG into the encoder\'s text: pass ecg_values or encoder_outputs'
                )
            if kwargs.get("ecg_embeds") is not None:
                raise ValueError("pass one of ecg_values and ecg_embeds, found both")
            kwargs["ecg_embeds"] = self._encode(ecg_values)
        if self.config.is_encoder_decoder and self.config.fusion == "llava":
            self._fill_encoder_text(inputs, kwargs)
            inputs = None
        return super().generate(inputs, generation_config, *args, **kwargs)

    def _fill_encoder_text(self, inputs: torch.Tensor | None, kwargs: dict[str, Any]) -> None:
        """Put the ECG into the encoder's text, which `GenerationMixin` hands to the bare encoder."""
        if kwargs.get("encoder_outputs") is None:
            input_ids = kwargs.pop("input_ids", inputs)
            embeds, ecg_embeds = kwargs.get("inputs_embeds"), kwargs.get("ecg_embeds")
            embeds = self.model.embeds_with_ecg(input_ids, embeds, ecg_embeds)
            kwargs["inputs_embeds"] = self.get_input_embeddings()(input_ids) if embeds is None else embeds

    def _encode(self, ecg_values: torch.Tensor) -> torch.Tensor:
        """The ECGs' embeddings, by the statistics that training gathered and not those of this batch."""
        in_training = [part for part in (self.model.ecg_encoder, self.model.ecg_projector) if part.training]
        for part in in_training:
            part.eval()
        try:
            return self.model.get_ecg_embeds(ecg_values.to(self.model.ecg_encoder.device))
        finally:
            for part in in_training:
                part.train()

    def _refuse_unsupported(self, asked_for: dict[str, Any]) -> None:
        if asked_for.get("penalty_alpha"):
            raise ValueError(
                "contrastive search (penalty_alpha) is not supported: use beams, sampling or greedy decoding"
            )
        if asked_for.get("cache_implementation") == "paged":
            raise ValueError('a paged cache is not supported with an ECG: use "dynamic" or "static"')
        if asked_for.get("assistant_early_exit"):
            raise ValueError("assistant_early_exit is not supported with an ECG: use prompt_lookup_num_tokens")
        if asked_for.get("prefill_chunk_size") and self.config.fusion == "llava":
            raise ValueError(
                'prefill_chunk_size is not supported with fusion "llava", whose ECG may lie across two chunks'
            )
        assistant = asked_for.get("assistant_model")
        if assistant is not None and hasattr(assistant.config, "ecg_config"):
            raise ValueError("an assistant_model with an ECG encoder is not supported: pass a text-only one")
        if assistant is not None and self.config.fusion == "llava":
            raise ValueError(
                'fusion "llava" cannot be assisted: an assistant_model does not know the placeholder token; '
                "prompt_lookup_num_tokens needs none"
            )

    def generate_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Continuous batching has no place for an ECG.

        Raises:
            ValueError: always.
        """
        raise ValueError("continuous batching (generate_batch) is not supported with an ECG: use generate")

    def _get_candidate_generator(self, *args: Any, **kwargs: Any) -> Any:
        """Assisted decoding: a text-only assistant proposes tokens, this model with its ECG takes or rejects them."""
        model_kwargs = kwargs.get("model_kwargs")
        if model_kwargs is not None:
            kwargs["model_kwargs"] = {name: value for name, value in model_kwargs.items() if name != "ecg_embeds"}
        return super()._get_candidate_generator(*args, **kwargs)

    def _prepare_static_cache(self, *args: Any, **kwargs: Any) -> Cache:
        """A static cache with room for the ECG's slot."""
        window = self.config.ecg_window
        if window is not None and kwargs["max_cache_len"] >= window:
            raise ValueError(
                f"a text of up to {kwargs['max_cache_len']} tokens does not fit the language model's sliding window of "
                f"{window} beside the ECG: pass a lower max_new_tokens"
            )
        if self.config.fusion == "concat":
            kwargs["max_cache_len"] += 1
        return super()._prepare_static_cache(*args, **kwargs)

    def create_masks_for_generate(
        self,
        config: Any,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None,
        **kwargs: Any,
    ) -> torch.Tensor | None:
        """The mask of a step with a static cache: still one column per token, as many as fit the cache.

        `forward` adds the ECG's column; and the number stays the same from step to step, for compiled code.
        """
        if attention_mask is None or attention_mask.ndim != 2:
            return attention_mask
        missing = past_key_values.get_max_length() - attention_mask.shape[1]
        return torch.nn.functional.pad(attention_mask, (0, max(missing, 0)))
