"""A trained folder that is only looked at, never loaded."""

import pytest
import torch
from safetensors.torch import save_file

from .folders import BACKBONE, write_json


@pytest.fixture
def adapter(tmp_path):
    """A folder as training leaves it, state of the run included."""
    folder = tmp_path / "sft"
    folder.mkdir()
    write_json(
        folder / "config.json",
        {
            "model_type": "ecg_llama",
            "text_model_id": BACKBONE,
            "text_model_path": "/home/me/models/SmolLM2",
            "text_config": {"_name_or_path": "/home/me/models/SmolLM2", "hidden_size": 8},
            "ecg_config": {"depth": 18},
            "fusion": "concat",
            "fusion_layers": None,
            "format_version": 1,
            "auto_map": {"AutoModelForCausalLM": "modeling_meit.ECGLlamaForCausalLM"},
        },
    )
    write_json(
        folder / "adapter_config.json",
        {"base_model_name_or_path": "/home/me/models/SmolLM2", "r": 8, "target_modules": ["q_proj"]},
    )
    write_json(folder / "processor_config.json", {"processor_class": "ECGProcessor"})
    write_json(folder / "tokenizer.json", {"model": {"vocab": {"/usr/": 0}, "merges": ["/usr/ bin", "/ u"]}})
    write_json(
        folder / "training_run.json",
        {
            "model": {"text_model": BACKBONE, "ecg_scaling": "minmax"},
            "data": {
                "corpora": [{"dataset": "meit-ecg", "config": "ptb-xl", "records": 400}],
                "mixture_weights": None,
                "split": "train",
                "records": 400,
            },
            "tuning": {"mode": "lora", "lora_r": 8, "lora_target_modules": ["q_proj", "v_proj"]},
        },
    )
    (folder / "modeling_meit.py").write_text("class ECGLlamaForCausalLM: ...\n", encoding="utf-8")
    (folder / "README.md").write_text("base_model: /home/me/models/SmolLM2\n", encoding="utf-8")
    save_file({"lora_A": torch.ones(2, 3), "steps": torch.tensor(3)}, folder / "adapter_model.safetensors")
    save_file({"ecg_values": torch.ones(1, 12, 5)}, folder / "check_logits.safetensors")
    (folder / "samples.jsonl").write_text('{"id": "1", "draft": "Sinus rhythm."}\n', encoding="utf-8")
    (folder / "emissions.csv").write_text("longitude,latitude\n", encoding="utf-8")
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / ".env").write_text("secret", encoding="utf-8")
    (folder / "checkpoint-20").mkdir()
    (folder / "checkpoint-20" / "optimizer.pt").write_bytes(b"pickle")
    (folder / "stages" / "1-align").mkdir(parents=True)
    write_json(folder / "stages" / "1-align" / "config.json", {"text_model_path": "/home/me/models/SmolLM2"})
    return folder
