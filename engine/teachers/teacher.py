"""Answers prompts with one teacher. One per actor; the model is loaded at the first answer that is not in the ledger yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from engine.checks import CheckInput, canonical, run_checks
from engine.checks.json_answer import without_text_before
from engine.contract.checks import Check
from engine.contract.models import Sampling
from engine.contract.specialist import Specialist
from engine.contract.teachers import Teacher as TeacherSection
from engine.inference.client import CRASHED, Batch, ClientSpec, ModelClient, completed
from engine.inference.decodable import decoding_identity
from engine.inference.engine import Completion, Engine, Request, instruct
from engine.inference.few_shot import FewShotSelector
from engine.inference.reasoning import parse_reasoning
from engine.inference.structured import decoding_schema
from engine.inference.token_logprobs import within
from engine.rows import ANSWER, PROMPT, Row, content_id
from engine.tools.agent import ToolAgent
from engine.tools.toolset import Toolset

COPIED = [*PROMPT.names, "route"]
"""Columns that an answer copies from its prompt."""
PAID = pa.schema([ANSWER.field("prompt_id"), *(field for field in ANSWER if field.name not in COPIED)])
"""Columns of the ledger: the answer as the model wrote it, without those of its prompt. `reasoning` is what a server has split off;
reasoning in tags is split off when the answer is read. In files of earlier versions the column is missing."""
BUDGET_EXHAUSTED = Completion("", "budget_exhausted", 0, 0, error="not asked: budget.teacher_tokens was spent")


@dataclass(frozen=True)
class TeacherSpec:
    """Configuration of a teacher; plain picklable values."""

    section: TeacherSection
    specialist: Specialist
    client: ClientSpec
    checks: Sequence[Check] = ()
    """Checks that verify an answer, for `sampling.stop_after_verified`."""
    toolset: Toolset | None = None
    """Tools that it may call, in mode `tools`."""
    systems: Mapping[str, str] = field(default_factory=dict)
    """Task unit -> system text, for a model with one of its own for each; the others get the section's."""

    @property
    def name(self) -> str:
        """The teacher's name."""
        return self.section.name

    def system(self, task_unit: str) -> str:
        """Return the system text of a prompt of `task_unit`."""
        return self.systems.get(task_unit, self.section.system)


class Sample(NamedTuple):
    """One answer that is wanted."""

    prompt: Row
    number: int
    seed: int
    answer_id: str


class Teacher:
    """PROMPT in, ANSWER out, ordered by prompt and sample: `sampling.n` rows a prompt, fewer where it stops early.

    A prompt may have a `route`, which its answers copy.
    """

    def __init__(self, spec: TeacherSpec) -> None:
        self.spec = spec
        self.few_shot = FewShotSelector(spec.section.shots)
        self.fingerprints: dict[str, str] = {}
        self.client: ModelClient[Sample] = ModelClient(
            spec.client,
            PAID,
            prompt_id=lambda sample: sample.prompt["prompt_id"],
            crashed=lambda sample: self._row(sample, CRASHED),
            wrap=self._with_tools,
        )

    def __call__(self, prompts: pa.Table) -> pa.Table:
        """Answer a block in batches, which are cut alike in every run and are durable one by one."""
        size = self.spec.client.pool.batch
        with self.client.block(prompts["prompt_id"].to_pylist()):
            batches = [self._batch(prompts.slice(start, size)) for start in range(0, max(prompts.num_rows, 1), size)]
        return pa.concat_tables(batches)

    def _batch(self, prompts: pa.Table) -> pa.Table:
        rows = prompts.select([name for name in COPIED if name in prompts.column_names]).to_pylist()
        samples = [self._samples(row) for row in rows]
        answers: list[list[Row]] = [[] for _ in rows]
        may_pay = not self.client.budget.is_exhausted()  # for all rounds, so that no prompt is left with a part of its samples
        for numbers in _rounds(self.spec.section.sampling):
            open_ = [index for index, row in enumerate(rows) if not self._is_done(row, answers[index])]
            replies = self._answers([sample for index in open_ for sample in samples[index][numbers]], may_pay=may_pay)
            for index in open_:
                answers[index] += [replies[sample.answer_id] for sample in samples[index][numbers]]
        complete = [self._all_or_none(*pair) for pair in zip(answers, samples, strict=True)]
        merged = [{"route": "", **row, **answer} for row, group in zip(rows, complete, strict=True) for answer in group]
        return pa.Table.from_pylist(merged, schema=ANSWER)

    def _all_or_none(self, answers: list[Row], samples: Sequence[Sample]) -> list[Row]:
        """Drop the answers to a prompt of which the budget reached only a part; those that were paid for stay in the ledger."""
        if all(answer["finish_reason"] != BUDGET_EXHAUSTED.finish_reason for answer in answers):
            return answers
        return [self._parsed(sample, self._row(sample, BUDGET_EXHAUSTED)) for sample in samples]

    def _is_done(self, row: Row, answers: Sequence[Row]) -> bool:
        enough, first = self.spec.section.sampling.stop_after_verified, self.spec.section.sampling.stop_when_agreed
        if first is not None and len(answers) >= first:
            texts = {canonical(answer["answer"]) for answer in answers}
            return len(texts) == 1 and all(answer["finish_reason"] == "stop" for answer in answers)  # failures agree on nothing
        return enough is not None and sum(self._is_verified(row, answer) for answer in answers) >= enough

    def _is_verified(self, row: Row, answer: Row) -> bool:
        seen = CheckInput.of(row | answer, self.spec.specialist.unit(row["task_unit"]))
        return answer["finish_reason"] == "stop" and all(outcome.passed for outcome in run_checks(self.spec.checks, seen))

    def _answers(self, samples: Sequence[Sample], *, may_pay: bool) -> dict[str, Row]:
        """Return answer_id -> answer of each sample, from the ledger, paid for now, or not asked as the budget is exhausted."""
        requests = {sample.answer_id: sample for sample in samples}
        paid = self.client.answer(requests, self._complete, capped=False) if may_pay else self.client.find(requests)
        unpaid = {key: self._row(sample, BUDGET_EXHAUSTED) for key, sample in requests.items() if key not in paid}
        return {key: self._parsed(requests[key], answer) for key, answer in (paid | unpaid).items()}

    def _parsed(self, sample: Sample, answer: Row) -> Row:
        """Return an answer of the ledger with its reasoning split off, and the text before its JSON that the task unit allows."""
        parsed = parse_reasoning(answer["answer"], answer["finish_reason"], self.spec.section.thinks, answer["reasoning"] or "")
        unit = self.spec.specialist.unit(sample.prompt["task_unit"])
        if unit.supervise != "process":  # there the text is what the student learns
            before, text = without_text_before(parsed.answer, unit)
            parsed = parsed._replace(reasoning="\n".join(filter(None, [parsed.reasoning, before])), answer=text)
        tokens = within(answer["token_logprobs"], answer["answer"], parsed.answer)
        return {**answer, **parsed._asdict(), "error": answer["error"] or parsed.error, "token_logprobs": tokens}

    def _samples(self, row: Row) -> list[Sample]:
        """Return the samples of a prompt. An answer's id hashes all that the answer depends on."""
        section, sampling = self.spec.section, self.spec.section.sampling
        fingerprint = self._request_fingerprint(row["task_unit"])
        samples = []
        for number in range(sampling.n):
            seed = int(content_id(sampling.seed, row["prompt_id"], number)[:8], 16)
            samples.append(Sample(row, number, seed, content_id(row["prompt_id"], section.name, fingerprint, seed, number)))
        return samples

    def _request_fingerprint(self, task_unit: str) -> str:
        """Hash of the model, the instruction and the sampling with which a prompt of `task_unit` is answered."""
        if task_unit not in self.fingerprints:
            section = self.spec.section.model_copy(update={"system": self.spec.system(task_unit)})
            instruction = section.model_dump_json(include={"system", "shots", "structured"}) + ("aloud" if section.thinks else "")
            output = self.spec.specialist.unit(task_unit).output
            decoding = decoding_identity(self.spec.client.model, output.json_schema) if section.structured else []
            sampling = section.sampling.model_dump_json(exclude={"n", "stop_after_verified", "stop_when_agreed"})
            tools = [self.spec.toolset.identity] if self.spec.toolset else []
            self.fingerprints[task_unit] = content_id(
                self.client.identity, instruction, output.model_dump_json(), sampling, *tools, *decoding
            )
        return self.fingerprints[task_unit]

    def _with_tools(self, engine: Engine) -> Engine:
        return ToolAgent(engine, self.spec.toolset) if self.spec.toolset else engine

    def _complete(self, engine: Engine, samples: Sequence[Sample]) -> Batch:
        completions = engine.complete([self._request(sample) for sample in samples], self.spec.section.sampling)
        return completed(completions, [self._row(*pair) for pair in zip(samples, completions, strict=True)])

    def _request(self, sample: Sample) -> Request:
        section = self.spec.section
        greedy = section.sampling.greedy_first and sample.number == 0
        system = self.spec.system(sample.prompt["task_unit"])
        request = prompt_of(section, self.spec.specialist, self.few_shot, sample.prompt, system=system)
        return request._replace(
            seed=sample.seed,
            temperature=0.0 if greedy else section.sampling.temperature,
            max_calls=self.spec.toolset.max_calls if self.spec.toolset else 0,
        )

    def _row(self, sample: Sample, completion: Completion) -> Row:
        """Return a row of PAID."""
        return {
            "prompt_id": sample.prompt["prompt_id"],
            "answer_id": sample.answer_id,
            "teacher": self.spec.section.name,
            "sample": sample.number,
            "seed": sample.seed,
            "reasoning": completion.reasoning,
            "answer": completion.text,
            "finish_reason": completion.finish_reason,
            "tokens_in": completion.tokens_in,
            "tokens_out": completion.tokens_out,
            "logprob": completion.logprob,
            "seconds": completion.seconds,
            "error": completion.error,
            "trajectory": list(completion.trajectory),
            "token_logprobs": completion.token_logprobs,
        }


def prompt_of(section: TeacherSection, specialist: Specialist, few_shot: FewShotSelector, row: Row, *, system: str) -> Request:
    """Return the greedy request with which the teacher answers the prompt `row` (columns messages, text, task_unit)."""
    output = specialist.unit(row["task_unit"]).output
    return Request(
        chat=instruct(row["messages"], system=system, shots=few_shot(row["text"])),
        seed=0,
        temperature=0.0,
        json_schema=decoding_schema(output, row["text"]) if section.structured else None,
        keep_special_tokens=section.thinks is not None,
    )


def _rounds(sampling: Sampling) -> list[slice]:
    """Return the samples that are asked for together: all; as many as must be verified, then one by one; or as many as must agree,
    then the rest."""
    enough, first = sampling.stop_after_verified, sampling.stop_when_agreed
    if first is not None:
        return [slice(0, first), slice(first, sampling.n)]
    if enough is None:
        return [slice(0, sampling.n)]
    return [slice(0, enough), *(slice(number, number + 1) for number in range(enough, sampling.n))]
