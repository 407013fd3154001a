import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest

from dataset_builder import plan as plan_module
from dataset_builder.corpus import Entry
from dataset_builder.dropped_records import DroppedRecord
from dataset_builder.errors import DatasetBuildError
from dataset_builder.plan import Plan, Shard, write_plan

MADE_WITH = {"numpy": "2"}


@dataclass
class FakeCorpus:
    """A corpus that is nothing but its entries."""

    lines: Iterable[Entry | DroppedRecord]
    config: str = "fake"
    version: str = "1"
    told: dict = field(default_factory=lambda: {"records_in_table": 3})

    def entries(self):
        return iter(self.lines)

    def facts(self):
        return self.told


def lines(*splits: str, patients: str = "") -> list[Entry]:
    """Entries "0", "1", ... of these splits; of patients of their own, or of those that the letters name."""
    return [
        Entry(str(number), patients[number] if patients else f"p{number}", split, {"line": [number, "ä", None]})
        for number, split in enumerate(splits)
    ]


@pytest.fixture
def make_plan(tmp_path, monkeypatch):
    def make(entries, limit=None, made_with=MADE_WITH, shard=3, name="plan.sqlite", **options) -> Plan:
        monkeypatch.setattr(plan_module, "RECORDS_PER_SHARD", shard)
        return write_plan(tmp_path / name, FakeCorpus(entries, **options), limit, made_with)

    return make


def ids(plan: Plan) -> dict[str, list[str]]:
    return {shard.name: [entry.id for entry in plan.entries(shard)] for shard in plan.shards()}


def test_records_stay_in_the_order_of_the_table_and_splits_in_theirs(make_plan):
    entries = lines("test", "train", "train", "validation", "train", "test", "train", "train")
    plan = make_plan(entries)
    assert ids(plan) == {
        "train-00000": ["1", "2", "4"],
        "train-00001": ["6", "7"],
        "validation-00000": ["3"],
        "test-00000": ["0", "5"],
    }
    assert [entry for shard in plan.shards() for entry in plan.entries(shard)] == [
        entries[number] for number in (1, 2, 4, 6, 7, 3, 0, 5)
    ]
    assert plan.shards()[0] == Shard("train", 0, 1, 4, 3)
    assert plan.dropped() == []


@pytest.mark.parametrize(
    ("records", "sizes"), [(1, [1]), (2, [2]), (3, [3]), (4, [3, 1]), (6, [3, 3]), (7, [3, 3, 1]), (0, [])]
)
def test_borders_of_shards(make_plan, records, sizes):
    plan = make_plan(lines(*["test"] * records))
    assert [shard.records for shard in plan.shards()] == sizes
    assert [len(list(plan.entries(shard))) for shard in plan.shards()] == sizes
    assert [shard.number for shard in plan.shards()] == list(range(len(sizes)))


def test_an_id_that_comes_again_is_left_out(make_plan):
    first, again = Entry("7", "p", "train", "first"), Entry("7", "q", "test", "again")
    plan = make_plan([first, again, DroppedRecord("8", None, "no id", "x"), Entry("9", "p", "train", "other")])
    assert ids(plan) == {"train-00000": ["7", "9"]}
    assert next(plan.entries(plan.shards()[0])) == first
    assert plan.dropped() == [
        DroppedRecord("7", "test", "id used before"),
        DroppedRecord("8", None, "no id", "x"),
    ]


def test_a_patient_stays_in_the_last_of_his_splits(make_plan):
    entries = lines("train", "test", "train", "validation", "train", "validation", "train", patients="ABCAACD")
    plan = make_plan(entries)
    # A: train, validation, train; C: train, validation.
    assert ids(plan) == {"train-00000": ["6"], "validation-00000": ["3", "5"], "test-00000": ["1"]}
    assert [(record.id, record.split, record.reason) for record in plan.dropped()] == [
        (number, "train", "patient is in a later split too") for number in "024"
    ]
    assert plan.dropped()[0].detail == "patient A is also in validation"
    assert plan.fact("patients_in_several_splits_of_the_table") == 2
    assert plan.patients(without=set()) == ({"train": 1, "validation": 2, "test": 1}, 0)
    assert plan.patients(without={"3"}) == ({"train": 1, "validation": 1, "test": 1}, 0)


def test_the_limit_takes_the_first_of_each_split_after_patients_were_kept_apart(make_plan):
    entries = lines(*["train"] * 5, "test", "validation", patients="ABBCDAE")
    plan = make_plan(entries, limit=2)
    assert ids(plan) == {"train-00000": ["1", "2"], "validation-00000": ["6"], "test-00000": ["5"]}
    assert plan.fact("limit_per_split") == 2
    assert plan.fact("records_beyond_limit") == {"train": 2, "validation": 0, "test": 0}
    assert [record.id for record in plan.dropped()] == ["0"], "what is beyond the limit is not left out as unusable"
    unlimited = make_plan(entries)
    assert unlimited.fact("records_beyond_limit") == {"train": 0, "validation": 0, "test": 0}
    assert unlimited.fact("limit_per_split") is None


A, B, C = lines("train", "test", "train")


@pytest.mark.parametrize(
    ("entries", "options"),
    [
        ([A, B, C], {"limit": 5}),
        ([A, B, C], {"made_with": {"numpy": "3"}}),
        ([A, B, C], {"version": "2"}),
        ([A, B, C], {"config": "other"}),
        ([A, B, C], {"told": {"records_in_table": 4}}),
        ([A, B, C], {"shard": 2}),
        ([A, C, B], {}),
        ([A, B], {}),
        ([A, B, C, Entry("3", "p3", "train", 0)], {}),
        ([A, B, replace(C, id="5")], {}),
        ([A, B, replace(C, patient_id="p5")], {}),
        ([A, B, replace(C, split="validation")], {}),
        ([A, B, replace(C, payload={"line": [2, "ö", None]})], {}),
    ],
)
def test_whatever_makes_shards_differ_changes_the_fingerprint(make_plan, entries, options):
    before = make_plan([A, B, C]).fact("fingerprint")
    assert make_plan(entries, **options).fact("fingerprint") != before


def test_the_same_input_gives_the_same_plan_wherever_and_whenever_it_is_made(make_plan, tmp_path):
    entries = lines(*["train", "test"] * 20, patients="ABCD" * 10)
    plans = [make_plan(iter(entries), name=name) for name in ("one", "two", "one")]
    contents = [(tmp_path / name).read_bytes() for name in ("one", "two")]
    assert contents[0] == contents[1]
    for plan in plans[1:]:
        assert ids(plan) == ids(plans[0])
        assert plan.fact("fingerprint") == plans[0].fact("fingerprint")
    assert len(plans[0].fact("fingerprint")) == 64


def test_names_of_folders_that_a_url_would_read_otherwise(make_plan, tmp_path):
    folder = tmp_path / "50% of #1? & more"
    folder.mkdir()
    plan = make_plan(lines("train"), name=f"{folder.name}/plan.sqlite")
    assert ids(plan) == {"train-00000": ["0"]}
    assert sorted(path.name for path in folder.iterdir()) == ["plan.sqlite"]


def test_an_error_of_the_corpus_and_of_the_disk(make_plan, tmp_path, monkeypatch):
    def broken():
        yield A
        raise DatasetBuildError("the table breaks off")

    with pytest.raises(DatasetBuildError, match="the table breaks off"):
        make_plan(broken())

    def full():
        yield A
        raise sqlite3.OperationalError("database or disk is full")

    with pytest.raises(DatasetBuildError, match=r"plan\.sqlite: the plan of the build could not be written \(.*full"):
        make_plan(full())
