"""Writers of ECG files, each from its standard and with none of the code that reads them.

All take ADC counts of shape (leads, samples) and the lead names; each writes at the resolution of `MICROVOLTS`.
"""

import base64
import binascii
import struct
import zlib
from datetime import datetime
from pathlib import Path

import edfio
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, TwelveLeadECGWaveformStorage

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
START = datetime(2021, 3, 14, 15, 9, 26)
MICROVOLTS = 2.5  # per count
# ISO/IEEE 11073-10102, shared by SCP-ECG, DICOM and MFER; ISHNE (Badilini 1998, table 1) has its own.
_CODES = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64} | {f"V{n}": n + 2 for n in range(1, 7)}
_ISHNE_CODES = {lead: 5 + position for position, lead in enumerate(LEADS)}


def _crc(content: bytes) -> int:
    return binascii.crc_hqx(content, 0xFFFF)


# --- SCP-ECG (EN 1064) ---


def _scp_section(number: int, body: bytes) -> bytes:
    body += b"\0" * (len(body) % 2)
    header = struct.pack("<HIBB6s", number, 16 + len(body), 13, 13, b"SCPECG" if number == 0 else bytes(6))
    return struct.pack("<H", _crc(header + body)) + header + body


def _huffman(values: np.ndarray) -> bytes:
    """EN 1064 table C.1: 0 is one bit, up to 8 a run of ones, then 8 and 16 bits as they are."""
    bits = []
    for value in values.tolist():
        if value == 0:
            bits.append("0")
        elif abs(value) <= 8:
            bits.append("1" * abs(value) + "0" + "01"[value < 0])
        elif -128 <= value < 128:
            bits.append("1111111110" + f"{value & 0xFF:08b}")
        else:
            bits.append("1111111111" + f"{value & 0xFFFF:016b}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _differences(values: np.ndarray, order: int) -> np.ndarray:
    result = values.astype(np.int64)
    if order == 1:
        result[1:] = np.diff(values)
    elif order == 2:
        result[2:] = np.diff(values, n=2)
    return result


def write_scp(path, counts, leads=LEADS, rate=500, differences=0, huffman=False, beat=None, complexes=(), gaps=()):
    """`beat` (leads, samples): subtracted where `complexes` (samples from 1) put its sample 100."""
    signal = np.array(counts, dtype=np.int64)
    sections = {1: _scp_demographics(), 3: bytes([len(leads), (1 if beat is not None else 0) | 4 | len(leads) << 3])}
    for lead in leads:
        sections[3] += struct.pack("<IIB", 1, signal.shape[1], _CODES[lead])

    def data(rows):
        encode = _huffman if huffman else lambda values: values.astype("<i2").tobytes()
        packed = [encode(_differences(row, differences)) for row in rows]
        packed = [one + b"\0" * (len(one) % 2) for one in packed]
        head = struct.pack("<HHBB", round(MICROVOLTS * 1000), round(1e6 / rate), differences, 0)
        return head + struct.pack(f"<{len(rows)}H", *map(len, packed)) + b"".join(packed)

    if huffman:
        sections[2] = struct.pack("<H", 19999)
    if beat is not None:
        size = beat.shape[1]
        sections[4] = struct.pack("<HHH", round(1000 * size / rate), 100, len(complexes))
        for fiducial in complexes:
            first = fiducial - 99
            sections[4] += struct.pack("<HIII", 0, first, fiducial, first + size - 1)
            signal[:, first - 1 : first - 1 + size] -= beat
        for fiducial in complexes:
            sections[4] += struct.pack("<II", fiducial - 20, fiducial + 20)
        sections[5] = data(beat)
    sections[6] = data(signal)
    content, pointers = b"", b""
    numbers = range(12)
    position = 6 + 16 + 10 * len(numbers)
    for number in numbers:
        section = _scp_section(number, sections[number]) if number in sections else b""
        length = 16 + 10 * len(numbers) if number == 0 else len(section)
        start = 7 if number == 0 else position + 1 if section else 0
        pointers += struct.pack("<HII", number, length, start)
        content += section
        position += len(section)
    content = _scp_section(0, pointers) + content
    content = struct.pack("<I", 6 + len(content)) + content
    Path(path).write_bytes(struct.pack("<H", _crc(content)) + content)


def _scp_demographics() -> bytes:
    tags = {
        0: b"Doe\0",
        2: b"12345\0",
        14: bytes(14) + bytes([13, 0xA0, 0, 0, 0]) + bytes(17) + b"\0\0\0\0\0",
        25: struct.pack("<HBB", START.year, START.month, START.day),
        26: bytes([START.hour, START.minute, START.second]),
        255: b"",
    }
    return b"".join(struct.pack("<BH", tag, len(value)) + value for tag, value in tags.items())


# --- DICOM (PS3.3 C.10.9), by pydicom ---


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def dicom_group(
    counts, leads=LEADS, rate=500, label="RHYTHM", unit="uV", sensitivity=MICROVOLTS, correction=1, baseline=0
):
    group = Dataset()
    group.WaveformOriginality = "ORIGINAL"
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = np.shape(counts)
    group.SamplingFrequency = rate
    group.MultiplexGroupLabel = label
    group.ChannelDefinitionSequence = []
    for lead in leads:
        channel = Dataset()
        channel.ChannelSourceSequence = [_code(f"5.6.3-9-{_CODES[lead]}", "SCPECG", f"Lead {lead}")]
        channel.ChannelSensitivity = sensitivity
        channel.ChannelSensitivityUnitsSequence = [_code(unit, "UCUM", unit)]
        channel.ChannelSensitivityCorrectionFactor = correction
        channel.ChannelBaseline = baseline
        channel.WaveformBitsStored = 16
        group.ChannelDefinitionSequence.append(channel)
    group.WaveformBitsAllocated = 16
    group.WaveformSampleInterpretation = "SS"
    group.WaveformPaddingValue = struct.pack("<h", -32768)
    group.WaveformData = np.ascontiguousarray(np.asarray(counts).T).astype("<i2").tobytes()
    return group


def write_dicom(path, *groups: Dataset):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = TwelveLeadECGWaveformStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.PatientName, dataset.Modality = "Doe^John", "ECG"
    dataset.AcquisitionDateTime = START.strftime("%Y%m%d%H%M%S")
    dataset.WaveformSequence = list(groups)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


# --- XML: HL7 aECG, GE MUSE, Philips ---


def write_aecg(path, counts, leads=LEADS, rate=500, unit="uV", scale=MICROVOLTS, origin=0, beats=None):
    def series(rows, code, tag):
        sequences = "".join(
            f'<component><sequence><code code="MDC_ECG_LEAD_{lead.upper()}" codeSystem="2.16.840.1.113883.6.24"/>'
            f'<value xsi:type="SLIST_PQ"><origin value="{origin}" unit="{unit}"/><scale value="{scale}" unit="{unit}"/>'
            f"<digits>{' '.join(map(str, row))}</digits></value></sequence></component>"
            for lead, row in zip(leads, np.asarray(rows).tolist(), strict=True)
        )
        return (
            f'<{tag}><code code="{code}" codeSystem="2.16.840.1.113883.5.4"/><effectiveTime><low value="'
            f'{START:%Y%m%d%H%M%S}"/></effectiveTime><component><sequenceSet><component><sequence>'
            '<code code="TIME_ABSOLUTE" codeSystem="2.16.840.1.113883.5.4"/><value xsi:type="GLIST_TS"><head value="'
            f'{START:%Y%m%d%H%M%S}.000"/><increment value="{1 / rate}" unit="s"/></value></sequence></component>'
            f"{sequences}</sequenceSet></component>%s</{tag}>"
        )

    beats = "" if beats is None else series(beats, "REPRESENTATIVE_BEAT", "derivedSeries") % ""
    rhythm = series(counts, "RHYTHM", "series") % (beats and f"<derivation>{beats}</derivation>")
    Path(path).write_text(
        '<?xml version="1.0" encoding="UTF-8"?><AnnotatedECG xmlns="urn:hl7-org:v3" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><id root="1"/><component>{rhythm}</component>'
        "</AnnotatedECG>"
    )


def write_muse(path, counts, leads=LEADS, rate=500, unit="MICROVOLTS", scale=MICROVOLTS, beats=None):
    def waveform(kind, rows):
        data = "".join(_muse_lead(lead, row, unit, scale) for lead, row in zip(leads, np.asarray(rows), strict=True))
        return (
            f"<Waveform><WaveformType>{kind}</WaveformType><NumberofLeads>{len(leads)}</NumberofLeads>"
            f"<SampleBase>{rate}</SampleBase><SampleExponent>0</SampleExponent>{data}</Waveform>"
        )

    Path(path).write_text(
        '<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE RestingECG SYSTEM "restecg.dtd"><RestingECG>'
        "<PatientDemographics><PatientLastName>Müller</PatientLastName></PatientDemographics><TestDemographics>"
        f"<AcquisitionTime>{START:%H:%M:%S}</AcquisitionTime><AcquisitionDate>{START:%m-%d-%Y}</AcquisitionDate>"
        f"</TestDemographics>{'' if beats is None else waveform('Median', beats)}{waveform('Rhythm', counts)}"
        "</RestingECG>",
        encoding="latin-1",
    )


def _muse_lead(lead: str, row: np.ndarray, unit: str, scale: float) -> str:
    data = row.astype("<i2").tobytes()
    return (
        f"<LeadData><LeadByteCountTotal>{len(data)}</LeadByteCountTotal><LeadTimeOffset>0</LeadTimeOffset>"
        f"<LeadSampleCountTotal>{len(row)}</LeadSampleCountTotal><LeadAmplitudeUnitsPerBit>{scale}"
        f"</LeadAmplitudeUnitsPerBit><LeadAmplitudeUnits>{unit}</LeadAmplitudeUnits><LeadID>{lead}</LeadID>"
        f"<LeadSampleSize>2</LeadSampleSize><LeadDataCRC32>{zlib.crc32(data)}</LeadDataCRC32><WaveFormData>\n"
        f"{base64.encodebytes(data).decode()}</WaveFormData></LeadData>"
    )


def write_philips(
    path, counts, leads=LEADS, rate=500, xli=False, encoding="UTF-8", declared=None, resolution=MICROVOLTS
):
    counts = np.asarray(counts, dtype=np.int64)
    data = b"".join(map(_xli_chunk, _xli_residuals(counts))) if xli else counts.astype("<i2").tobytes()
    compression = 'compressflag="True" compressmethod="XLI"' if xli else 'compressflag="False"'
    text = (
        f'<?xml version="1.0" encoding="{declared or encoding}"?><restingecgdata xmlns="http://www3.medical.philips.com">'
        "<documentinfo><documenttype>PhilipsECG</documenttype><documentversion>1.04</documentversion></documentinfo>"
        f'<dataacquisition date="{START:%Y-%m-%d}" time="{START:%H:%M:%S}"><signalcharacteristics>'
        f"<resolution>{resolution}</resolution><samplingrate>{rate}</samplingrate><signalsigned>True</signalsigned>"
        f"<numberchannelsallocated>{len(leads)}</numberchannelsallocated><leadset>STD-12</leadset>"
        f'</signalcharacteristics></dataacquisition><waveforms><parsedwaveforms dataencoding="Base64" {compression} '
        f'numberofleads="{len(leads)}" leadlabels="{" ".join(leads)}" '
        f'durationperchannel="{round(1000 * counts.shape[1] / rate)}" samplespersecond="{rate}">\n'
        f"{base64.encodebytes(data).decode()}</parsedwaveforms></waveforms></restingecgdata>"
    )
    Path(path).write_text(text, encoding=encoding)


def _xli_residuals(counts: np.ndarray) -> np.ndarray:
    """III, aVR, aVL and aVF as what is left of them when they are computed from I and II."""
    one, two, three, right, left, foot = counts[:6]
    limb = [
        one,
        two,
        two - one - three,
        -right - (one + two) // 2,
        (one - three) // 2 - left,
        (two + three) // 2 - foot,
    ]
    return np.concatenate([limb, counts[6:]])


def _xli_chunk(samples: np.ndarray) -> bytes:
    """Second differences, high bytes before low bytes, by LZW of ten bits."""
    first = 2 * samples[1] - samples[0] - samples[2]
    words = samples.copy()
    words[2:-1] = 64 + 2 * samples[2:-1] - samples[1:-2] - samples[3:]
    words[-1] = 64
    words = words.astype("<i2").view(np.uint16)
    packed = _lzw(bytes((words >> 8).astype(np.uint8)) + bytes((words & 0xFF).astype(np.uint8)))
    return struct.pack("<iHh", len(packed), 0, first) + packed


def _lzw(content: bytes) -> bytes:
    table = {bytes([value]): value for value in range(256)}
    codes, known = [], b""
    for value in content:
        longer = known + bytes([value])
        if longer not in table:
            codes.append(table[known])
            if len(table) < 1023:
                table[longer] = len(table)
            longer = bytes([value])
        known = longer
    codes.append(table[known])
    codes.append(1023)
    text = "".join(f"{code:010b}" for code in codes)
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


# --- EDF, by edfio ---


def write_edf(path, counts, leads=LEADS, rate=500, unit="uV", microvolts=MICROVOLTS, others=(), data_record_duration=1):
    per_unit = {"uV": 1.0, "mV": 1e-3}[unit]
    signals = [
        edfio.EdfSignal.from_digital(
            np.asarray(row, dtype=np.int16),
            rate,
            label=f"ECG {lead}",
            physical_dimension=unit,
            physical_range=(-32000 * microvolts * per_unit, 32000 * microvolts * per_unit),
            digital_range=(-32000, 32000),
        )
        for lead, row in zip(leads, counts, strict=True)
    ]
    recording = edfio.Recording(startdate=START.date())
    edf = edfio.Edf(
        [*signals, *others],
        recording=recording,
        starttime=START.time(),
        data_record_duration=data_record_duration,
        annotations=(),
    )
    edf.write(path)


# --- ISHNE (Badilini 1998) ---


def write_ishne(path, counts, leads=LEADS, rate=500, notes=b"seen by nobody"):
    frames = np.ascontiguousarray(np.asarray(counts).T).astype("<i2")
    head = struct.pack("<iiii", len(notes), len(frames), 522, 522 + len(notes)) + struct.pack("<h", 1)
    head += b"John".ljust(40, b"\0") + b"Doe".ljust(40, b"\0") + b"12345".ljust(20, b"\0")
    head += struct.pack("<hh", 1, 0) + struct.pack("<hhh", 1, 1, 1950)
    head += struct.pack("<hhh", START.day, START.month, START.year) * 2
    head += struct.pack("<hhh", START.hour, START.minute, START.second) + struct.pack("<h", len(leads))
    rest = [-9] * (12 - len(leads))
    head += struct.pack("<12h", *(_ISHNE_CODES[lead] for lead in leads), *rest)
    head += struct.pack("<12h", *[1] * len(leads), *rest)
    head += struct.pack("<12h", *[round(1000 * MICROVOLTS)] * len(leads), *rest)
    head += (
        struct.pack("<h", 0) + b"digital".ljust(40, b"\0") + struct.pack("<h", rate) + bytes(80) + bytes(80) + bytes(88)
    )
    assert len(head) == 512
    checksum = struct.pack("<H", _crc(head + notes))
    Path(path).write_bytes(b"ISHNE1.0" + checksum + head + notes + frames.tobytes())


# --- MFER (ISO 22077-1) ---


def write_mfer(path, counts, leads=LEADS, rate=500, little=False, interval=True, preamble=True, blocks=10):
    """Blocks of samples, one after the other for each lead, repeated."""
    order, integer = ("<", "little") if little else (">", "big")
    counts = np.asarray(counts)
    size = counts.shape[1] // blocks
    assert size * blocks == counts.shape[1]

    def define(tag, value):
        length = bytes([len(value)]) if len(value) < 128 else b"\x84" + len(value).to_bytes(4, "big")
        return bytes([tag]) + length + value

    # Rate as an interval of 10^-6 s, or as a frequency in Hz.
    timing = (
        b"\x01\xfa" + struct.pack(f"{order}I", round(1e6 / rate))
        if interval
        else b"\x00\x00" + struct.pack(f"{order}H", rate)
    )
    content = define(0x40, b"MFR Standard 12 leads ECG".ljust(32)) if preamble else b""
    content += define(0x01, bytes([little])) + define(0x08, (1).to_bytes(2, integer))
    content += define(0x85, struct.pack(f"{order}H5B", START.year, *START.timetuple()[1:6]))
    content += define(0x0B, timing) + define(0x0C, b"\x00\xf9" + struct.pack(f"{order}H", round(10 * MICROVOLTS)))
    content += define(0x04, size.to_bytes(4, integer)) + define(0x05, bytes([len(leads)]))
    content += (
        define(0x06, blocks.to_bytes(2, integer)) + define(0x0A, b"\0") + define(0x12, struct.pack(f"{order}h", -32768))
    )
    for channel, lead in enumerate(leads):
        content += (
            b"\x3f" + bytes([channel]) + (lambda body: bytes([len(body)]) + body)(define(0x09, bytes([_CODES[lead]])))
        )
    frame = counts.reshape(len(leads), blocks, size).transpose(1, 0, 2).astype(f"{order}i2").tobytes()
    Path(path).write_bytes(content + define(0x1E, frame) + b"\x80")
