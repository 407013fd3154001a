"""Peak memory of a training step with the ECG in it, beside the same step on the text alone.

    python benchmarks/training_memory.py [--text-model FOLDER] [--unpadded]

Counts the bytes that torch holds, allocation by allocation, on a CPU: they are the same in every run. Weights of the
language model are not counted, as they are there before.
"""

import argparse
from collections.abc import Callable

import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel

from modeling_meit import ECGLlamaForCausalLM
from training.backbone import SMOLLM2_ID, prepare_backbone
from training.lora_targets import lora_targets

BATCH_SIZE, TOKENS, SAMPLES = 16, 64, 5000


def peak_bytes(step: Callable[[], None]) -> int:
    """The most bytes that torch holds during `step` beyond those held before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def training_peaks(
    model: PreTrainedModel, vocab_size: int, samples: int = SAMPLES, shortest: int = TOKENS // 2
) -> dict[str, int]:
    """Peak bytes of forward and backward: on the text alone, with the ECG, and of the encoder and projector alone.

    Args:
        model: in training mode, a LoRA on its language model.
        vocab_size: token ids are drawn below it.
        samples: of an ECG.
        shortest: tokens of the shortest text that may be drawn; the longest has `TOKENS`.
    """
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, vocab_size, (BATCH_SIZE, TOKENS), generator=generator)
    # Texts of several lengths, as reports are: padding alone already keeps sdpa from its mask-free path.
    lengths = torch.randint(shortest, TOKENS + 1, (BATCH_SIZE, 1), generator=generator)
    mask = (torch.arange(TOKENS) < lengths).long()
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}
    ecg_values = torch.randn(BATCH_SIZE, 12, samples, generator=generator)
    inner = model.get_base_model().model

    def step(**ecg: torch.Tensor) -> None:
        model(**inputs, **ecg).loss.backward()
        model.zero_grad()

    def encode() -> None:
        inner.get_ecg_embeds(ecg_values).float().sum().backward()
        model.zero_grad()

    step(ecg_values=ecg_values)  # whatever is allocated once is there from now on
    return {
        "text": peak_bytes(step),
        "text and ECG": peak_bytes(lambda: step(ecg_values=ecg_values)),
        "encoder": peak_bytes(encode),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text-model", default=SMOLLM2_ID, help="Hub id or folder; default: SmolLM2-135M-Instruct")
    parser.add_argument("--unpadded", action="store_true", help="texts of one length")
    arguments = parser.parse_args()
    folder, _ = prepare_backbone(arguments.text_model)
    model = ECGLlamaForCausalLM.from_text_pretrained(folder, dtype=torch.float32)
    lora = LoraConfig(
        r=64,
        lora_alpha=128,
        target_modules=lora_targets(model),
        modules_to_save=["ecg_encoder", "ecg_projector"],
        task_type="CAUSAL_LM",
    )
    shortest = TOKENS if arguments.unpadded else TOKENS // 2
    vocab_size = model.config.text_config.vocab_size
    peaks = training_peaks(get_peft_model(model, lora).train(), vocab_size, shortest=shortest)
    print(
        f"{arguments.text_model}, {BATCH_SIZE} texts of {shortest} to {TOKENS} tokens, float32, LoRA of rank 64, "
        f"torch {torch.__version__}"
    )
    for name, peak in peaks.items():
        print(f"{name:<14}{peak / 2**20:10.1f} MiB")
    rest = peaks["text and ECG"] - peaks["encoder"]
    print(f"without the encoder's own, the step with the ECG takes {rest / peaks['text']:.4f} times the text's")


if __name__ == "__main__":
    main()
