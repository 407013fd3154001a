"""What each backbone computes, with an optional ECG: the equations of DESIGN.md section 4, written out.

No modelling file of transformers and none of ours is read here. Everything is computed token by token and head by
head from a state dict under the names of the stock model, in the dtype of its tensors.
"""

from . import blocks, decoders, ecg, flamingo, seq2seq
from .decoders import llama_logits
from .ecg import batch_norm, project, project_features, resnet18, resnet18_features
from .flamingo import gated_cross_attention

LOGITS = decoders.LOGITS | seq2seq.LOGITS

__all__ = [
    "LOGITS",
    "batch_norm",
    "blocks",
    "decoders",
    "ecg",
    "flamingo",
    "gated_cross_attention",
    "llama_logits",
    "project",
    "project_features",
    "resnet18",
    "resnet18_features",
    "seq2seq",
]
