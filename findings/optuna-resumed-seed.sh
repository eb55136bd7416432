#!/usr/bin/env bash
# A resumed study with a seeded sampler tries the same values again.
#
# Guess: a seed makes a search repeatable, and a study that is loaded goes on where it stopped: the sampler has the earlier
#        trials, and takes others.
# Seen:  the sampler's random numbers are not in the storage: with the same seed the first trials of the second run are those of
#        the first, value by value. Without a break six trials are six values. A sampler that is pickled and loaded goes on.
# With:  optuna 5.0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet optuna==5.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import pickle
from importlib.metadata import version

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)


def values(storage, *lengths, keep=False):
    """What is tried in runs of these lengths, each with a study loaded anew and the same seed, or the sampler of the last run."""
    pickled = pickle.dumps(optuna.samplers.TPESampler(seed=0))
    for length in lengths:
        sampler = pickle.loads(pickled)
        study = optuna.create_study(study_name="search", storage=storage, load_if_exists=True, sampler=sampler)
        study.optimize(lambda trial: trial.suggest_float("rate", 0, 1), n_trials=length)
        if keep:
            pickled = pickle.dumps(sampler)
    return [round(trial.params["rate"], 6) for trial in study.trials]


whole, resumed = values("sqlite:///whole.db", 6), values("sqlite:///resumed.db", 3, 3)
print("optuna", version("optuna"), "in one run", whole, "in two", resumed)
kept = values("sqlite:///kept.db", 3, 3, keep=True)
print("in two, with the sampler kept:", kept)
assert len(set(whole)) == 6
assert resumed[:3] == resumed[3:] == whole[:3]
assert kept == whole
PYTHON
