"""Tiny models with random weights, and inputs for them."""

import torch
from transformers import AutoConfig

from modeling_meit import ECGLlamaConfig, ECGLlamaForCausalLM

VOCABULARY = 61
SAMPLES = 256


def tiny_config(family: str = "llama", **overrides) -> ECGLlamaConfig:
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    text_config = AutoConfig.for_model(family, **(text | overrides.pop("text", {})))
    return ECGLlamaConfig(text_config=text_config, ecg_config={"widths": (4, 8, 8, 16)}, **overrides)


def tiny_model(
    family: str = "llama", attn_implementation: str = "sdpa", dtype: torch.dtype = torch.float64, **overrides
) -> ECGLlamaForCausalLM:
    """A model whose every weight, BatchNorm statistics included, is random and large enough to matter."""
    torch.manual_seed(0)
    model = ECGLlamaForCausalLM._from_config(tiny_config(family, **overrides), attn_implementation=attn_implementation)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.3 * noise.abs())
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


TEXTS = [[5, 9, 33, 12, 7, 50, 21], [8, 17, 4], [44, 3, 29, 30, 11]]
