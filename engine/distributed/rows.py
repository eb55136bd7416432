"""The types with which flows are written: of a Ray Dataset only what `blocks.Blocks` has as well."""

from collections.abc import Iterable
from typing import Any, Protocol

Ref = Any
"""A reference to a result, of the type of whatever runs the functions; see `in_process.get`."""


class Rows(Protocol):
    """Rows in blocks that functions run over (`stream.apply`): a Ray Dataset, or `Blocks` in this process."""

    def union(self, *others: Any) -> Any: ...
    def materialize(self) -> Any: ...
    def repartition(self, num_blocks: int, /, *, keys: list[str]) -> Any: ...
    @property
    def select_columns(self) -> Any: ...  # Ray annotates a parameter of it with a type that excludes its default
    def to_arrow_refs(self) -> list[Any]: ...
    def iter_rows(self) -> Iterable[Any]: ...
    def count(self) -> int: ...
