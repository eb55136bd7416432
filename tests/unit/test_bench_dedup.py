"""The corpus with planted copies, and a peer on it."""

import itertools
import subprocess
import sys

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from jobs.bench import corpus, peers

ROWS = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "corpus"
    corpus.write(folder, ROWS)
    return folder


@pytest.fixture(scope="module")
def rows(folder):
    return ds.dataset(folder).to_table().sort_by("id").to_pylist()


def jaccard(one, other):
    left, right = set(peers.shingles(one)), set(peers.shingles(other))
    return len(left & right) / len(left | right)


def test_corpus_of_a_size_is_always_the_same(folder, tmp_path):
    corpus.write(tmp_path / "again", ROWS)
    assert ds.dataset(tmp_path / "again").to_table().equals(ds.dataset(folder).to_table())


def test_copies_resemble_their_original_and_nothing_else_resembles_anything(rows):
    copies = [row for row in rows if row["cluster"] not in (-1, row["id"])]
    assert 0.15 * ROWS < len(copies) < 0.35 * ROWS
    assert all(jaccard(row["text"], rows[row["cluster"]]["text"]) >= 0.8 for row in copies)
    alone = [row["text"] for row in rows if row["cluster"] == -1]
    assert max(jaccard(one, other) for one, other in itertools.pairwise(alone)) < 0.1


def test_peer_is_listed_where_it_is_installed_and_keeps_one_of_each_cluster(folder, rows, tmp_path):
    said = subprocess.run([sys.executable, peers.__file__], capture_output=True, text=True, check=True).stdout
    assert "datasketch" in said.split()
    subprocess.run([sys.executable, peers.__file__, "datasketch", str(folder), str(tmp_path / "kept")], check=True)
    kept = set(pq.read_table(tmp_path / "kept")["id"].to_pylist())
    clusters = {row["cluster"] for row in rows if row["cluster"] >= 0}
    assert clusters == {row["cluster"] for row in rows if row["cluster"] >= 0 and row["id"] in kept}
    assert {row["id"] for row in rows if row["cluster"] == -1} <= kept
