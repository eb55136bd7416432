"""One export of a trained student: its files, and the probe that compares them with the student."""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.contract.exports import AnyExport, Gguf, Int4
from engine.contract.models import LlamaCppModel
from engine.errors import ModelError
from engine.inference.chat_template import tokenize_chats
from engine.inference.engine import Chat
from engine.inference.identity import version_in
from engine.inference.llama_cpp_child import LlamaCppChild
from engine.records.export import ExportMetrics, ExportProbe
from engine.students.export import gguf, int4, int8, probe

WEIGHTS = (".safetensors", ".gguf")
CONTEXT = 4096  # tokens of the longest example of a probe


class Order(NamedTuple):
    """What is to be exported, in picklable values."""

    deployment: str
    export: AnyExport
    dtype: str
    """Of the student."""
    student: str
    """Fingerprint of its artifact."""
    examples: Sequence[tuple[Chat, str]]
    """Chats and targets of the probe."""
    packages: str
    """Folder of packages of the exporter."""
    calibration: Sequence[tuple[Chat, str]] = ()
    """Chats and targets of training examples, for an export that is calibrated."""


def make(order: Order, source: Path, target: Path) -> ExportMetrics:
    """Export the student in the folder `source` into the empty folder `target`; return what was measured.

    Raises:
        ModelError: a tool is missing or refuses the model, or the export does not agree with the student.
    """
    started = time.monotonic()
    export = order.export
    for path in source.iterdir():
        if path.suffix not in WEIGHTS and not path.name.endswith(".index.json"):
            shutil.copy(path, target / path.name)
    try:
        if isinstance(export, Gguf):
            made = gguf.write(source, target, export.quantize, order.packages)
            tools = {name: version_in(name, order.packages) or "" for name in gguf.PACKAGES.tools}
        elif isinstance(export, Int4):
            made = int4.write(source, target, export, _calibration(order, source), order.packages)
            tools = {name: version_in(name, order.packages) or "" for name in int4.PACKAGES.tools}
        else:
            linear = int8.write(source, target)
            made = gguf.Quantized({"int8": linear}, 0, None)
            tools = {"compressed-tensors": version_in("compressed-tensors", None) or "none"}
        found = _probe(order, source, target)
    except ModelError as error:
        raise ModelError(f"{order.deployment}: {error}") from None
    require_agreement(order.deployment, found)
    return ExportMetrics(
        deployment=order.deployment, type=export.type, student=order.student, weight_bytes=weight_bytes(target),
        student_weight_bytes=weight_bytes(source), tools=tools, types=made.types, fell_back=made.fell_back,
        bits_per_weight=made.bits_per_weight, probe=found, seconds=round(time.monotonic() - started, 1),
    )  # fmt: skip


def weight_bytes(folder: Path) -> int:
    """Return the size of the weights in `folder`."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in WEIGHTS)


def require_agreement(deployment: str, found: ExportProbe) -> None:
    """Raise ModelError if an export answers another way than its student."""
    if found.agreement < found.wanted:
        raise ModelError(
            f"{deployment}: on {found.tokens} target tokens of {found.examples} validation examples its first choice is the "
            f"student's for {found.agreement:.3f}, expected at least {found.wanted:g}: the file is not the trained model, or its "
            "type is too coarse for it. Choose a finer type, or lower the export's `agreement` to see what the gate says."
        )


def _calibration(order: Order, source: Path) -> list[list[int]]:
    """Return the calibrating examples as token ids, as they were learned."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    return [each.ids for each in probe.build(tokenizer, order.calibration, max_tokens=CONTEXT)]


def _probe(order: Order, source: Path, target: Path) -> ExportProbe:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(target, local_files_only=True, trust_remote_code=False)
    probes = probe.build(tokenizer, order.examples, max_tokens=CONTEXT)
    if not probes:
        raise ModelError(f"none of {len(order.examples)} validation examples can be read, so that the export cannot be probed.")
    same_text_ids = None
    student = probe.TransformersChoices(source, order.dtype)
    if isinstance(order.export, Gguf):
        with _child(target / "model.gguf", order.packages) as child:

            def choices(one: probe.Probe) -> list[int]:
                return child.ask(do="score", ids=one.ids, start=one.start)["first"]

            share, tokens = probe.agreement(probes, student, choices)
            same_text_ids = _same_text_ids(tokenizer, [chat for chat, _ in order.examples], child)
    elif isinstance(order.export, Int4):
        share, tokens = probe.agreement(probes, student, probe.UnpackedChoices(target, order.dtype))
    else:
        share, tokens = probe.agreement(probes, student, probe.TransformersChoices(target, order.dtype))
    return ExportProbe(
        examples=len(probes), tokens=tokens, agreement=round(share, 6), wanted=order.export.agreement, same_text_ids=same_text_ids
    )


@contextlib.contextmanager
def _child(file: Path, packages: str) -> Iterator[LlamaCppChild]:
    model = LlamaCppModel(type="llama_cpp", path=str(file), packages=packages, max_model_len=CONTEXT)
    child = LlamaCppChild(file, model, threads=1)
    try:
        yield child
    finally:
        child.close()


def _same_text_ids(tokenizer: Any, chats: Sequence[Chat], child: LlamaCppChild) -> float:
    """Return the share of `chats` whose rendered text the file's own tokenizer splits into the ids of the template."""
    texts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    pairs = list(zip(tokenize_chats(tokenizer, chats), child.ask(do="tokenize", texts=texts)["ids"], strict=True))
    return round(sum(ids == own for ids, own in pairs) / len(pairs), 6)
