"""The command and its engine, in threads and on a real cluster: what stays never depends on how the work was cut, or where."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import data_world
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.profile import Ray
from engine.dedup import corpus, job, plan
from engine.dedup.signature import Documents, SignedBlock
from engine.errors import InputError, StorageError
from engine.records.dedup import DedupSummary
from engine.storage.artifact import ArtifactWriter
from engine.storage.folder import Folder
from jobs.commands import dedup
from jobs.commands.dedup import Options

pytestmark = pytest.mark.usefixtures("executor")

ROOT = Path(__file__).parents[2]

WORDS = [f"w{n}" for n in range(3000)]


def documents(count=400):
    """Rows of which a third are copies: exact, near, and boilerplate that all have."""
    rng = random.Random(1)
    rows: list[dict] = []
    for n in range(count):
        words = rng.choices(WORDS, k=60)
        if n % 6 == 1:
            words = rows[rng.randrange(len(rows))]["text"].lower().split()
        elif n % 6 == 2:
            words = rows[rng.randrange(len(rows))]["text"].split()
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        elif n % 6 == 3 and n % 4 == 3:
            words = [*WORDS[:60], rng.choice(WORDS)]
        rows.append({"id": f"{rng.getrandbits(60):015x}", "text": " ".join(words), "score": n % 7})
    return rows


ROWS = documents()


def put(folder: Path, rows, *, files=3, lines=False) -> str:
    folder.mkdir(parents=True)
    for number in range(files):
        mine = rows[number::files]
        if lines:
            (folder / f"{number:03d}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mine))
        else:
            pq.write_table(pa.Table.from_pylist(mine, schema=pa.Table.from_pylist(rows).schema), folder / f"{number:03d}.parquet")
    return str(folder)


def beside(output: Path) -> Path:
    """Return the folder of the tables that belong to an output."""
    return output.parent / dedup.SIDE / output.name


def run(source: str, output: Path, *, workers: int = 2, ray: Ray | None = None, **options):
    """Run the command; return the ids that stay, what the others lost to, and the summary."""
    profile = output.parent / f"{output.name}.profile.yaml"
    ray = (ray or data_world.PROFILE.ray).model_dump(exclude_none=True)
    profile.write_text(json.dumps({"name": "some", "cpu": {"actors": workers, "cpus": 1}, "ray": ray}))
    found = dedup.dedup(source, str(output), Options(**options), profile=str(profile))
    parts = [pq.read_table(path) for path in sorted(output.glob("part-*.parquet"))]
    kept = [one for part in parts for one in part["id"].to_pylist()] if parts and "id" in parts[0].column_names else parts
    lost = pq.read_table(beside(output) / "duplicates.parquet").to_pylist()
    assert DedupSummary.model_validate_json((beside(output) / dedup.SUMMARY).read_text()) == found
    assert found.rows == found.kept + sum(found.duplicates.values()) + sum(found.rejected.values())
    return kept, {row["id"]: row["duplicate_of"] for row in lost}, found


@pytest.fixture(scope="module")
def made(executor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dedup")
    return run(put(folder / "in", ROWS), folder / "out")


def test_dedup_keeps_one_of_each_component_and_names_it_for_the_rest(made):
    kept, lost, found = made
    assert found.duplicates["exact"] > 20 and found.duplicates["minhash"] > 40
    assert set(kept) | set(lost) == {row["id"] for row in ROWS} and not set(kept) & set(lost)
    assert set(lost.values()) <= set(kept) and all(rep < one for one, rep in lost.items())
    texts = {row["id"]: row["text"].split() for row in ROWS}
    assert all(len(set(texts[one]) & set(texts[rep])) > 30 for one, rep in lost.items())


@pytest.mark.parametrize(("files", "lines", "workers"), [(1, True, 1), (3, False, 4), (300, False, 2)])
def test_dedup_is_the_same_for_any_order_files_parts_and_number_of_workers(made, tmp_path, monkeypatch, files, lines, workers):
    for name, value in {"KEYS_PER_TASK": 900, "NODES_PER_TASK": 150, "EDGES_IN_ONE_TASK": 0}.items():
        monkeypatch.setattr(plan, name, value)
    monkeypatch.setattr(corpus, "BLOCK_ROWS", 100)
    rows = random.Random(files).sample(ROWS, len(ROWS))
    kept, lost, _ = run(put(tmp_path / "in", rows, files=files, lines=lines), tmp_path / "out", workers=workers)
    assert (sorted(kept), lost) == (sorted(made[0]), made[1])


def test_dedup_by_meaning_joins_what_is_said_in_other_words(tmp_path):
    said = [
        ("a", "Could you please send me three blue kites to my home address?"),
        ("b", "Please send three blue kites to my home address."),
        ("c", "please send three  blue kites to my home address."),
        ("d", "The invoice for the garden hoses was wrong, I want my money back."),
    ]
    source = put(tmp_path / "in", [{"id": one, "text": text} for one, text in said], files=2)
    kept, lost, found = run(source, tmp_path / "out", method="semantic", threshold=0.85)
    assert (kept, lost) == (["a", "d"], {"b": "a", "c": "a"})
    assert found.duplicates == {"semantic": 2}
    similarity = pq.read_table(beside(tmp_path / "out") / "duplicates.parquet")["similarity"].to_pylist()
    assert all(0.85 <= one < 1 for one in similarity)

    later = put(tmp_path / "later", [{"id": "e", "text": said[1][1] + " Thanks!"}, {"id": "f", "text": "Where is my parcel?"}])
    index, options = str(tmp_path / "index"), {"method": "semantic", "threshold": 0.85}
    assert run(source, tmp_path / "first", index=index, **options)[:2] == (kept, lost)
    assert run(later, tmp_path / "second", index=index, **options)[:2] == (["f"], {"e": "a"})
    assert run(later, tmp_path / "beside", against=source, **options)[:2] == (["f"], {"e": "a"})


def test_threads_give_what_ray_gives(cluster, tmp_path):
    source, both = put(tmp_path / "in", ROWS), {}
    for name, ray in (("threads", Ray(address="none")), ("ray", Ray(in_process_gib=0))):
        run(source, tmp_path / name, ray=ray)
        both[name] = [
            *((path.name, path.read_bytes()) for path in sorted((tmp_path / name).glob("part-*"))),
            (beside(tmp_path / name) / "duplicates.parquet").read_bytes(),
        ]
    assert both["threads"] == both["ray"]


def test_dedup_is_the_same_if_a_worker_is_killed(made, executor, tmp_path, monkeypatch):
    if executor != "ray":
        pytest.skip("threads end with their process: see the test of a killed command")
    marker = tmp_path / "died"

    @dataclass(frozen=True)
    class Mortal(Documents):
        """A block; the first process that reads one is killed."""

        def signed(self) -> SignedBlock:
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return Documents.signed(self)

    monkeypatch.setattr(job, "Documents", Mortal)
    kept, lost, _ = run(put(tmp_path / "in", ROWS), tmp_path / "out")
    assert marker.exists() and (kept, lost) == made[:2]


@pytest.mark.parametrize("seconds", [0, 0.005, 0.02])
def test_a_command_that_is_killed_leaves_nothing_that_is_taken_for_whole(made, executor, tmp_path, seconds):
    if executor == "ray":
        pytest.skip("a driver writes in the same way")
    source, output = put(tmp_path / "in", ROWS), tmp_path / "out"
    building = Path(ArtifactWriter(Folder(str(output))).folder.path)
    command = [sys.executable, "-m", "jobs.cli", "dedup", source, str(output)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not building.exists():
        time.sleep(0.001)
    time.sleep(seconds)
    process.kill()
    process.wait()
    if output.exists():  # it was done before
        assert sorted(pq.read_table(output)["id"].to_pylist()) == sorted(made[0])
    else:
        assert run(source, output)[:2] == made[:2]


def test_ten_batches_one_after_the_other_end_with_the_clusters_of_one_pass(made, tmp_path):
    kept: list[str] = []
    edges: dict[str, str] = {}
    for number in range(10):
        source = put(tmp_path / f"in{number}", ROWS[number::10], files=2)
        stays, lost, found = run(source, tmp_path / f"out{number}", index=str(tmp_path / "index"))
        assert found.rows == 40
        kept += stays
        edges |= lost
    assert clusters(edges) == clusters(made[1])
    assert set(kept) >= {row["id"] for row in ROWS} - set(edges)
    with pytest.raises(InputError, match="found the id"):
        run(str(tmp_path / "in0"), tmp_path / "again", index=str(tmp_path / "index"))


def clusters(lost: dict[str, str]) -> set[frozenset[str]]:
    """The sets of ids that are joined by who lost to whom."""
    group: dict[str, set[str]] = {}
    for one, rep in lost.items():
        joint = group.get(one, {one}) | group.get(rep, {rep})
        group.update(dict.fromkeys(joint, joint))
    return {frozenset(joint) for joint in group.values()}


def test_rows_against_which_is_compared_win_and_are_not_written(made, tmp_path):
    old = [row | {"id": f"old{n}"} for n, row in enumerate(ROWS[:50])]
    kept, lost, found = run(put(tmp_path / "in", ROWS), tmp_path / "out", against=put(tmp_path / "old", old))
    assert found.rows == len(ROWS) and not any(one.startswith("old") for one in [*kept, *lost])
    assert all(lost[row["id"]].startswith("old") for row in ROWS[:50])


def test_dedup_keeps_what_it_is_told_to(tmp_path):
    rows = [
        {"id": n, "text": text, "good": n == 2} for n, text in enumerate(["A b", "a  b", "a b", "A   B", None, "", "\U0001f600"])
    ]
    kept, lost, found = run(put(tmp_path / "in", rows, files=1), tmp_path / "out", method="exact", keep=("good", "longest"))
    assert lost == {0: 2, 1: 2, 3: 2, 5: 4} and kept == [2, 4, 6] and found.duplicates == {"exact": 4}


@pytest.mark.parametrize("lines", [False, True])
def test_real_text_behaves(tmp_path, lines):
    rng = random.Random(3)
    long = " ".join(rng.choices(WORDS, k=1_900_000))
    chinese = "".join(chr(0x4E00 + rng.randrange(3000)) for _ in range(80))
    arabic = " ".join("".join(chr(0x0621 + rng.randrange(26)) for _ in range(5)) for _ in range(60))
    pairs = {  # a text, and a near or equal copy of it
        "long": (long, long.replace("w7 ", "w8 ", 9)),
        "chinese": (chinese, chinese[:40] + "\u3002" + chinese[40:]),
        "arabic": (arabic, arabic + " \u0633\u0644\u0627\u0645"),
        "emoji": ("\U0001f600\U0001f680", " \U0001f600\U0001f680\n"),
        "control": ("a\x00b\x07c", "A\x00B\x07C"),
        "one word": ("yes", "Yes "),
        "empty": ("", None),
    }
    others = ["\U0001f600", "abc", "no", "\x07", chinese[::-1], arabic[::-1]]
    assert len(long) > 10_000_000
    rows = [{"id": f"{name} {copy}", "text": text} for name, both in pairs.items() for copy, text in enumerate(both)]
    rows += [{"id": f"other {number}", "text": text} for number, text in enumerate(others)]
    _, lost, _ = run(put(tmp_path / "in", rows, files=2, lines=lines), tmp_path / "out")
    assert lost == {f"{name} 1": f"{name} 0" for name in pairs}


def test_numbers_are_compared_as_they_are_written(tmp_path):
    rows = [{"id": number, "text": value} for number, value in enumerate([1.5, 2.25, 1.5, None])]
    assert run(put(tmp_path / "in", rows, files=1), tmp_path / "out")[1] == {2: 0}


def test_rows_without_an_id_are_called_by_file_and_row(tmp_path):
    rows = [{"body": text} for text in ("same text", "other", "same  TEXT")]
    _, lost, _ = run(put(tmp_path / "in", rows, files=1, lines=True), tmp_path / "out", text_column="body")
    assert lost == {"000.jsonl:2": "000.jsonl:0"}


def test_what_cannot_be_used_stops_and_leaves_nothing(tmp_path):
    source = put(tmp_path / "in", [*ROWS[:5], ROWS[0] | {"text": "other"}])
    with pytest.raises(InputError, match=f"found the id '{ROWS[0]['id']}' more than once"):
        run(source, tmp_path / "out")
    listed = put(tmp_path / "lists", [{"id": "a", "text": ["no", "text"]}], files=1)
    with pytest.raises(InputError, match=r"column 'text' is list<element: string>, expected text or numbers"):
        run(listed, tmp_path / "out")
    bad = Path(put(tmp_path / "bad", ROWS[:5], files=1, lines=True))
    (bad / "000.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="cannot be read"):
        run(str(bad), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(StorageError, match="is not empty"):
        run(source, tmp_path / "full")


def test_output_is_a_data_set_and_bad_rows_are_counted_beside_it(tmp_path):
    source = Path(put(tmp_path / "in", [{"id": "a", "text": "one"}, {"id": "b", "text": "One"}], files=1, lines=True))
    with (source / "000.jsonl").open("a") as file:  # more than the first MiB, from which types are taken, then another type
        file.writelines(json.dumps({"id": f"n{number}", "text": f"{number} " * 400}) + "\n" for number in range(2000))
        file.write('{"id": 7, "text": "two", "more": [1]}\nbroken\n')
    kept, lost, found = run(str(source), tmp_path / "out")
    assert lost["b"] == "a" and "7" in kept and found.rejected == {"unreadable": 1}
    rejects = pq.read_table(beside(tmp_path / "out") / "rejects").to_pylist()
    assert [(row["source"], row["line"]) for row in rejects] == [("000.jsonl", 2004)]
    assert sorted(pq.read_table(tmp_path / "out")["id"].to_pylist()) == sorted(kept)
    again, _, found = run(str(tmp_path / "out"), tmp_path / "again")
    assert again == kept and found.rows == len(kept)
