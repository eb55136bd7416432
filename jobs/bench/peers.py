"""Other deduplication libraries on the same corpus, each used as documented: word 5-grams, threshold 0.7, at most two cores.

    PYTHON peers.py NAME CORPUS KEPT      CORPUS: a folder of Parquet with `id` and `text`; KEPT: a file for the ids that stay

PYTHON is an interpreter with the libraries; it need not have Rayleigh, and nothing of Rayleigh is imported here.
"""

# pyright: reportMissingImports=false

import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

NGRAM, THRESHOLD = 5, 0.7
AT_ONCE = 5_000
WORD = re.compile(r"\w+")


def shingles(text: str) -> list[str]:
    """Return the word n-grams of `text`; the whole of a shorter one."""
    words = WORD.findall(text.lower())
    return [" ".join(words[start : start + NGRAM]) for start in range(max(1, len(words) - NGRAM + 1))]


def batches(corpus: str) -> Iterator[tuple[list[int], list[str]]]:
    """Yield ids and texts."""
    table = pq.read_table(corpus, columns=["id", "text"])
    for start in range(0, len(table), AT_ONCE):
        part = table.slice(start, AT_ONCE)
        yield part["id"].to_pylist(), part["text"].to_pylist()


def rensa(corpus: str) -> pa.Array:
    """https://github.com/beowolx/rensa: its deduplicator, in one process."""
    import rensa

    deduplicator, kept = rensa.RMinHashDeduplicator(threshold=THRESHOLD, num_perm=128, use_lsh=True, num_bands=16), []
    for ids, texts in batches(corpus):
        is_new = deduplicator.add_pairs((str(number), shingles(text)) for number, text in zip(ids, texts, strict=True))
        kept += [number for number, new in zip(ids, is_new, strict=True) if new]
    return pa.array(kept, pa.int64())


def datasketch(corpus: str) -> pa.Array:
    """https://github.com/ekzhu/datasketch: a text that its index does not match stays."""
    from datasketch import MinHash, MinHashLSH
    from xxhash import xxh32_intdigest

    index, kept = MinHashLSH(threshold=THRESHOLD, num_perm=112, params=(14, 8)), []
    for ids, texts in batches(corpus):
        signed = MinHash.generator(
            ({gram.encode() for gram in shingles(text)} for text in texts), num_perm=112, hashfunc=xxh32_intdigest
        )
        for number, signature in zip(ids, signed, strict=True):
            if not index.query(signature):
                index.insert(number, signature, check_duplication=False)
                kept.append(number)
    return pa.array(kept, pa.int64())


def datatrove(corpus: str) -> pa.Array:
    """https://github.com/huggingface/datatrove: its four stages on two processes, with words split at white space."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers.parquet import ParquetWriter
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Spaces(WordTokenizer):
        def word_tokenize(self, text):
            return text.split()

        def sent_tokenize(self, text):
            return [text]

        def span_tokenize(self, text):
            return [(0, len(text))]

    def _row(self, document):
        return {"id": int(document.id), "text": document.text}

    config = MinhashConfig(
        hash_config=HashConfig(precision=64, hash_fc="xxhash"), n_grams=NGRAM, num_buckets=14, hashes_per_bucket=8
    )
    tasks = len(list(Path(corpus).glob("*.parquet")))
    with tempfile.TemporaryDirectory() as work:
        read = ParquetReader(corpus, text_key="text", id_key="id", glob_pattern="*.parquet")
        stages = [
            ([read, MinhashDedupSignature(f"{work}/signed", config=config, language=Spaces())], tasks),
            ([MinhashDedupBuckets(f"{work}/signed", f"{work}/buckets", config=config)], config.num_buckets),
            ([MinhashDedupCluster(f"{work}/buckets", f"{work}/lost", config=config)], 1),
            ([read, MinhashDedupFilter(f"{work}/lost"), ParquetWriter(f"{work}/kept", adapter=_row)], tasks),
        ]
        for number, (steps, count) in enumerate(stages):
            LocalPipelineExecutor(pipeline=steps, tasks=count, workers=2, logging_dir=f"{work}/log{number}").run()
        return pq.read_table(f"{work}/kept", columns=["id"])["id"].cast(pa.int64())


def datajuicer(corpus: str) -> pa.Array:
    """https://github.com/datajuicer/data-juicer: its MinHash with a distributed union-find, on Ray."""
    import ray
    from data_juicer.ops.deduplicator.ray_bts_minhash_deduplicator import RayBTSMinhashDeduplicator

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as work:
        deduplicator = RayBTSMinhashDeduplicator(
            tokenization="space", window_size=NGRAM, lowercase=True, ignore_pattern=r"\p{P}", num_permutations=112,
            jaccard_threshold=THRESHOLD, num_bands=14, num_rows_per_band=8, work_dir=work,
        )  # fmt: skip
        deduplicator.run(ray.data.read_parquet(corpus)).write_parquet(f"{work}/kept")
        return pq.read_table(f"{work}/kept", columns=["id"])["id"]


PEERS = {"rensa": rensa, "datasketch": datasketch, "datatrove": datatrove, "data_juicer": datajuicer}  # package -> its use


def main() -> None:
    """Print the names of the installed libraries, or run one."""
    if sys.argv[1:] == []:
        print(*(name for name in PEERS if find_spec(name)))
        return
    name, corpus, kept = sys.argv[1:]
    pq.write_table(pa.table({"id": PEERS[name](corpus)}), kept)


if __name__ == "__main__":
    main()
