"""The model that a run begins with: language model, encoder, the weights of an earlier run, and what is trained."""

from collections.abc import Iterable

import torch
from peft import PeftModel
from transformers import AutoConfig, PreTrainedModel

from modeling_meit import ECGEncoderConfig, ECGLlamaConfig, ECGLlamaForCausalLM, ECGLlamaForConditionalGeneration
from modeling_meit.families_meit import family_of

from .arguments import ModelArguments, TrainingConfig, TuningArguments
from .earlier_run import begins_in_full, check_same_model, take_over_adapter
from .encoder_weights import EncoderWeightsReport, load_encoder_weights
from .norm_statistics import measure_norm_statistics
from .tuning import for_tuning, keep_trainable, quantization_config


def text_dtype(model: ModelArguments, tuning: TuningArguments, config: TrainingConfig) -> torch.dtype:
    """dtype in which the language model is held.

    Raises:
        ValueError: `--text_dtype` is none that training can use.
    """
    if tuning.tuning == "full":
        # Updates below a half-precision weight's last bit would be lost; with --bf16 it still computes in bfloat16.
        if model.text_dtype not in ("auto", "float32"):
            raise ValueError(f"text_dtype is {model.text_dtype!r}; expected auto or float32 with tuning full")
        return torch.float32
    if model.text_dtype == "auto":
        return torch.bfloat16 if config.bf16 else torch.float32
    dtype = getattr(torch, model.text_dtype, None)
    if dtype not in (torch.bfloat16, torch.float16, torch.float32):
        raise ValueError(f"text_dtype is {model.text_dtype!r}; expected auto, bfloat16, float16 or float32")
    return dtype


def encoder_config(model: ModelArguments) -> ECGEncoderConfig:
    """The encoder's configuration, checked together with the fusion.

    Raises:
        ValueError: an option is none that there is.
    """
    widths = {} if model.encoder_widths is None else {"widths": model.encoder_widths}
    ecg_config = ECGEncoderConfig(
        depth=model.encoder_depth, norm=model.encoder_norm, stem_pool=model.encoder_stem_pool, **widths
    )
    # How many layers there are to choose from shows with the language model.
    any_layer = None if model.fusion_layers is None else [0]
    ECGLlamaConfig(
        ecg_config=ecg_config, fusion=model.fusion, fusion_layers=any_layer, num_ecg_tokens=model.num_ecg_tokens
    )
    return ecg_config


def model_class(model_type: str) -> type[ECGLlamaForCausalLM] | type[ECGLlamaForConditionalGeneration]:
    """The class around a language model of this `model_type`.

    Raises:
        ValueError: where the family is not supported; the message names those that are.
    """
    is_encoder_decoder = family_of(model_type).is_encoder_decoder
    return ECGLlamaForConditionalGeneration if is_encoder_decoder else ECGLlamaForCausalLM


def starting_model(
    text_model: str,
    text_model_id: str | None,
    arguments: ModelArguments,
    tuning: TuningArguments,
    config: TrainingConfig,
    ecg_batches: Iterable[torch.Tensor],
) -> tuple[PreTrainedModel | PeftModel, EncoderWeightsReport | None]:
    """Build the model of a run.

    Args:
        text_model: folder or Hub id of the language model.
        text_model_id: its Hub id, where it is known.
        arguments: encoder, fusion, and the weights to begin with.
        tuning: what is trained.
        config: of the run.
        ecg_batches: `ecg_values` of some training records; read where the encoder's norm has statistics to be measured.

    Returns:
        The model, in an adapter unless it is trained in full, and what of the file `arguments.encoder` found its place.

    Raises:
        ValueError, OSError: a file of weights is not usable; the message names it.
    """
    dtype = text_dtype(arguments, tuning, config)
    ecg_config = encoder_config(arguments)
    begins_full = arguments.start_from is not None and begins_in_full(arguments.start_from, tuning)
    loaded_class = model_class(AutoConfig.from_pretrained(text_model).model_type)
    torch.manual_seed(config.seed)  # encoder, projector and LoRA start from random weights
    if begins_full:
        model = loaded_class.from_pretrained(
            arguments.start_from, dtype=dtype, attn_implementation=arguments.attn_implementation
        )
    else:
        packed = {}
        if (quantization := quantization_config(tuning, dtype)) is not None:
            # Each process packs the whole language model onto its own device.
            packed = {"quantization_config": quantization, "device_map": {"": config.device}}
        model = loaded_class.from_text_pretrained(
            text_model,
            ecg_config=ecg_config,
            dtype=dtype,
            attn_implementation=arguments.attn_implementation,
            text_model_id=text_model_id,
            fusion=arguments.fusion,
            fusion_layers=arguments.fusion_layers,
            num_ecg_tokens=arguments.num_ecg_tokens,
            **packed,
        )
        keep_trainable(model)
    report = None
    if arguments.encoder is not None:
        report = load_encoder_weights(model.model.ecg_encoder, arguments.encoder)
    if arguments.start_from is not None:
        check_same_model(model, arguments.start_from)
    elif ecg_config.norm != "batch":
        measure_norm_statistics(model, ecg_batches, keep_encoder=arguments.encoder is not None)
    model = for_tuning(model, tuning)
    if arguments.start_from is not None and not begins_full:
        take_over_adapter(model, arguments.start_from)
    return model, report
