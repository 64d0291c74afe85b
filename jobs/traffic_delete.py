"""Everything that the traffic log holds of some requests, deleted."""

from collections.abc import Sequence

from jobs.traffic_compact import vacuum
from models.traffic_table import TrafficTable
from models.traffic_tables import TrafficTables


def delete_requests(tables: TrafficTables, model: str, request_ids: Sequence[str]) -> dict[str, int]:
    """Delete predictions, inputs and feedback of these requests; returns how many records of each there were.

    Files with such records are written anew without them, and the old ones removed from the storage at once: who reads
    them at that moment has to read again. Raises Busy, TrafficUnavailable.
    """
    return {
        table.kind: _delete(table, request_ids)
        for table in (tables.predictions(model), tables.inputs(model), tables.feedback())
    }


def _delete(table: TrafficTable, request_ids: Sequence[str]) -> int:
    if not table.exists():
        return 0
    condition = f"request_id IN ({', '.join(map(_quoted, request_ids))})"

    def attempt() -> int:
        opened = table.opened()
        return int(opened.delete(condition).get("num_deleted_rows") or 0) if opened is not None else 0

    deleted = table.changed(attempt, "deleting records")
    vacuum(table, hours=0)  # also where nothing was deleted: what another run did, that was killed before this
    return deleted


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
