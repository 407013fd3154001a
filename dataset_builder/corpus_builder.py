"""What every corpus builder shares: the row of the dataset, the source, the options and the dropped records.

`datasets` replaces `open`, `Path` and parts of `os` in the module of every builder, so as to read from the
network too. Files are therefore opened in other modules, and builders hand paths on as strings.
"""

from dataclasses import dataclass

import datasets

from dataset_builder.dropped_records import DropLog, DroppedRecord
from dataset_builder.stored_signal import SAMPLES

SPLITS = ("train", "validation", "test")

# `ecg` is in ADC units, so that mV = (ecg - ecg_baseline) / ecg_gain is exact; -32768 marks an invalid sample.
FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "corpus": datasets.Value("string"),
        "patient_id": datasets.Value("string"),
        "age": datasets.Value("float32"),
        "sex": datasets.Value("string"),
        "ecg": datasets.Array2D(shape=(12, SAMPLES), dtype="int16"),
        "ecg_gain": datasets.List(datasets.Value("float64"), length=12),
        "ecg_baseline": datasets.List(datasets.Value("int64"), length=12),
        "sampling_rate": datasets.Value("float64"),
        "report": datasets.Value("string"),
        "report_language": datasets.Value("string"),
        "report_source": datasets.Value("string"),
        "scp_codes": datasets.List({"code": datasets.Value("string"), "likelihood": datasets.Value("float32")}),
        "validated_by_human": datasets.Value("bool"),
    }
)


@dataclass(frozen=True)
class Source:
    """Where a config comes from. `licence` is an SPDX-like id as the Hub spells it."""

    name: str
    url: str
    licence: str
    citation: str
    notes: tuple[str, ...]


@dataclass
class CorpusConfig(datasets.BuilderConfig):
    """Options of every corpus: at most `limit` records per split (None: all), and where drops are noted."""

    limit: int | None = None
    drop_folder: str | None = None


class CorpusBuilder(datasets.GeneratorBasedBuilder):
    """A `datasets` builder used as a library: `Builder(...).download_and_prepare(folder, file_format="parquet")`."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = CorpusConfig
    # Rows per row group: 12 MB of signal, so memory stays bounded whatever the size of the corpus.
    DEFAULT_WRITER_BATCH_SIZE = 100
    SOURCE: Source

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=self.SOURCE.name,
            features=FEATURES,
            homepage=self.SOURCE.url,
            license=self.SOURCE.licence,
            citation=self.SOURCE.citation,
        )

    def facts(self) -> dict[str, object]:
        """What the build report says of this build beyond its counts: options, files read, table counts."""
        return {}

    def drop(self, record: DroppedRecord) -> None:
        """Leave a record out: it is noted in the drop folder where one is given, else logged."""
        if self.config.drop_folder is None:
            datasets.logging.get_logger(__name__).warning(f"left out: {record}")
        else:
            DropLog(self.config.drop_folder).add(record)

    def split_generator(self, split: str, **gen_kwargs: list) -> datasets.SplitGenerator:
        """A generator over one list, which is what several processes share out among them."""
        generator = datasets.SplitGenerator(name=split, gen_kwargs=gen_kwargs)
        generator.split_info.num_examples = sum(len(items) for items in gen_kwargs.values())  # for the progress bar
        return generator
