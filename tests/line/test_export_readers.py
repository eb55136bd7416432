"""`make exports`: tables and exports in readers that are not in `.venv`: Delta, Iceberg, Lance, Spark, Croissant, Frictionless.

The packages lie in a folder beside (`tests/line/readers.txt`), which is appended to the import path.
"""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from every_table import ROWS, every_table
from pairs_run import pairs_run
from test_check_data import clean  # noqa: F401 - a run that is right

from engine.columns import Declaration
from engine.publish.tables import SCHEMAS
from engine.storage.artifact import Artifact
from jobs.cli import app
from jobs.commands.export_data import Order, export
from jobs.commands.sql import Views
from jobs.commands.sql_docs import column_docs
from jobs.places import models_home

pytestmark = [pytest.mark.exports, pytest.mark.filterwarnings("ignore")]  # the readers' own warnings
READERS = Path(models_home()).parent / "exporters" / "readers"
QUERY = "select e.*, p.licence from {} e join prompts p using (prompt_id) where p.licence = 'CC0-1.0'"


@pytest.fixture(scope="module", autouse=True)
def readers() -> Iterator[None]:
    """Let these tests, and no others of the session, import the readers."""
    if not READERS.is_dir():
        pytest.skip(f"{READERS} is not there: `make exports` installs it")
    sys.path.append(str(READERS))
    yield
    sys.path.remove(str(READERS))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("run")
    return str(pairs_run(str(root / "runs" / "one"), root / "seeds").folder)


def expected(run: str, table: str) -> list[dict[str, Any]]:
    return [dict(row) for row in Views(run).rows(QUERY.format(table))]


def readme(folder: Path, table: str) -> dict[str, Any]:
    """What the code of the README opens, with `table` in place of the first one."""
    names: dict[str, Any] = {}
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(code.replace("examples", table), names)
    return names


def by_id(rows: list[dict[str, Any]], columns: list[str]) -> list[str]:
    return sorted(str({name: row[name] for name in columns}) for row in rows)


@pytest.fixture(scope="module")
def exported(run: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exported")
    for form in ("delta", "iceberg", "lance"):
        export(run, str(root / form), Order(form, licences=("CC0-1.0",)))
    return root


@pytest.mark.parametrize("table", ["examples", "preferences"])
@pytest.mark.parametrize("form", ["delta", "iceberg", "lance"])
def test_tables_have_rows_values_splits_and_texts(run: str, exported: Path, form: str, table: str) -> None:
    opened = readme(exported / form, table)
    wanted = expected(run, table)
    columns = list(wanted[0])
    assert by_id(opened["rows"].to_pylist(), columns) == by_id(wanted, columns) and wanted
    declared = {field.name for field in SCHEMAS[table]}
    assert set(opened["docs"]) == declared
    assert opened["docs"]["split"].endswith("one of `train`, `validation`")
    counts = opened["rows"]["split"].value_counts().to_pylist()
    manifest = json.loads((exported / form / "export.json").read_text())
    assert sum(each["counts"] for each in counts) == len(wanted) and manifest["licences"] == ["CC0-1.0"]
    assert not list(exported.glob("**/.*.parquet")) and manifest["left_out"]["licence"]


def test_a_table_is_one_commit(exported: Path) -> None:
    assert len(readme(exported / "delta", "examples")["table"].history()) == 1
    assert len(readme(exported / "iceberg", "examples")["table"].snapshots()) == 1
    assert readme(exported / "lance", "examples")["table"].version == 1


POLARS = """
import sys
sys.path.append(sys.argv[1])
import polars
from pyiceberg.catalog.sql import SqlCatalog
table = SqlCatalog("toy", uri=f"sqlite:///{sys.argv[3]}/catalog.db").load_table("toy.examples")
print(polars.scan_delta(f"{sys.argv[2]}/examples").collect().height, polars.scan_iceberg(table).collect().height)
"""


def test_polars_reads_delta_and_iceberg(exported: Path) -> None:
    words = [sys.executable, "-c", POLARS, str(READERS), str(exported / "delta"), str(exported / "iceberg")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)  # polars looks for readers when it is imported
    rows = readme(exported / "delta", "examples")["rows"].num_rows
    assert done.stdout.split() == [str(rows)] * 2, done.stderr


def test_units_and_texts_inside_of_lists_are_kept(exported: Path) -> None:
    [messages] = [field for field in readme(exported / "lance", "examples")["table"].schema if field.name == "messages"]
    assert messages.type.value_type.field("role").metadata[b"description"] == b"system, user or assistant"
    iceberg = readme(exported / "iceberg", "examples")["table"].schema().find_field("messages.element.role")
    assert iceberg.doc == "system, user or assistant"


def test_delta_and_lance_can_be_moved_and_iceberg_lies_where_it_was_written(exported: Path, tmp_path: Path) -> None:
    for form, name in (("delta", "examples"), ("lance", "examples.lance")):
        shutil.copytree(exported / form / name, tmp_path / name)
    rows = readme(exported / "delta", "examples")["rows"].num_rows
    assert importlib.import_module("deltalake").DeltaTable(str(tmp_path / "examples")).to_pyarrow_table().num_rows == rows
    assert importlib.import_module("lance").dataset(str(tmp_path / "examples.lance")).count_rows() == rows
    table = readme(exported / "iceberg", "examples")["table"]
    assert table.metadata_location.startswith(f"file://{exported / 'iceberg'}/")
    assert all(task.file.file_path.startswith(f"file://{exported / 'iceberg'}/") for task in table.scan().plan_files())


@pytest.mark.parametrize("form", ["delta", "iceberg", "lance"])
def test_folder_with_a_space_is_opened_as_the_readme_says(run: str, tmp_path: Path, form: str) -> None:
    result = export(run, str(tmp_path / "with space" / form), Order(form))
    rows = sum(readme(tmp_path / "with space" / form, table)["rows"].num_rows for table in ("examples", "preferences"))
    assert rows == sum(result.rows.values())


def test_table_that_cannot_be_written_is_an_error_to_act_on_and_leaves_nothing(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltalake = importlib.import_module("deltalake")

    def full(*words: Any, **options: Any) -> None:
        raise deltalake.exceptions.DeltaError("no space left on device")

    monkeypatch.setattr(deltalake, "write_deltalake", full)
    result = CliRunner().invoke(app, ["export", run, "delta", str(tmp_path / "out")])
    assert result.exit_code == 1 and "StorageError: export delta: examples: cannot be written: no space left" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_iceberg_refuses_a_path_that_its_locations_cannot_have(run: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["export", run, "iceberg", str(tmp_path / "a#b")])
    assert result.exit_code == 1 and "found '#' in the path" in result.stderr and list(tmp_path.iterdir()) == []


def test_personal_data_is_replaced_in_tables(run: str, tmp_path: Path) -> None:
    result = export(run, str(tmp_path / "out"), Order("delta", redact=("email",)))
    rows = readme(tmp_path / "out", "examples")["rows"].to_pylist()
    assert result.redacted["email"] and "ann@example.org" not in str(rows) and "<EMAIL>" in str(rows)


@pytest.fixture(scope="module")
def spark() -> Any:
    if shutil.which("java") is None:
        pytest.skip("Spark needs java")
    sql = importlib.import_module("pyspark.sql")
    options = {"spark.ui.enabled": "false", "spark.driver.memory": "1g", "spark.sql.shuffle.partitions": "1"}
    options["spark.driver.bindAddress"] = options["spark.driver.host"] = "127.0.0.1"
    builder = sql.SparkSession.builder.master("local[1]").appName("readers")
    for name, value in options.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[Artifact, str, Declaration]]]:
    root = tmp_path_factory.mktemp("every")
    return root, every_table(root)


def test_spark_finds_rows_columns_and_splits_of_every_table(spark: Any, every: Any) -> None:
    root, tables = every
    for key, (_, _, declared) in tables.items():
        found = spark.read.parquet(str(root / key))
        assert found.columns == [column.name for column in declared.columns], key
        rows = found.collect()
        assert len(rows) == ROWS, key
        if declared.split:
            assert {row[declared.split] for row in rows} == {"train", "validation"}


def test_spark_reads_the_folder_of_the_hub(spark: Any, run: str, tmp_path: Path) -> None:
    result = export(run, str(tmp_path / "out"), Order("hf"))
    rows = sum(spark.read.parquet(str(tmp_path / "out" / "data" / table)).count() for table in ("examples", "preferences"))
    assert rows == sum(result.rows.values())


def test_mlcroissant_validates_and_reads_every_split(run: str, tmp_path: Path) -> None:
    result = export(run, str(tmp_path / "out"), Order("croissant"))
    dataset = importlib.import_module("mlcroissant").Dataset(jsonld=str(tmp_path / "out" / "croissant.json"))
    assert not dataset.metadata.issues.errors
    assert {split: sum(1 for _ in dataset.records(split)) for split in result.rows} == result.rows
    fields = {field.name: field.description for each in dataset.metadata.record_sets for field in each.fields}
    assert str(fields["target"]) == column_docs("examples")["target"]


def package(run: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["schema", "package", run, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def errors(described: dict[str, Any], key: str, rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """What frictionless finds in `rows` with the schema of the resource `key`: kind of error, column."""
    frictionless = importlib.import_module("frictionless")
    [resource] = [each for each in described["resources"] if each["name"] == key]
    schema = {name: value for name, value in resource["schema"].items() if name != "foreignKeys"}
    report = frictionless.Resource(data=rows, schema=frictionless.Schema.from_descriptor(schema)).validate()
    return {(kind, field) for kind, field in report.flatten(["type", "fieldName"])}


def test_frictionless_takes_the_package_and_finds_clean_rows_right(clean: Path, tmp_path: Path) -> None:  # noqa: F811
    described = package(str(clean))
    path = tmp_path / "datapackage.json"
    path.write_text(json.dumps(described))
    frictionless = importlib.import_module("frictionless")
    report = frictionless.Package.validate_descriptor(described)
    assert report.valid, report.flatten(["type", "note"])
    assert [each.name for each in frictionless.Package(str(path)).resources] == [each["name"] for each in described["resources"]]
    views = Views(str(clean))
    for resource in described["resources"]:
        rows = views.rows(f'select * from "{resource["name"].rpartition("/")[2]}"')
        if rows:  # an empty list is no source
            assert errors(described, resource["name"], rows) == set(), resource["name"]


def test_frictionless_finds_planted_faults(clean: Path) -> None:  # noqa: F811
    described = package(str(clean))
    row = Views(str(clean)).rows("select * from candidates limit 1")[0]
    assert errors(described, "candidates/candidates", [row]) == set()
    for column, value, kind in (
        ("answer", None, "constraint-error"), ("pool", "trian", "constraint-error"), ("confidence", 1.5, "constraint-error"),
        ("tokens_out", -1, "constraint-error"), ("tokens_in", "many", "type-error"), ("messages", [], "constraint-error"),
    ):  # fmt: skip
        assert errors(described, "candidates/candidates", [{**row, column: value}]) == {(kind, column)}
    assert ("primary-key", None) in errors(described, "candidates/candidates", [row, row])
