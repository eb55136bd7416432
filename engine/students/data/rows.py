"""Where the examples of a batch lie: one in each row, or several in a row, in whatever row still has room."""

from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """Place of each example in a grid of token ids."""

    rows: np.ndarray  # int64, row of each example
    offsets: np.ndarray  # int64, its first column
    height: int
    width: int

    def restarting(self, lengths: np.ndarray) -> np.ndarray:
        """Return the position of each token within its example, int64 [height, width]; what pads a row counts as one more."""
        ends = np.zeros(self.height, np.int64)
        np.maximum.at(ends, self.rows, self.offsets + lengths)
        begins = np.concatenate([np.stack([self.rows, self.offsets]), np.stack([np.arange(self.height), ends])], axis=1)
        starts = np.zeros((self.height, self.width + 1), np.int64)
        starts[begins[0], begins[1]] = begins[1]
        return np.arange(self.width) - np.maximum.accumulate(starts[:, :-1], axis=1)


def one_each(lengths: np.ndarray) -> Layout:
    """Return the layout with one example of `lengths` tokens in each row, also an empty one."""
    count = len(lengths)
    return Layout(np.arange(count), np.zeros(count, np.int64), count, max(int(lengths.max(initial=0)), 1))


def shared(lengths: np.ndarray, capacity: int) -> Layout:
    """Return the layout with as many examples in a row as fit into `capacity` tokens (first fit decreasing: Johnson, 1973).

    An empty example takes no room. Equal lengths keep their order.
    """
    rows, offsets = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    fill: list[int] = []
    for at in np.argsort(-lengths, kind="stable"):
        row = next((row for row, used in enumerate(fill) if used + lengths[at] <= capacity), len(fill))
        if row == len(fill):
            fill.append(0)
        rows[at], offsets[at] = row, fill[row]
        fill[row] += int(lengths[at])
    return Layout(rows, offsets, max(len(fill), 1), max([1, *fill]))
