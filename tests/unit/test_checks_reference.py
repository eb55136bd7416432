"""Checks that compare with a reference: numbers, mathematics, code, queries; and where the reference comes from."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.checks import TAGS, CheckInput, code, mathematics, run_checks, sql
from engine.checks.mathematics import Equality
from engine.checks.sql import Queries
from engine.contract.checks import Code, Mathematics, Numeric, Reference, Sql

OWN = Reference()


def only(check, answer, **inputs):
    [result] = run_checks([check], CheckInput(answer, **inputs))
    assert result.tag in TAGS and result.passed == (result.tag == "") and result.check == check.type
    return result


def numeric(**given):
    return Numeric(type="numeric", **given)


@pytest.fixture(scope="module", autouse=True)
def same_process():
    """Run workers in this process: worker processes are tested with the sandbox and the tools."""
    equality, queries = Equality(), Queries()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mathematics, "_worker", lambda *given: equality)
        patch.setattr(sql, "_worker", lambda *given: queries)
        yield


@pytest.mark.parametrize(
    ("check", "answer", "reference", "tag"),
    [
        (numeric(reference=OWN), "42", "42.0", ""),
        (numeric(reference=OWN), "1,200", "1200", ""),
        (numeric(reference=OWN), "43", "42", "off_reference"),
        (numeric(reference=OWN, abs_tol=0.5), "42.5", "42", ""),
        (numeric(reference=OWN, abs_tol=0.5), "42.6", "42", "off_reference"),
        (numeric(reference=OWN, rel_tol=0.1), "-110", "-100", ""),
        (numeric(reference=OWN, rel_tol=0.1), "110.1", "100", "off_reference"),
        (numeric(reference=OWN), "nan", "nan", "no_reference"),
        (numeric(reference=OWN), "nan", "1", "not_a_number"),
        (numeric(reference=OWN), "inf", "1", "not_a_number"),
        (numeric(reference=OWN), "about 4", "4", "not_a_number"),
        (numeric(reference=OWN), "4", None, "no_reference"),
        (numeric(reference=Reference(missing="pass")), "4", None, ""),
        (numeric(reference=Reference(value="4")), "4", "5", ""),
        (numeric(reference=Reference(field="n")), "4", '{"n": 4}', ""),
        (numeric(reference=Reference(field="n")), "4", '{"m": 4}', "no_reference"),
        (numeric(reference=Reference(field="n")), "4", "4", "no_reference"),
        (numeric(unit="km", reference=OWN), "1500 m", "1.5", ""),
        (numeric(unit="km", reference=OWN), "1500 m", "1500 m", ""),
        (numeric(unit="km", reference=OWN), "1.5", "1.5", "off_unit"),
        (numeric(unit="km", max=1), "1500m", None, "out_of_range"),
        (numeric(unit="km"), "3 kg", None, "off_unit"),
        (numeric(unit="km"), "3 flurbs", None, "off_unit"),
        (numeric(unit="m/s"), "36 km/h", None, ""),
        (numeric(unit="m/s", reference=OWN, abs_tol=1e-9), "36 km per hour", "10", ""),
        (numeric(unit="degC", reference=OWN, abs_tol=0.01), "68 degF", "20 degC", ""),
        (numeric(unit="m"), "3 9**9**9**9", None, "unreadable_number"),
        (numeric(unit="m"), "3 m**9**9", None, "off_unit"),
        (numeric(unit="m"), "3 __import__('os')", None, "off_unit"),
        (numeric(field="n", reference=OWN), '{"n": 4}', "4", ""),
        (numeric(field="n", reference=OWN), '{"n": null}', "4", ""),
        (numeric(field="n", reference=OWN), '{"n": true}', "1", "not_a_number"),
        (numeric(field="n"), "{}", None, "no_field"),
        (numeric(), "9" * 5000, None, "not_a_number"),
    ],
)
def test_numeric_is_near_its_reference_in_its_unit(check, answer, reference, tag):
    assert only(check, answer, reference=reference).tag == tag


@settings(deadline=None, max_examples=50)
@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(0, 1e9), st.floats(0, 2))
def test_numeric_tolerance_is_the_larger_of_absolute_and_relative(value, wanted, absolute, relative):
    result = only(numeric(reference=OWN, abs_tol=absolute, rel_tol=relative), repr(value), reference=repr(wanted))
    assert result.passed == (abs(value - wanted) <= max(absolute, relative * abs(wanted)))


@settings(deadline=None, max_examples=50)
@given(st.integers(-(10**6), 10**6), st.sampled_from([("km", "m", 1000), ("h", "min", 60), ("kg", "g", 1000), ("l", "ml", 1000)]))
def test_numeric_is_blind_to_the_unit_it_is_written_in(value, units):
    large, small, factor = units
    check = numeric(unit=large, reference=OWN, rel_tol=1e-9)
    assert only(check, f"{value * factor} {small}", reference=str(value)).passed
    assert only(check, f"{value} {small}", reference=str(value)).passed == (value == 0)


def test_reference_by_a_pattern_comes_from_the_prompt():
    check = numeric(reference=Reference(pattern=r"expect (\d+)"))
    assert only(check, "7", text="We expect 7 mugs").passed
    assert only(check, "8", text="We expect 7 mugs").tag == "off_reference"
    assert only(check, "8", text="Some mugs").tag == "no_reference"


def test_reference_by_a_pattern_that_takes_for_ever_is_none():
    check = numeric(reference=Reference(pattern=r"((?:a+)+)$"))
    assert only(check, "7", text="a" * 40 + "b").tag == "no_reference"


MATH = Mathematics(type="math")


@pytest.mark.parametrize(
    ("answer", "reference", "tag"),
    [
        ("1/2", "0.5", ""),
        ("The answer is $\\frac{2}{4}$.", "1/2", ""),
        ("\\boxed{x^2 - 1}", "$(x - 1)(x + 1)$", ""),
        ("\\frac{1}{2}", "\\frac{2}{4}", ""),
        ("$\\{1, 2\\}$", "$\\{2, 1\\}$", ""),
        ("1/3", "0.5", "off_reference"),
        ("\\boxed{x^2 + 1}", "$(x - 1)(x + 1)$", "off_reference"),
        ("no idea", "0.5", "not_math"),
        ("1", "words only", "no_reference"),
        ("1", None, "no_reference"),
    ],
)
def test_math_is_equal_however_it_is_written(answer, reference, tag):
    assert only(MATH, answer, reference=reference).tag == tag


@settings(deadline=None, max_examples=50)
@given(st.integers(-999, 999), st.integers(1, 99), st.integers(1, 9))
def test_math_knows_a_fraction_by_its_value(above, below, times):
    answer = f"$\\frac{{{above * times}}}{{{below * times}}}$"
    assert only(MATH, answer, reference=f"{above}/{below}").passed
    assert only(MATH, answer, reference=f"{above + 1}/{below}").tag == "off_reference"


SHOP = """
create table t (name varchar, price double, n integer);
insert into t values ('cup', 2.5, 3), ('mug', 4.0, 1), ('pot', null, 1);
"""
SQL = Sql(type="sql", setup=Reference(value=SHOP))


@pytest.mark.parametrize(
    ("answer", "reference", "tag"),
    [
        ("select name from t", "select name from t order by name desc", ""),
        ("```sql\nselect name from t;\n```", "select name from t", ""),
        ("select sum(n) from t", "select 5.0", ""),
        ("select name from t where n = 1", "select name from t", "off_result"),
        ("select name from t union all select name from t", "select name from t", "off_result"),
        ("select price from t", "select n from t", "off_result"),
        ("select nam from t", "select name from t", "sql_failed"),
        ("drop table t", "select name from t", "sql_failed"),
        ("select 1; select 2", "select 1", "sql_failed"),
        ("select * from read_csv('/etc/passwd')", "select 1", "sql_failed"),
        ("copy t to 't.csv'", "select 1", "sql_failed"),
        ("attach 'x.db'", "select 1", "sql_failed"),
        ("install httpfs", "select 1", "sql_failed"),
        ("set enable_external_access = true", "select 1", "sql_failed"),
        ("", "select 1", "no_code"),
        ("select 1", "selekt 1", "no_reference"),
        ("select 1", None, "no_reference"),
    ],
)
def test_sql_gives_the_rows_of_the_right_query(answer, reference, tag):
    assert only(SQL, answer, reference=reference).tag == tag


def test_sql_order_counts_only_where_it_is_asked_for():
    ordered = SQL.model_copy(update={"ordered": True})
    assert only(ordered, "select name from t order by 1", reference="select name from t order by 1").passed
    assert only(ordered, "select name from t order by 1 desc", reference="select name from t order by 1").tag == "off_result"


def test_sql_tables_may_come_with_the_prompt():
    check = Sql(type="sql", reference=Reference(field="query"), setup=Reference(field="tables"))
    reference = '{"query": "select a from u", "tables": "create table u as select 7 as a"}'
    assert only(check, "select 7", reference=reference).passed
    assert only(check, "select 8", reference=reference).tag == "off_result"
    assert only(check, "select 8", reference='{"query": "select 8"}').tag == "no_reference"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b"])), min_size=1, max_size=6), st.randoms())
def test_sql_is_blind_to_the_order_of_rows_but_not_to_their_number(rows, chance):
    def query(values):
        return f"select * from (values {', '.join(map(str, values))})"

    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert only(SQL, query(shuffled), reference=query(rows)).passed
    assert only(SQL, query([*rows, rows[0]]), reference=query(rows)).tag == "off_result"


def test_cell_of_a_number_that_is_none_is_compared_as_it_is():
    assert [sql.cell(value) for value in (math.nan, math.inf, None, 3, 3.0, True)] == ["nan", "inf", "null", "3", "3", "True"]


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        ("x = 1", "x = 1"),
        ("So:\n```python\nx = 1\n```\nand\n```\ny\n```", "x = 1\n"),
        ("```py title=a\nx = 1", "x = 1"),
        ("```bash\npip\n```\n```\nx = 1\n```", "x = 1\n"),
        ("```bash\npip\n```", ""),
    ],
)
def test_code_is_the_first_fenced_block_of_its_language(answer, program):
    assert code.first_code_block(answer, ("python", "py", "")) == program


def test_code_is_run_against_the_tests_of_its_prompt():
    check = Code(type="code", tests=Reference(field="tests"))
    tests = '{"tests": "assert double(2) == 4"}'
    assert only(check, "```python\ndef double(x): return 2 * x\n```", reference=tests).passed
    assert only(check, "def double(x): return 3 * x", reference=tests).tag == "tests_failed"
    assert only(check, "```bash\nls\n```", reference=tests).tag == "no_code"
    assert only(check, "def double(x): return 2 * x").tag == "no_reference"


def test_code_that_means_harm_is_tagged_and_whoever_asked_goes_on():
    check = Code(type="code", tests=Reference(value="assert double(2) == 4"), cpu_seconds=1, seconds=60)
    harm = {
        "import os; os.kill(os.getppid(), 9)": "forbidden",
        "import os; [os.fork() for endless in iter(int, 1)]": "forbidden",
        "memory = bytearray(100 * 2 ** 30)": "out_of_memory",
        "any(False for loop in iter(int, 1))": "timed_out",
        "[print('noise' * 999) for again in iter(int, 1)]": "too_much_output",
        "deeper = lambda: deeper(); deeper()": "crashed",
    }
    assert {answer: only(check, answer).tag for answer in harm} == harm
    assert only(check, "double = lambda x: 2 * x").passed
