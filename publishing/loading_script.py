"""Runs in the clean environment: loads a model by every route that a stranger may take, and compares the logits.

It imports nothing of ours, as nothing of ours is there. `loading_check` starts it with a task, as JSON.
"""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import transformers
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoConfig, AutoProcessor, BitsAndBytesConfig

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
# Of an unlucky environment, in which the folder's own code would not be what runs.
FOREIGN = ("modeling_meit", "processing", "dataset_builder", "training", "publishing", "trl")


class Routes:
    """The routes to the model of one folder.

    Args:
        folder: the staged upload.
        text_model: an adapter's backbone, as a folder; None for a full checkpoint.
        auto_class: name of the Auto class of the model's kind.
        logits_file: what training wrote, or None.
        scratch: an empty folder for the merged model.
        quantization: how the language model was packed when training wrote its logits, or None.
    """

    def __init__(
        self,
        folder: str,
        text_model: str | None,
        auto_class: str,
        logits_file: str | None,
        scratch: str,
        quantization: dict | None,
    ):
        self.folder = folder
        self.text_model = text_model
        self.auto_class = auto_class
        self.scratch = Path(scratch)
        self.is_packed = quantization is not None
        self.inputs: dict[str, torch.Tensor] = {}
        self.positions = self.expected = self.first = None
        self.options = {}
        if logits_file is not None:
            self._read(logits_file)
        if quantization is not None:
            self.options["quantization_config"] = BitsAndBytesConfig.from_dict(quantization)

    def _read(self, logits_file: str) -> None:
        with safe_open(logits_file, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            self.options["dtype"] = getattr(torch, file.metadata()["dtype"])
        self.positions, self.expected = tensors.pop("positions"), tensors.pop("logits")
        self.inputs = tensors

    def run(self) -> Iterator[dict]:
        """One outcome per route: its name and what was found, or the error that ends the check."""
        routes = {
            "AutoConfig": self.auto_config,
            "AutoProcessor": self.auto_processor,
            "AutoModel": lambda: self.auto_model("AutoModel"),
            self.auto_class: lambda: self.auto_model(self.auto_class),
        }
        if self.text_model is not None:
            routes |= {"PeftModel": self.peft_model, "merged, saved, loaded again": self.merged}
        for name, route in routes.items():
            try:
                yield {"route": name, **route()}
            except Exception as error:  # whatever it is, it would meet the stranger too
                yield {"route": name, "error": f"{type(error).__name__}: {error}"}
                return

    def auto_config(self) -> dict:
        """The configuration, by the folder's own code."""
        importable = [name for name in FOREIGN if importlib.util.find_spec(name) is not None]
        if importable:
            raise ImportError(f"the environment is not clean: {', '.join(importable)} can be imported")
        self.config = AutoConfig.from_pretrained(self.folder, trust_remote_code=True)
        return {"found": type(self.config).__name__}

    def auto_processor(self) -> dict:
        """The processor, on an ECG that is made here: ten seconds of waves, each lead another amplitude."""
        processor = AutoProcessor.from_pretrained(self.folder, trust_remote_code=True)
        seconds = np.arange(5000) / 500
        wave = np.sin(2 * np.pi * 1.2 * seconds) ** 15 + 0.1 * np.sin(2 * np.pi * 0.3 * seconds)
        ecg = np.outer(np.linspace(0.5, 1.5, len(LEADS)), wave).astype(np.float32)
        made = processor(
            ecg=ecg, sampling_rate=500, lead_names=LEADS, text="Write the report for this ECG.", return_tensors="pt"
        )
        shape = tuple(made["ecg_values"].shape)
        if shape != (1, 12, 5000) or not torch.isfinite(made["ecg_values"]).all():
            raise ValueError(f"ecg_values has shape {shape}; expected (1, 12, 5000), all finite")
        if not self.inputs:
            self.inputs = dict(made)
            if self.config.is_encoder_decoder:
                start = self.config.text_config.decoder_start_token_id
                self.inputs["decoder_input_ids"] = torch.full((1, 1), start or 0)
        return {"found": type(processor).__name__}

    def auto_model(self, auto_class: str) -> dict:
        """The model by one of the Auto classes; the ECG must make a difference to it."""
        options = self.options if self.text_model is None else self.options | {"text_model": self.text_model}
        model = getattr(transformers, auto_class).from_pretrained(self.folder, trust_remote_code=True, **options)
        self.model_class = type(model)
        outcome = self.compare(model)
        flat = self.logits(model, self.inputs | {"ecg_values": torch.zeros_like(self.inputs["ecg_values"])})
        if torch.equal(flat, self.logits(model, self.inputs)):
            raise ValueError("a flat line in place of the ECG changes no logit: the model does not see the ECG")
        return outcome

    def peft_model(self) -> dict:
        """peft's own class, around a base whose ECG parts have fresh weights."""
        return self.compare(self.around_fresh_base(self.options))

    def around_fresh_base(self, options: dict) -> PeftModel:
        """The folder's adapter on the language model with a fresh encoder."""
        base = self.model_class.from_text_pretrained(self.text_model, config=self.config, **options)
        return PeftModel.from_pretrained(base, self.folder)

    def merged(self) -> dict:
        """The adapter added into the language model, saved as a full checkpoint and loaded again, against it as it was.

        In float32: the sum of two weights rounded to fewer bits is another model by some hundredths.
        """
        if self.is_packed:
            return {"skipped": "the language model is packed in 4 bits, to which an adapter is not added exactly"}
        options = {"dtype": torch.float32}
        peft = self.around_fresh_base(options)
        expected = self.logits(peft, self.inputs)
        peft.merge_and_unload().save_pretrained(self.scratch)
        del peft
        model = transformers.AutoModel.from_pretrained(self.scratch, trust_remote_code=True, **options)
        difference = _difference(self.logits(model, self.inputs), expected)
        return {"found": f"{type(model).__name__}, in float32", "from_unmerged": difference}

    def logits(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Logits of the positions that training wrote, of all positions where it wrote none."""
        with torch.no_grad():
            logits = model.eval()(**inputs, use_cache=False).logits.float()
        if self.positions is None:
            return logits
        return logits.gather(1, self.positions.unsqueeze(-1).expand(-1, -1, logits.shape[-1]))

    def compare(self, model: torch.nn.Module) -> dict:
        """Largest differences from training's logits and from the first route's, as shares of the largest logit."""
        logits = self.logits(model, self.inputs)
        if not torch.isfinite(logits).all():
            raise ValueError("the logits hold NaN or infinity")
        if self.first is None:
            self.first = logits
        outcome = {"found": type(model).__name__, "from_first": _difference(logits, self.first)}
        if self.expected is not None:
            outcome["from_training"] = _difference(logits, self.expected.float())
        return outcome


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    if found.shape != expected.shape:
        raise ValueError(f"the logits have shape {tuple(found.shape)}; expected {tuple(expected.shape)}")
    return ((found - expected).abs().max() / expected.abs().max()).item()


def main() -> None:
    """Run the routes and write their outcomes, one line each, into the file that the task names."""
    task = json.loads(sys.argv[1])
    with open(task.pop("outcomes"), "w", encoding="utf-8") as file:
        for outcome in Routes(**task).run():
            file.write(json.dumps(outcome) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
