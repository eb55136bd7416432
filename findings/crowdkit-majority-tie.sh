#!/usr/bin/env bash
# Whose vote is read first decides all ties.
#
# Guess: a tie of two annotators is drawn at random, or by the label, so that the order of the rows does not matter.
# Seen:  MajorityVote gives every tie of the table the label that is read first, whatever the task: of ten tasks on which two judges
#        disagree all are "accept" if the accepting judge's rows are read first, and "reject" if the other's are. Nothing tells of a
#        tie, apart from fit_predict_proba.
# With:  crowd-kit 1.4.2, pandas 3.1.1, numpy 2.4.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet crowd-kit==1.4.2 pandas==3.1.1 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from crowdkit.aggregation import MajorityVote
from pandas import DataFrame

VOTES = [("strict", "reject"), ("lenient", "accept")]
rows = [(f"task {number}", worker, label) for worker, label in VOTES for number in range(10)]
mixed = sorted(rows, reverse=True)  # by task, and the judges alternate


def labels(rows):
    """How many tasks get each label."""
    return MajorityVote().fit_predict(DataFrame(rows, columns=["task", "worker", "label"])).value_counts().to_dict()


seen = labels(rows), labels(rows[::-1]), labels(mixed)
print("crowd-kit", version("crowd-kit"), "ten ties:", seen)
assert seen == ({"reject": 10}, {"accept": 10}, {"reject": 10})
PYTHON
