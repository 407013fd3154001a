import pytest

from dataset_builder.report_text import is_empty_report, is_trace_only, report_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("sinus rhythm normal ecg", "en"),
        ("sinus rhythm. st segments are depressed in i, v4,5,6. possible ischaemia.", "en"),
        ("sinusrhythmus linkstyp qrs(t) abnormal    inferiorer infarkt     alter unbest.", "de"),
        ("vorhofflimmern/-flattern ueberdrehter linkstyp lahb", "de"),
        ("sinusrytm vÄnster el-axel avvikande qrs(t) fÖrlopp    inferior infarkt bÖr ÖvervÄgas", "sv"),
        ("sinusrytm normalt ekg", "sv"),
        ("qrs 90 ms", None),
        ("", None),
    ],
)
def test_language(text, language):
    assert report_language(text) == language


@pytest.mark.parametrize("text", ["", " ", "\n", "4.46", " -- ... 12 _"])
def test_without_a_letter_it_is_empty(text):
    assert is_empty_report(text)


@pytest.mark.parametrize("text", ["sr", "Ö"])
def test_with_a_letter_it_is_not(text):
    assert not is_empty_report(text)


@pytest.mark.parametrize(
    "text", ["trace only requested.", " Trace only requested", "trace only requested. Edit: IMI 50"]
)
def test_trace_only(text):
    assert is_trace_only(text)


@pytest.mark.parametrize("text", ["sinus rhythm. trace only requested", "trace only", "trace only requestedly"])
def test_not_trace_only(text):
    assert not is_trace_only(text)
