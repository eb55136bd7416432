"""engine/storage/TABLES.md is what the declarations say, and every column says what it is."""

from pathlib import Path

import pyarrow as pa
import pytest

from engine.columns import About, declaration, declare
from jobs.tables import WRITTEN, document

TABLES = Path(__file__).parents[2] / "engine" / "storage" / "TABLES.md"


def test_document_is_up_to_date():
    assert TABLES.read_text() == document(), "run: python -m jobs.tables > engine/storage/TABLES.md"


def test_every_column_has_a_text_and_unique_columns_exist():
    for key, schema in WRITTEN.items():
        declared = declaration(schema)
        assert all(column.text for column in declared.by_path.values()), key
        assert set(declared.unique) <= set(schema.names), key


def test_equal_columns_cannot_be_declared_with_other_texts():
    declare(About("One row per planted thing."), ("planted_only_here", pa.string(), "a text"))
    with pytest.raises(ValueError, match="declared twice"):
        declare(About("One row per planted thing."), ("planted_only_here", pa.string(), "another text"))
