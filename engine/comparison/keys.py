"""In which values two contracts, or two recipes, differ. An item of a list is called by its name, as `--set` calls it."""

from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from engine.records.comparison import KeyChange

NAMES = ("name", "path", "type", "title")
"""Keys that name an item of a list; the first one that all items of both lists have, each with another value, counts."""


def key_changes(before: JsonValue, after: JsonValue, path: str = "") -> Iterator[KeyChange]:
    """Yield the values that differ, in the order of the keys. A key that one of them lacks is null there, with all below it in one.

    Lists of named items are compared by name: one more teacher is one change, whatever its position.
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _of_mappings(before, after, path)
    elif isinstance(before, list) and isinstance(after, list) and (name := _name_of(before, after)):
        yield from _of_mappings(*({str(item[name]): item for item in items} for items in (before, after)), path)  # type: ignore
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after) and _are_mappings([*before, *after]):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from key_changes(one, other, _join(path, str(index)))
    elif before != after:
        yield KeyChange(key=path, before=before, after=after)


def _of_mappings(before: Mapping[str, JsonValue], after: Mapping[str, JsonValue], path: str) -> Iterator[KeyChange]:
    for key in dict.fromkeys([*before, *after]):
        yield from key_changes(before.get(key), after.get(key), _join(path, key))


def _name_of(before: Sequence[JsonValue], after: Sequence[JsonValue]) -> str | None:
    """Return the key by which the items of both lists are named; None if there is none, or both are empty."""
    for name in NAMES if before or after else ():
        names = [[item.get(name) if isinstance(item, Mapping) else None for item in items] for items in (before, after)]
        if all(isinstance(each, str) for of in names for each in of) and all(len(set(of)) == len(of) for of in names):
            return name
    return None


def _are_mappings(items: Sequence[JsonValue]) -> bool:
    return bool(items) and all(isinstance(item, Mapping) for item in items)


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
