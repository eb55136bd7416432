"""Flows in threads of this process: blocks, batches, actors and partitions as on Ray."""

import pyarrow as pa
import pytest

from engine.contract.profile import Pool
from engine.distributed import gather, in_process, stream

NUMBER = pa.schema([("n", pa.int64())])


@pytest.fixture(autouse=True)
def here():
    with in_process.flows(is_here=True, pool=Pool(actors=2)):
        yield


def numbers(count, blocks):
    return stream.from_items([{"n": number} for number in range(count)], blocks)


def sizes(rows):
    return [len(table) for table in rows.tables()]


@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_merged_parts_are_all_there_in_order_and_one_without_rows_may_lack_the_columns(count):
    parts = [in_process.put(pa.table({"n": [number]}, schema=NUMBER)) for number in range(count)]
    parts.insert(count // 2, in_process.put(pa.table({})))

    def joined(tables):
        return pa.concat_tables([NUMBER.empty_table(), *tables])

    merged = in_process.get(gather.merge(joined, parts, in_process.executor(Pool(actors=2))))
    assert merged["n"].to_pylist() == list(range(count))


def double(rows):
    return pa.table({"n": pa.compute.multiply(rows["n"], 2)})


def twice(rows):
    yield rows
    yield rows


class Counter:
    made = 0

    def __init__(self, add):
        Counter.made += 1
        self.add = add

    def __call__(self, rows):
        return pa.table({"n": [self.add + len(rows)]})


@pytest.mark.parametrize(("count", "blocks", "expected"), [(7, 3, [3, 2, 2]), (2, 2, [1, 1]), (1, 1, [1])])
def test_items_are_cut_evenly_the_first_blocks_get_the_rest(count, blocks, expected):
    assert sizes(numbers(count, blocks)) == expected


def test_functions_run_over_blocks_in_order_and_may_yield():
    rows = stream.apply(stream.apply(numbers(5, 2), double, Pool()), twice, Pool())
    assert [row["n"] for row in rows.iter_rows()] == [0, 2, 4, 0, 2, 4, 6, 8, 6, 8]
    assert rows.count() == 10 and sizes(rows.union(numbers(1, 1))) == [6, 4, 1]


def test_a_class_is_made_once_and_sees_whole_blocks_joined_to_a_batch():
    Counter.made = 0
    seen = stream.apply(numbers(23, 8), Counter, Pool(actors=4), batch=5, add=100)  # blocks of 3 (seven) and 2
    assert [row["n"] for row in seen.iter_rows()] == [105, 101, 105, 101, 105, 101, 105]
    assert Counter.made == 1


def test_rows_of_equal_keys_meet_in_one_block():
    rows = pa.table({"key": ["a", "b", "a", "c", "b", "a", None], "n": range(7)})
    made = stream.apply(numbers(1, 1), lambda _: rows, Pool()).repartition(3, keys=["key"])
    blocks = [set(table["key"].to_pylist()) for table in made.tables()]
    assert len(blocks) == 3 and made.count() == 7
    assert sum(len(keys) for keys in blocks) == len({"a", "b", "c", None})


def test_gather_gives_whole_tables_and_values_of_references():
    def op(rows, none, *, more, many):
        return len(rows) + len(none) + more, in_process.get(many)

    total, listed = gather.run(
        op, (numbers(5, 2), NUMBER), (None, NUMBER), returns=2, more=in_process.put(10), many=[in_process.put(1), in_process.put(2)]
    )
    assert in_process.get([total, listed]) == [15, [1, 2]]


def test_an_error_of_a_function_is_raised_as_it_was():
    def broken(rows):
        raise KeyError("no such column")

    with pytest.raises(KeyError, match="no such column"):
        stream.apply(numbers(4, 2), broken, Pool()).count()
