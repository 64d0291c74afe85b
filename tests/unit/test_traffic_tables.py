"""The tables of the traffic: real Delta tables in a directory."""

import multiprocessing
import os
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from models.errors import InvalidRequest, InvalidTraffic, ModelNotFound, TrafficUnavailable
from models.traffic_storage import failures_typed, storage_options
from models.traffic_table import TrafficTable
from models.traffic_tables import TrafficTables
from tests.records import NOON, feedback, inputs, predictions

DAY = timedelta(days=1)


@pytest.fixture
def tables(tmp_path: Path) -> TrafficTables:
    return TrafficTables(str(tmp_path / "traffic"))


@pytest.fixture
def table(tables: TrafficTables) -> TrafficTable:
    return tables.predictions("digits")


def sequences(rows: pa.Table) -> list[int]:
    return sorted(rows["sequence"].to_pylist())


def test_nothing_logged_is_an_empty_table(table: TrafficTable) -> None:
    rows = table.read(["label", "image_width", "time"])
    assert (rows.num_rows, rows.schema.names) == (0, ["label", "time"])
    assert not table.exists()
    assert table.days() == []
    assert list(table.scan()) == []


def test_what_is_appended_is_read(table: TrafficTable) -> None:
    rows = predictions(3)
    table.append(rows)
    read = table.read(rows.schema.names).sort_by("sequence")
    assert read.to_pylist() == rows.to_pylist()
    assert read.schema.field("time").type == rows.schema.field("time").type


def test_every_kind_of_record_has_its_table(tables: TrafficTables) -> None:
    for kind, rows in (("predictions", predictions(2)), ("inputs", inputs(2)), ("feedback", feedback(2))):
        table = tables.table(kind, "digits")  # type: ignore[arg-type]
        table.append(rows)
        assert table.read(rows.schema.names).sort_by("sequence").to_pylist() == rows.to_pylist()
    assert tables.models() == ["digits"]


def test_new_columns_are_added_and_empty_before(table: TrafficTable) -> None:
    table.append(predictions(1))
    table.append(predictions(1, first=1, features={"input_age": pa.array([3.0], pa.float32())}))
    table.append(predictions(1, first=2))
    assert table.read(["sequence", "input_age"]).sort_by("sequence")["input_age"].to_pylist() == [None, 3.0, None]


@pytest.mark.parametrize(
    ("second", "kept"),
    [
        pytest.param(pa.array([2.5], pa.float64()), 2.5, id="another number"),
        pytest.param(pa.array(["12345678"]), None, id="text that looks like a number"),
        pytest.param(pa.nulls(1), None, id="nothing"),
    ],
)
def test_a_column_of_another_type_never_costs_its_records(
    table: TrafficTable, second: pa.Array, kept: float | None
) -> None:
    table.append(predictions(1, features={"input_x": pa.array([1.5], pa.float32())}))
    table.append(predictions(1, first=1, features={"input_x": second}))
    assert table.read(["sequence", "input_x"]).sort_by("sequence")["input_x"].to_pylist() == [1.5, kept]


def test_records_without_what_every_record_has_are_refused(table: TrafficTable) -> None:
    table.append(predictions(1))
    with pytest.raises(InvalidTraffic, match="request_id"):
        table.append(predictions(1, first=1).drop_columns(["request_id"]))
    nameless = (
        predictions(1, first=1).drop_columns(["request_id"]).append_column("request_id", pa.nulls(1, pa.string()))
    )
    with pytest.raises(InvalidTraffic, match="do not fit"):
        table.append(nameless)
    assert sequences(table.read(["sequence"])) == [0]


def test_a_window_is_closed_at_its_beginning_and_open_at_its_end(table: TrafficTable) -> None:
    for number in range(3):
        table.append(predictions(10, first=10 * number, time=NOON + number * DAY))
    rows = table.read(["sequence"], since=NOON + timedelta(seconds=5), until=NOON + DAY + timedelta(seconds=2))
    assert sequences(rows) == [5, 6, 7, 8, 9, 10, 11]


def test_a_window_opens_only_files_of_its_days(table: TrafficTable) -> None:
    for number in range(3):
        table.append(predictions(10, first=10 * number, time=NOON + number * DAY))
    for file in Path(table.uri).glob("day=2026-11-0[13]/*.parquet"):
        file.write_bytes(b"unreadable")
    assert sequences(table.read(["sequence"], since=NOON + DAY, until=NOON + DAY * 1.5)) == list(range(10, 20))


def test_a_window_opens_only_files_of_its_hours(table: TrafficTable) -> None:
    for number in range(3):
        table.append(predictions(10, first=10 * number, time=NOON + timedelta(hours=number)))
    first = min(Path(table.uri).rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    first.write_bytes(b"unreadable")
    assert sequences(table.read(["sequence"], since=NOON + timedelta(hours=1))) == list(range(10, 30))


def test_other_conditions_are_pushed_down(table: TrafficTable) -> None:
    table.append(predictions(4, version=[1, 2, 1, 2]))
    assert sequences(table.read(["sequence"], where=pc.field("version") == 2)) == [1, 3]


def test_scan_gives_small_batches(table: TrafficTable) -> None:
    table.append(predictions(1000))
    batches = list(table.scan(["sequence"], batch_rows=128))
    assert max(batch.num_rows for batch in batches) <= 128
    assert sum(batch.num_rows for batch in batches) == 1000


def test_an_append_that_is_tried_again_counts_once(table: TrafficTable) -> None:
    assert table.appended("w") is None
    for _ in range(2):
        table.append(predictions(1), ("w", 0))
    for _ in range(2):
        table.append(predictions(10, first=1), ("w", 10))
    table.append(predictions(1), ("v", 0))
    assert (table.appended("w"), table.appended("v")) == (10, 0)
    assert sequences(table.read(["sequence"])) == [0, *range(11)]


def _append_many(uri: str, writer: str, start: int) -> None:
    table = TrafficTable(uri, "predictions")
    for number in range(start, start + 8):
        # New columns change the table itself, which no two may at once.
        features = {f"input_{writer}_{number}": pa.array([1.0], pa.float32())} if number % 4 == 0 else None
        table.append(predictions(1, first=number, writer=writer, features=features), (writer, number))


def test_many_append_at_once_from_the_first_row_on(table: TrafficTable) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_append_many, args=(table.uri, f"w{n}", 0)) for n in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * 4
    rows = table.read(["writer", "sequence"])
    assert sorted(map(tuple, (row.values() for row in rows.to_pylist()))) == [
        (f"w{n}", number) for n in range(4) for number in range(8)
    ]


def test_days_are_told_from_the_log(table: TrafficTable) -> None:
    table.append(predictions(10, time=NOON))
    table.append(predictions(5, first=10, time=NOON))
    table.append(predictions(1, first=15, time=NOON + DAY))
    first, second = table.days()
    assert (first.day, first.files, first.rows) == (NOON.date(), 2, 15)
    assert (first.first, first.last) == (NOON, NOON + timedelta(seconds=9))
    assert first.bytes > 1000
    assert (second.day, second.files, second.rows) == ((NOON + DAY).date(), 1, 1)


def test_request_ids_are_not_in_the_log_of_the_table(table: TrafficTable) -> None:
    table.append(predictions(10, request_id=[f"secret-{n}" for n in range(10)]))
    assert all(b"secret" not in path.read_bytes() for path in Path(table.uri, "_delta_log").iterdir())


def test_an_unknown_model_names_those_that_are_there(tables: TrafficTables) -> None:
    with pytest.raises(ModelNotFound, match="that of: none"):
        tables.known("cats")
    tables.predictions("digits").append(predictions(1))
    with pytest.raises(ModelNotFound, match="that of: digits"):
        tables.known("cats")
    with pytest.raises(InvalidRequest):
        tables.predictions("../cats")


@pytest.fixture
def read_only(table: TrafficTable) -> Iterator[TrafficTable]:
    table.append(predictions(1))
    log = Path(table.uri, "_delta_log")
    log.chmod(stat.S_IRUSR | stat.S_IXUSR)
    yield table
    log.chmod(stat.S_IRWXU)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_disk_that_cannot_be_written_is_said(read_only: TrafficTable) -> None:
    with pytest.raises(TrafficUnavailable, match="access was refused"):
        read_only.append(predictions(1, first=1))


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "traffic").write_text("not a directory")
    with pytest.raises(TrafficUnavailable) as raised:
        TrafficTables(str(tmp_path / "traffic")).predictions("digits").append(predictions(1))
    assert str(tmp_path) not in raised.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Error performing PUT: <Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIA1</AWSAccessKeyId>", "refused"),
        ("<Code>NoSuchBucket</Code> AKIA1", "no such bucket"),
        ("error sending request for http://user:AKIA1@host: Connection refused (os error 111)", "cannot be reached"),
        ("write /srv/AKIA1: No space left on device (os error 28)", "the disk is full"),
        ("something else AKIA1", "it failed"),
    ],
)
def test_no_failure_tells_a_secret(text: str, words: str) -> None:
    with pytest.raises(TrafficUnavailable, match=words) as raised, failures_typed("reading"):
        raise OSError(text)
    assert "AKIA1" not in raised.value.message
    assert raised.value.__suppress_context__


def test_s3_takes_the_usual_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    options = storage_options("s3://bucket/traffic") or {}
    assert options["AWS_REGION"] == "eu-west-1"
    assert options["AWS_ALLOW_HTTP"] == "true"
    assert options["AWS_CONDITIONAL_PUT"] == "etag"
    assert storage_options("/srv/traffic") is None


def test_a_bucket_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ENDPOINT_URL", "http://127.0.0.1:9"), ("ACCESS_KEY_ID", "AKIA1"), ("REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    with pytest.raises(TrafficUnavailable, match="cannot be reached"):
        TrafficTables("s3://bucket/traffic").predictions("digits").read()
