"""Tiny models with random weights, and inputs for them."""

from typing import Any

import torch

from modeling_meit import (
    ECGLlamaConfig,
    ECGLlamaForCausalLM,
    ECGLlamaForConditionalGeneration,
    ECGLlamaSeq2SeqConfig,
)

from .families import SEQ2SEQ, text_config

VOCABULARY = 61
SAMPLES = 256
ECG_TOKEN = 60
TEXTS = [[5, 9, 33, 12, 7, 50, 21], [8, 17, 4], [44, 3, 29, 30, 11]]
TARGETS = [[2, 44, 3, 29, 30, 11], [2, 9, 14], [2, 58, 6, 23, 40]]


def tiny_config(family: str = "llama", text: dict | None = None, **overrides: Any) -> ECGLlamaConfig:
    config_class = ECGLlamaSeq2SeqConfig if family in SEQ2SEQ else ECGLlamaConfig
    if overrides.get("fusion") == "llava":
        overrides.setdefault("ecg_token_id", ECG_TOKEN)
    overrides.setdefault("ecg_config", {"widths": (4, 8, 8, 16)})
    return config_class(text_config=text_config(family, **(text or {})), **overrides)


def tiny_model(
    family: str = "llama", attn_implementation: str | None = None, dtype: torch.dtype = torch.float64, **overrides: Any
) -> ECGLlamaForCausalLM | ECGLlamaForConditionalGeneration:
    """A model whose every weight, gates and BatchNorm statistics included, is random and large enough to matter."""
    torch.manual_seed(0)
    model_class = ECGLlamaForConditionalGeneration if family in SEQ2SEQ else ECGLlamaForCausalLM
    kwargs = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    model = model_class._from_config(tiny_config(family, **overrides), **kwargs)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.3 * noise.abs())
            elif name.endswith("gate"):
                tensor.copy_(0.5 + 0.2 * noise)
            elif tensor.ndim == 1:
                tensor.copy_(tensor + 0.2 * noise)
            else:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
    return model.to(dtype).eval()


def ecg(batch_size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(batch_size, 12, SAMPLES, generator=torch.Generator().manual_seed(seed)).to(dtype)


def padded(texts: list[list[int]], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask of texts of several lengths."""
    width = max(map(len, texts))
    ids = torch.zeros(len(texts), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        columns = slice(width - len(text), width) if side == "left" else slice(0, len(text))
        ids[row, columns] = torch.tensor(text)
        mask[row, columns] = 1
    return ids, mask


def with_placeholders(model: Any, texts: list[list[int]]) -> list[list[int]]:
    """The texts, each with as many ECG placeholders behind its first token as the model's fusion asks for."""
    if model.config.fusion != "llava":
        return texts
    return [[text[0], *[ECG_TOKEN] * model.config.num_ecg_tokens, *text[1:]] for text in texts]


def inputs_of(model: Any, side: str = "left", rows: slice = slice(None), seed: int = 0) -> dict[str, torch.Tensor]:
    """Texts, their masks and ECGs; of an encoder-decoder, reports too, padded on the right."""
    ids, mask = padded(with_placeholders(model, TEXTS)[rows], side)
    dtype = model.model.ecg_encoder.dtype
    inputs = {"input_ids": ids, "attention_mask": mask, "ecg_values": ecg(3, seed, dtype)[rows]}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"], inputs["decoder_attention_mask"] = padded(TARGETS[rows], "right")
    return inputs
