"""LoRA on the default teacher itself: its optimizer is small, and merged it answers mails of the holdout as it does unmerged.

Some minutes of two cores, and 2.5 GiB.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from engine.contract.students import Student
from engine.inference.locate import locate
from engine.students.data import preflight
from engine.students.export import adapter, huggingface
from engine.students.init.initial import initial
from engine.students.init.prune import parameters
from jobs.places import models_home

pytestmark = [pytest.mark.modes, pytest.mark.timeout(1200)]
MAILS = Path(__file__).parents[2] / "jobs" / "contracts" / "order_mail"
STEPS, BATCH, EVERY, LONGEST = 10, 4, 4, 48  # every fourth mail of the holdout; tokens of an answer
NUMBERS_PER_WEIGHT = 2  # of Adam: the two moments
CLOSE = 1e-3  # logits nearer to each other than this are one number in float32 after thirty layers


@pytest.fixture(scope="module", autouse=True)
def all_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


def mails(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (MAILS / f"{name}.jsonl").read_text().splitlines()]


def prompt(tokenizer: Any, text: str) -> list[int]:
    chat = [{"role": "system", "content": "Fill in the form."}, {"role": "user", "content": text}]
    [ids] = preflight.tokenize_chats(tokenizer, [chat])
    assert isinstance(ids, list)
    return ids


def train(pruned: Any) -> int:
    """Make a few steps on answered mails; return the bytes of the optimizer's state."""
    tokenizer, model = pruned.tokenizer, pruned.model.train()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer, rows = torch.optim.AdamW(trained, lr=2e-3), mails("shots")
    for step in range(STEPS):
        for row in rows[step * BATCH : (step + 1) * BATCH]:
            head = prompt(tokenizer, row["input"])
            ids = torch.tensor([[*head, *tokenizer(row["output"])["input_ids"], tokenizer.eos_token_id]])
            labels = ids.clone()
            labels[0, : len(head)] = -100
            (model(input_ids=ids, labels=labels).loss / BATCH).backward()
        optimizer.step()
        optimizer.zero_grad()
    states = [tensor for state in optimizer.state.values() for tensor in state.values() if tensor.dim()]
    assert sum(tensor.numel() for tensor in states) == NUMBERS_PER_WEIGHT * sum(each.numel() for each in trained)
    return sum(tensor.nbytes for tensor in states)


def greedy(model: Any, tokenizer: Any, prompts: list[list[int]]) -> list[list[int]]:
    """The greedy answers, in batches of prompts of similar length, padded on the left."""
    found: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    for start in range(0, len(order), 16):
        places = order[start : start + 16]
        width = len(prompts[places[-1]])
        ids = torch.tensor([[0] * (width - len(prompts[at])) + prompts[at] for at in places])
        mask = torch.tensor([[0] * (width - len(prompts[at])) + [1] * len(prompts[at]) for at in places])
        made = model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=LONGEST, pad_token_id=tokenizer.eos_token_id
        )
        for at, row in zip(places, made[:, width:].tolist(), strict=True):
            found[at] = row[: row.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in row else row
    return found


def test_lora_on_the_teacher_is_small_to_train_and_answers_alike_merged_and_unmerged(tmp_path: Path) -> None:
    source = locate("smollm2-135m-instruct", root=".", home=models_home())
    section = {"init": {"model": {"source": "smollm2-135m-instruct"}, "adapter": {"rank": 16, "merge": False}}}
    spec: Any = SimpleNamespace(student=Student.model_validate({"name": "s", "dtype": "float32", **section}), source_folder=source)
    pruned = initial(spec)
    whole = NUMBERS_PER_WEIGHT * 4 * pruned.source_parameters  # Adam in float32 over all weights of the teacher
    assert pruned.source_parameters > 130_000_000 and parameters(pruned.model) > pruned.source_parameters
    own = train(pruned)
    assert own <= whole / 20, f"{own} bytes of {whole}"

    weights = {huggingface.PREFIX + name: tensor for name, tensor in pruned.model.state_dict().items()}
    huggingface.write(pruned, weights, tmp_path / "model", dtype="float32")
    huggingface.write_base(pruned, tmp_path / "base", dtype="float32")
    tokenizer = pruned.tokenizer
    del pruned, weights
    prompts = [prompt(tokenizer, row["input"]) for row in mails("holdout")[::EVERY]]
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    found = greedy(merged, tokenizer, prompts)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    unmerged = PeftModel.from_pretrained(base, str(tmp_path / "model" / adapter.FOLDER)).eval()
    expected = greedy(unmerged, tokenizer, prompts)
    differ = [at for at, answer in enumerate(expected) if answer != found[at]]
    for at in differ:  # only where two tokens are equally likely as far as float32 tells
        same = next(
            place for place, (ours, theirs) in enumerate(zip([*found[at], -1], [*expected[at], -1], strict=False)) if ours != theirs
        )
        with torch.no_grad():
            last = unmerged(input_ids=torch.tensor([prompts[at] + expected[at][:same]])).logits[0, -1]
        first, second = last.topk(2).values.tolist()
        assert first - second < CLOSE, tokenizer.decode(prompts[at])
    print(f"{len(prompts)} mails, {len(differ)} differ at a tie; optimizer {own / 2**20:.0f} of {whole / 2**20:.0f} MiB")
    assert len(differ) <= len(prompts) // 100
    with unmerged.disable_adapter():
        assert greedy(unmerged, tokenizer, prompts[:8]) != expected[:8]  # the adapter has learned something
