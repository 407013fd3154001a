"""A 12-lead recording and small tokenizers made on the spot: no network, no corpus."""

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast


def make_ecg(samples: int = 5000, seed: int = 0) -> np.ndarray:
    """Twelve leads of noise in mV that obey Einthoven and Goldberger, made from electrode potentials."""
    right_arm, left_arm, left_leg, *chest = np.random.default_rng(seed).normal(size=(9, samples)) / 2
    limb = [
        left_arm - right_arm,
        left_leg - right_arm,
        left_leg - left_arm,
        right_arm - (left_arm + left_leg) / 2,
        left_arm - (right_arm + left_leg) / 2,
        left_leg - (right_arm + left_arm) / 2,
    ]
    return np.stack(limb + chest)


def make_tokenizer(
    chatml: bool = False, bos: bool = False, eos: bool = False, pad: bool = False, plain: bool = False
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of a few hundred tokens; `plain` is one with none of the other traits.

    `bos` and `eos` are put around any text: `eos` alone as T5's does, both as BART's.
    """
    special = ["<|endoftext|>", "<s>", "<pad>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Sinus rhythm. Normal ECG. Atrial fibrillation, rate 90 per minute."] * 3, trainer)
    if bos or eos:
        around = f"{'<s> ' * bos}$A{' <|endoftext|>' * eos}"
        ids = [("<|endoftext|>", 0), ("<s>", 1)]
        tokenizer.post_processor = processors.TemplateProcessing(around, special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>" if chatml else "<|endoftext|>",
        bos_token="<s>" if bos else None,
        pad_token="<pad>" if pad else None,
        additional_special_tokens=special[3:],
    )
