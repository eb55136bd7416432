#!/usr/bin/env bash
# Answers that look like dates are no longer texts.
#
# Guess: JSON has types: a string of a file of JSON lines is a string in the data set, whatever is in it, as it is for CSV only
#        if it is asked for.
# Seen:  a column whose strings all look like a date is of type timestamp, and its rows are datetimes: 2019-05-01 comes back
#        with a time of day, and 2020-01-02T00:00:00Z without its zone. One more file, whose strings do not, and load_dataset
#        raises. With features= that say string, the texts are other ones, 2019-05-01 00:00:00; beside another string in the
#        file they stay as they are.
# With:  datasets 5.2.0, pandas 3.1.1, pyarrow 26.0.1, numpy 2.3.5, fsspec 2026.9.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.3.5 fsspec==2026.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
from importlib.metadata import version
from pathlib import Path

from datasets import Features, Value, disable_progress_bars, load_dataset
from datasets.exceptions import DatasetGenerationError
from datasets.utils.logging import CRITICAL, set_verbosity

disable_progress_bars()
set_verbosity(CRITICAL)


def answers(*files, features=None):
    """The answers of these files, as load_dataset gives them: the type of the column, and its values."""
    names = []
    for place, texts in enumerate(files):
        names.append(f"part-{place}.jsonl")
        Path(names[-1]).write_text("".join(json.dumps({"answer": text}) + "\n" for text in texts))
    rows = load_dataset("json", data_files=names, cache_dir="cache", features=features)["train"]
    return rows.features["answer"].dtype, [str(value) for value in rows["answer"]]


dates, mixed = ["2019-05-01", "2020-01-02T00:00:00Z"], ["2019-05-01", "in May"]
alone, beside = answers(dates), answers(mixed)
asked = answers(dates, features=Features({"answer": Value("string")}))
try:
    answers(dates, ["in May"])
    raised = ""
except DatasetGenerationError as error:
    raised = str(error.__cause__).split("\n")[0]
print("datasets", version("datasets"), "dates alone:", alone, "asked for as string:", asked)
print("beside another text:", beside, "in two files:", raised)
assert alone == ("timestamp[s]", ["2019-05-01 00:00:00", "2020-01-02 00:00:00"])
assert asked == ("string", alone[1])
assert beside == ("string", mixed)
assert raised
PYTHON
