#!/usr/bin/env bash
# Two threads that import the same name from transformers at the same time: one of them gets an ImportError.
#
# Guess: imports are safe in threads: a thread that finds a module half loaded waits for the lock of this module, and goes on with it.
# Seen:  of four threads that run `from transformers import AutoTokenizer` at once, one or two fail with "cannot import name" in most
#        processes. The package puts a lazy object in its own place in sys.modules as it loads; a thread that waited holds the module
#        that was there before, which has no names. With `import transformers` once before the threads begin, none fails.
# With:  transformers 5.19.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.19.0
cat > "$folder/look.py" <<'PYTHON'
import sys
import threading

if sys.argv[1] == "before":
    import transformers  # noqa: F401
begin, failed = threading.Barrier(4), []


def load() -> None:
    begin.wait()
    try:
        from transformers import AutoTokenizer  # noqa: F401
    except ImportError as error:
        failed.append(str(error).split(" (")[0])


threads = [threading.Thread(target=load) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(failed), *sorted(set(failed)))
PYTHON
seen=0
for _ in 1 2 3 4 5 6 7 8; do
    out=$("$folder/venv/bin/python" "$folder/look.py" at-once 2>/dev/null)
    echo "at once, of 4 threads failed: $out"
    [ "${out%% *}" = 0 ] || seen=$((seen + 1))
done
for _ in 1 2 3; do
    out=$("$folder/venv/bin/python" "$folder/look.py" before 2>/dev/null)
    echo "imported before, of 4 threads failed: $out"
    [ "${out%% *}" = 0 ] || exit 1
done
echo "$seen of 8 processes had a thread that failed"
[ "$seen" -gt 0 ]
