"""Tools of teachers in mode `tools`. `engine/tools/toolset.py` maps `type` to a class. These keys are part of cache keys."""

from typing import Annotated, Literal

from pydantic import Field

from engine.contract.base import Name, Positive, Section

TableName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,39}$")]
"""Lower case letters, digits and _: safe in a query without quotes."""


class Calculator(Section):
    """Arithmetic on decimal numbers."""

    type: Literal["calculator"]
    name: Name = "calculator"
    """Name that the model uses in a call."""

    @property
    def files(self) -> dict[str, str]:
        """Key in this section -> path of each file that is read."""
        return {}


class Sql(Section):
    """SELECT queries over tables, which are loaded into memory (DuckDB)."""

    type: Literal["sql"]
    name: Name = "sql"
    tables: dict[TableName, str] = Field(min_length=1)
    """Table -> its CSV, JSONL or Parquet file or URL; relative to the contract's folder, or absolute."""
    rows: Positive = 20
    """At most so many rows of a result are shown to the model."""
    seconds: float = Field(default=5, gt=0)
    """A query that takes longer fails."""
    memory_mib: Positive = 256
    """Address space for one query, in addition to the tables."""

    @property
    def files(self) -> dict[str, str]:
        """Key in this section -> path of each file that is read."""
        return {f"tables.{name}": path for name, path in self.tables.items()}


class Retrieval(Section):
    """Passages of a corpus that share most words with the query (TF-IDF)."""

    type: Literal["retrieval"]
    name: Name = "retrieval"
    corpus: str
    """JSONL file or URL with `id` and `text` on each line; relative to the contract's folder, or absolute."""
    top_k: Positive = 3
    """Passages that are shown, the most similar first."""

    @property
    def files(self) -> dict[str, str]:
        """Key in this section -> path of each file that is read."""
        return {"corpus": self.corpus}


Tool = Annotated[Calculator | Sql | Retrieval, Field(discriminator="type")]
