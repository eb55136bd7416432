"""Values that are no number, and shards that differ in their types: what `rayleigh sql`, `status` and the report make of them."""

import json
from dataclasses import replace

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_run import ANSWERS, made_run
from typer.testing import CliRunner

from engine.records.record import Identity
from engine.rows import CANDIDATE, TABLES, from_rows
from engine.storage.artifact import ArtifactWriter, RowCounts, load_artifact, nan_findings, write_record
from engine.storage.shards import nan_values, table_of, write_shard
from jobs.cli import app
from jobs.pipeline import pipeline
from jobs.steps.reports import _nan_notes

NAN = float("nan")


def ask(run, query):
    result = CliRunner().invoke(app, ["sql", run, query, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def scored(*scores):
    """Return CANDIDATE rows with these scores; NaN also as a log-probability and inside a list."""
    rows = [
        {**ANSWERS[0], "answer_id": f"eeee{number}", "score": score, "logprob": score, "dimension_scores": [{"score": score}]}
        for number, score in enumerate(scores)
    ]
    return from_rows(rows, CANDIDATE)


@pytest.fixture
def run(tmp_path):
    """A run whose candidates are three shards: without any score, with scores, with a score that is no number."""
    work = made_run(str(tmp_path / "run"), tmp_path)
    old = load_artifact(work.folder / "candidates")
    writer = ArtifactWriter(work.folder / "candidates")
    shards = [
        write_shard(writer.folder / "candidates", scored(*scores), CANDIDATE) for scores in ((None,), (0.5, 3), (3, NAN, 0.25))
    ]
    writer.tables["candidates"] = table_of(shards, "0" * 32)
    writer.metrics = old.record.metrics
    identity = Identity(old.record.job, old.record.recipe, old.record.inputs, old.record.fingerprint)
    writer.finish(identity, RowCounts(6, {"train": 6}))
    return work


def test_sql_finds_nan_in_conditions_and_sums(run):
    url = run.folder.url
    for condition, count in {
        "isnan(score)": 1, "not isfinite(score)": 1, "score > 5": 1, "score = 3": 2, "score is null": 1, "isnan(logprob)": 1,
    }.items():  # fmt: skip
        assert ask(url, f"select count(*) as n from candidates where {condition}") == [{"n": count}], condition
    assert ask(url, "select count(*) as n from (select unnest(dimension_scores) as d from candidates) where isnan(d.score)") == [
        {"n": 1}
    ]
    assert ask(url, "select max(score) filter (not isnan(score)) as best from candidates") == [{"best": 3}]


def test_json_of_nan_and_infinity_is_null_at_any_depth(run):
    [row] = ask(run.folder.url, "select score, dimension_scores, 'infinity'::float as most from candidates where isnan(score)")
    assert (row["score"], row["dimension_scores"][0]["score"], row["most"]) == (None, None, None)


def test_duckdb_finds_nan_in_the_shards_themselves(run):
    path = f"{run.folder.path}/candidates/candidates/*.parquet"
    found = duckdb.sql(f"select count(*), max(score) from '{path}' where isnan(score)").fetchall()
    assert found[0][0] == 1
    query = f"select path_in_schema from parquet_metadata('{path}') where coalesce(stats_max, stats_max_value) is not null"
    columns = {name for (name,) in duckdb.sql(query).fetchall()}
    assert columns >= {"answer_id", "tokens_out"} and not [name for name in columns if "score" in name or name == "logprob"]


def test_nan_is_a_warning_of_the_status_and_a_finding_of_the_report(run):
    text = CliRunner().invoke(app, ["status", run.folder.url], catch_exceptions=False).stdout
    assert "WARNING: candidates: 1 of the values of candidates.score are NaN, in 6 rows" in text
    assert "candidates.logprob" in text and "candidates.dimension_scores.score" in text
    [job] = [job for job in pipeline(run.contract) if job.name == "reports"]
    notes = [*_nan_notes(run.context(job, log=print, progress=print))]
    assert len(notes) == 3 and notes[0].startswith("candidates: 1 of the values of candidates.dimension_scores.score are NaN")


def test_table_without_nan_has_no_finding(tmp_path):
    work = made_run(str(tmp_path / "run"), tmp_path)
    artifact = load_artifact(work.folder / "candidates")
    assert not artifact.record.warnings and not [*nan_findings("candidates", artifact.record.tables)]


def with_first_shard(run, rows):
    """Put `rows`, written as another program writes them, before the shards of the run's candidates."""
    folder = run.folder / "candidates"
    record = load_artifact(folder).record
    table = record.tables["candidates"]
    path = "part-00000.parquet"
    pq.write_table(rows, f"{folder.path}/candidates/{path}")
    shards = [replace(table.shards[0], path=path, rows=rows.num_rows), *table.shards]
    write_record(folder, record.model_copy(update={"tables": {"candidates": replace(table, shards=shards)}}))


@pytest.mark.parametrize("kind", [pa.null(), pa.int64(), pa.float64(), pa.float32()])
def test_types_are_those_of_the_schema_whatever_the_first_shard_holds(run, kind):
    value = None if kind == pa.null() else 1
    first = scored(None).set_column(CANDIDATE.get_field_index("score"), "score", pa.array([value], kind))
    with_first_shard(run, first)
    assert ask(run.folder.url, "select score from candidates where score = 0.25") == [{"score": 0.25}]
    assert ask(run.folder.url, "select typeof(any_value(score)) as t, count(*) as n from candidates") == [{"t": "FLOAT", "n": 7}]


def test_column_that_a_shard_lacks_is_null_there(run):
    with_first_shard(run, scored(0.5).drop_columns(["logprob"]))
    assert ask(run.folder.url, "select count(*) as n from candidates where isnan(logprob)") == [{"n": 1}]
    assert ask(run.folder.url, "select count(*) as n, count(score) as scores from candidates") == [{"n": 7, "scores": 6}]


def test_nan_is_counted_by_column_in_lists_and_structs_and_sliced_arrays():
    rows = pa.table(
        {
            "a": pa.chunked_array([[1.0, NAN], [NAN]], pa.float32()),
            "b": pa.array([[NAN, 1.0], None, [NAN]], pa.list_(pa.float64())),
            "c": pa.array([{"x": NAN, "y": "s"}, None, {"x": None, "y": "t"}]),
            "d": [1, 2, 3],
        }
    )
    assert nan_values(rows) == {"a": 2, "b": 2, "c.x": 1}
    assert nan_values(rows.slice(1)) == {"a": 2, "b": 1}
    assert nan_values(rows.slice(0, 0)) == {}


def test_every_table_of_a_run_has_a_schema(tmp_path):
    work = made_run(str(tmp_path / "run"), tmp_path)
    names = {
        name for job in ("prompts", "candidates", "dataset", "reports") for name in load_artifact(work.folder / job).record.tables
    }
    assert names <= TABLES.keys()
