"""Rows of two runs side by side: prompts, answers, pools, examples. DuckDB joins them; only sums and a few rows come back.

The tables are registered on the connection as `prompts_before`, `prompts_after` and so on. Answers are joined by prompt, teacher
and number of the sample, not by their ids: an id depends on the sampling, and then every answer would be a new one.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.records.comparison import AnswersCompared, DatasetCompared, Pair, PoolsCompared, PromptsCompared, Shift
from engine.rows import Row

if TYPE_CHECKING:
    import duckdb

EXAMPLES = 3
"""Ids that are shown of a shift."""
SHOWN, CHARS = 5, 600
"""Pairs of texts that are shown, and the characters of each."""
PLACES = """
    select prompt_id, min_by(place, rank) as place, min_by(about, rank) as about from (
        select prompt_id, 'prompts' as place, 0 as rank,
            struct_pack(task_unit, layer, difficulty, scenario, language, licence, reference) as about from prompts_{side}
        union all select prompt_id, 'holdout', 1, null from holdout_{side}
        union all select prompt_id, dropped_by, 2, null from dropped_{side}
    ) group by prompt_id
"""
NUMBERED = """
    select *, row_number() over (partition by prompt_id, teacher, sample order by answer_id) as nr from {table}_{side}
"""
KEY = "prompt_id, teacher, sample, nr"
CONFIDENCE = "coalesce(a.confidence, b.confidence)"
TARGETS = """
    select prompt_id, kind, target, count(*) as copies, sum(weight) as weight, min(split) as split, any_value(messages) as messages
    from examples_{side} group by all
"""
MATCHED = f"""
    select coalesce(b.prompt_id, a.prompt_id) as prompt_id, coalesce(b.target, a.target) as target,
        coalesce(b.messages, a.messages) as messages, coalesce(b.copies, 0) as old, coalesce(a.copies, 0) as new,
        b.copies is not null and a.copies is not null
            and (b.copies, b.split, round(b.weight, 4)) is distinct from (a.copies, a.split, round(a.weight, 4)) as reweighted
    from ({TARGETS.format(side="before")}) b full join ({TARGETS.format(side="after")}) a using (prompt_id, kind, target)
"""


class Tables:
    """The tables of both runs on one connection."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection") -> None:
        self.connection = connection

    def prompts(self) -> PromptsCompared:
        """Compare the tables `prompts`, `holdout` and `dropped`."""
        places = f"({PLACES.format(side='before')}) b full join ({PLACES.format(side='after')}) a using (prompt_id)"
        sums = self._one(
            f"""select count(*) filter (b.place = 'prompts') as before, count(*) filter (a.place = 'prompts') as after,
                count(*) filter (b.place = 'prompts' and a.place = 'prompts') as both,
                count(*) filter (b.place = 'prompts' and a.place = 'prompts' and a.about is distinct from b.about) as changed
            from {places}"""
        )
        shifts = self._shifts(
            f"""select coalesce(b.place, '') as before, coalesce(a.place, '') as after, count(*) as rows,
                min(prompt_id, {EXAMPLES}) as examples
            from {places} where b.place is distinct from a.place group by all order by rows desc, 1, 2"""
        )
        return PromptsCompared.model_validate({**sums, "shifts": shifts})

    def answers(self) -> AnswersCompared:
        """Compare the texts of `candidates`."""
        differs = "(b.answer, b.finish_reason) is distinct from (a.answer, a.finish_reason)"
        groups = self._rows(
            f"""select coalesce(teacher, '') as teacher, count(b.answer_id) as before, count(a.answer_id) as after,
                count(*) filter (b.answer_id is not null and a.answer_id is not null and not ({differs})) as same,
                count(*) filter (b.answer_id is not null and a.answer_id is not null and ({differs})) as other,
                count(*) filter (a.answer_id is null) as only_before, count(*) filter (b.answer_id is null) as only_after
            from {_joined("candidates")} group by all order by 1"""
        )
        pairs = self._rows(
            f"""select prompt_id as id, left(b.text, {CHARS}) as text, left(b.answer, {CHARS}) as before,
                left(a.answer, {CHARS}) as after
            from {_joined("candidates")} where b.answer_id is not null and a.answer_id is not null and {differs}
            order by prompt_id, teacher, sample limit {SHOWN}"""
        )
        names = ("before", "after", "same", "other", "only_before", "only_after")
        return AnswersCompared(
            **{name: sum(group[name] for group in groups) for name in names},
            teachers={group["teacher"]: (group["same"], group["other"]) for group in groups},
            examples=tuple(Pair.model_validate(pair) for pair in pairs),
        )

    def pools(self) -> PoolsCompared:
        """Compare the pools of `candidates`, and the reasons."""
        shifts = self._shifts(
            f"""select coalesce(b.pool, '') as before, coalesce(a.pool, '') as after, coalesce(b.reasons, []) as reasons_before,
                coalesce(a.reasons, []) as reasons_after, count(*) as rows, min(coalesce(a.answer_id, b.answer_id), {EXAMPLES})
                as examples, min({CONFIDENCE}) filter (isfinite({CONFIDENCE})) as low,
                max({CONFIDENCE}) filter (isfinite({CONFIDENCE})) as high
            from {_joined("candidates")} where (b.pool, b.reasons) is distinct from (a.pool, a.reasons)
            group by all order by rows desc, 1, 2, 3, 4"""
        )
        ordered = sorted(shifts, key=lambda shift: shift.before == shift.after)
        return PoolsCompared(before=self._pools("before"), after=self._pools("after"), shifts=tuple(ordered))

    def dataset(self) -> DatasetCompared:
        """Compare `examples` by prompt and target, and what became of the answers in `picked`."""
        by_prompt = f"""
            select prompt_id, sum(least(old, new)) as same, count(*) filter (reweighted) as reweighted,
                sum(old - least(old, new)) as gone, sum(new - least(old, new)) as came,
                any_value(messages) as messages,
                min(target) filter (old > new) as target_before, min(target) filter (new > old) as target_after
            from ({MATCHED}) group by prompt_id
        """
        sums = self._one(
            f"""select coalesce(sum(same), 0) as same, coalesce(sum(reweighted), 0) as reweighted,
                coalesce(sum(least(gone, came)), 0) as changed, coalesce(sum(came - least(gone, came)), 0) as "into",
                coalesce(sum(gone - least(gone, came)), 0) as "out" from ({by_prompt})"""
        )
        pairs = self._rows(
            f"""select prompt_id as id, left(coalesce(messages[-1].content, ''), {CHARS}) as text,
                left(coalesce(target_before, ''), {CHARS}) as before, left(coalesce(target_after, ''), {CHARS}) as after
            from ({by_prompt}) where gone > 0 or came > 0
            qualify row_number() over (partition by gone > 0, came > 0 order by prompt_id) <= {SHOWN}
            order by least(gone, came) = 0, gone > 0, prompt_id"""
        )
        place = "case {0}.dropped_by when '' then 'picked' when 'pool' then 'pool ' || {0}.pool else {0}.dropped_by end"
        old, new = (f"coalesce({place.format(side)}, '')" for side in ("b", "a"))
        shifts = self._shifts(
            f"""select {old} as before, {new} as after, count(*) as rows,
                min(coalesce(a.answer_id, b.answer_id), {EXAMPLES}) as examples
            from {_joined("picked")} where {old} <> {new} group by all order by rows desc, 1, 2"""
        )
        counts = {side: self._one(f"select count(*) as n from examples_{side}")["n"] for side in ("before", "after")}
        return DatasetCompared.model_validate({**sums, **counts, "examples": pairs, "shifts": shifts})

    def _pools(self, side: str) -> dict[str, int]:
        rows = self._rows(f"select pool, count(*) as n from candidates_{side} group by 1 order by 2 desc, 1")
        return {row["pool"]: row["n"] for row in rows}

    def _shifts(self, query: str) -> tuple[Shift, ...]:
        return tuple(_shift(row) for row in self._rows(query))

    def _one(self, query: str) -> Row:
        return self._rows(query)[0]

    def _rows(self, query: str) -> list[Row]:
        return self.connection.sql(query).to_arrow_table().to_pylist()


def _joined(table: str) -> str:
    sides = (NUMBERED.format(table=table, side=side) for side in ("before", "after"))
    return "({}) b full join ({}) a using ({})".format(*sides, KEY)


def _shift(row: Mapping[str, object]) -> Shift:
    low, high = row.get("low"), row.get("high")
    return Shift.model_validate({**row, "confidence": None if low is None else (low, high)})
