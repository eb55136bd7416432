"""Configuration of the clients of paid work, the graders and the scorers of a contract."""

from dataclasses import replace
from typing import Literal

from engine.contract.budget import EVIDENCE, SIGNALS
from engine.contract.models import LlamaCppModel, Model, VllmModel
from engine.contract.teachers import Teacher
from engine.inference.client import ClientSpec
from engine.inference.crash_isolation import MARKERS
from engine.inference.token_budget import JUDGE_TOKENS, TEACHER_TOKENS
from engine.inference.weights import Weights
from engine.judges.grader_spec import EvidenceSpec, GraderSpec, ReaderSpec
from engine.runs.job import JobContext
from engine.scoring.scorer import ScorerSpec
from jobs.steps import trained
from jobs.steps.models import found, placed, tokenizer


def model_client(
    context: JobContext, model: Model, name: str, *, payee: str, role: Literal["teacher", "judge"] = "teacher", teacher: str = ""
) -> ClientSpec:
    """Return a client on the pool and under the budget of `role` that keeps its paid work in the ledger's folder `name`.

    The pool is that of the `teacher`, by default of the one that is called like the payee.
    """
    is_teacher, profile, budget = role == "teacher", context.profile, context.contract.budget
    return ClientSpec(
        model=placed(model, context.root),
        pool=profile.teacher_of(teacher or payee) if is_teacher else profile.judge,
        weights=weights(context, model),
        ledger=context.paid / name,
        markers=context.ledger / MARKERS / name,
        budget=context.ledger / (TEACHER_TOKENS if is_teacher else JUDGE_TOKENS),
        cap=budget.teacher_tokens if is_teacher else budget.judge_tokens,
        payee=payee,
    )


def grader_spec(context: JobContext) -> GraderSpec:
    """Return the configuration of the contract's graders."""
    section = context.contract.judges
    if context.contract.teachers.mode == "direct":
        section = section.model_copy(update={"rubrics": ()})
    return GraderSpec(
        section=section,
        specialist=context.contract.specialist,
        pool=context.profile.judge,
        clients={
            rubric.name: model_client(context, rubric.model, "judgements", payee=rubric.name, role="judge")
            for rubric in section.rubrics
        },
        references=any("reference" in source.columns for source in context.contract.prompts.sources),
        competes=context.contract.teachers.mode == "competition",
        evidence=evidence_spec(context),
    )


def evidence_spec(context: JobContext) -> EvidenceSpec | None:
    """Return the configuration of the evidence; None if the confidence is computed from the rubrics alone."""
    section = context.contract.judges.evidence
    if section is None:
        return None
    teachers = [teacher for teacher in context.contract.teachers.models if teacher.answers]
    return EvidenceSpec(
        section=section,
        teachers={teacher.name: reader_spec(context, teacher, EVIDENCE) for teacher in teachers},
        readers={reader.name: reader_spec(context, reader, reader.name) for reader in section.readers},
    )


def reader_spec(context: JobContext, section: Teacher, payee: str) -> ReaderSpec:
    """Return how a teacher, or a reader, reads given answers; what it reads is paid as the judge's work."""
    asked = trained.asked(section, context.contract.specialist, context.root, context.profile.weights_cache)
    client = model_client(context, asked.model, "likelihoods", payee=payee, role="judge")
    evidence = context.contract.judges.evidence
    if evidence and section.name in evidence.tokenizers and asked.model.type == "endpoint":
        client = replace(client, weights=tokenizer(context, evidence.tokenizers[section.name]))
    return ReaderSpec(asked.section, asked.specialist, client, asked.systems)


def scorer_spec(context: JobContext) -> ScorerSpec | None:
    """Return the configuration of the scorers; None if the contract asks for no signals."""
    section = context.contract.judges.signals
    if section is None:
        return None
    client = section.model and model_client(context, section.model, "signals", payee=SIGNALS, role="judge")
    return ScorerSpec(section, context.contract.specialist, client)


def weights(context: JobContext, model: Model) -> Weights | None:
    """Return where the files of a model lie; None for a model that has none."""
    return found(context, model.path) if isinstance(model, VllmModel | LlamaCppModel) else None
