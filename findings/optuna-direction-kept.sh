#!/usr/bin/env bash
# A study that exists keeps its direction, whatever is asked for.
#
# Guess: create_study(direction="maximize", load_if_exists=True) returns a study that is maximised, or raises where the stored
#        one is minimised.
# Seen:  the stored study comes back as it is, without a warning: its direction is MINIMIZE, and best_trial is the worst for who
#        asked. The same holds for the other number of directions.
# With:  optuna 5.0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet optuna==5.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

import optuna

warnings.simplefilter("error")
optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = "sqlite:///studies.db"
optuna.create_study(study_name="search", storage=storage, direction="minimize")
study = optuna.create_study(study_name="search", storage=storage, direction="maximize", load_if_exists=True)
for value in (0.2, 0.9):
    study.add_trial(optuna.trial.create_trial(value=value))
print("optuna", version("optuna"), "asked for maximize:", study.direction.name, "best value of 0.2 and 0.9:", study.best_value)
assert study.direction == optuna.study.StudyDirection.MINIMIZE and study.best_value == 0.2
several = optuna.create_study(study_name="search", storage=storage, directions=["maximize", "minimize"], load_if_exists=True)
print("asked for two directions:", [direction.name for direction in several.directions])
assert several.directions == [optuna.study.StudyDirection.MINIMIZE]
PYTHON
