"""What the graders and measurers of a contract are given, and where a model's weights are."""

from pathlib import Path

from engine.contract.models import Model
from engine.inference.crash_isolation import MARKERS
from engine.inference.locate import locate
from engine.inference.till import Account
from engine.inference.token_budget import JUDGES
from engine.judges.grader_spec import GraderSpec
from engine.runs.job import JobContext
from engine.scoring.scorer import ScorerSpec


def grader_spec(context: JobContext) -> GraderSpec:
    """Return what the graders of the contract are given."""
    judging = context.contract.judges
    if context.contract.teachers.mode == "direct":
        judging = judging.model_copy(update={"rubrics": ()})
    return GraderSpec(
        section=judging,
        specialist=context.contract.specialist,
        pool=context.profile.judge,
        ledger=context.paid / "judgements",
        markers=context.ledger / MARKERS / "judgements",
        purse=context.ledger / JUDGES,
        folders={rubric.name: weights(context, rubric.model) for rubric in judging.rubrics},
        cap=context.contract.budget.judge_tokens,
        references=any("reference" in source.columns for source in context.contract.prompts.sources),
        competes=context.contract.teachers.mode == "competition",
    )


def scorer_spec(context: JobContext) -> ScorerSpec | None:
    """Return what measures the signals that the contract asks for; None if it asks for none."""
    section = context.contract.judges.signals
    if section is None:
        return None
    account = section.model and Account(
        model=section.model,
        pool=context.profile.judge,
        folder=weights(context, section.model),
        ledger=context.paid / "signals",
        markers=context.ledger / MARKERS / "signals",
        purse=context.ledger / JUDGES,
        cap=context.contract.budget.judge_tokens,
    )
    return ScorerSpec(section, context.contract.specialist, account)


def weights(context: JobContext, model: Model) -> Path | None:
    """Return the folder of a model's weights; None for a model that has none."""
    return None if model.type != "vllm" else locate(model.path, root=context.root, home=context.models)
