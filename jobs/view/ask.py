"""What a person asks of a table, as the query of an address and back."""

from collections.abc import Mapping
from urllib.parse import urlencode

from engine.errors import InputError
from jobs.view.conditions import Ask

EQUAL, LEAST, MOST = "is.", "from.", "to."


def read_ask(query: Mapping[str, str]) -> Ask:
    """Return what the query of an address asks: `q`, `is.COLUMN`, `from.COLUMN`, `to.COLUMN`, `sort`, `down`, `after`, `every`.

    Raises:
        InputError: a limit is no number.
    """
    given = {name: value for name, value in query.items() if value != ""}
    return Ask(
        search=given.get("q", ""),
        equal=_below(given, EQUAL),
        least={name: _number(LEAST + name, value) for name, value in _below(given, LEAST).items()},
        most={name: _number(MOST + name, value) for name, value in _below(given, MOST).items()},
        sort=given.get("sort", ""),
        down=given.get("down") == "1",
        after=given.get("after", ""),
        every=given.get("every") == "1",
    )


def write_ask(ask: Ask, **more: str) -> str:
    """Return the query of an address; "" values of `more` are left out."""
    parts = {
        "q": ask.search,
        **{EQUAL + name: value for name, value in ask.equal.items()},
        **{LEAST + name: f"{value!r}" for name, value in ask.least.items()},
        **{MOST + name: f"{value!r}" for name, value in ask.most.items()},
        "sort": ask.sort,
        "down": "1" if ask.down else "",
        "after": ask.after,
        "every": "1" if ask.every else "",
        **more,
    }
    return urlencode({name: value for name, value in parts.items() if value != ""})


def _below(given: Mapping[str, str], start: str) -> dict[str, str]:
    return {name.removeprefix(start): value for name, value in given.items() if name.startswith(start) and name != start}


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{name}: found {value!r}, expected a number.") from None
