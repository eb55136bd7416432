"""Tables of Delta Lake, Apache Iceberg and Lance: one commit each, from a stream of batches, with the texts of the columns.

The packages are an optional extra, and are imported when a table is written. An Iceberg table names its files by absolute paths, so
it is told where it will lie (`final`) while it is written elsewhere; tables of the other two may be moved.
"""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from engine.errors import InputError, StorageError
from engine.publish.tables import text_of

CATALOGUE, WAREHOUSE = "catalog.db", "warehouse"
FOREIGN = {"deltalake", "_internal", "pyiceberg", "sqlalchemy", "lance"}
"""Packages whose own errors are those of the disk, or of the format; deltalake's are of a module `_internal`."""


class Place(NamedTuple):
    """Where a table is written."""

    folder: Path
    """The export, while it is not whole."""
    final: Path
    """Where it will lie."""
    name: str
    """Of the contract."""
    table: str


class Format(NamedTuple):
    """How a format is written."""

    package: str
    """Module that must be installed."""
    key: str
    """Under which the metadata of a field hold the text of a column."""
    write: Callable[[Place, pa.RecordBatchReader], None]


def require(name: str) -> None:
    """Check that the package that writes the format `name` is installed.

    Raises:
        InputError: it is not; the message names the extra.
    """
    package = FORMATS[name].package
    if importlib.util.find_spec(package) is None:
        raise InputError(f"export {name}: the package {package} is not installed. Install it: pip install 'rayleigh[tables]'")


def write(name: str, place: Place, rows: pa.RecordBatchReader) -> None:
    """Write `rows` as a new table of the format `name`. Batches are consumed one after the other.

    Raises:
        StorageError: the format refuses them, or the disk is full.
    """
    try:
        FORMATS[name].write(place, rows)
    except Exception as error:
        if not isinstance(error, OSError | pa.ArrowException) and type(error).__module__.partition(".")[0] not in FOREIGN:
            raise
        raise StorageError(
            f"export {name}: {place.table}: cannot be written: {error}. Make room, or choose another folder."
        ) from None


def _delta(place: Place, rows: pa.RecordBatchReader) -> None:
    deltalake: Any = importlib.import_module("deltalake")
    deltalake.write_deltalake(str(place.folder / place.table), rows, name=place.table, description=text_of(place.table))


def _lance(place: Place, rows: pa.RecordBatchReader) -> None:
    lance: Any = importlib.import_module("lance")
    described = rows.schema.with_metadata({"description": text_of(place.table)})
    batches = pa.RecordBatchReader.from_batches(described, (batch.replace_schema_metadata(described.metadata) for batch in rows))
    lance.write_dataset(batches, str(place.folder / f"{place.table}.lance"), mode="create")


def _iceberg(place: Place, rows: pa.RecordBatchReader) -> None:
    if wrong := set("#?") & set(str(place.final)):
        raise InputError(f"export iceberg: {place.final}: found {min(wrong)!r} in the path, which an Iceberg location cannot have.")
    sql: Any = importlib.import_module("pyiceberg.catalog.sql")
    relocated: Any = importlib.import_module("engine.publish.iceberg_io")
    catalogue = sql.SqlCatalog(
        place.name,
        **{
            "uri": f"sqlite:///{place.folder / CATALOGUE}", "warehouse": f"file://{place.final / WAREHOUSE}",
            "py-io-impl": "engine.publish.iceberg_io.Relocated", relocated.FINAL: str(place.final),
            relocated.PART: str(place.folder),
        },
    )  # fmt: skip
    try:
        catalogue.create_namespace_if_not_exists(place.name)
        table = catalogue.create_table(f"{place.name}.{place.table}", rows.schema, properties={"comment": text_of(place.table)})
        table.append(rows)
    finally:
        catalogue.close()


FORMATS = {
    "delta": Format("deltalake", "comment", _delta),
    "iceberg": Format("pyiceberg", "doc", _iceberg),
    "lance": Format("lance", "description", _lance),
}
"""Name of a format -> how it is written."""
