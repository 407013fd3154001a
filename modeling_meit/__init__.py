"""The network: ECG encoder, fusion and language model as one `PreTrainedModel`."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from .configuration_meit import ECGEncoderConfig, ECGLlamaConfig
from .encoder_meit import ECGEncoder, ECGProjector
from .modeling_meit import ECGLlamaForCausalLM, ECGLlamaModel, ECGLlamaPreTrainedModel

# With the package installed, the Auto classes need no remote code.
AutoConfig.register(ECGLlamaConfig.model_type, ECGLlamaConfig, exist_ok=True)
AutoModel.register(ECGLlamaConfig, ECGLlamaForCausalLM, exist_ok=True)
AutoModelForCausalLM.register(ECGLlamaConfig, ECGLlamaForCausalLM, exist_ok=True)

__all__ = [
    "ECGEncoder",
    "ECGEncoderConfig",
    "ECGLlamaConfig",
    "ECGLlamaForCausalLM",
    "ECGLlamaModel",
    "ECGLlamaPreTrainedModel",
    "ECGProjector",
]
