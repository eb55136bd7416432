"""Buckets, verified pairs and components in machine code: the graph of copies where all signatures are in this process.

Rows are numbered through all blocks. `blocks` is (addresses, starts, permutations): where the signatures of each block are, its
first row, with the number of all rows last, and their length. A forest is an array of uint32 with the parent of each row
(union-find with path halving: Tarjan and van Leeuwen, "Worst-case analysis of set union algorithms", 1984); the root of a tree is
its row with the smallest text key, of equal ones the first. So the trees do not depend on the order in which rows are joined.

A number to be sorted has a key in its upper bits and a row in the lower ones, `mask`: plain numbers are sorted three times as fast
as pairs. At least 32 bits of the key are left; rows with the same bits are compared anyway.
"""

import numpy as np

from engine.dedup.entry_types import ALL_PAIRS_UP_TO, ROUNDS
from engine.dedup.kernel import BASE, NOTHING, compiled, matrix, vector

_u32, _u64 = np.uint32, np.uint64
_HALF = _u64(32)


@compiled
def band_key(minima, number, rows):
    """Return a hash of the number of a band and of its `rows` minima, of those of a text."""
    key, first = _u64(number + 1) * BASE, number * rows
    for row in range(first, first + (rows & -2), 2):
        key = (key ^ _u64(minima[row]) ^ _u64(minima[row + 1]) << _HALF) * BASE
        key ^= key >> _HALF
    if rows & 1:
        key = (key ^ _u64(minima[first + rows - 1])) * BASE
        key ^= key >> _HALF
    return key


@compiled
def band_keys(minima, rows, keys):
    """Set `keys`, (texts, bands) uint64, to the keys of the bands of `minima`."""
    for text in range(keys.shape[0]):
        for number in range(keys.shape[1]):
            keys[text, number] = band_key(minima[text], number, rows)


@compiled
def _root(parent, row):
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = np.int64(parent[row])
    return row


@compiled
def _join(parent, keys, one, other):
    one, other = _root(parent, one), _root(parent, other)
    if one == other:
        return
    if keys[one] < keys[other] or (keys[one] == keys[other] and one < other):
        parent[other] = _u32(one)
    else:
        parent[one] = _u32(other)


@compiled
def join_equal(order, mask, keys, parent, is_first):
    """Join the rows with equal text `keys`; `order` has them sorted, and `is_first` becomes 1 for the first row of each key."""
    start = 0
    for place in range(len(order)):
        if (order[place] ^ order[start]) & ~mask:
            start = place
        row = np.int64(order[place] & mask)
        parent[row], is_first[row] = _u32(row), 1
        for before in range(start, place):
            other = np.int64(order[before] & mask)
            if is_first[other] and keys[other] == keys[row]:
                parent[row], is_first[row] = _u32(other), 0
                break


@compiled
def band(blocks, which, mask, flag, order):
    """Fill `order` with the keys of a band of rows with a `flag`, and return how many there are.

    `which` is the number of the band, and of its minima.
    """
    addresses, starts, permutations = blocks
    number, rows = which
    count = 0
    for block in range(len(addresses)):
        minima = matrix(addresses[block], starts[block + 1] - starts[block], permutations, _u32)
        for row in range(len(minima)):
            if flag[starts[block] + row]:
                order[count] = (band_key(minima[row], number, rows) & ~mask) | _u64(starts[block] + row)
                count += 1
    return count


@compiled
def pass_over_empty(blocks, flag):
    """Take the `flag` from rows without an n-gram: all their minima are NOTHING, which four of others never are."""
    addresses, starts, permutations = blocks
    for block in range(len(addresses)):
        minima = matrix(addresses[block], starts[block + 1] - starts[block], permutations, _u32)
        for row in range(len(minima)):
            found = False
            for number in range(min(4, permutations)):
                found |= minima[row, number] != NOTHING
            if not found:
                flag[starts[block] + row] = 0


@compiled
def join_buckets(blocks, order, mask, needed, keys, parent):
    """Join the rows of each bucket, rows with the same key in the sorted `order`, that share at least `needed` minima.

    All pairs of a bucket of up to ALL_PAIRS_UP_TO are compared unless they are joined already. All rows of a larger one are
    compared with the one with the smallest text key, those that do not match it are a bucket again, and so on, ROUNDS times.
    """
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and not (order[start] ^ order[stop]) & ~mask:
            stop += 1
        if stop - start > 1:
            _join_bucket(blocks, order[start:stop], mask, needed, keys, parent)
        start = stop


@compiled
def _join_bucket(blocks, rows, mask, needed, keys, parent):
    for place in range(len(rows)):
        rows[place] &= mask
    size = len(rows)
    for _ in range(ROUNDS):
        if size <= ALL_PAIRS_UP_TO:
            break
        least = 0
        for place in range(1, size):
            if keys[np.int64(rows[place])] < keys[np.int64(rows[least])]:
                least = place
        centre, left = np.int64(rows[least]), 0
        for place in range(size):
            row = np.int64(rows[place])
            if place != least and _equal(blocks, centre, row) >= needed:
                _join(parent, keys, centre, row)
            elif place != least:
                rows[left] = rows[place]
                left += 1
        size = left
    else:
        return
    for place in range(size):
        for after in range(place + 1, size):
            one, other = np.int64(rows[place]), np.int64(rows[after])
            if _root(parent, one) != _root(parent, other) and _equal(blocks, one, other) >= needed:
                _join(parent, keys, one, other)


@compiled
def _address(blocks, row):
    """Return where the signature of a row is."""
    addresses, starts, permutations = blocks
    low, high = 0, len(addresses)
    while high - low > 1:
        middle = (low + high) >> 1
        low, high = (middle, high) if starts[middle] <= row else (low, middle)
    return addresses[low] + (row - starts[low]) * permutations * 4


@compiled
def _equal(blocks, one, other):
    """Return the number of equal minima of two rows; that of NOTHING is none."""
    left, right = vector(_address(blocks, one), blocks[2], _u32), vector(_address(blocks, other), blocks[2], _u32)
    count = _u32(0)
    for number in range(len(left)):
        count += _u32((left[number] == right[number]) & (left[number] != NOTHING))
    return np.int64(count)


@compiled
def join_forests(keys, parent, other):
    """Join in `parent` what is joined in `other`."""
    for row in range(len(parent)):
        if other[row] != row:
            _join(parent, keys, row, np.int64(other[row]))


@compiled
def settle(parent, is_shared):
    """Let every row's parent be its root, and `is_shared` be 1 for rows whose tree has several."""
    is_shared[:] = 0
    for row in range(len(parent)):
        root = _root(parent, row)
        parent[row] = _u32(root)
        if root != row:
            is_shared[row] = is_shared[root] = 1


@compiled
def equal_minima(blocks, left, right, counts):
    """Set `counts` to the number of equal minima of each two rows."""
    for pair in range(len(counts)):
        counts[pair] = _equal(blocks, left[pair], right[pair])
