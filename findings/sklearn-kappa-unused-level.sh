#!/usr/bin/env bash
# Weighted kappa depends on whether some rating names a level that nobody disagrees on.
#
# Guess: cohen_kappa_score(weights="quadratic") weighs a disagreement by the square of the distance of the two ratings, so 2 and
#        5 are nine times as far apart as 1 and 2.
# Seen:  the distance is that of their places among the ratings that occur: if nobody gave 3 or 4, then 2 and 5 are as near as 1
#        and 2, and kappa is 0.75 instead of 0.48. With labels=[1, 2, 3, 4, 5] it is 0.48; nothing warns.
# With:  scikit-learn 1.9.1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-learn==1.9.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sklearn
from sklearn.metrics import cohen_kappa_score

human, judge = [1, 2, 5, 5, 2, 1], [1, 2, 5, 2, 5, 1]
default = cohen_kappa_score(human, judge, weights="quadratic")
scale = cohen_kappa_score(human, judge, weights="quadratic", labels=[1, 2, 3, 4, 5])
squares = sum((a - b) ** 2 for a, b in zip(human, judge, strict=True)) / len(human)
chance = sum((a - b) ** 2 for a in human for b in judge) / len(human) ** 2
by_hand = round(1 - squares / chance, 4)
print("scikit-learn", sklearn.__version__, "kappa", round(default, 4), "with all labels", round(scale, 4), "by hand", by_hand)
assert round(default, 4) == 0.75
assert round(scale, 4) == by_hand == 0.4808
PYTHON
