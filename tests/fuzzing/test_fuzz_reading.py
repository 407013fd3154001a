"""A short run of the fuzzer."""

from tests.fuzzing.fuzzer import counted_by


def test_damaged_files_of_every_format_are_refused():
    counted = counted_by("fuzz_reading", seconds=8)
    assert counted["cases"] == counted["read"] + counted["refused"]
    assert counted["refused"] > 500
    assert counted["read"] > 0
