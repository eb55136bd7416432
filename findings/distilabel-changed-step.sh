#!/usr/bin/env bash
# The answers of the code of yesterday.
#
# Guess: a pipeline is taken from the cache if nothing has changed: a step whose code was changed is run again.
# Seen:  what decides are the names of the steps, their connections and parameters: a step that multiplies by 3 gets the rows of the
#        one that multiplied by 2, in a new process, and the log says only that the cache was used. With use_cache=False it is run.
# With:  distilabel 1.5.3, datasets 5.2.0, requests 2.34.2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet distilabel==1.5.3 datasets==5.2.0 requests==2.34.2
cd "$folder"
export HOME="$folder" HF_HUB_OFFLINE=1
write() { # the program, with a step that multiplies by $1
    cat > program.py << PYTHON
import sys
from importlib.metadata import version

from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts, StepInput, step


@step(inputs=["number"], outputs=["product"])
def multiply(inputs: StepInput):
    yield [row | {"product": row["number"] * $1} for row in inputs]


if __name__ == "__main__":
    with Pipeline(name="products", cache_dir="cache") as pipeline:
        LoadDataFromDicts(data=[{"number": 1}, {"number": 2}]) >> multiply()
    rows = pipeline.run(use_cache=sys.argv[1] == "cache")["default"]["train"]
    print("distilabel", version("distilabel"), list(rows["product"]))
PYTHON
}
write 2
first=$(venv/bin/python program.py cache 2> log | tail -n 1)
write 3
second=$(venv/bin/python program.py cache 2> log | tail -n 1)
third=$(venv/bin/python program.py anew 2> log | tail -n 1)
echo "$first; the step changed: $second; without the cache: $third"
[[ $first == *"[2, 4]" && $second == *"[2, 4]" && $third == *"[3, 6]" ]]
