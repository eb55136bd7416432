"""The SQL of each figure, for `rayleigh sql RUN "..."`. Views have the names of the tables."""

QUERIES = {
    "pools": "select pool, count(*) from candidates group by 1 order by 2 desc",
    "dispositions": "select pool, dropped_by, count(*) from picked group by all order by all",
    "rejects": "select reason, count(*) from rejects group by 1",
    "map": "select prompt_id, x, y, cluster, pool, dropped_by from picked",
    "clusters": "select cluster, count(*) filter (dropped_by = '') as kept, count(*) as answers from picked group by 1 order by 1",
    "pairs": (
        "select a.dropped_by, a.similarity, a.text, b.text as kept_text from picked a join picked b on a.duplicate_of = b.answer_id"
    ),
    "steps": "select student, seed, tokens, split, loss, metric from steps order by student, seed, step",
    "seeds": (
        "select student, seed, min(loss) as loss, max(metric) as metric from steps where split = 'validation' "
        "group by all order by all"
    ),
    "exact": "select model, avg(exact::int), count(*) from predictions group by 1 order by 2 desc",
    "seen": "select model, seen, avg(exact::int), count(*) from predictions group by all order by all",
    "valid": "select model, avg(valid::int) from predictions group by 1",
    "slices": "select model, layer, difficulty, seen, avg(exact::int), count(*) from predictions group by all order by all",
    "calibration": (
        "select model, floor(confidence * 10) / 10 as bin, avg(confidence), avg(exact::int), count(*) "
        "from predictions where confidence is not null group by 1, 2 order by 1, 2"
    ),
    "latency": "select model, quantile_cont(seconds * 1000, [0.5, 0.95]) as ms from predictions group by 1",
    "tokens": "select teacher, count(*), sum(tokens_in), sum(tokens_out), sum(seconds) from candidates group by 1",
    "spending": (
        "select teacher, sum(tokens_in), sum(tokens_out), sum(seconds), "
        "count(*) filter (pool in ('train', 'refusal')) as accepted, "
        "count(*) filter (dropped_by = '') as picked from picked "
        "where finish_reason not in ('budget_exhausted', 'unrouted', 'too_long') group by 1 order by 1"
    ),
    "confidence": "select pool, floor(confidence * 20) / 20 as bin, count(*) from candidates group by all order by all",
    "checks": "select c.check, c.passed, count(*) from (select unnest(checks) as c from candidates) group by all order by all",
    "reasons": (
        "select pool, reason, count(*) from (select pool, unnest(reasons) as reason from candidates) group by all order by all"
    ),
    "relations": "select relation, count(distinct prompt_id) from candidates where relation != '' group by 1 order by 1",
    "tiers": "select confidence_tier, count(*) from candidates where confidence_tier is not null group by 1 order by 1",
    "kinds": "select kind, split, count(*) from examples group by all order by all",
    "preferences": "select reason, count(*), avg(margin), avg(length_ratio) from preferences group by 1 order by 1",
    "sample": "select * from picked where answer_id like 'ID%'",
    "errors": (
        "select s.model, t.model as teacher, s.exact as right, t.exact as teacher_right, s.answer = t.answer as same, count(*) "
        "from predictions s join predictions t using (prompt_id) where s.role = 'student' and t.role = 'teacher' "
        "group by all order by all"
    ),
    "predictions": "select model, answer, exact, confidence from predictions where prompt_id like 'ID%'",
}
