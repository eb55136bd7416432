"""What the columns of the tables mean, for `describe` and for the database of `rayleigh sql`."""

from fnmatch import fnmatch

from pydantic import BaseModel

from engine.columns import declaration, description
from engine.docstrings import field_docs
from engine.storage.readme import in_words
from jobs.tables import WRITTEN

RUN = "Name of the run folder."


def column_docs(table: str) -> dict[str, str]:
    """Return column -> what it means, of the table of an artifact as it is declared; {} but for `run` of a table that is not."""
    schema = next((schema for key, schema in WRITTEN.items() if fnmatch(table, key.rpartition("/")[2])), None)
    declared = declaration(schema) if schema is not None else None
    columns = declared.columns if declared else ()
    docs = {"run": RUN, **{column.name: in_words(description(column)) for column in columns}}
    return {"student": "Name in the contract.", **docs} if table == "steps" else docs


def record_docs(record: type[BaseModel]) -> dict[str, str]:
    """Return field -> its docstring, on one line."""
    return {name: " ".join(text.split()) for name, text in field_docs(record).items()}
