"""Tools under attack: an argument may fail, but it does no harm, reads nothing else and leaves no state."""

import json

import pytest

from engine.contract.tools import Calculator, Retrieval, Sql
from engine.errors import InputError
from engine.tools.sql import Tables
from engine.tools.toolset import Toolset

LIMITS = {"rows": 3, "seconds": 2, "memory_mib": 64}


def opened(section, root):
    [tool] = Toolset((section,), max_calls=1, root=str(root), hashes={}).open().values()
    return tool


@pytest.fixture(scope="module")
def sql(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    (root / "orders.csv").write_text("id,city,price\n7,Bath,3.35\n8,York,1.5\n9,Leeds,\n10,Ripon,2\n")
    (root / "notes.jsonl").write_text('{"id": 7, "said": "soon"}\n')
    return opened(Sql(type="sql", tables={"orders": "orders.csv", "notes": "notes.jsonl"}, **LIMITS), root)


calculate = opened(Calculator(type="calculator"), "")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("12 * 3.50", "42"), ("0.1 + 0.2", "0.3"), ("-(2 ** -1)", "-0.5"), ("round(2.675, 2)", "2.68"), ("max(1, min(7, 3))", "3"),
        ("1200", "1200"), (" 7 - 7.0 ", "0"),
    ],
)  # fmt: skip
def test_calculator_computes_in_decimals(argument, value):
    assert calculate(argument) == (value, True)


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        ("__import__('os').system('true')", "found Call"), ("().__class__", "found Attribute"),
        ("[i for i in (1,)]", "found ListComp"),
        ("(lambda: 1)()", "found Call"), ("'a' * 9", "found Constant"), ("True + 1", "found Constant"), ("x", "found Name"),
        ("9**9**9", "too large"), ("1e400", "too large"), ("1 / 0", "division by zero"), ("round(1, 10**50)", "cannot be computed"),
        ("0x10", "cannot be computed"), ("max()", "not an expression"), ("max(5)", "not an expression"), ("1; 2", "invalid syntax"),
        ("", "invalid syntax"), ("\0", "null bytes"), ("(" * 150 + "1", "not an expression"), ("\ud800", "not an expression"),
        ("9" * 201, "200 characters"), ("-" * 500 + "1", "200 characters"),
    ],
)  # fmt: skip
def test_calculator_refuses_everything_but_arithmetic(argument, why):
    text, ok = calculate(argument)
    assert not ok and why in text


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("select city from orders where id = 7", "Bath"),
        ("select id, price from orders where id > 7 order by id limit 2", "id=8, price=1.5\nid=9, price=null"),
        ("select price * 3 from orders where id = 7", "10.05"),
        ("select id from orders where id = 1", ""),
        ("select id from orders order by id", "7\n8\n9\n(there are more rows)"),
        ("with n as (select * from notes) select said from n join orders using (id) -- both", "soon"),
    ],
)
def test_sql_reads_the_given_tables(sql, query, text):
    assert sql(query) == (text, True)


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("select * from nowhere", "nowhere does not exist"), ("select city form orders", "near \"orders\""), ("", "found nothing"),
        ("select 1; select 2", "found SELECT, SELECT"), ("select 1; drop table orders", "found SELECT, DROP"),
        ("drop table orders", "DROP"), ("delete from orders", "DELETE"), ("insert into orders select * from orders", "INSERT"),
        ("update orders set id = 1", "UPDATE"), ("create table x as select 1", "CREATE"), ("pragma database_list", "PRAGMA"),
        ("copy orders to 'x.csv'", "COPY"), ("export database 'x'", "EXPORT"), ("attach 'x.db'", "ATTACH"),
        ("install httpfs", "LOAD"), ("load httpfs", "LOAD"), ("set enable_external_access = true", "SET"),
        ("reset lock_configuration", "SET"), ("prepare a as select 1", "PREPARE"), ("explain select 1", "EXPLAIN"),
        ("select * from read_csv('/etc/passwd')", "disabled by configuration"),
        ("select * from read_text('/etc/passwd')", "disabled by configuration"),
        ("select * from '/etc/passwd'", "does not exist"), ("select * from glob('/*')", "disabled by configuration"),
        ("select * from self", "does not exist"), ("select * from cursor", "does not exist"),  # no variables of Python either
        ("select repeat('x', 100000000)", "Memory"), ("select unnest(range(1000000000))", "Memory"),
    ],
)  # fmt: skip
def test_sql_refuses_all_but_one_reading_query(sql, query, why):
    text, ok = sql(query)
    assert not ok and why in text
    assert sql("select count(*) from orders") == ("4", True)


def test_sql_ends_an_endless_query_and_goes_on(sql):
    endless = "with recursive t(n) as (select 1 union all select n + 1 from t) select max(n) from t"
    assert sql(endless) == ("took more than 2 seconds or 64 MiB", False)
    assert sql("select count(*) from orders") == ("4", True)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [("gone.csv", None, "cannot be read"), ("t.xlsx", b"x", "unknown ending"), ("t.parquet", b"no parquet", "cannot be read")],
)
def test_sql_names_a_table_that_cannot_be_read(tmp_path, name, content, why):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}.*{why}"):
        Tables(Sql(type="sql", tables={"t": name}), str(tmp_path))


def test_worker_process_passes_on_why_a_tool_cannot_be_built(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv: cannot be read"):
        opened(Sql(type="sql", tables={"t": "gone.csv"}), tmp_path)


def corpus(root, *texts):
    (root / "corpus.jsonl").write_text("".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(texts)))
    return Retrieval(type="retrieval", corpus="corpus.jsonl", top_k=2)


def test_retrieval_finds_the_passages_that_share_most_words(tmp_path):
    texts = (
        "Goods come back within 30 days.",
        "The warranty lasts 24 months.",
        "Repairs under warranty are free.",
        "Open on Monday.",
    )
    find = opened(corpus(tmp_path, *texts), tmp_path)
    assert find("how long is the warranty") == (f"{texts[1]}\n{texts[2]}", True)
    assert find("goods") == (texts[0], True)
    assert find("zebra") == find("") == ("", True)


@pytest.mark.parametrize("texts", [(), ("", "?!")])
def test_retrieval_refuses_a_corpus_without_words(tmp_path, texts):
    with pytest.raises(InputError, match="holds no words"):
        opened(corpus(tmp_path, *texts), tmp_path)


@pytest.mark.parametrize("content", ['{"id": 1}\n', "no json\n", '["text"]\n'])
def test_retrieval_names_a_corpus_that_cannot_be_read(tmp_path, content):
    (tmp_path / "c.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"c\.jsonl: cannot be read"):
        opened(Retrieval(type="retrieval", corpus="c.jsonl"), tmp_path)
