import io
import zipfile

import numpy as np
import pytest

from processing import LEADS, ECGFeatureExtractor, read_ecg
from tests.processing.refusals import refused
from tests.processing.synthetic import make_ecg


@pytest.fixture
def ecg():
    return make_ecg(samples=600) * np.arange(1, 13)[:, None]


STATED = {"sampling_rate": 500, "lead_names": LEADS}


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_alone(tmp_path, ecg, dtype, order):
    array = np.asarray(ecg, dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    (tmp_path / "a.npy").rename(tmp_path / "a.bin")
    recording = read_ecg(tmp_path / "a.bin", **STATED)
    assert recording.lead_names == LEADS
    assert recording.sampling_rate == 500.0
    np.testing.assert_array_equal(recording.signal, array.astype(np.float32))
    for missing in STATED:
        assert f"{missing}=" in refused(tmp_path / "a.bin", **STATED | {missing: None})


def test_the_feature_extractor_states_them(tmp_path, ecg):
    np.save(tmp_path / "a.npy", ecg)
    extractor = ECGFeatureExtractor()
    found = extractor(tmp_path / "a.npy", 500, LEADS)["ecg_values"]
    np.testing.assert_allclose(found, extractor(ecg.astype(np.float32), 500, LEADS)["ecg_values"])


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    "names",
    [("signal", "sampling_rate", "lead_names", "unit"), ("ecg", "fs", "leads", "units")],
)
def test_an_archive(tmp_path, ecg, save, names):
    values = (np.rint(ecg * 1000).astype(np.int32), 250, LEADS, "uV")
    save(tmp_path / "a.npz", **dict(zip(names, values, strict=True)), patient=np.array([{"name": "Doe"}]))
    recording = read_ecg(tmp_path / "a.npz")
    assert recording.lead_names == LEADS
    assert recording.sampling_rate == 250.0
    np.testing.assert_allclose(recording.signal, np.rint(ecg * 1000) / 1000, rtol=1e-6)


def test_an_archive_without_everything(tmp_path, ecg):
    np.savez(tmp_path / "a.npz", ecg=ecg)
    np.testing.assert_allclose(read_ecg(tmp_path / "a.npz", **STATED).signal, ecg, rtol=1e-6)
    assert "sampling_rate=" in refused(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", ecg=ecg, fs=500, leads=np.array([lead.encode() for lead in LEADS]))
    assert read_ecg(tmp_path / "a.npz").lead_names == LEADS
    assert "recorded at 500 Hz; sampling_rate=250" in refused(tmp_path / "a.npz", sampling_rate=250)
    assert "its leads are" in refused(tmp_path / "a.npz", lead_names=LEADS[::-1])
    np.savez(tmp_path / "a.npz", ecg=ecg, signal=ecg)
    assert "expected one of them" in refused(tmp_path / "a.npz", **STATED)
    np.savez(tmp_path / "a.npz", voltage=ecg)
    assert "no array called signal or ecg" in refused(tmp_path / "a.npz", **STATED)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ecg: ecg.T, "the array is (samples, leads), save its transpose"),
        (lambda ecg: ecg[:11], "shape (11, 600) with 12 lead names"),
        (lambda ecg: ecg[None], "shape (1, 12, 600)"),
        (lambda ecg: (ecg * 1000).astype(np.int16), "int16 without a unit"),
        (lambda ecg: ecg * 1000, "and no unit; expected mV"),
        (lambda ecg: ecg / 1000, "and no unit, perhaps in V; expected mV"),
        (lambda ecg: ecg + 1j, "complex128 without a unit"),
        (lambda ecg: ecg.astype(object), "an array of object"),
        (lambda ecg: ecg[:, :0], "0 samples"),
        (lambda ecg: ecg * np.nan, "0 samples"),
    ],
)
def test_arrays_that_are_no_recording(tmp_path, ecg, change, words):
    np.save(tmp_path / "a.npy", change(ecg), allow_pickle=True)
    assert words in refused(tmp_path / "a.npy", **STATED)


def test_a_stated_unit_is_believed(tmp_path, ecg):
    np.savez(tmp_path / "a.npz", ecg=ecg / 1000, unit="V")
    np.testing.assert_allclose(read_ecg(tmp_path / "a.npz", **STATED).signal, ecg, rtol=1e-5)


def test_units_of_an_archive(tmp_path, ecg):
    for unit in ("mmHg", 3, ["mV", "uV"]):
        np.savez(tmp_path / "a.npz", ecg=ecg, unit=unit)
        refused(tmp_path / "a.npz", **STATED)


def array_bytes(ecg, **header):
    stream = io.BytesIO()
    described = {"descr": "<f8", "fortran_order": False, "shape": ecg.shape} | header
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue() + ecg.tobytes()


@pytest.mark.parametrize("kept", [0, 6, 9, 40, 127, 128, 1000, -1])
def test_truncated(tmp_path, ecg, kept):
    for name in ("a.npy", "a.npz"):
        (np.save if name == "a.npy" else np.savez)(tmp_path / name, ecg)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
        refused(tmp_path / name, **STATED)


@pytest.mark.parametrize("shape", [(12, 10**9), (10**30, 2), (12, -600), (12, 601), (12, 599), ()])
@pytest.mark.parametrize("packed", [False, True])
def test_shapes_that_cannot_be_true(tmp_path, ecg, shape, packed):
    content = array_bytes(ecg, shape=shape)
    if packed:
        with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("ecg.npy", content)
    else:
        (tmp_path / "a").write_bytes(content)
    assert "truncated or damaged: shape" in refused(tmp_path / "a", **STATED)


def test_an_archive_that_expands(tmp_path):
    with zipfile.ZipFile(tmp_path / "a", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("ecg.npy", "w") as member:
        member.write(array_bytes(np.zeros(0), shape=(12, 3 * 2**20)))
        for _ in range(12 * 3 * 8):
            member.write(bytes(2**20))
    assert (tmp_path / "a").stat().st_size < 2**20
    assert "expected at most 268435456" in refused(tmp_path / "a", **STATED)
    content = (tmp_path / "a").read_bytes()
    size = (12 * 3 * 8 * 2**20 + 128).to_bytes(4, "little")
    assert content.count(size) >= 1
    (tmp_path / "a").write_bytes(content.replace(size, (2**20).to_bytes(4, "little")))
    refused(tmp_path / "a", **STATED)


def test_a_changed_member(tmp_path, ecg):
    np.savez(tmp_path / "a.npz", ecg=ecg)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[3000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    assert "CRC" in refused(tmp_path / "a.npz", **STATED)


def test_a_real_recording(tmp_path, mimic_iv_ecg):
    record = next(mimic_iv_ecg.rglob("*.hea")).with_suffix("")
    expected = read_ecg(record)
    np.savez(tmp_path / "a.npz", ecg=expected.signal, fs=expected.sampling_rate, leads=expected.lead_names, unit="mV")
    found = read_ecg(tmp_path / "a.npz")
    assert found.lead_names == expected.lead_names
    np.testing.assert_array_equal(found.signal, expected.signal)
