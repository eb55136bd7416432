"""Configuration of the clients of paid work, the graders and the scorers of a contract."""

from pathlib import Path

from engine.contract.consumers import SIGNALS
from engine.contract.models import Model
from engine.inference.client import ClientSpec
from engine.inference.crash_isolation import MARKERS
from engine.inference.locate import locate
from engine.inference.token_budget import JUDGE_TOKENS, TEACHER_TOKENS
from engine.judges.grader_spec import GraderSpec
from engine.runs.job import JobContext
from engine.scoring.scorer import ScorerSpec


def teacher_client(context: JobContext, model: Model, name: str, *, payee: str) -> ClientSpec:
    """Return a client under `budget.teacher_tokens` that keeps its paid work in the ledger's folder `name`."""
    return ClientSpec(
        model=model,
        pool=context.profile.teacher,
        weights=weights(context, model),
        ledger=context.paid / name,
        markers=context.ledger / MARKERS / name,
        budget=context.ledger / TEACHER_TOKENS,
        cap=context.contract.budget.teacher_tokens,
        payee=payee,
    )


def grader_spec(context: JobContext) -> GraderSpec:
    """Return the configuration of the contract's graders."""
    judging = context.contract.judges
    if context.contract.teachers.mode == "direct":
        judging = judging.model_copy(update={"rubrics": ()})
    return GraderSpec(
        section=judging,
        specialist=context.contract.specialist,
        pool=context.profile.judge,
        ledger=context.paid / "judgements",
        markers=context.ledger / MARKERS / "judgements",
        budget=context.ledger / JUDGE_TOKENS,
        weights={rubric.name: weights(context, rubric.model) for rubric in judging.rubrics},
        cap=context.contract.budget.judge_tokens,
        references=any("reference" in source.columns for source in context.contract.prompts.sources),
        competes=context.contract.teachers.mode == "competition",
    )


def scorer_spec(context: JobContext) -> ScorerSpec | None:
    """Return the configuration of the scorers; None if the contract asks for no signals."""
    section = context.contract.judges.signals
    if section is None:
        return None
    client = section.model and ClientSpec(
        model=section.model,
        pool=context.profile.judge,
        weights=weights(context, section.model),
        ledger=context.paid / "signals",
        markers=context.ledger / MARKERS / "signals",
        budget=context.ledger / JUDGE_TOKENS,
        cap=context.contract.budget.judge_tokens,
        payee=SIGNALS,
    )
    return ScorerSpec(section, context.contract.specialist, client)


def weights(context: JobContext, model: Model) -> Path | None:
    """Return the folder of a model's weights; None for a model that has none."""
    return None if model.type != "vllm" else locate(model.path, root=context.root, home=context.models)
