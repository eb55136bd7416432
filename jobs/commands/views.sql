-- Questions that teams ask, for `rayleigh sql RUN... --question NAME`, and views of the database that `--database` writes.
-- Each begins with `-- name (tables it reads): what it asks`. Every table has the column `run` here, so that each question is
-- answered for several runs side by side.

-- accept_rate (candidates, costs): How many answers of each teacher are accepted, and what does an accepted one cost?
-- Accepted: pool train or refusal. Money is in the currency of the contract.
select c.run, c.teacher, count(*) as answers, count(*) filter (c.pool in ('train', 'refusal')) as accepted,
    round(avg((c.pool in ('train', 'refusal'))::int), 3) as accept_rate, any_value(k.money) as money,
    any_value(k.currency) as currency, any_value(k.money_per_accepted) as money_per_accepted
from candidates c left join costs k using (run, teacher)
where c.teacher <> '' group by all order by c.run, accept_rate desc;

-- accept_rate_by_slice (candidates, costs): Which kinds of prompts does a teacher fail on, and what does an accepted answer cost there?
-- The teacher's money is shared out by tokens.
select c.run, c.teacher, c.task_unit, c.layer, c.difficulty, count(*) as answers,
    round(avg((c.pool in ('train', 'refusal'))::int), 3) as accept_rate,
    any_value(k.money) * sum(c.tokens_in + c.tokens_out) / nullif(any_value(k.tokens_in + k.tokens_out), 0)
        / nullif(count(*) filter (c.pool in ('train', 'refusal')), 0) as money_per_accepted
from candidates c left join costs k using (run, teacher)
where c.teacher <> '' group by all order by c.run, accept_rate, answers desc;

-- drop_flow (prompts, dropped, rejects, candidates, picked): Where do rows go, from the source to the dataset?
-- `rows` of each outcome of each stage; the stages count other things (rows of a source, prompts, answers), so they are not summed.
select run, '1 read' as stage, reason as outcome, count(*) as "rows" from rejects group by all
union all select run, '1 read', dropped_by, count(*) from dropped group by all
union all select run, '1 read', 'prompts', count(*) from prompts group by all
union all select run, '2 answered', pool, count(*) from candidates group by all
union all select run, '3 picked', case dropped_by when '' then 'picked' else dropped_by end, count(*) from picked group by all
order by run, stage, "rows" desc;

-- reasons (candidates): Why are answers not accepted? With the id of an answer for `rayleigh trace`.
select run, teacher, pool, reason, count(*) as answers, min(answer_id) as answer_id
from (select run, teacher, pool, answer_id, unnest(reasons) as reason from candidates where pool not in ('train', 'refusal'))
group by all order by run, answers desc;

-- judge_against_people (candidates, labels): Do the pools agree with the labels of people?
-- `accepted_right` and `rejected_wrong` are agreements; `accepted_wrong` is what people would not train on.
select c.run, c.judge, count(*) as labelled,
    count(*) filter (accepted and is_right) as accepted_right, count(*) filter (accepted and not is_right) as accepted_wrong,
    count(*) filter (not accepted and is_right) as rejected_right, count(*) filter (not accepted and not is_right) as rejected_wrong,
    round(avg((accepted = is_right)::int), 3) as agreement, round(avg(c.confidence) filter (is_right), 3) as confidence_right,
    round(avg(c.confidence) filter (not is_right), 3) as confidence_wrong
from (select *, pool in ('train', 'refusal') as accepted from candidates) c
join (select run, answer_id, label = 'right' as is_right from labels) l using (run, answer_id)
group by all order by c.run;

-- calibration (predictions): Is a model as often right as it is sure?
-- One row for each tenth of confidence; `gap` above 0: it is surer than it should be.
select run, model, floor(least(confidence, 0.999) * 10) / 10 as confidence_from, count(*) as prompts,
    round(avg(confidence), 3) as mean_confidence, round(avg(exact::int), 3) as "right",
    round(avg(confidence) - avg(exact::int), 3) as gap
from predictions where confidence is not null and isfinite(confidence) group by all order by run, model, confidence_from;

-- disagreements (candidates): On which prompts do the answers of the teachers differ most?
-- `forms`: different answers to the prompt; the first to look at, or to send to people.
select run, prompt_id, any_value(text) as text, count(*) as answers, count(distinct answer) as forms,
    round(avg(agreement), 3) as agreement, list(distinct pool) as pools
from candidates where finish_reason = 'stop' group by run, prompt_id having count(distinct answer) > 1
order by forms desc, agreement, run, prompt_id;

-- students_by_size (models): Which student is good enough, how large is it, and how fast?
select run, model, role, parameters, weight_bytes, exact_match, exact_low, exact_high, retention, retention_low, retention_high,
    p95_ms, per_1000_accepted, word, is_winner
from models order by run, parameters nulls last, model;

-- weak_slices (predictions): On which slices is a student furthest behind the best teacher?
-- Differences of few prompts are chance: look at `prompts`, and at the intervals of the report.
with best as (
    select run, arg_max(model, hits) as model from (
        select run, model, sum(exact::int) as hits from predictions where role = 'teacher' group by all order by model
    ) group by run
)
select s.run, s.model, s.layer, s.difficulty, s.seen, count(*) as prompts, round(avg(s.exact::int), 3) as student,
    round(avg(t.exact::int), 3) as teacher, round(avg(s.exact::int) - avg(t.exact::int), 3) as difference
from predictions s join predictions t on t.run = s.run and t.prompt_id = s.prompt_id
join best b on b.run = t.run and b.model = t.model
where s.role = 'student' group by all order by difference, prompts desc;

-- sure_errors (predictions): Which wrong answers is a student sure of? They pass any threshold: find what they have in common.
select run, model, prompt_id, confidence, text, reference, answer
from predictions where role = 'student' and not exact and confidence is not null
order by confidence desc, run, model, prompt_id limit 200;

-- licences (examples, prompts): Under which licences, and from which sources, are the examples?
select e.run, p.licence, p.source, e.split, count(*) as examples, count(*) filter (p.parent_id is not null) as synthetic
from examples e left join prompts p using (run, prompt_id) group by all order by e.run, examples desc;

-- release_learnt (learnt): What did a release learn from? One row for each release, source and licence.
select contract, student, fingerprint, is_champion, source, licence, count(*) as prompts
from learnt group by all order by contract, is_champion desc, prompts desc;

-- champions (events): Who became champion when, by which word of the gate, and why?
select contract, time, kind, student, word, "by", why, from_student, who, is_champion from events order by contract, time;

-- traffic (requests): What becomes of the requests, day by day? `answered`: by the student itself.
select run, date_trunc('day', time) as day, unit, count(*) as requests, count(*) filter (status >= 400) as failed,
    round(avg((route = 'student' and not coalesce(abstained, false))::int), 3) as answered,
    round(avg(coalesce(abstained, false)::int), 3) as abstained, round(avg(confidence), 3) as confidence,
    round(quantile_cont(latency_ms, 0.95), 1) as p95_ms, sum(cost) as cost
from requests group by all order by run, day, unit;

-- agreement_over_time (shadows): How often does a challenger in shadow agree with the reference, day by day?
-- `champion_agreement`: the same of what answered the callers. A line that falls is drift; `word`: what the comparison says at its end.
select run, date_trunc('day', time) as day, champion, challenger, reference, count(*) as compared,
    round(avg(agrees::int), 3) as agreement, round(avg(champion_agrees::int), 3) as champion_agreement, arg_max(word, time) as word
from shadows group by all order by run, day, champion, challenger;

-- shadow_disagreements (shadows): To which requests does a challenger in shadow give another answer than the champion?
-- The text is there only if the server kept it (`--keep-text`).
select run, time, request_id, prompt, champion_answer, champion_confidence, challenger_answer, challenger_confidence, reference_answer,
    agrees, champion_agrees
from shadows where challenger_answer is distinct from champion_answer order by time desc, request_id;
