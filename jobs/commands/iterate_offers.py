"""Rows that may become prompts of a later round: unused rows of the sources, and requests of which the student was not sure.

Both are read once, as a stream. What is held: 200 bytes for each row that an earlier round has read, 8 for each known text, and the
rows that are drawn.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.contract.contract import Contract
from engine.contract.prompts import Column, Normalization, Source
from engine.dedup.minhash import text_keys
from engine.errors import InputError
from engine.prompts import files
from engine.prompts.redact import redact, redact_text
from engine.prompts.sources import prompts
from engine.records.rounds import TrafficShare, WeakSlice
from engine.rounds.quotas import Draw, Offer, matches
from engine.rows import Row, content_id
from engine.serving.record_files import is_records, shards
from engine.storage.artifact import Artifact
from engine.storage.folder import Folder
from engine.storage.shards import iterate

OUTSIDE = "outside the niche"
"""Beginning of the reason of a request that no student should answer: see `engine.serving.cascade`."""
READ = ["unit", "prompt", "reason"]


class Known(NamedTuple):
    """What earlier rounds have read."""

    lines: set[tuple[str, int]]
    """(file, line) of every row: prompts, rejects and copies."""
    texts: set[int]
    """Hashes of the texts of the prompts, copies and the holdout."""


class Requests(NamedTuple):
    """Texts of requests that were chosen, by task unit."""

    texts: dict[str, list[str]]
    share: TrafficShare


def known(rounds: Sequence[Artifact], contract: Contract) -> Known:
    """Return what the `prompts` artifacts of all rounds have read."""
    found = Known(set(), set())
    normalization = contract.prompts.copies.normalization
    for artifact in rounds:
        for name in ("prompts", "holdout", "dropped", "rejects"):
            columns = ["source", "line"] + (["text"] if name != "rejects" else [])
            for piece in iterate(artifact.folder / name, artifact.table(name), columns):
                found.lines.update(zip(piece["source"].to_pylist(), piece["line"].to_pylist(), strict=True))
                if name != "rejects" and piece.num_rows:
                    found.texts.update(text_keys(piece["text"], normalization).tolist())
    return found


def drawn(base: Contract, root: str, known: Known, slices: Sequence[WeakSlice], *, salt: str) -> list[list[Offer]]:
    """Return for each slice the unused rows of the sources that come first in the order of the draw.

    As many for each as all slices together want, for a row may be of several. Rows that cannot be prompts, and texts that are known
    or of the holdout, are passed over; near copies are found by the job `prompts`.

    Raises:
        InputError: a source cannot be read.
    """
    wanted = sum(part.wanted for part in slices)
    draws: list[Draw[Offer]] = [Draw(wanted) for _ in slices]
    for offer, row in _unused(base, root, known):
        for part, draw in zip(slices, draws, strict=True):
            if matches(part, row):
                draw.offer(offer.order(salt), offer)
    return [draw.items() for draw in draws]


def _unused(base: Contract, root: str, known: Known) -> Iterator[tuple[Offer, Row]]:
    section, default = base.prompts, base.specialist.task_units[0].name
    schemas = {unit.name: unit.output.json_schema for unit in base.specialist.task_units}
    for number, source in enumerate(section.sources):
        whole = source.model_copy(update={"take": None})
        opened = files.source_files([("train", source.task_unit or default, whole)], root=root)
        for file in files.with_schemas(opened, schemas):
            for table in prompts(file, max_chars=section.max_chars):
                read = [
                    not reason and (file.source, line) not in known.lines
                    for reason, line in zip(table["reason"].to_pylist(), table["line"].to_pylist(), strict=True)
                ]
                unread = redact(table.filter(pa.array(read, pa.bool_())), section.redact)
                for row in _new(unread, section.copies.normalization, known):
                    yield Offer(number, file.source, row["line"]), row


def _new(rows: pa.Table, normalization: Normalization, known: Known) -> Iterator[Row]:
    if not rows.num_rows:
        return
    keys = text_keys(rows["text"], normalization).tolist()
    columns = rows.select(["line", "task_unit", "layer", "difficulty", "scenario"]).to_pylist()
    for key, row in zip(keys, columns, strict=True):
        if key not in known.texts:
            yield row


def requests(folder: str, base: Contract, known: Known, *, most: int, salt: str) -> Requests:
    """Return at most `most` different texts of requests that were abstained on, or handed on, inside the niche.

    They are redacted as prompts are; the records hold them redacted already.

    Raises:
        InputError: `folder` holds no records.
    """
    path = Path(folder)
    if not is_records(path):
        raise InputError(
            f"--from-traffic {folder}: found no records of requests, expected the folder of `rayleigh serve --records`."
        )
    default, kinds = base.specialist.task_units[0].name, base.prompts.redact
    draw: Draw[tuple[str, str]] = Draw(most)
    rows = unsure = with_text = 0
    new: set[int] = set()
    for table in (pq.read_table(shard, columns=READ) for shard in shards(path)):
        rows += table.num_rows
        reason = pc.fill_null(table["reason"], "")
        asked = table.filter(pc.and_(pc.not_equal(reason, ""), pc.invert(pc.starts_with(reason, OUTSIDE))))
        unsure += asked.num_rows
        kept = asked.filter(pc.is_valid(asked["prompt"]))
        with_text += kept.num_rows
        texts = [redact_text(text, kinds, set()) for text in kept["prompt"].to_pylist()]
        keys = text_keys(pa.chunked_array([texts], pa.string()), base.prompts.copies.normalization).tolist() if texts else []
        for key, text, unit in zip(keys, texts, kept["unit"].to_pylist(), strict=True):
            if text.strip() and key not in known.texts and key not in new:
                new.add(key)
                draw.offer(content_id(salt, text), (unit or default, text))
    chosen: dict[str, list[str]] = {}
    for unit, text in draw.items():
        chosen.setdefault(unit, []).append(text)
    count = sum(map(len, chosen.values()))
    share = TrafficShare(folder=str(path.resolve()), rows=rows, unsure=unsure, with_text=with_text, new=len(new), chosen=count)
    return Requests(chosen, share)


def written_sources(texts: dict[str, list[str]], folder: Folder, base: Contract) -> list[Source]:
    """Write the texts of each task unit to a file in `folder`, and return the sources that read them."""
    several = len(base.specialist.task_units) > 1
    sources = []
    for unit, each in sorted(texts.items()):
        name = f"traffic/{unit}.jsonl"
        # What a model was not sure about is where it fails: the layer says so to synthesis and routes.
        lines = [json.dumps({"input": text, "layer": "failure_mode"}) for text in each]
        folder.write(name, ("\n".join(lines) + "\n").encode(), durable=True)
        columns: dict[Column, str] = {"text": "input", "layer": "layer"}
        path, licence = f"{folder.url}/{name}", base.iterate.traffic_licence
        sources.append(Source(path=path, licence=licence, columns=columns, task_unit=unit if several else None))
    return sources
