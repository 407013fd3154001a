"""Files of ECG carts and information systems in, through the library `ecgdatakit`: `read_clinical`."""

import importlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .clinical_limits import check_dicom, check_edf, check_ishne, check_mfer, check_philips, check_scp
from .file_format import AECG, DICOM, EDF, ISHNE, MFER, MUSE, PHILIPS, SCP
from .leads import is_lead
from .recording import ECGReadError, Recording
from .voltage_units import units_per_millivolt

_MAX_QUOTED = 200  # characters
_MAX_SAMPLES = 1 << 27  # of all leads together, where pauses are filled in
# What the library warns of and what does not touch the samples that are read here: the median beat, the patient,
# a rounded rate (the exact one is taken instead). Any other warning is about the samples, and an error.
_HARMLESS = (
    r"[Mm]edian|(R|r)e(presentative|ference) beat|birth date|measurement time|rounded to|value ignored|"
    r"Unrecognised sequences|FirstSample|\(long-term rhythm data\) is present|Section 1 has a wrong tag length|"
    r"gaps between data records"
)


@dataclass(frozen=True)
class _Reader:
    """How the library reads a format.

    Attributes:
        parser: module and class of the library.
        check: holds the file's claims against its size, before the library sees it.
        rate: the exact sampling rate of a lead in Hz, where the library has it: it rounds its own to whole Hz.
        invalid: the count that stands for a sample that was not measured, where the library leaves it in.
        harmless: what a warning may be about.
    """

    parser: tuple[str, str]
    check: Callable[[Path], None] | None = None
    rate: Callable[[Any, Any], float] = lambda record, lead: lead.sampling_rate
    invalid: int | None = None
    harmless: str = _HARMLESS


def _dicom_rate(record: Any, lead: Any) -> float:
    """The rate of the rhythm's group of channels: the library reads the first group that is not called a median."""
    groups = [(group["samples"], group["sampling_frequency"]) for group in record.raw_metadata["multiplex_groups"]]
    rate = next(
        rate for group in groups if group[0] == len(lead.samples) and round(rate := group[1]) == lead.sampling_rate
    )
    if max(samples / other for samples, other in groups) > len(lead.samples) / rate:
        raise ValueError("several groups of channels, and the first is not the longest; expected the rhythm first")
    return rate


_READERS = {
    SCP: _Reader(
        ("scp_ecg", "SCPECGParser"),
        check_scp,
        lambda record, lead: 1e6 / record.raw_metadata["rhythm_sample_interval_us"],
    ),
    # The DICOM library warns of any value that breaks a rule of the standard, such as a patient's name.
    DICOM: _Reader(("dicom_waveform", "DICOMWaveformParser"), check_dicom, _dicom_rate, harmless=""),
    AECG: _Reader(
        ("hl7_aecg", "HL7aECGParser"),
        rate=lambda record, lead: record.raw_metadata["rhythm_time"]["sampling_rate_exact"],
    ),
    MUSE: _Reader(("ge_muse_xml", "GEMuseXMLParser")),
    PHILIPS: _Reader(("sierra_xml", "SierraXMLParser"), check_philips),
    EDF: _Reader(
        ("edf", "EDFParser"),
        check_edf,
        lambda record, lead: record.raw_metadata.get("exact_sampling_rates", {}).get(lead.label, lead.sampling_rate),
    ),
    ISHNE: _Reader(("ishne_holter", "ISHNEHolterParser"), check_ishne, invalid=-32768),
    MFER: _Reader(
        ("mfer", "MFERParser"),
        check_mfer,
        lambda record, lead: record.raw_metadata["sampling_rates"][
            next(row for row, other in enumerate(record.leads) if other is lead)
        ],
    ),
}


def read_clinical(path: Path, file_format: str) -> Recording:
    """Read the rhythm of a clinical ECG file, not its median beat.

    The library also decodes what the file says of the patient; nothing of it leaves this function.

    Args:
        path: the file.
        file_format: one of SCP, DICOM, AECG, MUSE, PHILIPS, EDF, ISHNE and MFER of `file_format`.

    Raises:
        ECGReadError: the file is damaged, or says no unit, rate or lead that can be relied on.
        ImportError: the library is not installed.
    """
    reader = _READERS[file_format]
    module, parser = reader.parser
    try:
        parser = getattr(importlib.import_module(f"ecgdatakit.parsing.parsers.{module}"), parser)
        if file_format == DICOM:
            importlib.import_module("pydicom")
    except ImportError as error:
        raise ImportError(
            f"{path}: reading {file_format} needs further packages: pip install 'meit-ecg[formats]'"
        ) from error
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if reader.check is not None:
                reader.check(path)
            record = parser().parse(path)
        for warning in caught:
            if not re.search(reader.harmless, str(warning.message)):
                raise ValueError(warning.message)
        return _recording(path, record, reader)
    except Exception as error:  # A damaged file makes these libraries raise anything; MemoryError and recursion too.
        said = " ".join(str(error).split())[:_MAX_QUOTED]
        if not isinstance(error, ValueError) and not type(error).__module__.startswith("ecgdatakit"):
            said = f"damaged ({type(error).__name__}: {said})"
        raise ECGReadError(f"{path}: {file_format} that cannot be read: {said}") from error


def _recording(path: Path, record: Any, reader: _Reader) -> Recording:
    leads = _rhythm_leads(record)
    rates = {reader.rate(record, lead) for lead in leads}
    if len(rates) > 1:
        raise ValueError(f"leads of {len(rates)} sampling rates, {sorted(rates)} Hz; expected one")
    (rate,) = rates
    signal = np.stack([_millivolts(lead, reader.invalid).astype(np.float32) for lead in leads])
    onsets = record.raw_metadata.get("record_onsets")
    if onsets is not None:
        signal = _with_pauses(signal, np.asarray(onsets), rate)
    return Recording(signal, float(rate), tuple(lead.label for lead in leads), str(path), record.recording.date)


def _rhythm_leads(record: Any) -> list[Any]:
    """The ECG leads: those of the twelve where there are any, with what else runs beside them in a voltage."""
    names = [lead.label for lead in record.leads]
    for name in names:
        # The library tells a second "II" from the first by calling it "II_2".
        first = re.sub(r"_\d+$", "", name)
        if first != name and first in names and is_lead(first):
            raise ValueError(f"lead {first} appears twice among {', '.join(names)[:_MAX_QUOTED]}")
    known = [lead for lead in record.leads if is_lead(lead.label)]
    known = known or [lead for lead in record.leads if _is_voltage(lead.resolution_unit)]
    if not known:
        raise ValueError(f"no ECG lead among {', '.join(names)[:_MAX_QUOTED] or 'none'}; expected some")
    shapes = {(lead.sampling_rate, len(lead.samples), lead.annotations.get("start_sample", "1")) for lead in known}
    if len(shapes) > 1:
        raise ValueError("leads that differ in their rate, length or start; expected leads that run side by side")
    samples = len(known[0].samples)
    beside = [lead for lead in record.leads if len(lead.samples) == samples and _is_voltage(lead.resolution_unit)]
    return [lead for lead in record.leads if any(lead is kept for kept in (*known, *beside))]


def _is_voltage(unit: str) -> bool:
    try:
        units_per_millivolt(unit)
    except ValueError:
        return False
    return True


def _millivolts(lead: Any, invalid: int | None) -> np.ndarray:
    """float64 of shape (samples,): what the file holds times its resolution, and NaN where it was not measured."""
    try:
        per_millivolt = units_per_millivolt(lead.resolution_unit)
    except ValueError as error:
        raise ValueError(f"lead {lead.label} has {error}") from error
    if not (np.isfinite(lead.resolution) and lead.resolution):
        raise ValueError(f"lead {lead.label} has a step of {lead.resolution} {lead.resolution_unit}; expected no 0")
    signal = (lead.samples * lead.resolution + lead.offset) / per_millivolt
    return signal if invalid is None else np.where(lead.samples == invalid, np.nan, signal)


def _with_pauses(signal: np.ndarray, onsets: np.ndarray, rate: float) -> np.ndarray:
    """Put an EDF+ file's data records where their onsets (s) say, with NaN for what was not recorded between."""
    size = signal.shape[1] // len(onsets)
    starts = np.rint((onsets - onsets[0]) * rate)
    if np.all(np.abs(starts - size * np.arange(len(starts))) <= 1):  # rounded onsets, and no pause
        return signal
    if np.any(np.diff(starts) < size):
        raise ValueError("data records that overlap in time; expected one after the other")
    total = starts[-1] + size
    if not total * len(signal) <= _MAX_SAMPLES:
        raise ValueError(f"pauses that make the recording last {total / rate:g} s; expected less")
    spread = np.full((len(signal), int(total)), np.nan, dtype=np.float32)
    for record, start in enumerate(starts.astype(np.int64)):
        spread[:, start : start + size] = signal[:, record * size : (record + 1) * size]
    return spread
