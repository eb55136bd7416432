"""The folder that `rayleigh bench scale` measures in: the contract of `bench flow`, made prompts, an encoder that answers at once.

Everything is made of the size alone, so two calls measure the same work.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import yaml

from jobs.bench.flow import FORM, HERE, WORDS, make_prompts

CONTRACT, RUN = "flow.yaml", "run"
CHANGES = ("prompts.sources.0.path=seeds", "curation.semantic.model=encoder", "curation.semantic.threshold=0.9999")
"""Changes of the contract of `bench flow`, of which the dataset is never made: many texts of fifteen words are alike in meaning."""
ROWS_PER_FILE = 25_000  # of a source: a task reads one file, or several small ones
SAMPLE = 1_000  # prompts of which the length is counted
DIMENSIONS = 384  # of the encoder, as those of all-MiniLM-L6-v2


def write_site(site: Path, rows: int) -> None:
    """Write the contract, `rows` prompts and the encoder into `site`."""
    for path in (HERE / CONTRACT, FORM):
        shutil.copy(path, site)
    line = json.dumps({"input": "Please send 3 blue kites."}) + "\n"
    (site / "seeds.jsonl").write_text(line)  # the holdout, of one row
    (site / "seeds").mkdir()
    for number, shard in enumerate(make_prompts(rows, ROWS_PER_FILE)):
        lines = [json.dumps({"input": text}) + "\n" for text in shard["text"].to_pylist()]
        (site / "seeds" / f"part-{number:05d}.jsonl").write_text("".join(lines))
    _write_encoder(site / "encoder")


def text_length() -> float:
    """Return the characters of a prompt and its answer, on average."""
    [shard] = make_prompts(SAMPLE, SAMPLE)
    [teacher] = yaml.safe_load((HERE / CONTRACT).read_text().replace("!include ", ""))["teachers"]["models"]
    [answer] = teacher["model"]["replies"]
    return round(sum(map(len, shard["text"].to_pylist())) / SAMPLE + len(answer), 1)


def _write_encoder(folder: Path) -> None:
    """Write a sentence-transformers model whose vector of a text is the mean of random vectors of its words."""
    from sentence_transformers import SentenceTransformer  # seconds
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[UNK]", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(0).standard_normal((len(words), DIMENSIONS)).astype(np.float32)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors)]).save(str(folder))
    (folder / "config.json").write_text("{}")  # by which a folder of a model is known
