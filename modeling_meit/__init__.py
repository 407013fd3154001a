"""The network: ECG encoder, fusion and language model as one `PreTrainedModel`."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from .base_meit import ECGFusionModel, ECGLlamaPreTrainedModel
from .configuration_meit import ECGEncoderConfig, ECGLlamaConfig, ECGLlamaSeq2SeqConfig
from .encoder_meit import ECGEncoder, ECGProjector
from .families_meit import FAMILIES, Family
from .modeling_meit import ECGLlamaForCausalLM, ECGLlamaModel
from .modeling_seq2seq_meit import ECGLlamaForConditionalGeneration, ECGLlamaSeq2SeqModel

# With the package installed, the Auto classes need no remote code.
AutoConfig.register(ECGLlamaConfig.model_type, ECGLlamaConfig, exist_ok=True)
AutoModel.register(ECGLlamaConfig, ECGLlamaForCausalLM, exist_ok=True)
AutoModelForCausalLM.register(ECGLlamaConfig, ECGLlamaForCausalLM, exist_ok=True)
AutoConfig.register(ECGLlamaSeq2SeqConfig.model_type, ECGLlamaSeq2SeqConfig, exist_ok=True)
AutoModel.register(ECGLlamaSeq2SeqConfig, ECGLlamaForConditionalGeneration, exist_ok=True)
AutoModelForSeq2SeqLM.register(ECGLlamaSeq2SeqConfig, ECGLlamaForConditionalGeneration, exist_ok=True)

__all__ = [
    "FAMILIES",
    "ECGEncoder",
    "ECGEncoderConfig",
    "ECGFusionModel",
    "ECGLlamaConfig",
    "ECGLlamaForCausalLM",
    "ECGLlamaForConditionalGeneration",
    "ECGLlamaModel",
    "ECGLlamaPreTrainedModel",
    "ECGLlamaSeq2SeqConfig",
    "ECGLlamaSeq2SeqModel",
    "ECGProjector",
    "Family",
]
