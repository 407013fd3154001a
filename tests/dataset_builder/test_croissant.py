"""The Croissant metadata against the files that they describe, and the terms of the specification."""

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dataset_builder import plan
from dataset_builder.build import build_config
from dataset_builder.column_texts import COLUMN_TEXTS
from dataset_builder.columns import arrow_schema
from dataset_builder.croissant import LICENCES
from dataset_builder.mimic_iv_ecg import SOURCE as MIMIC
from dataset_builder.ptb_xl import SOURCE as PTB_XL
from dataset_builder.simulated import SOURCE as SIMULATED

# What the columns are in Croissant: data type, and shape of an array.
MIMIC_FIELDS = {
    "id": ("sc:Text", None),
    "corpus": ("sc:Text", None),
    "patient_id": ("sc:Text", None),
    "study_time": ("sc:DateTime", None),
    "age": ("cr:Float32", None),
    "sex": ("sc:Text", None),
    "ecg": ("cr:Int16", "12,5000"),
    "ecg_gain": ("cr:Float64", "12"),
    "ecg_baseline": ("cr:Int64", "12"),
    "sampling_rate": ("cr:Float64", None),
    "report": ("sc:Text", None),
    "report_language": ("sc:Text", None),
    "report_source": ("sc:Text", None),
    "scp_codes": ({"code": "sc:Text", "likelihood": "cr:Float32"}, "-1"),
    "validated_by_human": ("sc:Boolean", None),
    "machine_measurements": (
        dict.fromkeys(
            ("rr_interval", "p_onset", "p_end", "qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis"),
            "cr:Float32",
        ),
        None,
    ),
    "signal_quality": ("sc:Text", "-1"),
    "split": ("sc:Text", None),
}


@pytest.fixture
def folder(mimic_of_60, open_mimic, tmp_path, monkeypatch) -> Path:
    """The config of the 60 recordings, in shards of twenty."""
    monkeypatch.setattr(plan, "RECORDS_PER_SHARD", 20)
    build_config(open_mimic(mimic_of_60), tmp_path / "meit-ecg")
    return tmp_path / "meit-ecg" / "mimic-iv-ecg"


@pytest.fixture
def metadata(folder) -> dict:
    return json.loads((folder / "croissant.json").read_text("utf-8"))


def of_type(metadata: dict, kind: str) -> list[dict]:
    return [resource for resource in metadata["distribution"] if resource["@type"] == kind]


def test_the_dataset_is_described_with_one_licence(metadata):
    assert metadata["@type"] == "sc:Dataset"
    assert metadata["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert metadata["name"] == "meit-ecg-mimic-iv-ecg"
    assert metadata["license"] == "https://spdx.org/licenses/ODbL-1.0.html"
    assert metadata["url"] == "https://doi.org/10.13026/4nqg-sb35"
    assert "Gow B." in metadata["citeAs"]
    assert metadata["creator"][0] == {"@type": "sc:Person", "name": "Gow B."}
    assert len(metadata["creator"]) == 16
    assert metadata["datePublished"] == "2023-09-15"
    assert metadata["isLiveDataset"] is False
    assert "share-alike" in metadata["description"]


def test_every_file_is_there_with_its_size_and_checksum(folder, metadata):
    files = of_type(metadata, "cr:FileObject")
    assert sorted(file["contentUrl"] for file in files) == sorted(path.name for path in folder.glob("*.parquet"))
    assert len(files) == 5  # three shards of train, one each of the others
    for file in files:
        content = (folder / file["contentUrl"]).read_bytes()
        assert file["contentSize"] == f"{len(content)} B"
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["encodingFormat"] == "application/x-parquet"


def test_each_split_is_the_records_of_its_files(folder, metadata):
    patterns = {files["@id"]: files["includes"] for files in of_type(metadata, "cr:FileSet")}
    assert {split["@id"] for split in metadata["recordSet"]} == {"train", "validation", "test"}
    for split in metadata["recordSet"]:
        sources = {
            leaf["source"]["fileSet"]["@id"] for field in split["field"] for leaf in field.get("subField", [field])
        }
        (files,) = sources
        rows = [pq.read_metadata(path).num_rows for path in folder.glob(patterns[files])]
        assert split["description"].startswith(f"{sum(rows)} records of ")
        assert split["key"] == {"@id": f"{split['@id']}/id"}


def test_fields_are_the_columns_of_the_files(folder, metadata):
    columns = pq.read_schema(next(folder.glob("train-*.parquet"))).names
    for split in metadata["recordSet"]:
        found = {}
        for field in split["field"]:
            assert field["@id"] == f"{split['@id']}/{field['name']}"
            shape = field.get("arrayShape")
            assert ("isArray" in field) == (shape is not None)
            if members := field.get("subField"):
                for member in members:
                    assert member["source"]["extract"] == {"column": field["name"]}
                    assert member["source"]["transform"] == {"jsonPath": member["name"]}
                found[field["name"]] = ({member["name"]: member["dataType"] for member in members}, shape)
            else:
                assert field["source"]["extract"] == {"column": field["name"]}
                found[field["name"]] = (field["dataType"], shape)
        assert found == MIMIC_FIELDS
        assert list(found) == columns


def test_ids_are_unique_and_every_term_is_in_the_context(metadata):
    ids, terms = [], set()

    def walk(node: object) -> None:
        if isinstance(node, list):
            for member in node:
                walk(member)
        elif isinstance(node, dict):
            if set(node) != {"@id"} and "@id" in node:
                ids.append(node["@id"])
            terms.update(name for name in node if name[0] != "@")
            for member in node.values():
                walk(member)

    walk({name: value for name, value in metadata.items() if name != "@context"})
    assert len(ids) == len(set(ids))
    # Terms of schema.org need no entry: it is the context's vocabulary.
    schema_org = {
        "contentSize",
        "contentUrl",
        "creator",
        "datePublished",
        "distribution",
        "encodingFormat",
        "license",
        "sha256",
        "url",
        "version",
    }
    assert terms - schema_org <= set(metadata["@context"])


def test_another_rate_has_another_shape(open_ptb_xl, write_table, write_recording, random_adc, tmp_path):
    line = {"ecg_id": 7, "patient_id": "5.0", "age": "", "sex": "", "report": "sinus rhythm", "strat_fold": 1}
    line |= {"scp_codes": "{}", "validated_by_human": "", "filename_lr": "records100/00007_lr"}
    write_table(tmp_path / "published", [line], columns=list(line))
    write_recording(tmp_path / "published", "records100/00007_lr", random_adc(1, 1000), sampling_rate=100)
    build_config(open_ptb_xl(tmp_path / "published", 100.0), tmp_path / "meit-ecg")
    metadata = json.loads((tmp_path / "meit-ecg/ptb-xl-100hz/croissant.json").read_text("utf-8"))
    (split,) = metadata["recordSet"]
    assert {field["name"]: field.get("arrayShape") for field in split["field"]}["ecg"] == "12,1000"
    assert metadata["license"] == "https://spdx.org/licenses/CC-BY-4.0.html"


def test_every_column_and_every_licence_is_known():
    assert list(COLUMN_TEXTS) == arrow_schema(5000).names
    assert {source.licence for source in (MIMIC, PTB_XL, SIMULATED)} <= set(LICENCES)
