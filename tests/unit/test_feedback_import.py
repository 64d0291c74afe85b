import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from jobs.cli import app
from jobs.feedback_file import read_labels
from jobs.labelled import labelled
from models.errors import InvalidRequest
from models.traffic_tables import TrafficTables
from tests.records import NOON, predictions

NOW = datetime(2026, 11, 21, 18, tzinfo=UTC)


def parsed(content: str | bytes) -> list[tuple[Any, ...]]:
    data = content.encode() if isinstance(content, str) else content
    return [(each.request_id, each.label, each.item, each.time, each.weight) for each in read_labels(data, "f", NOW)[0]]


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        "request_id,label\na,7\nb,8\n",
        "label,note,request_id\n7,x,a\n8,,b\n",
        "\ufeffrequest_id;label\r\na;7\r\n\r\nb;8",
        "request_id\tlabel\na\t 7 \nb\t8\n",
        '"request_id","label"\n"a","7"\n"b","8"\n',
        parquet(request_id=["a", "b"], label=["7", "8"]),
        parquet(request_id=["a", "b"], label=[7, 8]),
        parquet(request_id=["a", "b"], label=[7.0, 8.0], other=[[1], [2]]),
        parquet(request_id=["a", "b"], label=pa.array(["7", "8"]).dictionary_encode()),
    ],
    ids=["plain", "other columns", "spreadsheet", "tabs", "quoted", "parquet", "integers", "floats", "categories"],
)
def test_files_that_say_the_same(content: str | bytes) -> None:
    assert parsed(content) == [("a", "7", None, None, None), ("b", "8", None, None, None)]


def test_optional_columns() -> None:
    content = "request_id,label,item,time,weight\na,7,3,2026-11-20T10:00:00+02:00,2.5\nb,8,,2026-11-20,\n"
    assert parsed(content) == [
        ("a", "7", 3, datetime(2026, 11, 20, 8, tzinfo=UTC), 2.5),
        ("b", "8", None, datetime(2026, 11, 20, tzinfo=UTC), None),
    ]
    times = pa.array([datetime(2026, 11, 20, 8, tzinfo=UTC), None], pa.timestamp("ns", "UTC"))
    assert parsed(parquet(request_id=["a", "b"], label=["7", "8"], time=times, item=[3.0, None])) == [
        ("a", "7", 3, datetime(2026, 11, 20, 8, tzinfo=UTC), None),
        ("b", "8", None, None, None),
    ]


def test_a_sample_is_taken_back_once_it_is_filled_in() -> None:
    head = "request_id,item,time,version,label,confidence,weight,true_label\n"
    content = (
        f"{head}a,0,2026-11-01T00:00:00Z,1,3,0.5,40.5,7\nb,0,2026-11-01T00:00:00Z,1,3,0.5,40.5,\n'=c,0,,1,3,,1, 8\n"
    )
    labels, unlabelled = read_labels(content.encode(), "f", NOW)
    assert [(each.request_id, each.label, each.time, each.weight) for each in labels] == [
        ("a", "7", None, 40.5),
        ("=c", "8", None, 1.0),
    ]
    assert unlabelled == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "f: no column 'request_id'; there are: none"),
        ("id,label\na,7\n", "f: no column 'request_id'; there are: id, label"),
        ("request_id,truth\na,7\n", "f: no column 'label'; there are: request_id, truth"),
        ("request_id,label,label\na,7,7\n", "f, line 1: a column comes twice"),
        ("request_id,label\na,7\nb\n", "f, line 3: 1 columns, the first line has 2"),
        ("request_id,label\na,7\n\nb,\n", "f, line 4, column 'label': empty"),
        ("request_id,label\n,7\n", "f, line 2, column 'request_id': empty"),
        ('request_id,label\n"a\nb",7\nc,\n', "f, line 4, column 'label': empty"),
        ('request_id,label\na,"7', "f, line 2: not CSV"),
        (f"request_id,label\na,{'7' * 201}\n", "line 2, column 'label': 201 characters, at most 200"),
        ("request_id,label,item\na,7,-1\n", "line 2, column 'item': '-1' is no whole number"),
        ("request_id,label,model\na,7,a b\n", "line 2, column 'model': 'a b' is no name of a model"),
        ("request_id,label,time\na,7,yesterday\n", "line 2, column 'time': 'yesterday' is no time"),
        ("request_id,label,time\na,7,2027-01-01\n", "line 2, column 'time': '2027-01-01' is in the future"),
        ("request_id,label,weight\na,7,0\n", "line 2, column 'weight': '0' is no positive number"),
        ("request_id,label,weight\na,7,nan\n", "line 2, column 'weight': 'nan' is no positive number"),
        (b"request_id,label\na,7\nb,\xff\n", "f, line 3: not UTF-8"),
        (b"PAR1 but no more", "f: not Parquet"),
        (parquet(request_id=["a", "b"], label=["7", None]), "f, row 2, column 'label': empty"),
        (parquet(request_id=["a"], label=[7.5]), "f, column 'label': expected text, found double"),
    ],
)
def test_what_is_wrong_is_named_by_line_and_column(content: str | bytes, message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parsed(content)
    assert message in raised.value.message


@pytest.fixture
def tables(tmp_path: Path) -> TrafficTables:
    made = TrafficTables(str(tmp_path / "traffic"))
    made.predictions("digits").append(predictions(4))
    made.predictions("cats").append(predictions(2, writer="c", model="cats"))
    return made


def imported(tables: TrafficTables, path: Path, *options: str) -> dict[str, Any]:
    done: Result = CliRunner().invoke(app, ["feedback", "import", str(path), "--root", tables.root, "--json", *options])
    assert done.exception is None, done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def truths(tables: TrafficTables) -> dict[str, str]:
    found = labelled(tables, "digits")
    return dict(zip(found["request_id"].to_pylist(), found["true_label"].to_pylist(), strict=True))


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_file_is_imported_once(tables: TrafficTables, tmp_path: Path) -> None:
    path = written(tmp_path, "labels.csv", "request_id,label\nw-0,7\nw-1,8\nc-0,cat\nnobody,1\nw-0,9\n")
    expected = {"file": "labels.csv", "labels": 5, "requests": 4, "unknown": 1, "unlabelled": 0}
    assert imported(tables, path) == {**expected, "repeated": False}
    assert truths(tables) == {"w-0": "9", "w-1": "8"}
    rows = tables.feedback().read(["source", "writer", "sequence"]).to_pylist()
    assert {row["source"] for row in rows} == {"import"}
    assert sorted(row["sequence"] for row in rows) == [0, 1, 2, 3, 4]

    assert imported(tables, path) == {**expected, "repeated": True}
    assert tables.feedback().read(["source"]).num_rows == 5


def test_a_label_may_name_its_model(tables: TrafficTables, tmp_path: Path) -> None:
    path = written(tmp_path, "labels.csv", "request_id,label,model\nw-0,7,digits\nw-1,8,cats\nw-2,9,\n")
    assert imported(tables, path)["unknown"] == 1, "cats did not answer w-1"
    assert truths(tables) == {"w-0": "7", "w-2": "9"}


def test_a_correction_wins_and_the_old_file_does_not_come_back_by_itself(tables: TrafficTables, tmp_path: Path) -> None:
    old = written(tmp_path, "old.csv", "request_id,label\nw-0,7\n")
    imported(tables, old)
    imported(tables, written(tmp_path, "new.csv", "request_id,label\nw-0,8\n"))
    assert truths(tables) == {"w-0": "8"}
    imported(tables, old)
    assert truths(tables) == {"w-0": "8"}
    imported(tables, old, "--again")
    assert truths(tables) == {"w-0": "7"}


def test_the_times_of_a_file_decide(tables: TrafficTables, tmp_path: Path) -> None:
    new, old = NOON + timedelta(hours=2), NOON + timedelta(hours=1)
    imported(tables, written(tmp_path, "a.csv", f"request_id,label,time\nw-0,8,{new.isoformat()}\n"))
    imported(tables, written(tmp_path, "b.csv", f"request_id,label,time\nw-0,7,{old.isoformat()}\n"))
    assert truths(tables) == {"w-0": "8"}


def test_labels_may_come_before_their_requests(tables: TrafficTables, tmp_path: Path) -> None:
    assert imported(tables, written(tmp_path, "early.csv", "request_id,label\nw-4,8\n"))["unknown"] == 1
    assert truths(tables) == {}
    tables.predictions("digits").append(predictions(1, first=4))
    assert truths(tables) == {"w-4": "8"}


def test_a_file_that_is_wrong_imports_nothing(tables: TrafficTables, tmp_path: Path) -> None:
    path = written(tmp_path, "wrong.csv", "request_id,label\nw-0,7\nw-1,\n")
    done = CliRunner().invoke(app, ["feedback", "import", str(path), "--root", tables.root])
    assert type(done.exception) is InvalidRequest
    assert not tables.feedback().exists()


def test_the_words_for_a_person(tables: TrafficTables, tmp_path: Path) -> None:
    path = written(tmp_path, "labels.csv", "request_id,label\nw-0,7\nnobody,1\n")
    command = ["feedback", "import", str(path), "--root", tables.root]
    shown = CliRunner().invoke(app, command).stdout
    assert "2 labels of 2 requests are imported." in shown
    assert "1 requests are not in the log" in shown
    assert "was imported before" in CliRunner().invoke(app, command).stdout


def test_the_configuration_says_where_the_traffic_is(tables: TrafficTables, tmp_path: Path) -> None:
    config = f"""
applications:
  - name: gateway
    import_path: deployments.app:gateway
    args: {{traffic_log: {{root: {tables.root}}}}}
"""
    path = written(tmp_path, "labels.csv", "request_id,label\nw-0,8\n")
    file = written(tmp_path, "serve_config.yaml", config)
    done = CliRunner().invoke(app, ["feedback", "import", str(path), "--file", str(file)])
    assert done.exception is None
    assert truths(tables) == {"w-0": "8"}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["feedback", "import", str(tmp_path / "no.csv"), "--root", str(tmp_path)])
    assert type(done.exception) is InvalidRequest
    assert "No such file" in str(done.exception)
