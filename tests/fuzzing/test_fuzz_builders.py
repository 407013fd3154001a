"""A short run of the fuzzer."""

from tests.fuzzing.fuzzer import counted_by


def test_damaged_corpora_are_built_in_part_or_refused():
    counted = counted_by("fuzz_builders", seconds=5)
    assert counted["cases"] == counted["built"] + counted["in part"] + counted["refused"]
    assert counted["in part"] > 5
    assert counted["refused"] > 5
    assert counted["zips"] > 5
