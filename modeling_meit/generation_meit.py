"""Decoding with an ECG: what `GenerationMixin.generate` must be told."""

from typing import Any

import torch
from transformers.cache_utils import Cache
from transformers.generation import GenerationConfig

from .caches_meit import holds_ecg


def _asked_for(name: str, generation_config: GenerationConfig | None, kwargs: dict[str, Any]) -> Any:
    return kwargs.get(name, getattr(generation_config, name, None))


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
        self._refuse_unsupported(generation_config, kwargs)
        if self.config.fusion == "llava":
            suppressed = _asked_for("suppress_tokens", generation_config or self.generation_config, kwargs) or ()
            kwargs["suppress_tokens"] = sorted({*suppressed, self.config.ecg_token_id})
        if ecg_values is not None:
            if holds_ecg(kwargs.get("past_key_values")):
                raise ValueError("past_key_values already holds an ECG: do not pass ecg_values again")
            device = self.model.ecg_encoder.device
            kwargs["ecg_embeds"] = self.model.get_ecg_embeds(ecg_values.to(device))
        if self.config.is_encoder_decoder and self.config.fusion == "llava":
            inputs = self._fill_encoder_text(inputs, kwargs)
        return super().generate(inputs, generation_config, *args, **kwargs)

    def _fill_encoder_text(self, inputs: torch.Tensor | None, kwargs: dict[str, Any]) -> None:
        """Put the ECG into the encoder's text, which `GenerationMixin` hands to the bare encoder."""
        if kwargs.get("encoder_outputs") is None:
            input_ids = kwargs.pop("input_ids", inputs)
            embeds, ecg_embeds = kwargs.get("inputs_embeds"), kwargs.get("ecg_embeds")
            embeds = self.model.filled(input_ids, embeds, ecg_embeds)
            kwargs["inputs_embeds"] = self.get_input_embeddings()(input_ids) if embeds is None else embeds

    def _refuse_unsupported(self, generation_config: GenerationConfig | None, kwargs: dict[str, Any]) -> None:
        if _asked_for("penalty_alpha", generation_config, kwargs):
            raise ValueError(
                "contrastive search (penalty_alpha) is not supported: use beams, sampling or greedy decoding"
            )
        if _asked_for("prefill_chunk_size", generation_config, kwargs) and self.config.fusion == "llava":
            raise ValueError(
                'prefill_chunk_size is not supported with fusion "llava", whose ECG may lie across two chunks'
            )
        assistant = kwargs.get("assistant_model")
        if assistant is not None and hasattr(assistant.config, "ecg_config"):
            raise ValueError("an assistant_model with an ECG encoder is not supported: pass a text-only one")
        if assistant is not None and self.config.fusion == "llava":
            raise ValueError(
                'fusion "llava" cannot be assisted: an assistant_model does not know the placeholder token; '
                "prompt_lookup_num_tokens needs none"
            )

    def _get_candidate_generator(self, *args: Any, **kwargs: Any) -> Any:
        """Assisted decoding: a text-only assistant proposes tokens, this model with its ECG takes or rejects them."""
        model_kwargs = kwargs.get("model_kwargs")
        if model_kwargs is not None:
            kwargs["model_kwargs"] = {name: value for name, value in model_kwargs.items() if name != "ecg_embeds"}
        return super()._get_candidate_generator(*args, **kwargs)

    def _prepare_static_cache(self, *args: Any, **kwargs: Any) -> Cache:
        """A static cache with room for the ECG's slot."""
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
