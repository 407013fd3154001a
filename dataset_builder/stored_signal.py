"""The signal of a row: twelve leads in their order, 10 s at the corpus' rate, in the ADC units of the recording."""

import os
import tempfile
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from dataset_builder.compiled import compiled
from dataset_builder.corpus_files import FolderFiles, ZipFiles
from dataset_builder.errors import RecordError
from processing.adc import INVALID_SAMPLE
from processing.leads import LEADS, canonical_lead
from processing.recording import DigitalRecording, ECGReadError
from processing.wfdb_plain import MAX_HEADER_BYTES, PlainHeader, compare_checksums, parse_plain_header, plain_frames
from processing.wfdb_reading import read_wfdb, signal_file_names

SECONDS = 10
# Ten seconds of twelve leads at 500 Hz take 120 kB; no record of these corpora comes near this.
_MAX_SIGNAL_BYTES = 1 << 24


def read_stored_signal(
    files: FolderFiles | ZipFiles, name: str, sampling_rate: float
) -> tuple[dict[str, object], np.ndarray]:
    """Read one WFDB recording of a corpus: its samples untouched, its leads placed by name.

    Args:
        files: the corpus' files.
        name: the recording below them, without a suffix.
        sampling_rate: what the corpus' recordings have, in Hz.

    Returns:
        The columns `ecg_gain` (12,) in ADC units per mV, `ecg_baseline` (12,), the ADC value of 0 mV,
        `sampling_rate` in Hz and `signal_quality`, which names leads with invalid samples; and the samples, int16
        (12, 10 s) in ADC units in the order of `processing.leads.LEADS`.

    Raises:
        RecordError: it cannot be read, its leads are not the twelve, it is not 10 s at that rate, or it is flat
            throughout. The message holds no path above the corpus, as it becomes part of a published build report.
    """
    header = files.read(f"{name}.hea", MAX_HEADER_BYTES)
    folder = name.rpartition("/")[0]
    try:
        plain = parse_plain_header(header)
        if plain is None:
            recording = _read_copy(files, name, header)
            return _stored(recording.adc, recording, sampling_rate)[:2]
        signal_name = f"{folder}/{plain.signal_file}" if folder else plain.signal_file
        frames = plain_frames(plain, files.read(signal_name, _MAX_SIGNAL_BYTES), signal_name)
        columns, adc, sums = _stored(frames.T, plain, sampling_rate)
        compare_checksums(plain, sums, f"{name}.hea")
        return columns, adc
    except ECGReadError as error:
        raise RecordError("unreadable recording", str(error)) from error


def _read_copy(files: FolderFiles | ZipFiles, name: str, header: bytes) -> DigitalRecording:
    """Read a recording that needs `wfdb`, which reads from a folder and follows the names of a header: from a copy."""
    path = PurePosixPath(name)
    with tempfile.TemporaryDirectory(prefix="meit-ecg-") as folder:
        try:
            Path(folder, f"{path.name}.hea").write_bytes(header)
            for signal_name in signal_file_names(header, f"{name}.hea"):
                content = files.read(str(path.with_name(signal_name)), _MAX_SIGNAL_BYTES)
                Path(folder, signal_name).write_bytes(content)
            return read_wfdb(Path(folder, path.name))
        except ECGReadError as error:
            raise ECGReadError(str(error).replace(os.path.join(folder, ""), "")) from error


def _stored(
    recorded: np.ndarray, facts: PlainHeader | DigitalRecording, sampling_rate: float
) -> tuple[dict[str, object], np.ndarray, np.ndarray]:
    """As `read_stored_signal`, and the sum of each lead as it was `recorded` (leads, samples)."""
    samples = round(SECONDS * sampling_rate)
    if facts.sampling_rate != sampling_rate or recorded.shape[1] != samples:
        found = f"{recorded.shape[1]} samples at {facts.sampling_rate:g} Hz"
        raise RecordError(f"not 10 s at {sampling_rate:g} Hz", f"{found}, expected {samples} at {sampling_rate:g} Hz")
    order = _lead_order(facts.lead_names)
    adc = np.empty((len(LEADS), samples), np.int16)
    sums, ranges = np.empty(len(LEADS), np.int16), np.empty((len(LEADS), 2), np.int16)
    has_invalid = _place(recorded, order, adc, sums, ranges)
    if (ranges[:, 0] == ranges[:, 1]).all():
        raise RecordError("flat recording", "no lead holds a signal")
    notes = []
    if has_invalid:
        counts = (adc == INVALID_SAMPLE).sum(axis=1).tolist()
        notes = [f"{lead}: {count} invalid samples" for lead, count in zip(LEADS, counts, strict=True) if count]
    columns = {
        "ecg_gain": facts.gain[order].tolist(),
        "ecg_baseline": facts.baseline[order].tolist(),
        "sampling_rate": facts.sampling_rate,
        "signal_quality": notes,
    }
    return columns, adc, sums


@compiled
def _place(recorded: np.ndarray, order: np.ndarray, adc: np.ndarray, sums: np.ndarray, ranges: np.ndarray) -> bool:
    """Copy the leads in their order; note each one's sum, as recorded, and its smallest and largest valid sample.

    Returns:
        True if a sample is invalid.
    """
    has_invalid = False
    for lead in range(adc.shape[0]):
        source, target = recorded[order[lead]], adc[lead]
        for index in range(target.size):
            target[index] = source[index]
        total, lowest, highest = np.int32(0), np.int16(32767), np.int16(-32768)
        for index in range(target.size):
            total += np.int32(target[index])
            highest = max(highest, target[index])
            lowest = min(lowest, target[index])
        if lowest == INVALID_SAMPLE:
            has_invalid = True
            lowest = highest
            for index in range(target.size):
                if target[index] != INVALID_SAMPLE:
                    lowest = min(lowest, target[index])
        sums[order[lead]] = total
        ranges[lead, 0], ranges[lead, 1] = lowest, highest
    return has_invalid


def compile_reader() -> None:
    """Compile or load the loop now, so that processes forked later share it."""
    frames = np.frombuffer(bytes(2 * len(LEADS)), "<i2").reshape(1, len(LEADS))
    for recorded in (frames.T, np.zeros((len(LEADS), 1), np.int16)):
        order, sums = np.arange(len(LEADS)), np.empty(len(LEADS), np.int16)
        _place(recorded, order, np.empty((len(LEADS), 1), np.int16), sums, np.empty((len(LEADS), 2), np.int16))


@lru_cache(maxsize=256)
def _lead_order(names: tuple[str, ...]) -> np.ndarray:
    """Where each of `LEADS` is among the names."""
    try:
        leads = [canonical_lead(name) for name in names]
    except ValueError as error:
        raise RecordError("not the twelve leads", str(error)) from error
    if sorted(leads) != sorted(LEADS):
        raise RecordError("not the twelve leads", f"found {', '.join(leads)}")
    return np.array([leads.index(lead) for lead in LEADS])
