"""A saved processor, loaded where our packages, wfdb, scipy and ecgdatakit do not exist."""

import json
import shutil

import numpy as np
import pytest
from transformers import AutoFeatureExtractor, AutoProcessor

from processing import LEADS, ECGFeatureExtractor, ECGProcessor
from tests.clean_environment import run_in_clean_environment
from tests.processing.ecg_file_writers import write_aecg
from tests.processing.synthetic import make_ecg, make_tokenizer

SCRIPT = """
import sys
import numpy as np
from transformers import AutoFeatureExtractor, AutoProcessor

for name in ("processing", "modeling_meit", "wfdb", "scipy", "ecgdatakit", "pydicom", "pandas", "trl"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} can be imported")

folder, again = sys.argv[1:]
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
leads = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
ecg = np.load("ecg.npy")
part = {"type": "ecg", "ecg": ecg, "sampling_rate": 500, "lead_names": leads}
messages = [{"role": "user", "content": [part, {"type": "text", "text": "Report?"}]}]
inputs = processor.apply_chat_template(
    messages, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="np"
)
np.savez("inputs.npz", **inputs, alone=extractor(ecg, 500, leads)["ecg_values"])
for ecg, rate, names in ((ecg[:, :2500], 250, leads), ("record", None, None), ("ecg.xml", None, None)):
    try:
        processor(ecg=ecg, sampling_rate=rate, lead_names=names, text="Report?")
    except ImportError as error:
        print(error)
processor.save_pretrained(again)
AutoProcessor.from_pretrained(again, trust_remote_code=True)
"""


@pytest.mark.parametrize("chatml", [True, False])
def test_round_trip_in_this_process(tmp_path, chatml):
    processor = ECGProcessor(ECGFeatureExtractor(scaling="zscore"), make_tokenizer(chatml=chatml))
    processor.save_pretrained(tmp_path / "saved")
    shutil.move(tmp_path / "saved", tmp_path / "moved")
    loaded = AutoProcessor.from_pretrained(tmp_path / "moved", trust_remote_code=True)
    assert type(loaded).__name__ == "ECGProcessor"
    assert loaded.chat_template == processor.chat_template
    assert loaded.tokenizer.pad_token == processor.tokenizer.pad_token
    assert (loaded.ecg_token_id, loaded.num_ecg_tokens) == (None, 1)
    ecg = {"ecg": make_ecg(), "sampling_rate": 500, "lead_names": LEADS}
    one, other = processor(**ecg, text="Report?"), loaded(**ecg, text="Report?")
    assert one["input_ids"] == other["input_ids"]
    np.testing.assert_array_equal(one["ecg_values"], other["ecg_values"])
    alone = AutoFeatureExtractor.from_pretrained(tmp_path / "moved", trust_remote_code=True)
    np.testing.assert_array_equal(alone(*ecg.values())["ecg_values"], one["ecg_values"])


def test_the_folder_says_where_its_classes_are(tmp_path):
    ECGProcessor(ECGFeatureExtractor(), make_tokenizer()).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "processor_config.json").read_text())
    assert config["auto_map"]["AutoProcessor"] == "processing_meit.ECGProcessor"
    extractor = config["feature_extractor"]
    assert extractor["auto_map"]["AutoFeatureExtractor"] == "feature_extraction_meit.ECGFeatureExtractor"
    assert extractor["format_version"] == 1
    assert {file.name for file in tmp_path.glob("*.py")} == {
        "adc.py",
        "clinical_files.py",
        "clinical_limits.py",
        "csv_files.py",
        "feature_extraction_meit.py",
        "file_format.py",
        "leads.py",
        "numpy_files.py",
        "placeholders.py",
        "processing_meit.py",
        "reading.py",
        "recording.py",
        "resampling.py",
        "voltage_units.py",
        "wfdb_plain.py",
        "wfdb_reading.py",
        "xml_scan.py",
    }


@pytest.mark.parametrize("traits", [{"bos": True}, {"bos": True, "eos": True, "pad": True}, {"eos": True}])
def test_placeholders_and_padding_side_survive_saving(tmp_path, traits):
    tokenizer = make_tokenizer(**traits)
    processor = ECGProcessor(ECGFeatureExtractor(), tokenizer, ecg_token_id=len(tokenizer), num_ecg_tokens=3)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path, trust_remote_code=True)
    assert (loaded.ecg_token_id, loaded.num_ecg_tokens) == (len(tokenizer), 3)
    batch = {"ecg": [make_ecg(), make_ecg(seed=1)], "text": ["Report?", "Rhythm and rate?"]}
    batch |= {"sampling_rate": 500, "lead_names": LEADS, "return_tensors": "np"}
    one, other = processor(**batch), loaded(**batch)
    assert (one["input_ids"] == len(tokenizer)).sum() == 6
    for name in ("input_ids", "attention_mask"):
        np.testing.assert_array_equal(one[name], other[name])


def test_a_folder_from_before_there_were_placeholders_loads(tmp_path):
    ECGProcessor(ECGFeatureExtractor(), make_tokenizer()).save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    config = json.loads(path.read_text())
    del config["ecg_token_id"], config["num_ecg_tokens"]
    path.write_text(json.dumps(config))
    loaded = AutoProcessor.from_pretrained(tmp_path, trust_remote_code=True)
    assert (loaded.ecg_token_id, loaded.num_ecg_tokens) == (None, 1)


def test_it_loads_with_only_torch_transformers_peft_and_numpy(tmp_path, write_record, ecg):
    processor = ECGProcessor(ECGFeatureExtractor(), make_tokenizer(chatml=True), ecg_token_id=999, num_ecg_tokens=2)
    processor.save_pretrained(tmp_path / "saved")
    shutil.move(tmp_path / "saved", tmp_path / "moved")
    write_record()
    write_aecg(tmp_path / "ecg.xml", np.rint(ecg * 400).astype(int))
    np.save(tmp_path / "ecg.npy", ecg)
    printed = run_in_clean_environment(SCRIPT, tmp_path, str(tmp_path / "moved"), str(tmp_path / "again"))
    assert "resampling from 250 Hz to 500 Hz needs the package scipy" in printed
    assert "ecg.xml: reading HL7 aECG needs further packages: pip install 'meit-ecg[formats]'" in printed
    assert "record" not in printed

    part = {"type": "ecg", "ecg": ecg, "sampling_rate": 500, "lead_names": LEADS}
    expected = processor.apply_chat_template(
        [{"role": "user", "content": [part, {"type": "text", "text": "Report?"}]}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="np",
    )
    with np.load(tmp_path / "inputs.npz") as found:
        for name in ("input_ids", "attention_mask", "ecg_values"):
            np.testing.assert_array_equal(found[name], expected[name])
        np.testing.assert_array_equal(found["alone"], expected["ecg_values"])
