"""The columns of the dataset, once: as `datasets` describes them and as Arrow and Parquet hold them."""

import json

import pyarrow as pa

SPLITS = ("train", "validation", "test")

# What a machine measured, as MIMIC-IV-ECG names it: ms from the beginning of the averaged beat, ms, and degrees.
MACHINE_INTERVALS = ("rr_interval", "p_onset", "p_end", "qrs_onset", "qrs_end", "t_end")
MACHINE_AXES = ("p_axis", "qrs_axis", "t_axis")
MACHINE_MEASUREMENTS = MACHINE_INTERVALS + MACHINE_AXES


def _value(dtype: str) -> dict:
    return {"dtype": dtype, "_type": "Value"}


def features(samples: int) -> dict[str, dict]:
    """The columns in the notation of `datasets.Features.from_dict`, with `samples` per lead."""
    return {
        "id": _value("string"),
        "corpus": _value("string"),
        "patient_id": _value("string"),
        "study_time": _value("timestamp[ms]"),
        "age": _value("float32"),
        "sex": _value("string"),
        # ADC units, so that mV = (ecg - ecg_baseline) / ecg_gain is exact; -32768 marks an invalid sample.
        "ecg": {"shape": [12, samples], "dtype": "int16", "_type": "Array2D"},
        "ecg_gain": {"feature": _value("float64"), "length": 12, "_type": "List"},
        "ecg_baseline": {"feature": _value("int64"), "length": 12, "_type": "List"},
        "sampling_rate": _value("float64"),
        "report": _value("string"),
        "report_language": _value("string"),
        "report_source": _value("string"),
        "scp_codes": {"feature": {"code": _value("string"), "likelihood": _value("float32")}, "_type": "List"},
        "validated_by_human": _value("bool"),
        "machine_measurements": {name: _value("float32") for name in MACHINE_MEASUREMENTS},
        "signal_quality": {"feature": _value("string"), "_type": "List"},
        "split": _value("string"),
    }


def arrow_schema(samples: int) -> pa.Schema:
    """The schema of a shard, with the marks that `datasets` itself leaves and reads the columns' types from."""
    described = features(samples)
    fields = [pa.field(name, _arrow_type(feature), metadata=_mark(feature)) for name, feature in described.items()]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def _arrow_type(feature: dict) -> pa.DataType:
    kind = feature.get("_type")
    if kind is None:
        return pa.struct([(name, _arrow_type(member)) for name, member in feature.items()])
    if kind == "List":
        return pa.list_(_arrow_type(feature["feature"]), feature.get("length", -1))
    if kind == "Array2D":
        return pa.list_(pa.list_(pa.int16()))
    return pa.type_for_alias(feature["dtype"])


def _mark(feature: dict) -> dict[str, str] | None:
    """An Arrow extension type, which whoever has not registered it reads as the lists that it is made of."""
    if feature.get("_type") != "Array2D":
        return None
    return {
        "ARROW:extension:name": "datasets.features.features.Array2DExtensionType",
        "ARROW:extension:metadata": json.dumps([feature["shape"], feature["dtype"]]),
    }
