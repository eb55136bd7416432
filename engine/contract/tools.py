"""What teachers may call in mode `tools`. A dict in `engine/tools` maps `type` to the class that does it."""

from typing import Annotated, Literal

from pydantic import Field

from engine.contract.base import Name, Positive, Section

TableName = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,39}$")]
"""Lower case letters, digits and _: safe in a query without quotes."""


class Calculator(Section):
    """Arithmetic on decimal numbers."""

    type: Literal["calculator"]
    name: Name = "calculator"
    """By what the model calls it."""

    @property
    def files(self) -> dict[str, str]:
        """Place in this section -> path of each file that is read."""
        return {}


class Sql(Section):
    """Reading queries over given tables, which are held in memory."""

    type: Literal["sql"]
    name: Name = "sql"
    tables: dict[TableName, str] = Field(min_length=1)
    """Table -> its CSV, JSONL or Parquet file or URL; relative to the contract's folder, or absolute."""
    rows: Positive = 20
    """Most rows of a result that are shown."""
    seconds: float = Field(default=5, gt=0)
    """A query that takes longer fails."""
    memory_mib: Positive = 256
    """For one query, beyond what the tables take."""

    @property
    def files(self) -> dict[str, str]:
        """Place in this section -> path of each file that is read."""
        return {f"tables.{name}": path for name, path in self.tables.items()}


class Retrieval(Section):
    """The passages of a corpus that share most words with what is asked."""

    type: Literal["retrieval"]
    name: Name = "retrieval"
    corpus: str
    """JSONL file or URL with `id` and `text` on each line; relative to the contract's folder, or absolute."""
    top_k: Positive = 3
    """Passages that are shown, the nearest first."""

    @property
    def files(self) -> dict[str, str]:
        """Place in this section -> path of each file that is read."""
        return {"corpus": self.corpus}


Tool = Annotated[Calculator | Sql | Retrieval, Field(discriminator="type")]
