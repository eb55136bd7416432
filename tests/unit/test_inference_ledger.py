"""The ledger of paid work: what was recorded is found, once, whoever died in between, by few reads and in few files."""

from itertools import chain

import pyarrow as pa
import pytest

from engine.errors import StorageError
from engine.inference import ledger as ledgers
from engine.inference.ledger import Ledger
from engine.rows import content_id
from engine.storage.folder import Folder

SCHEMA = pa.schema([("answer_id", pa.string()), ("prompt_id", pa.string()), ("text", pa.string())])


@pytest.fixture
def reads(monkeypatch):
    """Paths of the files that ledgers have opened."""
    paths = []
    opened = ledgers.read_shard
    monkeypatch.setattr(ledgers, "read_shard", lambda folder, shard: paths.append(shard.path) or opened(folder, shard))
    return paths


def ledger(folder):
    return Ledger(folder, SCHEMA, key="answer_id", partition_key="prompt_id")


def rows(numbers, said="text"):
    numbers = list(numbers)
    prompts = [content_id(n) for n in numbers]
    ids = [content_id("answer", n) for n in numbers]
    return pa.table({"answer_id": ids, "prompt_id": prompts, "text": [f"{said} {n}" for n in numbers]}, SCHEMA)


def ordered(count):
    """Numbers 0 to `count` in the order of their prompts' ids, as the shards of a large artifact have them."""
    return sorted(range(count), key=content_id)


def texts(table):
    return sorted(table["text"].to_pylist())


def find(book, numbers):
    wanted = rows(numbers)
    with book.block(wanted["prompt_id"].to_pylist()):
        return texts(book.find(wanted["answer_id"].to_pylist()))


def pay(folder, *batches):
    """Work on one block of several batches to its end."""
    book = ledger(folder)
    with book.block(rows(chain(*batches))["prompt_id"].to_pylist()):
        for batch in batches:
            book.record(rows(batch))


class Killed(BaseException):
    """The process is gone."""


def die_after(folder, *batches):
    """Work on a block of several batches and be killed before its end."""
    book = ledger(folder)
    with pytest.raises(Killed), book.block(rows(chain(*batches))["prompt_id"].to_pylist()):
        for batch in batches:
            book.record(rows(batch))
        raise Killed


def test_ledger_that_is_new_finds_nothing(folder):
    assert find(ledger(folder), [1, 2]) == []


def test_ledger_finds_what_another_process_recorded_and_nothing_else(folder):
    pay(folder, [1, 2, 3])
    assert find(ledger(folder), [2, 3, 4]) == ["text 2", "text 3"]


def test_ledger_finds_in_a_block_what_it_has_just_recorded(folder):
    book = ledger(folder)
    with book.block(rows([1, 2])["prompt_id"].to_pylist()):
        book.record(rows([1]))
        assert texts(book.find(rows([1, 2])["answer_id"].to_pylist())) == ["text 1"]


def test_ledger_of_a_killed_process_has_every_batch_that_was_recorded(folder):
    die_after(folder, [1, 2], [3, 4])
    assert find(ledger(folder), [1, 2, 3, 4, 5]) == ["text 1", "text 2", "text 3", "text 4"]


def test_ledger_row_recorded_twice_is_found_once(folder):
    die_after(folder, [1, 2])
    die_after(folder, [2, 3])  # the batch in flight at a crash, cut otherwise
    assert find(ledger(folder), [1, 2, 3]) == ["text 1", "text 2", "text 3"]


def test_ledger_equal_batch_recorded_twice_is_stored_once(folder):
    die_after(folder, [1, 2])
    die_after(folder, [1, 2])
    assert len(folder.files()) == 1


def test_ledger_block_that_is_done_is_one_file(folder):
    die_after(folder, [1, 2], [3, 4])
    pay(folder, [1, 2, 3, 4], [5, 6])
    assert len(folder.files()) == 1
    assert find(ledger(folder), [1, 2, 3, 4, 5, 6]) == [f"text {n}" for n in range(1, 7)]


@pytest.mark.parametrize("step", range(4))
def test_ledger_killed_while_it_folds_loses_nothing(tmp_path, monkeypatch, step):
    """Folding three files writes one and removes three: die before each of these steps."""
    folder = Folder(str(tmp_path))
    die_after(folder, [1], [2], [3])
    left = iter(range(step))

    def dying(act):
        def step_or_die(*given, **named):
            if next(left, None) is None:
                raise Killed
            return act(*given, **named)

        return step_or_die

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(ledgers, "write_shard", dying(ledgers.write_shard))
        patch.setattr(Folder, "remove_file", dying(Folder.remove_file))
        find(ledger(folder), [1, 2, 3])
    assert find(ledger(folder), [1, 2, 3]) == ["text 1", "text 2", "text 3"]
    assert len(folder.files()) == 1


def test_ledger_file_that_another_process_folds_while_it_is_read_is_found_in_its_new_place(tmp_path, monkeypatch):
    folder = Folder(str(tmp_path))
    die_after(folder, [1], [2], [3])
    opened, others = ledgers.read_shard, iter([lambda: find(ledger(folder), [1, 2, 3])])

    def read_late(folder, shard):
        next(others, lambda: None)()
        return opened(folder, shard)

    monkeypatch.setattr(ledgers, "read_shard", read_late)
    assert find(ledger(folder), [1, 2, 3]) == ["text 1", "text 2", "text 3"]


def test_ledger_two_processes_that_fold_the_same_block_lose_nothing(folder):
    die_after(folder, [1], [2])
    one, other = ledger(folder), ledger(folder)
    places = rows([1, 2, 3, 4])["prompt_id"].to_pylist()
    with one.block(places):
        one.record(rows([3]))
        with other.block(places):
            other.record(rows([4]))
    assert find(ledger(folder), [1, 2, 3, 4]) == [f"text {n}" for n in range(1, 5)]


def test_ledger_damaged_file_is_an_error_and_no_endless_search(tmp_path):
    folder = Folder(str(tmp_path))
    pay(folder, [1])
    folder.write(folder.files()[0], b"no parquet")
    with pytest.raises(StorageError, match="damaged"):
        find(ledger(folder), [1])


def test_ledger_run_again_in_other_blocks_finds_all(tmp_path):
    """Another run with other prompts, or another profile, cuts its blocks elsewhere."""
    folder, numbers = Folder(str(tmp_path)), ordered(600)
    for start in range(0, 600, 60):
        pay(folder, numbers[start : start + 30], numbers[start + 30 : start + 60])
    expected = {n: f"text {n}" for n in range(900)}
    for size in (25, 100, 600):
        for start in range(0, 600, size):
            wanted = numbers[start : start + size]
            assert find(ledger(folder), wanted) == sorted(expected[n] for n in wanted)
    assert find(ledger(folder), range(900)) == sorted(expected[n] for n in range(600))  # any order, and some never paid


def test_ledger_of_many_blocks_has_one_file_a_block_and_reads_its_own(tmp_path, reads):
    folder, numbers, size = Folder(str(tmp_path)), ordered(4000), 100
    blocks = [numbers[start : start + size] for start in range(0, 4000, size)]
    for block in blocks:
        pay(folder, block[:50], block[50:])
    assert reads == []  # a fresh run reads nothing, not even what it has just written
    assert len(folder.files()) == len(blocks)
    for block in blocks:
        assert len(find(ledger(folder), block)) == size
    assert len(reads) <= 2 * len(blocks)


def test_ledger_of_two_teachers_on_one_block_keeps_both(tmp_path):
    folder = Folder(str(tmp_path))
    pay(folder, [1, 2])
    other = rows([1, 2], said="other").set_column(0, "answer_id", pa.array(["x", "y"]))
    book = ledger(folder)
    with book.block(other["prompt_id"].to_pylist()):
        book.record(other)
    assert find(ledger(folder), [1, 2]) == ["text 1", "text 2"]
    with book.block(other["prompt_id"].to_pylist()):
        assert texts(book.find(["x", "y"])) == ["other 1", "other 2"]
