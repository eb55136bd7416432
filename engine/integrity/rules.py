"""The data contract of a table as SQL: conditions that are true where a row breaks a rule. They follow from `engine/rows.py`."""

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from engine.columns import Column, Declaration
from engine.records.check_data import Rule

TOLERANCE = 1e-4
"""How far a float may be beyond its range: sums and cosines of 32-bit floats are not exact."""


class Condition(NamedTuple):
    """A condition on the rows of one table."""

    column: str
    """Path of the column, as it is shown."""
    rule: Rule
    sql: str
    """True where the rule is broken."""
    expected: str
    shown: str
    """SQL of the value that is shown."""


def conditions(declared: Declaration) -> Iterator[Condition]:
    """Yield the conditions on each column of a table, also on fields inside of lists of structs."""
    for column in declared.columns:
        name = quoted(column.name)
        yield from _of_values(column, column.name, name)
        for path, inner in declared.by_path.items():
            if path.startswith(f"{column.name}."):
                field = f"each_.{quoted(inner.name)}"
                for each in _of_values(inner, path, field):
                    holds = f"len(list_filter({name}, lambda each_: {each.sql})) > 0"
                    shown = f"list_filter({name}, lambda each_: {each.sql})[1].{quoted(inner.name)}"
                    yield each._replace(sql=holds, shown=shown)
        if column.name in declared.unique and pa.types.is_string(column.type):
            yield Condition(column.name, "values", f"{name} = ''", "an id, not an empty string", name)


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Return `value` as an SQL string."""
    return "'" + value.replace("'", "''") + "'"


def _of_values(column: Column, path: str, value: str) -> Iterator[Condition]:
    rules, kind = column.rules, column.type
    if not rules.null:
        yield Condition(path, "null", f"{value} is null", "a value", value)
    if pa.types.is_floating(kind):
        yield Condition(path, "nan", f"isnan({value})", "a number", value)
    if rules.values:
        listed = ", ".join(map(literal, rules.values))
        yield Condition(path, "values", f"{value} not in ({listed})", f"one of {', '.join(map(repr, rules.values))}", value)
    if pa.types.is_list(kind):
        yield from _of_lists(column, path, value)
    else:
        yield from _of_numbers(column, path, value)


def _of_lists(column: Column, path: str, value: str) -> Iterator[Condition]:
    if column.rules.low is not None:
        least = f"{column.rules.low:g}"
        yield Condition(path, "range", f"len({value}) < {least}", f"at least {least} entries", f"len({value})")
    inner = column.type.value_type
    yield Condition(path, "null", f"len(list_filter({value}, lambda each_: each_ is null)) > 0", "no null in the list", value)
    if pa.types.is_floating(inner):
        yield Condition(path, "nan", f"len(list_filter({value}, lambda each_: isnan(each_))) > 0", "numbers", f"len({value})")


def _of_numbers(column: Column, path: str, value: str) -> Iterator[Condition]:
    low, high = column.rules.low, column.rules.high
    slack = TOLERANCE if pa.types.is_floating(column.type) else 0
    parts = [] if low is None else [f"{value} < {low - slack}"]
    parts += [] if high is None else [f"{value} > {high + slack}"]
    if parts:
        words = [f"at least {low:g}"] if low is not None else []
        words += [f"at most {high:g}"] if high is not None else []
        not_nan = f"not isnan({value}) and " if slack else ""  # NaN is greater than every number in SQL, and has a rule of its own
        yield Condition(path, "range", f"{not_nan}({' or '.join(parts)})", ", ".join(words), value)
