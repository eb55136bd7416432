#!/usr/bin/env bash
# Whether a setting of a DuckDB connection holds for its cursors depends on the setting.
#
# Guess:a cursor belongs to its connection, as PEP 249 has it: what SET changes for the connection holds for its cursors.
# Seen: default_null_order does, late_materialization_max_rows does not: a cursor has its default, 50, whatever was SET
#       before, so a query on a cursor is planned as if nothing was set. Only SET GLOBAL reaches it. Nothing warns.
# With:  duckdb 2.0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==2.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb


def seen(connection: duckdb.DuckDBPyConnection, name: str) -> tuple[object, object]:
    """Return a setting of the connection, and of a new cursor."""
    ask = f"select current_setting('{name}')"
    ways = (connection, connection.cursor())
    first, second = (way.execute(ask).fetchone()[0] for way in ways)
    return first, second


connection = duckdb.connect()
connection.execute("set default_null_order = 'nulls_first'")
connection.execute("set late_materialization_max_rows = 1000")
order, rows = seen(connection, "default_null_order"), seen(connection, "late_materialization_max_rows")
connection.execute("set global late_materialization_max_rows = 1000")
everywhere = seen(connection, "late_materialization_max_rows")
print("duckdb", duckdb.__version__, "connection and cursor:", order, rows, "set global:", everywhere)
assert order[0] == order[1] == "NULLS_FIRST"
assert rows == (1000, 50)
assert everywhere == (1000, 1000)
PYTHON
