import csv
import io
import tracemalloc
from itertools import islice

import pytest

from dataset_builder.csv_table import iterate_csv
from dataset_builder.errors import DatasetBuildError


@pytest.fixture
def table(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "table.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def rows(path, *columns):
    return list(iterate_csv(path, columns))


def test_quotes_line_ends_and_umlauts(table):
    path = table('id,report,other\r\n1,"he said ""sinus"",\nand left",x\r\n\r\n2,überdreht,y\r\n')
    assert rows(path, "report", "id") == [
        {"report": 'he said "sinus",\nand left', "id": "1"},
        {"report": "überdreht", "id": "2"},
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_name(table):
    content = b"\xef\xbb\xbfid,report\n1,a\n"
    assert rows(table(content), "id") == [{"id": "1"}]
    assert rows(io.StringIO(content.decode()), "id") == [{"id": "1"}]


def test_short_and_long_rows(table):
    assert rows(table("id,report,x\n1\n2,a,b,c\n"), "id", "report") == [
        {"id": "1", "report": ""},
        {"id": "2", "report": "a"},
    ]


def test_an_unnamed_column_as_a_table_writers_index(table):
    assert rows(table(",description\nNORM,normal ECG\n"), "", "description") == [
        {"": "NORM", "description": "normal ECG"}
    ]


def test_an_open_file_is_left_open():
    file = io.StringIO("id\n1\n2\n", newline="")
    assert rows(file, "id") == [{"id": "1"}, {"id": "2"}]
    assert not file.closed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"the column\(s\) id, report are missing; found \[\]"),
        ("id,x\n1,2\n", r"the column\(s\) report are missing; found \['id', 'x'\]"),
        ("id,report,id\n1,a,2\n", r"the column\(s\) id appear twice"),
        (b"\xff\xfei\x00d\x00", "line 1: .*UTF-8"),
        (b"id,report\n1,a\n2,\xfcber\n3,b\n", "line 3: bytes that are no UTF-8"),
        (b"id,report\n1,a\x00b\n", "line 2: a NUL byte"),
        ('id,report\n1,a\n2,"b\n3,c\n', "line 4: unexpected end of data"),
        ('id,report\n1,"a"b\n', "line 2: "),
        ('id,report\n1,"' + "a\n" * 600_000, "a row of more than|field larger than"),
        ("id,report\n1," + "a" * 1_100_000, "line 2: a row of more than"),
    ],
)
def test_what_is_no_such_table(table, content, message):
    path = table(content)
    with pytest.raises(DatasetBuildError, match=message) as caught:
        rows(path, "id", "report")
    assert str(caught.value).startswith(str(path))


def test_an_open_file_with_wrong_bytes():
    file = io.TextIOWrapper(io.BytesIO(b"id\n\xff\n"), encoding="utf-8", newline="")
    with pytest.raises(DatasetBuildError, match="UTF-8"):
        rows(file, "id")


@pytest.mark.parametrize("name", ["none.csv", "", "a\0b"])
def test_what_cannot_be_opened(tmp_path, name):
    with pytest.raises(DatasetBuildError, match="cannot be read"):
        rows(f"{tmp_path}/{name}", "id")


def test_the_bound_holds_where_a_library_lifted_the_csv_modules(table):
    limit = csv.field_size_limit(10**9)
    try:
        with pytest.raises(DatasetBuildError, match="a row of more than"):
            rows(table('id,report\n1,"' + "a\n" * 600_000), "id")
    finally:
        csv.field_size_limit(limit)


def test_memory_does_not_grow_with_the_table(table):
    path = table("id,report\n" + "1,sinus rhythm\n" * 100_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in iterate_csv(path, ("id", "report"))) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 300_000
    finally:
        tracemalloc.stop()


def test_rows_before_a_bad_one_come(table):
    path = table(b"id\n1\n2\n\xff\n")
    assert list(islice(iterate_csv(path, ("id",)), 2)) == [{"id": "1"}, {"id": "2"}]


def test_real_tables_as_the_csv_module_reads_them(ptb_xl, mimic_iv_ecg):
    for path in [*ptb_xl.glob("*.csv"), *mimic_iv_ecg.glob("*.csv")]:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            expected = list(reader)
        assert rows(path, *reader.fieldnames) == expected
