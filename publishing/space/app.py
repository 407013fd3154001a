"""A page that drafts a report for an ECG file with the model `{{ model_id }}`."""

import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import gradio
import torch
import transformers

MODEL_ID = "{{ model_id }}"
NOTICE = "{{ notice }}"
INSTRUCTION = "Write the report for this 12-lead ECG."
PRIVACY = "Upload no recording that could tell who the patient is."
MAX_NEW_TOKENS = 256


@lru_cache(maxsize=1)
def load():
    """Processor and model, at the first draft."""
    config = transformers.AutoConfig.from_pretrained(MODEL_ID, trust_remote_code=True)
    auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    processor = transformers.AutoProcessor.from_pretrained(MODEL_ID, trust_remote_code=True)
    return processor, auto.from_pretrained(MODEL_ID, trust_remote_code=True).eval()


def recording_of(files: list[str], folder: str) -> str:
    """Put the uploaded files of one recording side by side, and name the one to read.

    WFDB's header names its signal files, and uploads lie in folders of their own.
    """
    copies = [Path(shutil.copy(file, folder)) for file in files]
    headers = [copy for copy in copies if copy.suffix == ".hea"]
    if len(headers) == 1:
        return str(headers[0])
    if len(copies) == 1:
        return str(copies[0])
    raise ValueError(f"found {len(copies)} files; expected one, or a .hea with its .dat files")


def draft(files: list[str] | None, sampling_rate: float | None, lead_names: str) -> str:
    """The drafted report below the notice, or why there is none.

    Args:
        files: paths of what was uploaded.
        sampling_rate: in Hz, of a file that does not say it; 0 or None where it does.
        lead_names: of a file that does not say them, with commas between; empty where it does.
    """
    if not files:
        return "Choose a recording first."
    processor, model = load()
    part = {"type": "ecg"}
    if sampling_rate:
        part["sampling_rate"] = sampling_rate
    if lead_names.strip():
        part["lead_names"] = [name.strip() for name in lead_names.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        try:
            part["ecg"] = recording_of(files, folder)
            message = {"role": "user", "content": [part, {"type": "text", "text": INSTRUCTION}]}
            inputs = processor.apply_chat_template(
                [message], tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
        except (ValueError, OSError, ImportError) as error:
            return f"No draft: {str(error).replace(f'{folder}/', '')}"
    with torch.no_grad():
        tokens = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)[0]
    start = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    return f"**{NOTICE}**\n\n{processor.decode(tokens[start:], skip_special_tokens=True).strip()}"


def page() -> gradio.Blocks:
    """The page."""
    with gradio.Blocks(title="ECG report drafts") as blocks:
        gradio.Markdown(f"# ECG report drafts\n\n> **{NOTICE}**\n\n{PRIVACY} Model: `{MODEL_ID}`.")
        files = gradio.File(label="One recording: a .hea with its .dat, or one file", file_count="multiple")
        rate = gradio.Number(label="Sampling rate in Hz, if the file does not say it", value=None)
        leads = gradio.Textbox(label="Leads, if the file does not say them: I, II, III, ...")
        button = gradio.Button("Draft a report")
        button.click(draft, [files, rate, leads], gradio.Markdown())
    return blocks


if __name__ == "__main__":
    page().launch()
