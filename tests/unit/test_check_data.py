"""`rayleigh check-data` on a run: nothing to say of a clean one, and a finding for each of many planted corruptions."""

import json
import shutil
from fnmatch import fnmatch

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from engine.records.record import Identity
from engine.rows import TABLES
from engine.storage.artifact import ArtifactWriter, load_artifact
from engine.storage.folder import Folder
from engine.storage.shards import hex_digest, read_table, rows_digest, table_of, write_shard
from jobs.cli import app
from jobs.tables import schema_of
from tests.older_run import unpack

JOBS = ("prompts", "candidates", "dataset", "students/s", "reports")
NAN = float("nan")
NO_ROLE = {"role": None, "content": "x"}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A real run with the tables of today: those of the packed one, migrated and written again, and its lineage set right."""
    root = unpack(tmp_path_factory.mktemp("clean"))
    for job in JOBS:
        folder = Folder(str(root / "run" / job))
        old = load_artifact(folder)
        writer = ArtifactWriter(folder, metrics=old.record.metrics)
        for name in old.record.tables:
            schema = schema_of(f"{job}/{name}")
            writer.put(name, old.read(name, schema), schema)
        for file in old.record.files:
            writer.folder.write(file.path, folder.read(file.path))
        inputs = {name: load_artifact(Folder(str(root / "run" / name))).fingerprint for name in old.record.inputs}
        writer.finish(Identity(job, old.record.recipe, inputs, old.record.fingerprint), old.record.row_counts)
    return root / "run"


@pytest.fixture
def run(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "run")
    return tmp_path / "run"


def check(run, *options):
    result = CliRunner().invoke(app, ["check-data", str(run), "--json", *options])
    found = json.loads(result.output)
    assert result.exit_code == (1 if found["violations"] else 0)
    return found


def rules(run, *options):
    return {
        (f"{each['job']}/{each['table']}".rstrip("/"), each["column"], each["rule"]) for each in check(run, *options)["violations"]
    }


def rewrite(run, place, change, *, counts=None):
    """Replace the rows of `job/table` by `change(rows)`, with files and a record that agree: rules of rows alone can tell."""
    job, _, name = place.rpartition("/")
    artifact = load_artifact(Folder(str(run / job)))
    schema = schema_of(place)
    rows = change(artifact.read(name, schema))
    folder = artifact.folder / name
    folder.remove()
    table = table_of([write_shard(folder, rows, rows.schema)], hex_digest(rows_digest(rows)))
    record = artifact.record.model_copy(
        update={"tables": artifact.record.tables | {name: table}, "row_counts": counts or artifact.record.row_counts}
    )
    artifact.folder.write("record.json", record.model_dump_json().encode())


def with_value(column, value, row=0):
    def change(rows):
        listed = rows.to_pylist()
        listed[row][column] = value
        return pa.Table.from_pylist(listed, schema=rows.schema)

    return change


def one_answer(rows):
    return with_value("rejected_id", rows["chosen_id"][0].as_py())(rows)


def twice(rows):
    return pa.concat_tables([rows, rows.slice(0, 1)])


def of_type(column, kind):
    def change(rows):
        return rows.set_column(rows.schema.get_field_index(column), column, rows[column].cast(kind))

    return change


ROW_FAULTS = {
    "a null": ("candidates/candidates", with_value("answer", None), "answer", "null"),
    "an unknown pool": ("candidates/candidates", with_value("pool", "trian"), "pool", "values"),
    "an unknown layer": ("prompts/prompts", with_value("layer", "centre"), "layer", "values"),
    "a broken reference": ("candidates/candidates", with_value("prompt_id", "f" * 32), "prompt_id", "reference"),
    "an example of no answer": ("dataset/examples", with_value("example_id", "f" * 32), "example_id", "reference"),
    "a prediction of no prompt": ("reports/predictions", with_value("prompt_id", "f" * 32), "prompt_id", "reference"),
    "a duplicate of nothing": ("dataset/picked", with_value("duplicate_of", "f" * 32), "duplicate_of", "reference"),
    "a repeated row": ("prompts/prompts", twice, "prompt_id", "unique"),
    "a share above one": ("candidates/candidates", with_value("confidence", 1.5), "confidence", "range"),
    "a negative count": ("candidates/candidates", with_value("tokens_out", -1), "tokens_out", "range"),
    "a line before the first": ("prompts/prompts", with_value("line", 0), "line", "range"),
    "NaN": ("candidates/candidates", with_value("logprob", NAN), "logprob", "nan"),
    "NaN in an embedding": ("dataset/embeddings", with_value("embedding", [0.5, NAN]), "embedding", "nan"),
    "a conversation without turns": ("dataset/examples", with_value("messages", []), "messages", "range"),
    "a turn without a role": ("dataset/examples", with_value("messages", [NO_ROLE]), "messages.role", "null"),
    "a null tag": ("candidates/candidates", with_value("reasons", ["a", None]), "reasons", "null"),
    "an unknown split": ("dataset/examples", with_value("split", "test"), "split", "values"),
    "a holdout without a reference": ("prompts/holdout", with_value("reference", None), "reference", "row"),
    "an empty id": ("dataset/preferences", with_value("pair_id", ""), "pair_id", "values"),
    "a pair of one answer": ("dataset/preferences", one_answer, "rejected_id", "row"),
    "another pool than counted": ("candidates/candidates", with_value("pool", "hard"), "pool", "count"),
    "a column of another type": ("candidates/candidates", of_type("tokens_in", pa.int64()), "tokens_in", "column"),
    "a missing column": ("dataset/picked", lambda rows: rows.drop_columns(["cluster"]), "cluster", "column"),
    "rows that are gone": ("reports/predictions", lambda rows: rows.slice(1), "finish_reason", "count"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROW_FAULTS)
def test_planted_fault_of_rows_is_found(run, name):
    place, change, column, rule = ROW_FAULTS[name]
    rewrite(run, place, change)
    found = rules(run)
    assert (place, column, rule) in found, found


def shard(run, place):
    return next((run / place).glob("*.parquet"))


def truncated(run):
    path = shard(run, "candidates/candidates")
    path.write_bytes(path.read_bytes()[:-100])


def changed_byte(run):
    path = shard(run, "dataset/examples")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swapped(run):
    one, other = sorted((run / "dataset" / "examples").glob("*.parquet"))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def foreign(run):
    path = shard(run, "prompts/prompts")
    shutil.copy(path, path.with_name("part-copy.parquet"))


def lost_rows(run):
    edit(run, "prompts", lambda record: record["row_counts"].update(rows_in=record["row_counts"]["rows_in"] + 1))


def forged_digest(run):
    edit(run, "reports", lambda record: record["tables"]["predictions"].update(digest="0" * 32))


def edit(run, job, change):
    path = run / job / "record.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


FILE_FAULTS = {
    "a truncated file": (truncated, "candidates/candidates", "file"),
    "a changed byte": (changed_byte, "dataset/examples", "file"),
    "swapped shards": (swapped, "dataset/examples", "file"),
    "a missing shard": (lambda run: shard(run, "prompts/holdout").unlink(), "prompts/holdout", "file"),
    "a changed document": (lambda run: (run / "dataset" / "README.md").write_text("x"), "dataset", "file"),
    "a changed file beside the tables": (lambda run: (run / "reports" / "index.html").write_text("x"), "reports", "file"),
    "a file that no record lists": (foreign, "prompts/prompts", "unlisted"),
    "rows in that never came out": (lost_rows, "prompts", "conservation"),
    "a record with the digest of other rows": (forged_digest, "reports/predictions", "digest"),
}


@pytest.mark.parametrize("name", FILE_FAULTS)
def test_planted_fault_of_files_is_found(run, name):
    plant, place, rule = FILE_FAULTS[name]
    plant(run)
    assert (place, rule) in {(where, kind) for where, _, kind in rules(run)}


def test_exchanged_artifact_is_found_by_its_fingerprint(run):
    rewrite(run, "prompts/prompts", with_value("text", "another text"))
    assert ("candidates", "prompts", "lineage") in rules(run)


def test_clean_runs_have_no_violation(clean, tmp_path):
    found = check(clean)
    assert found["violations"] == [] and found["tables"] == 11 and not found["skipped"]
    assert check(unpack(tmp_path) / "run")["violations"] == []  # as version 3 wrote it


def without_files(run, name):
    artifact = load_artifact(Folder(str(run / "dataset")))
    (artifact.folder / name).remove()
    tables = artifact.record.tables | {name: table_of([], hex_digest(0))}
    artifact.folder.write("record.json", artifact.record.model_copy(update={"tables": tables}).model_dump_json().encode())


def test_table_without_files_has_no_rows_and_is_checked_like_others(run):
    without_files(run, "preferences")
    found = check(run)
    assert {each["rule"] for each in found["violations"]} == {"lineage"} and found["skipped"] == [] and found["tables"] == 11
    assert published(run) == set()
    without_files(run, "picked")
    assert ("candidates/candidates", "answer_id", "reference") in rules(run)


def test_quick_reads_no_row(run):
    rewrite(run, "candidates/candidates", with_value("pool", "trian"))
    assert not any(rule == "values" for _, _, rule in rules(run, "--quick"))
    assert len(check(run, "--quick")["skipped"]) == 11


def test_text_names_place_rule_count_ids_and_what_to_do(run):
    artifact = load_artifact(Folder(str(run / "candidates")))
    answer_id = read_table(artifact.folder / "candidates", artifact.table("candidates"), TABLES["candidates"])["answer_id"][
        0
    ].as_py()
    rewrite(run, "candidates/candidates", with_value("pool", "trian"))
    result = CliRunner().invoke(app, ["check-data", str(run)])
    assert "candidates/candidates.pool: values: 1: 'trian'; expected one of 'train', 'hard'" in result.output
    assert f"first: {answer_id}" in result.output and "next: " in result.output


def test_damaged_tables_are_named_as_not_read(run):
    truncated(run)
    found = check(run)
    assert found["skipped"] == ["candidates/candidates"]
    [violation] = found["violations"]
    assert violation["ids"] and "delete" in violation["next"]


def published(run):
    """What breaks the rules of `rayleigh schema package`, by DuckDB on the package and the files alone."""
    result = CliRunner().invoke(app, ["schema", "package", str(run), "--json"], catch_exceptions=False)
    package = json.loads(result.stdout)
    found = set()
    with duckdb.connect() as connection:
        for each in package["resources"]:
            files = [str(run / path) for path in each["path"]]
            connection.execute(f'create view "{each["name"]}" as select * from read_parquet({files})')
            rules = each["rayleigh:checks"]
            broken = ", ".join(f"{rule['broken']} as c{number}" for number, rule in enumerate(rules))
            counts = ", ".join(f"count(*) filter (where c{number})" for number in range(len(rules)))
            values = connection.execute(f'select {counts} from (select {broken} from "{each["name"]}")').fetchone()
            found |= {(each["name"], rule["column"], rule["rule"]) for rule, count in zip(rules, values, strict=True) if count}
        for each in package["rayleigh:references"]:
            found |= {(table, each["column"], "reference") for table in dangling(connection, package, each)}
    return found


def dangling(connection, package, reference):
    names = [each["name"] for each in package["resources"]]
    places = [path.rpartition("/")[::2] for path in reference["in"]]
    known = [f'select "{column}" as id from "{name}"' for place, column in places for name in names if fnmatch(name, place)]
    for table in (name for name in names if known and fnmatch(name, reference["table"])):
        value = reference["value"]
        where = f"{reference['where']} and {value} is not null and {value} not in (select id from ({' union all '.join(known)}))"
        if connection.execute(f'select count(*) from "{table}" where {where}').fetchone()[0]:
            yield table


PUBLISHED = ("a null", "an unknown pool", "a broken reference", "an example of no answer", "a repeated row", "a share above one",
             "NaN in an embedding", "a turn without a role", "a pair of one answer")  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_contract_finds_planted_faults_without_the_engine(run, name):
    place, change, column, rule = ROW_FAULTS[name]
    rewrite(run, place, change)
    assert (place, column, rule) in published(run)


def test_published_contract_holds_on_a_clean_run(clean):
    assert published(clean) == set()


def test_published_package_says_types_sets_ranges_and_keys_in_the_words_of_the_standard(clean):
    result = CliRunner().invoke(app, ["schema", "package", str(clean), "--json"], catch_exceptions=False)
    resources = {each["name"]: each for each in json.loads(result.stdout)["resources"]}
    candidates = resources["candidates/candidates"]
    assert all((clean / path).is_file() for each in resources.values() for path in each["path"])
    fields = {field["name"]: field for field in candidates["schema"]["fields"]}
    assert fields["pool"]["constraints"]["enum"][0] == "train" and fields["pool"]["description"] == "where the answer goes"
    assert (fields["score"]["type"], fields["score"]["constraints"]) == ("number", {"minimum": -1e-4, "maximum": 1 + 1e-4})
    assert fields["answer"]["constraints"] == {"required": True} and fields["logprob"]["unit"] == "nats"
    assert [item["name"] for item in fields["messages"]["items"]["fields"]] == ["role", "content"]
    assert fields["messages"]["constraints"] == {"required": True, "minLength": 1}
    assert candidates["schema"]["primaryKey"] == ["answer_id"] and candidates["schema"]["missingValues"] == []
    assert {"fields": ["prompt_id"], "reference": {"resource": "prompts/prompts", "fields": ["prompt_id"]}} in (
        candidates["schema"]["foreignKeys"]
    )


def test_package_as_text_names_every_table_with_its_rows(clean):
    result = CliRunner().invoke(app, ["schema", "package", str(clean)], catch_exceptions=False)
    assert "candidates/candidates: " in result.stdout and f"{clean}/datapackage.json" in result.stdout


def diff(*runs):
    result = CliRunner().invoke(app, ["schema", "diff", *map(str, runs), "--json"])
    assert result.exit_code == 0, result.output
    return {
        (each["table"], each["column"], each["change"]): (each["before"], each["after"])
        for each in json.loads(result.output)["changes"]
    }


def test_schema_diff_names_what_changed(run, clean):
    assert diff(clean, run) == {}
    rewrite(run, "candidates/candidates", of_type("tokens_in", pa.int64()))
    rewrite(run, "dataset/picked", lambda rows: rows.drop_columns(["cluster"]))
    rewrite(run, "reports/predictions", lambda rows: rows.append_column("added", pc.utf8_length(rows["text"])))
    assert diff(clean, run) == {
        ("candidates/candidates", "tokens_in", "type"): ("int32", "int64"),
        ("dataset/picked", "cluster", "removed"): ("int32", ""),
        ("reports/predictions", "added", "added"): ("", "int32"),
    }


def test_schema_diff_knows_what_a_migration_renames(clean, tmp_path):
    found = diff(unpack(tmp_path) / "run", clean)
    assert found["candidates/candidates", "ending", "renamed"] == ("ending", "finish_reason")
    assert found["candidates/candidates", "token_logprobs", "added"] == ("", "list of structs")
    assert ("candidates/candidates", "marks.rubric", "removed") not in found
