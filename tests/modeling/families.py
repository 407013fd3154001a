"""Tiny configurations of every text backbone, and of the ways in which real ones of a family differ."""

from typing import Any

from transformers import AutoConfig, PretrainedConfig

_TOKENS = {"vocab_size": 61, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_LLAMA = _TOKENS | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "attention_dropout": 0.0,
}
# In these two the heads together are wider than the stream.
_WIDE_HEADS = {"head_dim": 16}
_GPT2 = _TOKENS | {"n_embd": 32, "n_inner": 48, "n_layer": 2, "n_head": 4, "n_positions": 64}
_GPT2 |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}

TEXT_CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA | _WIDE_HEADS,
    "gemma": _LLAMA | _WIDE_HEADS,
    "phi3": _LLAMA | {"resid_pdrop": 0.0, "embd_pdrop": 0.0},
    "gpt_neo": _TOKENS
    | {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_layers": 2,
        "num_heads": 4,
        "max_position_embeddings": 64,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 8,
        "resid_dropout": 0.0,
        "embed_dropout": 0.0,
        "attention_dropout": 0.0,
    },
    "gpt_neox": _TOKENS
    | {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "rotary_pct": 0.5,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
    },
    "gptj": _GPT2 | {"rotary_dim": 4},
    "bloom": _TOKENS | {"hidden_size": 32, "n_layer": 2, "n_head": 4, "hidden_dropout": 0.0, "attention_dropout": 0.0},
    "opt": _TOKENS
    | {
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "layerdrop": 0.0,
    },
    "gpt2": _GPT2,
    "bart": _TOKENS
    | {
        "d_model": 32,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "max_position_embeddings": 64,
        "decoder_start_token_id": 2,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "encoder_layerdrop": 0.0,
        "decoder_layerdrop": 0.0,
    },
    # Few enough buckets, and near enough, that a short text reaches those of several distances and the last.
    "t5": _TOKENS
    | {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 12,
        "decoder_start_token_id": 0,
        "dropout_rate": 0.0,
    },
}

SEQ2SEQ = ("bart", "t5")
DECODERS = tuple(family for family in TEXT_CONFIGS if family not in SEQ2SEQ)

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"tie_word_embeddings": True}),
    ("llama", {"attention_bias": True, "mlp_bias": True}),
    ("qwen3", {"attention_bias": True}),
    ("gemma", {"num_key_value_heads": 1}),
    ("phi3", {"partial_rotary_factor": 0.5}),
    ("gpt_neox", {"use_parallel_residual": False}),
    ("gpt_neox", {"attention_bias": False}),
    ("gptj", {"tie_word_embeddings": True}),
    ("bloom", {"hidden_size": 36, "n_head": 6}),
    ("bloom", {"apply_residual_connection_post_layernorm": True}),
    ("opt", {"do_layer_norm_before": False}),
    ("opt", {"word_embed_proj_dim": 16}),
    ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    ("bart", {"scale_embedding": True}),
    ("bart", {"encoder_attention_heads": 2, "encoder_layers": 1}),
    ("t5", {"d_kv": 16}),
    # T5 v1.1. For T5, `tie_word_embeddings` says no more than whether the decoder's output is scaled.
    ("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
]
# Those whose window is shorter than the texts of the tests.
WINDOWED: list[tuple[str, dict[str, Any]]] = [
    ("mistral", {"sliding_window": 4}),
    ("phi3", {"sliding_window": 4}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    ("qwen3", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
]


def text_config(family: str, **overrides: Any) -> PretrainedConfig:
    return AutoConfig.for_model(family, **(TEXT_CONFIGS[family] | overrides))
