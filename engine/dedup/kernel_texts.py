"""MinHash in machine code, from the buffers of Arrow strings.

`strings` is (offsets, data): (texts + 1) of int64 into the UTF-8 of data, uint8; `table` is characters.table(), or its ASCII part
for texts of ASCII. Scratch is 90 KB, however long a text is. Bytes that are not UTF-8 separate words; none is read outside its
text.

A loop over bytes becomes SIMD code if no number in it is wider than a byte and it starts at 0: hence the many `_u8`, and the
slices.
"""

import numpy as np

from engine.dedup.entry_types import AT_ONCE, BLOCK, FLAG_UNSPACED, FLAG_WORD, SIZE
from engine.dedup.kernel import BASE, NOTHING, compiled

AUTO, BY_CHARACTER = 0, 2  # of minhash's units
_u8, _u32, _u64 = np.uint8, np.uint32, np.uint64
_OFFSET, _PRIME = _u64(0xCBF29CE484222325), _u64(0x100000001B3)  # FNV-1a, 64 bits (Fowler, Noll, Vo)
_BLANK, _BYTE, _SEVEN, _EIGHT, _ONE = _u64(32), _u64(0xFF), _u64(7), _u64(8), _u64(1)


@compiled
def minhash(strings, table, grams, permutations, scratch, minima):
    """Set `minima`, (texts, permutations) uint32, from n-grams; `grams`: (unit, size, sorted hashes of those that do not count).

    `scratch` is what `entry_types.scratch` returns.
    """
    (offsets, data), (unit, size, ignored), (factor, shift) = strings, grams, permutations
    tokens, hashes, letters = scratch
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        minima[row, :] = NOTHING
        by_character = unit == BY_CHARACTER or (unit == AUTO and _is_unspaced(data, at, end, table))
        kept, token, is_signed = 0, _OFFSET, False
        while at < end:
            room = tokens[kept : kept + BLOCK]
            if by_character:
                found, at = _characters(data, at, end, table, room, is_signed or kept > 0)
            else:
                found, token, at = _words(data, (at, min(at + BLOCK, end), end), table, token, letters, room)
            kept += found
            if kept >= size or (at >= end and kept and not is_signed):
                span = min(size, kept)
                count = _without(hashes, _grams(tokens[:kept], span, hashes), ignored)
                _lower(hashes, count, factor, shift, minima[row])
                for place in range(span - 1):  # the last n-gram's but first, for the next block
                    tokens[place] = tokens[kept - span + 1 + place]
                kept, is_signed = span - 1, True


@compiled
def text_keys(strings, table, scratch, keys):
    """Set `keys`, (texts,) uint64, to a hash of each text with its case folded and its runs of white space as one space.

    `scratch` is FOLDED bytes, as (bytes, 64-bit numbers).
    """
    offsets, data = strings
    folded, eights = scratch
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        key, kept, gap = _OFFSET, 0, True  # `gap`: no space may follow, as one is there or nothing is
        while at < end:
            size, at = _fold(data, (at, min(at + BLOCK, end), end), table, folded[kept:])
            left, gap = _collapse(folded[kept : kept + size], gap)
            kept += left
            whole = max(kept - gap, 0) >> 3  # a space at the end stays until it is known whether something follows
            key = _chain(key, eights[:whole])
            for place in range(kept - 8 * whole):
                folded[place] = folded[8 * whole + place]
            kept -= 8 * whole
        kept = max(kept - gap, 0)
        for place in range(kept, 8):
            folded[place] = 0
        keys[row] = _mix(_chain(key, eights[:1]) ^ _u64(kept))


@compiled
def _character(data, at, end, table):
    """Return the entry of the character that begins at `at`, and where the next begins."""
    first = data[at]
    if first < 0x80:
        return table[first], at + 1
    size = 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if first < 0xC0 or at + size > end:
        return _u64(first) | _ONE << SIZE, at + 1
    code = first & (0x7F >> size)
    raw = _u64(first) | _u64(size) << SIZE
    for place in range(1, size):
        code = code << 6 | (data[at + place] & 0x3F)
        raw |= _u64(data[at + place]) << _u64(8 * place)
    return table[code] if code < len(table) else raw, at + size


@compiled
def _fold_ascii(data, folded):
    """Write `data` with its case folded and white space as blanks to `folded`, and return whether it is ASCII. No branch: SIMD."""
    every = _u8(0)
    for place in range(len(data)):
        letter = data[place]
        every = _u8(every | letter)
        letter = _u8(letter | _u8(_u8(_u8(letter - _u8(65)) < _u8(26)) << _u8(5)))
        is_space = (_u8(letter - _u8(9)) < _u8(5)) | (_u8(letter - _u8(28)) < _u8(4))
        folded[place] = _u8(32) if is_space else letter
    return every < 0x80


@compiled
def _collapse(folded, gap):
    """Leave out blanks after blanks, and at the start after a `gap`; return how much is left, and whether it ends with one."""
    twice = _u8(gap and folded[0] == _u8(32))
    for place in range(len(folded) - 1):
        twice = _u8(twice | (_u8(folded[place] == _u8(32)) & _u8(folded[place + 1] == _u8(32))))
    if twice == 0:
        return len(folded), folded[-1] == _u8(32)
    left = 0
    for place in range(len(folded)):
        is_blank = folded[place] == _u8(32)
        folded[left] = folded[place]
        left += not (is_blank and gap)
        gap = is_blank
    return left, gap


@compiled
def _fold(data, span, table, folded):
    """As _fold_ascii, from span[0] to about span[1] of a text that ends at span[2]; return how much that is, and where to go on."""
    at, stop, end = span
    if _fold_ascii(data[at:stop], folded):
        return stop - at, stop
    size = 0
    while at < stop:
        entry, at = _character(data, at, end, table)
        for _ in range((entry >> SIZE) & _SEVEN):
            folded[size] = entry & _BYTE
            size += 1
            entry >>= _EIGHT
    return size, at


@compiled
def _chain(key, eights):
    """Return `key` after eight bytes at a time, as FNV-1a takes one."""
    for place in range(len(eights)):
        key = (key ^ eights[place]) * BASE
        key ^= key >> _u64(32)
    return key


@compiled
def _mix(key):
    """The finalizer of MurmurHash3, 64 bits (Appleby, public domain)."""
    key = (key ^ (key >> _u64(33))) * _u64(0xFF51AFD7ED558CCD)
    key = (key ^ (key >> _u64(33))) * _u64(0xC4CEB9FE1A85EC53)
    return key ^ (key >> _u64(33))


@compiled
def _is_unspaced(data, at, end, table):
    """See words.uses_characters."""
    text, every = data[at:end], _u8(0)
    for place in range(len(text)):
        every = _u8(every | text[place])
    if every < 0x80:
        return False
    words = unspaced = 0
    while at < end:
        entry, at = _character(data, at, end, table)
        if entry & FLAG_WORD:
            words += 1
            unspaced += entry & FLAG_UNSPACED != 0
    return words > 0 and 2 * unspaced >= words


@compiled
def _words(data, span, table, token, letters, tokens):
    """Fill `tokens` with the hashes of the words from span[0] to about span[1] of a text that ends at span[2].

    Return how many there are, the hash of a word that is still open (before: `token`), and where to go on. `letters` is scratch.
    """
    at, stop, end = span
    found, is_ascii = 0, _fold_ascii(data[at:stop], letters)
    for letter in letters[: (stop - at) * is_ascii]:
        if (_u8(letter - _u8(97)) < _u8(26)) | (_u8(letter - _u8(48)) < _u8(10)) | (letter == _u8(95)):
            token = (token ^ _u64(letter)) * _PRIME
        elif token != _OFFSET:
            tokens[found] = token
            found, token = found + 1, _OFFSET
    at = stop if is_ascii else at
    while at < stop:
        entry, at = _character(data, at, end, table)
        if entry & FLAG_WORD:
            for _ in range((entry >> SIZE) & _SEVEN):
                token = (token ^ (entry & _BYTE)) * _PRIME
                entry >>= _EIGHT
        elif token != _OFFSET:
            tokens[found] = token
            found, token = found + 1, _OFFSET
    if at == end and token != _OFFSET:
        tokens[found] = token
        found += 1
    return found, token, at


@compiled
def _characters(data, at, end, table, tokens, is_begun):
    """Fill `tokens` with the hashes of the folded characters of words, and of one space between words."""
    found, gap = 0, False
    while at < end and found + 8 <= len(tokens):  # a space, and what one character folds to
        entry, at = _character(data, at, end, table)
        if not entry & FLAG_WORD:
            gap = True
            continue
        if gap and (found or is_begun):
            tokens[found] = (_OFFSET ^ _BLANK) * _PRIME
            found += 1
        gap = False
        for _ in range((entry >> SIZE) & _SEVEN):
            if entry & _u64(0xC0) != _u64(0x80):  # else it continues a character
                tokens[found] = _OFFSET
                found += 1
            tokens[found - 1] = (tokens[found - 1] ^ (entry & _BYTE)) * _PRIME
            entry >>= _EIGHT
    return found, at


@compiled
def _grams(tokens, size, hashes):
    """Set `hashes` to those of every run of `size` tokens, rolling (Karp and Rabin, 1987), and return how many they are."""
    total, power = _u64(0), _ONE
    for _ in range(size):
        power *= BASE
    for place in range(len(tokens)):
        total = total * BASE + tokens[place]
        if place >= size:
            total -= power * tokens[place - size]
        if place >= size - 1:
            hashes[place - size + 1] = _u32(_mix(total))
    return len(tokens) - size + 1


@compiled
def _without(hashes, count, ignored):
    """Leave out those of the first `count` hashes that are `ignored`, which is sorted; return how many are left."""
    if len(ignored) == 0:
        return count
    left = 0
    for place in range(count):
        at = np.searchsorted(ignored, hashes[place])
        if at == len(ignored) or ignored[at] != hashes[place]:
            hashes[left] = hashes[place]
            left += 1
    return left


@compiled
def _lower(hashes, count, factor, shift, minima):
    """Lower `minima` by every permutation of the first `count` hashes; overwrites a few hashes beyond them."""
    for place in range(count):
        hashes[place] = _mix32(hashes[place])
    for place in range(count, count + AT_ONCE if count else 0):
        hashes[place] = hashes[count - 1]  # once more changes no minimum
    for place in range(0, count, AT_ONCE):
        a, b, c, d = hashes[place], hashes[place + 1], hashes[place + 2], hashes[place + 3]
        for number in range(len(minima)):
            by, plus = factor[number], shift[number]
            left = min(_u32(a * by + plus), _u32(b * by + plus))
            right = min(_u32(c * by + plus), _u32(d * by + plus))
            minima[number] = min(minima[number], min(left, right))


@compiled
def _mix32(key):
    """The finalizer of MurmurHash3, 32 bits: datasketch mixes so before it permutes."""
    key = _u32((key ^ (key >> _u32(16))) * _u32(0x85EBCA6B))
    key = _u32((key ^ (key >> _u32(13))) * _u32(0xC2B2AE35))
    return _u32(key ^ (key >> _u32(16)))
