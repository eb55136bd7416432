"""Checks, agreement, rubric, confidence, pool: ANSWER in, CANDIDATE out. The rubric's marks are paid once and kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from engine.checks import Outcome, run_checks
from engine.contract.judges import Calibrate, Judges, Rubric
from engine.contract.profile import Pool
from engine.contract.specialist import Specialist
from engine.judges import rubric as rubrics
from engine.judges.agreement import agreement
from engine.judges.calibrate import Calibration, fit
from engine.judges.pools import Evidence, is_sound, route, tier
from engine.judges.rank import outranked
from engine.judges.together import beside, merged
from engine.lineage.ledger import Ledger
from engine.lineage.purse import Purse, Spent
from engine.models.base import Engine, build_model
from engine.models.identity import identity
from engine.models.trials import Trials
from engine.rows import ANSWER, CANDIDATE, content_id
from engine.shards import Folder

PAID = pa.schema([("prompt_id", pa.string()), ("verdict_id", pa.string()), ("score", pa.float32())])
CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Bar:
    """All that a grader needs, in plain picklable values."""

    section: Judges
    specialist: Specialist
    pool: Pool
    folder: Path | None
    """The judge's weights; None without a rubric."""
    ledger: Folder
    """Marks that were paid for, perhaps by other runs too."""
    marks: Folder
    """Who is at work, in this run."""
    purse: Folder
    """What this run's judge was paid."""
    competes: bool = False
    """Whether the answers to a prompt compete: of those that would be accepted, only the best are."""
    cap: int | None = None
    """Tokens that it may be paid for."""


class Marks(NamedTuple):
    """What the judge says of some rows, each by its place."""

    scores: list[float | None]
    confidences: list[float | None]
    unpaid: list[bool]  # not asked, as the budget was spent


class Grader:
    """ANSWER in, CANDIDATE out; all answers to a prompt must come in one block."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.judge = Judge(bar, bar.section.rubric) if bar.section.rubric else None

    def __call__(self, answers: pa.Table) -> pa.Table:
        rows = answers.select(ANSWER.names).to_pylist()
        outcomes = [self._check(row) for row in rows]
        sound = [is_sound(row["ending"], found) for row, found in zip(rows, outcomes, strict=True)]
        agreed = agreement([row["prompt_id"] + row["teacher"] for row in rows], [row["answer"] for row in rows], sound)
        nothing: list[float | None] = [None] * len(rows)
        marks = self.judge(rows, sound) if self.judge else Marks(nothing, nothing, [False] * len(rows))
        pools = self.bar.section.pools
        related = beside(rows, sound, pools.relations)
        asks = pools.relations.conflicts == "review" and not self.bar.competes
        graded = []
        for index, row in enumerate(rows):
            seen = Evidence(
                row["answer"],
                row["ending"],
                outcomes[index],
                agreed[index],
                marks.confidences[index],
                is_judged=self.judge is not None,
                is_unpaid=marks.unpaid[index],
                difficulty=row["difficulty"] or "",
                relation=related[index].relation,
                conflicts=related[index].reasons if asks else (),
            )
            pool, reasons = route(seen, self.bar.section.accept, pools)
            graded.append(
                row
                | {
                    "checks": [outcome._asdict() for outcome in outcomes[index]],
                    "agreement": agreed[index],
                    "judge": self.judge.rubric.name if self.judge and sound[index] else "",
                    "score": marks.scores[index],
                    "confidence": marks.confidences[index],
                    "pool": pool,
                    "reasons": reasons,
                    "relation": related[index].relation,
                    "tier": tier(marks.confidences[index], pools),
                    "parents": [],
                }
            )
        lost = outranked(graded) if self.bar.competes else set()
        for row in graded:
            if row["answer_id"] in lost:
                row.update(pool="contrast", reasons=["outranked"])
        if pools.relations.merge:
            graded = merged(graded, pools, self._check)
        return pa.Table.from_pylist(graded, schema=CANDIDATE)

    def _check(self, row: dict[str, Any]) -> list[Outcome]:
        if row["ending"] != "stop":
            return []
        schema = self.bar.specialist.unit(row["task_unit"]).output.json_schema
        given = {name: row[name] for name in ("answer", "text", "trajectory")}
        return run_checks(self.bar.section.checks, schema=schema, **given)


class Judge:
    """The rubric model with its calibration and its ledger; loads at the first answer that it has not marked yet."""

    def __init__(self, bar: Bar, rubric: Rubric) -> None:
        self.bar, self.rubric = bar, rubric
        self.identity = content_id(identity(rubric.model, bar.folder), rubric.model_dump_json(exclude={"model", "name"}))
        self.ledger = Ledger(bar.ledger, PAID, key="verdict_id", place="prompt_id")
        self.trials = Trials(bar.marks, hang_seconds=bar.pool.hang_seconds, at_once=bar.pool.max_num_seqs)
        self.purse = Purse(bar.purse, bar.cap)
        self.engine: Engine | None = None

    def __call__(self, rows: list[dict[str, Any]], sound: list[bool]) -> Marks:
        """Return the marks of `rows`; None for a row that is not sound, that the judge cannot mark or is not paid to."""
        scores, unpaid = self._scores(rows, sound)
        return Marks(scores, [self._confidence(score) for score in scores], unpaid)

    def _scores(
        self, rows: list[dict[str, Any]], sound: list[bool], *, capped: bool = True
    ) -> tuple[list[float | None], list[bool]]:
        """Return each row's score, and whether it has none because the budget is spent."""
        ids = [content_id(self.identity, row["prompt_id"], row["answer"]) for row in rows]
        with self.ledger.block(row["prompt_id"] for row in rows):
            found = self.ledger.find(ids)
            marks: dict[str, float | None] = dict(zip(found["verdict_id"].to_pylist(), found["score"].to_pylist(), strict=True))
            open_ = {key: row for key, row, worth in zip(ids, rows, sound, strict=True) if worth and key not in marks}
            unpaid: set[str] = set()
            for start in range(0, len(open_), self.bar.pool.batch):
                batch = list(open_)[start : start + self.bar.pool.batch]
                if capped and self.purse.is_empty():
                    unpaid.update(batch)
                else:
                    marks |= self._pay(open_, batch)
        scores = [marks.get(key) if worth else None for key, worth in zip(ids, sound, strict=True)]
        return scores, [key in unpaid for key in ids]

    def _pay(self, rows: Mapping[str, dict[str, Any]], keys: list[str]) -> dict[str, float | None]:
        """Return the marks of one batch of `rows`, those that the judge gave and those that it must not be asked for again."""
        marks: dict[str, float | None] = {}
        self._ready()  # before the first batch: what dies here is no fault of a row

        def ask(batch: Sequence[int]) -> None:
            asked = [keys[index] for index in batch]
            found = zip(asked, self._mark([(rows[key]["text"], rows[key]["answer"]) for key in asked]), strict=True)
            marks.update(self._record(rows, {key: mark for key, mark in found if mark is not None}))

        self.trials(keys, ask, lambda index: marks.update(self._record(rows, {keys[index]: None})))
        return marks

    def _record(self, rows: Mapping[str, dict[str, Any]], marks: Mapping[str, float | None]) -> Mapping[str, float | None]:
        """Return `marks` as the ledger keeps them, once they are there. None: this answer must not be shown to a judge again."""
        prompts = [rows[key]["prompt_id"] for key in marks]
        paid = pa.table([prompts, list(marks), list(marks.values())], schema=PAID)
        self.ledger.record(paid)
        return dict(zip(paid["verdict_id"].to_pylist(), paid["score"].to_pylist(), strict=True))

    def _ready(self) -> Engine:
        if self.engine is None:
            build = partial(build_model, self.rubric.model, self.bar.pool, folder=self.bar.folder)
            self.engine = self.trials.load(build, self.rubric.model.path)
        return self.engine

    def _mark(self, pairs: list[tuple[str, str]]) -> list[float | None]:
        engine = self._ready()
        engine.forget()
        before = engine.tokens_read
        marks = rubrics.score(engine, self.rubric, pairs)
        self.purse.pay(self.rubric.name, Spent(len(pairs), engine.tokens_read - before, len(pairs)))
        return marks

    def _confidence(self, score: float | None) -> float | None:
        return score if score is None or self.calibration is None else self.calibration(score)

    @cached_property
    def calibration(self) -> Calibration | None:
        """The calibration of this very judge, learnt at its first mark; None if the contract asks for none."""
        section = self.bar.section.calibrate
        return self.learnt(section) or self._learn(section) if section else None

    def learnt(self, section: Calibrate) -> Calibration | None:
        """Return the calibration that an actor has learnt, or None."""
        name = self._calibration_name(section)
        return Calibration.model_validate_json(self.bar.ledger.read(name)) if self.bar.ledger.exists(name) else None

    def _learn(self, section: Calibrate) -> Calibration:
        """The labelled items are marked as answers are: what kills the judge is set apart, and marks are paid once."""
        rows = [{"prompt_id": content_id(item.input), "text": item.input, "answer": item.answer} for item in section.gold]
        scores, _ = self._scores(rows, [True] * len(rows), capped=False)
        marked = zip(scores, section.gold, strict=True)
        read = [(score, item.label == "right") for score, item in marked if score is not None]
        found = fit([score for score, _ in read], [right for _, right in read])
        self.bar.ledger.write(self._calibration_name(section), found.model_dump_json().encode())
        return found

    def _calibration_name(self, section: Calibrate) -> str:
        gold = [(item.input, item.answer, item.label == "right") for item in section.gold]
        return f"{content_id(self.identity, gold)}-{CALIBRATION}"


def calibration_of(bar: Bar) -> Calibration | None:
    """Return what the judge's actors learnt from the labelled items, or None if nothing is calibrated or no answer was marked."""
    if bar.section.rubric is None or bar.section.calibrate is None:
        return None
    return Judge(bar, bar.section.rubric).learnt(bar.section.calibrate)
