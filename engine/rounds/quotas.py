"""How many of what, and which: shares by largest remainders, and a draw that is the same in every attempt."""

import heapq
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from engine.records.rounds import WeakSlice
from engine.rows import Row, content_id

K = TypeVar("K", bound=Hashable)


def divide(total: int, weights: Mapping[K, float]) -> dict[K, int]:
    """Divide `total` in proportion to `weights`, which are not negative, by largest remainders; all 0 if every weight is 0."""
    whole = sum(weights.values())
    if not whole or total <= 0:
        return dict.fromkeys(weights, 0)
    exact = {key: total * weight / whole for key, weight in weights.items()}
    shares = {key: int(part) for key, part in exact.items()}
    left = total - sum(shares.values())
    for key in sorted(exact, key=lambda each: shares[each] - exact[each])[:left]:
        shares[key] += 1
    return shares


class Offer(NamedTuple):
    """A row that may become a prompt."""

    source: int
    """Number of the source in the contract that the command was given."""
    file: str
    """As the column `source` of the prompts names it."""
    line: int

    def order(self, salt: str) -> str:
        """Return where it is in the order of the draw, which `salt` shuffles."""
        return content_id(salt, self.source, self.file, self.line)


class Draw(Generic[K]):
    """Keeps, of all items that are offered, the `most` that come first in the order of their hashes: a sample without
    replacement that does not depend on the order in which they come (bottom-k: Cohen and Kaplan, PODC 2007). 200 bytes an item."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held: list[tuple[int, K]] = []

    def offer(self, key: str, item: K) -> None:
        """Offer an item whose hash is `key`, 32 hexadecimal digits."""
        order = -int(key, 16)
        if len(self.held) < self.most:
            heapq.heappush(self.held, (order, item))
        elif self.held and order > self.held[0][0]:
            heapq.heapreplace(self.held, (order, item))

    def items(self) -> list[K]:
        """Return the items that are kept, first hash first."""
        return [item for _, item in sorted(self.held, key=lambda each: -each[0])]


def matches(part: WeakSlice, row: Row) -> bool:
    """Return whether a prompt is of the slice."""
    return part.dimension == "all" or row[part.dimension] == part.value


def fill(slices: Sequence[WeakSlice], draws: Sequence[Iterable[Offer]]) -> tuple[list[WeakSlice], list[Offer]]:
    """Return the slices with how many rows each got, and the rows; `draws` are the rows of each slice in the order of the draw.

    A row that is of several slices counts for the first of them that has room.
    """
    taken: dict[Offer, None] = {}
    filled = []
    for part, offers in zip(slices, draws, strict=True):
        before = len(taken)
        for offer in offers:
            if len(taken) - before == part.wanted:
                break
            taken.setdefault(offer)
        filled.append(part.model_copy(update={"sampled": len(taken) - before}))
    return filled, list(taken)
