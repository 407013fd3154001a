"""Croissant metadata of one config: what its Parquet files are, how they are read, and under which licence.

A Croissant file describes one dataset under one licence, so each config has its own beside its shards.

Source: Croissant Format Specification 1.1, http://mlcommons.org/croissant/1.1.
"""

from collections.abc import Mapping

from dataset_builder.column_texts import COLUMN_TEXTS
from dataset_builder.columns import features

CROISSANT = "croissant.json"
_VERSION = "http://mlcommons.org/croissant/1.1"
_PARQUET = "application/x-parquet"
# By the licences' ids on the Hub, which the build reports hold.
LICENCES = {
    "apache-2.0": "https://spdx.org/licenses/Apache-2.0.html",
    "cc-by-4.0": "https://spdx.org/licenses/CC-BY-4.0.html",
    "odbl": "https://spdx.org/licenses/ODbL-1.0.html",
}
# By their names in `datasets`.
_TYPES = {
    "bool": "sc:Boolean",
    "float32": "cr:Float32",
    "float64": "cr:Float64",
    "int16": "cr:Int16",
    "int64": "cr:Int64",
    "string": "sc:Text",
    "timestamp[ms]": "sc:DateTime",
}
# The context of the specification's appendix, with the terms that mlcroissant counts to it.
_TERMS = (
    "annotation", "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "excludes", "extract", "field",
    "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5",
    "parentField", "path", "readLines", "recordSet", "references", "regex", "repeated", "replace", "samplingRate",
    "sdVersion", "separator", "source", "subField", "transform", "unArchive", "value",
)  # fmt: skip
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
} | {term: f"cr:{term}" for term in _TERMS}


def croissant(report: Mapping) -> dict[str, object]:
    """The metadata of a config as JSON-LD, to be written into the folder of its shards.

    Args:
        report: its build report.
    """
    source = report["source"]
    distribution, record_sets = [], []
    for split, counts in report["splits"].items():
        distribution += [_file(shard) for shard in counts["shards"]]
        distribution.append(
            {
                "@type": "cr:FileSet",
                "@id": f"{split}-files",
                "name": f"{split}-files",
                "description": f"The shards of the split {split}.",
                "encodingFormat": _PARQUET,
                "includes": f"{split}-*.parquet",
            }
        )
        record_sets.append(
            {
                "@type": "cr:RecordSet",
                "@id": split,
                "name": split,
                "description": f"{counts['records']} records of {counts['patients']} patients.",
                "key": {"@id": f"{split}/id"},
                "field": [
                    _field(f"{split}/{name}", feature, f"{split}-files", name, COLUMN_TEXTS[name])
                    for name, feature in features(report["samples"]).items()
                ],
            }
        )
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _VERSION,
        "name": f"meit-ecg-{report['config']}",
        "description": " ".join([f"12-lead ECGs with their reports. {source['name']}.", *source["notes"]]),
        "license": LICENCES[source["licence"]],
        "url": source["url"],
        "creator": [{"@type": "sc:Person", "name": name} for name in source["creators"]],
        "datePublished": source["published"],
        "version": report["builder_version"],
        "citeAs": source["citation"],
        "isLiveDataset": False,
        "distribution": distribution,
        "recordSet": record_sets,
    }


def _file(shard: Mapping) -> dict[str, object]:
    return {
        "@type": "cr:FileObject",
        "@id": shard["file"],
        "name": shard["file"],
        "contentUrl": shard["file"],  # relative to the metadata, so that the folder may lie anywhere
        "contentSize": f"{shard['bytes']} B",
        "encodingFormat": _PARQUET,
        "sha256": shard["sha256"],
    }


def _field(field_id: str, feature: dict, files: str, column: str, text: str | None, member: str | None = None) -> dict:
    """A column, or a `member` of the structs that it holds."""
    field = {"@type": "cr:Field", "@id": field_id, "name": field_id.rpartition("/")[2]}
    if text is not None:
        field["description"] = text
    kind = feature.get("_type")
    if kind == "Array2D":
        field |= {"isArray": True, "arrayShape": ",".join(map(str, feature["shape"]))}
    elif kind == "List":
        field |= {"isArray": True, "arrayShape": str(feature.get("length", -1))}
        feature = feature["feature"]
    if "_type" not in feature:  # a struct
        members = [_field(f"{field_id}/{name}", one, files, column, None, name) for name, one in feature.items()]
        return field | {"subField": members}
    source = {"fileSet": {"@id": files}, "extract": {"column": column}}
    if member is not None:
        source["transform"] = {"jsonPath": member}
    return field | {"dataType": _TYPES[feature["dtype"]], "source": source}
