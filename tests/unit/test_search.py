"""`rayleigh search` without Ray: what is refused before anything begins, what is proposed, noted and ranked."""

import importlib.util
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml
from made_run import made_run
from ray.tune.search import Searcher
from typer.testing import CliRunner

from engine.contract.contract import Contract
from engine.contract.exports import Gguf
from engine.contract.search import Budget, Search, variant
from engine.records.search import Trial
from jobs import workspace
from jobs.cli import app
from jobs.commands import search
from jobs.commands.absolute import absolute_paths
from jobs.steps.search import Notes, TokenLimit, tokens_left
from jobs.steps.search_sampler import Sampler, decoded, distributions, encoded

SPACE = {
    "student": "small",
    "keys": {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "scale": "log"},
        "init.prune.layers": {"choices": [[0], [0, 1]]},
    },
    "budget": {"trials": 3},
}


@pytest.fixture
def toy(tmp_path):
    """The workspace of a run whose jobs are finished."""
    return made_run(str(tmp_path / "run"), tmp_path / "seeds")


def ask(toy, tmp_path, **changes):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({**SPACE, **changes}))
    words = ["search", toy.contract_path, str(toy.folder), "--space", str(tmp_path / "space.yaml")]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 1, result.output
    return result.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keys": {"learning_rat": {"choices": [1]}}}, "keys.learning_rat: 1: learning_rat: a student has no such key"),
        ({"keys": {"init.prune.layer": {"choices": [1]}}}, "init.prune.layer: a student has no such key"),
        ({"keys": {"learning_rate.x": {"choices": [1]}}}, "learning_rate.x: leads through a value that is no section"),
        ({"keys": {"epochs": {"choices": []}}}, "keys.epochs.choices.choices: Tuple should have at least 1 item"),
        ({"keys": {"epochs": {"choices": [1, 1]}}}, "values must differ, found 1, 1"),
        ({"keys": {"epochs": {"choices": [2, 0]}}}, "keys.epochs: 0: epochs: Input should be greater than 0. Found 0"),
        ({"keys": {"epochs": {"low": 1.5, "high": 3}}}, "keys.epochs: 1.5: epochs: Input should be a valid integer"),
        ({"keys": {"learning_rate": {"low": 1, "high": 0.1}}}, "low: found 1, expected less than high, which is 0.1"),
        ({"keys": {"learning_rate": {"low": 0, "high": 0.1, "scale": "log"}}}, "low: found 0, expected more than 0"),
        ({"keys": {"epochs": {"low": 1.5, "high": 3, "integer": True}}}, "expected whole numbers"),
        ({"keys": {}}, "keys: Dictionary should have at least 1 item"),
        ({"keys": {"seed": {"choices": [1]}}}, "keys.seed: cannot be searched"),
        ({"keys": {"init.vocabulary.trim.size": {"choices": [1]}}}, "keys.init.vocabulary.trim.size: cannot be searched"),
        ({"keys": {"init.prune.layers": {"choices": [[0, 7]]}}}, "[7] are not there; the model has 2 layers"),
        ({"keys": {"init.prune.source": {"choices": ["other"]}}}, 'needs a tokenizer made from {"source": "other"}'),
        ({"keys": {"objectives.forward_kl": {"choices": [0, 0.5]}}}, "0.5: sft, forward_kl reads the teacher's distribution"),
        ({"keys": {"objectives.dpo": {"choices": [1]}}}, "dpo reads preference pairs, and none are made"),
        ({"keys": {"curriculum": {"choices": ["confidence_tier"]}}}, "judges.pools.confidence_tiers is empty"),
        ({"student": "tiny"}, "student: found 'tiny', expected one of small, large"),
        ({"budget": {"trials": 0}}, "budget.trials: Input should be greater than 0"),
    ],
)
def test_bad_space_is_refused_before_anything_begins(toy, tmp_path, changes, words):
    assert words in ask(toy, tmp_path, **changes)
    assert not toy.folder.exists("search") and not toy.folder.exists("ledger/search")


def test_search_without_a_dataset_names_what_makes_it(toy, tmp_path):
    (toy.folder / "dataset").remove()
    assert "dataset: no finished job has made it" in ask(toy, tmp_path)


def test_search_on_the_dataset_of_another_contract_is_refused(toy, tmp_path):
    text = (tmp_path / "seeds" / "toy.yaml").read_text().replace("semantic: null", "semantic: null, seed: 9")
    (tmp_path / "seeds" / "toy.yaml").write_text(text)
    assert "dataset was finished under another recipe" in ask(toy, tmp_path)


def test_search_without_optuna_says_how_to_install_it(toy, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optuna" else find(name))
    assert "Optuna is not installed. Install it: pip install 'rayleigh[search]'" in ask(toy, tmp_path)


def test_variant_changes_the_keys_and_nothing_else(toy):
    student = toy.contract.student("small")
    changed = variant(student, {"learning_rate": 0.5, "init.prune.layers": [1], "early_stop.patience": 7})
    assert (changed.learning_rate, changed.init.prune.layers, changed.early_stop.patience) == (0.5, (1,), 7)
    back = {"learning_rate": student.learning_rate, "init.prune.layers": [0], "early_stop.patience": student.early_stop.patience}
    assert variant(changed, back) == student


def test_values_that_do_not_go_together_are_named(toy):
    with pytest.raises(ValueError, match="micro_batch_size: found 3, expected a divisor"):
        variant(toy.contract.student("small"), {"batch_size": 8, "micro_batch_size": 3})


def sampler(keys, **given):
    order = Search.model_validate({**SPACE, "keys": keys})
    return Sampler(distributions(order), **{"seed": 0, "ended": (), "first": (), **given})


def test_sampler_proposes_each_point_once_and_ends_when_none_is_left():
    keys = {"epochs": {"choices": [1, 2]}, "batch_size": {"low": 8, "high": 9, "integer": True}}
    ended = [({"epochs": "1", "batch_size": 8}, -0.5)]
    proposing = sampler(keys, ended=ended, first=[{"epochs": "2", "batch_size": 9}])
    points = [proposing.suggest(f"t{number}") for number in range(4)]
    assert points[0] == {"epochs": "2", "batch_size": 9} and points[3] == Searcher.FINISHED
    assert {(point["epochs"], point["batch_size"]) for point in points[:3]} == {("2", 9), ("2", 8), ("1", 9)}


def test_sampler_learns_from_trials_that_ended():
    keys = {"learning_rate": {"low": 0.0, "high": 1.0}}
    proposing, far = sampler(keys), []
    for number in range(40):
        far.append(abs(proposing.suggest(f"t{number}")["learning_rate"] - 0.25))
        proposing.on_trial_complete(f"t{number}", {"score": -far[-1], "training_iteration": 1})
    assert sum(far[-20:]) < 0.7 * sum(far[:20])


def test_values_survive_the_way_to_the_sampler_and_back():
    order = Search.model_validate(SPACE)
    values = {"learning_rate": 0.001, "init.prune.layers": [0, 1]}
    assert decoded(order, encoded(order, values)) == values


@pytest.fixture
def setup(toy):
    return search._setup(toy, Search.model_validate(SPACE), SimpleNamespace(log=print, progress=print))


def tune_trial(name, layers, **last):
    config = {"learning_rate": 0.001, "init.prune.layers": json.dumps(layers)}
    return SimpleNamespace(trial_id=name, config=config, last_result=last, get_error=lambda: "Traceback\nModelError: too large\n")


def test_notes_say_how_each_trial_ended(setup):
    notes = Notes(setup, print)
    one, two = tune_trial("a", [0], score=-0.5, epochs=2.0, tokens=9), tune_trial("b", [0, 1], score=-0.4, finished=True)
    for trial in (one, two):
        notes.on_trial_start(0, [], trial)
    assert {trial.status for trial in setup.trials()} == {"running"}
    for score, epochs in ((-0.7, 1.0), (-0.7, 1.5), (-0.5, 2.0)):
        notes.on_trial_result(0, [], one, {"score": score, "epochs": epochs, "tokens": 9, "train_seconds": 1.0})
    notes.on_trial_complete(0, [], one)
    notes.on_trial_complete(0, [], two)
    found = {trial.status: trial for trial in setup.trials()}
    assert found["killed"].curve == ((1.0, -0.7), (2.0, -0.5)) and found["finished"].score == -0.4
    assert setup.seconds() >= 0 and len(setup.trials()) == 2
    notes.on_trial_error(0, [], one)
    assert {trial.error for trial in setup.trials()} == {"", "ModelError: too large"}


def test_what_a_spent_budget_ends_is_not_called_behind(setup):
    notes = Notes(setup, print)
    limit = TokenLimit(10, notes)
    trial = tune_trial("a", [0], score=-0.5)
    notes.on_trial_start(0, [], trial)
    assert not limit("a", {"tokens": 6}) and not limit.stop_all()
    assert not limit("b", {"tokens": 5}) and limit.stop_all()
    notes.on_trial_complete(0, [], trial)
    assert [trial.status for trial in setup.trials()] == ["budget"]


def save(setup, layers, **given):
    values = {"learning_rate": 0.001, "init.prune.layers": layers}
    setup.save(Trial(trial=setup.key(values), values=values, **given))


def test_what_an_interrupted_trial_has_learned_is_counted_once():
    def left(*trials):
        return tokens_left(Budget(target_tokens=100), [Trial(trial="t", values={}, status=s, tokens=n) for s, n in trials])

    assert left(("finished", 30), ("running", 50)) == 70 and left() == 100
    limit = TokenLimit(left(("finished", 30), ("running", 50)), SimpleNamespace())
    limit("t", {"tokens": 60})  # the interrupted one reports all that it has learned
    assert not limit.stop_all()
    limit("t", {"tokens": 70})
    assert limit.stop_all() and tokens_left(Budget(), []) == float("inf")


def test_winner_ended_by_itself_and_is_a_contract_that_loads(setup, toy, tmp_path):
    save(setup, [0], status="killed", score=-0.1)
    with pytest.raises(search.ModelError, match="none of 1 trials ended by itself"):
        search._winner(setup)
    save(setup, [0, 1], status="finished", score=-0.3)
    winner = search._winner(setup)
    assert winner.values["init.prune.layers"] == [0, 1]
    contract = search._winner_contract(setup, winner)
    assert contract.student("small").seeds == 3 and contract.student("large") == toy.contract.student("large")
    written = absolute_paths(contract.model_dump(mode="json"), toy.root)
    assert Contract.model_validate(written).students[0].init.prune.source == str(tmp_path / "seeds" / "model")
    assert written["prompts"]["sources"][0]["path"] == str(tmp_path / "seeds" / "seeds.jsonl")
    assert written["teachers"]["models"][0]["model"]["path"] == "fake"


def test_all_that_a_contract_names_by_path_is_absolute(tmp_path):
    for name in ("tokenizer", "earlier", "packages"):
        (tmp_path / name).mkdir()
    written = absolute_paths(
        {"capture": {"tokenizers": {"t": "tokenizer"}}, "prompts": {"earlier": ["earlier", "s3://b/run"]}, "packages": "packages"},
        str(tmp_path),
    )
    assert written == {
        "capture": {"tokenizers": {"t": str(tmp_path / "tokenizer")}},
        "prompts": {"earlier": [str(tmp_path / "earlier"), "s3://b/run"]},
        "packages": str(tmp_path / "packages"),
    }


def test_a_trial_is_one_training_without_exports_whatever_the_student_has_besides(setup, toy):
    small, large = toy.contract.students
    more = {"seeds": 3, "keep_seeds": True, "exports": (Gguf(type="gguf"),)}
    other = replace(toy, contract=toy.contract.model_copy(update={"students": (small.model_copy(update=more), large)}))
    again = search._setup(other, setup.search, SimpleNamespace(log=print, progress=print))
    assert again.base == setup.base  # its trials are those that were made before
    [tried] = again.context({"learning_rate": 0.001, "init.prune.layers": [0]}, print).contract.students
    assert (tried.seeds, tried.keep_seeds, tried.exports, tried.learning_rate) == (1, False, (), 0.001)


def test_trials_of_another_dataset_do_not_count(setup, toy):
    save(setup, [0], status="finished", score=-0.1)
    console = SimpleNamespace(log=print, progress=print)
    again = search._setup(toy, Search.model_validate({**SPACE, "budget": {"trials": 9}}), console)
    assert len(again.trials()) == 1  # a larger budget goes on
    keys = {"epochs": {"choices": [1, 2]}}
    other = search._setup(toy, Search.model_validate({**SPACE, "keys": keys}), console)
    assert other.trials() == []
    assert workspace.finished(toy.folder, "dataset")
