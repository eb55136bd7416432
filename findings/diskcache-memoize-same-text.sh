#!/usr/bin/env bash
# A call with equal arguments is made, and paid, again.
#
# Guess: memoize of a disk cache finds the result of a call whose arguments are equal, whoever made the strings.
# Seen:  the key is the pickle of the arguments, and pickle writes an object that occurs twice as a reference: ask(text, text)
#        and ask(text, copy), with copy == text, are two keys, and the function is called twice. Between runs it depends on where
#        the strings came from, a constant of the program or a file. The same holds for a tuple as key of a Cache.
# With:  diskcache 5.6.3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet diskcache==5.6.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from diskcache import Cache

calls = []
cache = Cache("cache")


@cache.memoize()
def ask(prompt, reference):
    """A call that costs money."""
    calls.append(prompt)
    return len(prompt)


text = "".join(["hel", "lo"])
copy = "".join(["hel", "lo"])
ask(text, text), ask(text, text)
once = len(calls)
ask(text, copy)
cache[text, text] = 1
print("diskcache", version("diskcache"), "equal:", text == copy, "calls:", once, len(calls), "key:", (text, copy) in cache)
assert text == copy
assert (once, len(calls)) == (1, 2)
assert (text, text) in cache
assert (text, copy) not in cache
PYTHON
