"""Reading the dataset back: the records of one split, ready for the collator."""

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets.exceptions import DatasetGenerationError

from dataset_builder.errors import DatasetBuildError

_NEEDED = {"id", "patient_id", "ecg", "ecg_gain", "ecg_baseline", "sampling_rate", "report"}


def load_records(
    dataset: str, config: str | None, split: str, limit: int | None = None, seed: int = 0
) -> tuple[datasets.Dataset, int]:
    """Load one split of the dataset, without the records whose report is empty.

    `datasets` first writes the split into its cache (`HF_DATASETS_CACHE`), once, as an uncompressed Arrow file: 120 kB
    per record, 96 GB for all of MIMIC-IV-ECG. From then on it is memory-mapped, and any record is there at once, in
    any order. Where the disk has no room for that, `load_dataset(..., streaming=True)` reads the Parquet files in
    place, in their order but for a shuffle buffer.

    Args:
        dataset: folder that `meit-ecg build` wrote, or a Hub id.
        config: name of the corpus in it; None where there is but one.
        split: name of the split.
        limit: number of records at most, drawn with `seed`.
        seed: seed of the draw.

    Returns:
        The records, whose `ecg` comes as an int16 array (12, samples), and the number of those left out.

    Raises:
        FileNotFoundError: where neither a folder nor a Hub dataset of that name is there.
        DatasetBuildError: where the config or split is not in the dataset, a column is missing, or no record is left.
    """
    where = f"{dataset} ({config or 'its only config'}, {split})"
    try:
        records = datasets.load_dataset(dataset, config, split=split)
    except (FileNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"{dataset}: neither a dataset folder nor a Hub dataset that can be reached; write one with "
            f"`meit-ecg build` ({error})"
        ) from error
    except (ValueError, DatasetGenerationError) as error:
        # Of a file that is no Parquet, or cut short, the reason is what the library's own error came from.
        raise DatasetBuildError(f"{where} cannot be loaded: {error.__cause__ or error}") from error
    if missing := _NEEDED - set(records.column_names):
        raise DatasetBuildError(f"{where} lacks the columns {sorted(missing)}; found {records.column_names}")
    # Chunk by chunk, so that the reports of a large corpus are never all in memory.
    usable = np.flatnonzero(np.concatenate([_has_text(chunk) for chunk in records.data.column("report").chunks]))
    skipped = len(records) - len(usable)
    if not usable.size:
        raise DatasetBuildError(
            f"{where} holds no usable record: {len(records)} records, {skipped} with an empty report"
        )
    if limit is not None and limit < len(usable):
        usable = sorted(np.random.default_rng(seed).choice(usable, size=limit, replace=False))
    if len(usable) < len(records):
        records = records.select(usable)
    return with_signals_as_arrays(records), skipped


def with_signals_as_arrays(records: datasets.Dataset) -> datasets.Dataset:
    """The same records with `ecg` as an int16 array and every other column as Python values."""
    # As lists of Python numbers, the 60,000 samples of a record would take longer than its step, and without
    # `dtype=None` they come as int64.
    return records.with_format("numpy", columns=["ecg"], output_all_columns=True, dtype=None)


def _has_text(reports: pa.Array) -> np.ndarray:
    text = pc.utf8_trim_whitespace(pc.fill_null(reports, ""))
    return pc.greater(pc.utf8_length(text), 0).to_numpy(zero_copy_only=False)
