"""What the graders and measurers of a contract are given, and where a model's weights are."""

from pathlib import Path

from engine.contract.models import Model
from engine.inference.crash_isolation import MARKS
from engine.inference.locate import locate
from engine.inference.till import Account
from engine.inference.token_budget import JUDGES
from engine.judges.grader_spec import Bar
from engine.runs.job import Bench
from engine.scoring.scorer import Gauge


def bar_for(bench: Bench) -> Bar:
    """Return what the graders of the contract are given."""
    judging = bench.contract.judges
    if bench.contract.teachers.mode == "direct":
        judging = judging.model_copy(update={"rubrics": ()})
    return Bar(
        section=judging,
        specialist=bench.contract.specialist,
        pool=bench.profile.judge,
        ledger=bench.paid / "judgements",
        marks=bench.ledger / MARKS / "judgements",
        purse=bench.ledger / JUDGES,
        folders={rubric.name: weights(bench, rubric.model) for rubric in judging.rubrics},
        cap=bench.contract.budget.judge_tokens,
        references=any("reference" in source.columns for source in bench.contract.prompts.sources),
        competes=bench.contract.teachers.mode == "competition",
    )


def gauge_for(bench: Bench) -> Gauge | None:
    """Return what measures the signals that the contract asks for; None if it asks for none."""
    section = bench.contract.judges.signals
    if section is None:
        return None
    account = section.model and Account(
        model=section.model,
        pool=bench.profile.judge,
        folder=weights(bench, section.model),
        ledger=bench.paid / "signals",
        marks=bench.ledger / MARKS / "signals",
        purse=bench.ledger / JUDGES,
        cap=bench.contract.budget.judge_tokens,
    )
    return Gauge(section, bench.contract.specialist, account)


def weights(bench: Bench, model: Model) -> Path | None:
    """Return the folder of a model's weights; None for a model that has none."""
    return None if model.type != "vllm" else locate(model.path, root=bench.root, home=bench.models)
