"""A very small world for the students' tests: a random three-layer Llama, a tokenizer trained on the spot, 60 examples.

`python students_world.py MODE FOLDER NAME ...` trains those students in FOLDER: mode `pipeline` as jobs, at the same time on Ray,
in a driver that can be killed; mode `loop` one after the other in this process, without Ray, and those in BROKEN once more with
interruptions; `unbroken` and `shared` are for the test of other numbers of workers; `remote` trains one of a run behind a URL.
"""

import contextlib
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.contract.contract import Contract
from engine.contract.models import Sampling
from engine.contract.profile import Pool, Profile, Ray, WeightsCache
from engine.contract.specialist import Specialist, TaskUnit
from engine.contract.students import Student
from engine.contract.teachers import Teacher, Teachers
from engine.distributed.session import session
from engine.records.record import Identity
from engine.rows import EXAMPLE, PREFERENCE, content_id, from_rows
from engine.runs.job import Job, JobContext, run_job, run_pipeline
from engine.storage.artifact import ArtifactWriter, RowCounts, load_artifact
from engine.storage.folder import Folder
from engine.students.init.tokenizer import key_of
from engine.students.training import loop
from engine.students.training.checkpoint_state import Progress
from engine.students.training.state import Served, TrainSpec, WorkerContext
from jobs.pipeline import student_job, tokens_job
from tests.line.dashboard import free_port

TURN = "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}"
TEMPLATE = TURN + "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
TRAIN, VALIDATION = 46, 14
SHORT = {
    "epochs": 3,
    "batch_size": 8,
    "micro_batch_size": 4,
    "learning_rate": 3e-3,
    "dtype": "float32",
    "checkpoint_steps": 4,
    "max_tokens": 100,
}
LONG = {**SHORT, "epochs": 6, "learning_rate": 1e-2, "checkpoint_steps": 3, "early_stop": None, "freeze_embeddings": False}
EXACT = {
    **LONG,
    "max_steps": 60,
    "validate_steps": 5,
    "metric": "exact_match",
    "metric_examples": 8,
    "schedule": "wsd",
    "early_stop": {"patience": 2},
}


def student(name: str, **changes: object) -> Student:
    """A student of the very small teacher."""
    prune = {"source": "teacher", "layers": (0, 2)}
    return Student.model_validate({"name": name, "init": {"prune": prune}, **SHORT, **changes})


STUDENTS = (
    student("zero0", zero=0),
    student("zero1", zero=1),
    student("zero2", zero=2),
    student("packed", zero=2, packing=True),
    student("zero3", zero=3, freeze_embeddings=True),
    student("pair", zero=2, workers=2, micro_batch_size=2, seeds=2, keep_seeds=True, metric="exact_match"),
    student("steady", zero=2, freeze_layers=1, **LONG),
    student("coarse", zero=2, dtype="bfloat16", freeze_embeddings=False, early_stop={"patience": 1, "min_delta": 10.0}),
    student("exact", zero=2, **EXACT),
    student("exact3", zero=3, **EXACT),
)
BROKEN = {"exact": (5, 31, 44)}
"""Student -> steps after which its training is interrupted."""
UNIT = TaskUnit(name="copy", kind="extraction")


def build(folder: Path) -> None:
    """Write the teacher and the artifacts `dataset` and `tokens` into `folder`."""
    rows = examples()
    write_teacher(folder / "teacher", [row["messages"][0]["content"] + row["target"] for row in rows])
    writer = ArtifactWriter(Folder(str(folder / "run" / "dataset")))
    writer.put("examples", from_rows(rows, EXAMPLE), EXAMPLE)
    writer.put("preferences", from_rows(preferences(rows), PREFERENCE), PREFERENCE)
    row_counts = RowCounts(len(rows), {"picked": len(rows)})
    writer.finish(Identity("dataset", {}, {}, "0"), row_counts)
    run_job(context_for(folder, tokens_job()))


def examples() -> list[dict]:
    """Short copying tasks; one is too long for `max_tokens`."""
    rows = []
    for number in range(TRAIN + VALIDATION):
        word = "".join("abcdefgh"[(number * step + step) % 8] for step in (1, 3, 5, 7))
        rows.append(
            {
                "example_id": content_id(number),
                "prompt_id": content_id("prompt", number),
                "task_unit": "copy",
                "messages": [{"role": "user", "content": f"say {word}" + " please" * (number % 9)}],
                "target": f"{word}!",
                "final": f"{word}!",
                "rationale": word[:2],
                "kind": "refusal" if number % 5 == 0 else "answer",
                "confidence_tier": number % 3,
                "weight": 1.0 + number % 2,
                "split": "train" if number < TRAIN else "validation",
            }
        )
    rows.append({**rows[0], "example_id": content_id("long"), "target": "abc " * 400})
    return rows


def preferences(rows: list[dict]) -> list[dict]:
    """A pair for every third example: its word backwards is rejected. The second of them has two equal sides."""
    return [
        {
            "pair_id": row["example_id"],
            "prompt_id": row["prompt_id"],
            "task_unit": "copy",
            "prompt": row["messages"],
            "chosen": [{"role": "assistant", "content": row["target"]}],
            "rejected": [{"role": "assistant", "content": row["target"] if number == 1 else row["target"][::-1]}],
            "margin": 0.5,
            "split": row["split"],
        }
        for number, row in enumerate(rows[:-1:3])
    ]


def write_teacher(folder: Path, texts: list[str]) -> None:
    """Write a random three-layer Llama and its tokenizer."""
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(shape).save_pretrained(folder)


def context_for(folder: Path, job: Job) -> JobContext:
    """Return the context of one student's job in `folder`."""
    teacher = Teacher.model_construct(sampling=Sampling(max_tokens=12))
    teachers = Teachers.model_construct(mode="judged", models=(teacher,), tools=())
    contract = Contract.model_construct(
        students=STUDENTS, specialist=Specialist(goal="copy", task_units=(UNIT,)), teachers=teachers
    )
    run = Folder(str(folder / "run"))
    return JobContext(job, contract, profile(), str(folder), str(folder / "models"), run, ArtifactWriter(run / job.name), print)


def profile() -> Profile:
    """Workers that take little, so that all students train at once on a small machine."""
    return Profile(name="test", ray=Ray(num_cpus=8, object_store_gib=0.1), trainer=Pool(cpus=0.5))


def train(folder: Path, names: list[str]) -> None:
    """Train the students `names` at the same time."""
    jobs = [tokens_job(), *(student_job(f"students/{name}") for name in names)]
    run_pipeline(jobs, lambda job: context_for(folder, job), lambda: session(profile()))


def train_remote(folder: Path, arguments: list[str]) -> None:
    """Train a student on Ray whose run folder and source lie behind a URL: arguments are the URL and the student."""
    store, name = arguments
    chosen = next(each for each in STUDENTS if each.name == name)
    assert chosen.init.prune
    prune = chosen.init.prune.model_copy(update={"source": f"{store}/teacher"})
    chosen = chosen.model_copy(update={"init": chosen.init.model_copy(update={"prune": prune})})
    cache = WeightsCache(folder=str(folder / "cache"))

    def context(job: Job) -> JobContext:
        made, run = context_for(folder, job), Folder(f"{store}/run")
        contract = made.contract.model_copy(update={"students": (chosen,)})
        profile = made.profile.model_copy(update={"weights_cache": cache})
        return replace(made, run=run, writer=ArtifactWriter(run / job.name), contract=contract, profile=profile)

    run_pipeline([tokens_job(), student_job(f"students/{name}")], context, lambda: session(profile()))


def spec_for(folder: Path, chosen: Student) -> TrainSpec:
    """Return the specification of the training of `chosen`."""
    tokens = load_artifact(Folder(str(folder / "run" / "tokens")))
    assert tokens is not None
    data = str(folder / "run" / "dataset")
    served = Served({"copy": UNIT}, 12)
    return TrainSpec(chosen, str(folder / "teacher"), data, "cpu", tokens.folder.path, key_of(tokens, chosen), served=served)


def join(rank: int, world: int, port: int) -> None:
    """Make this process worker `rank` of `world`."""
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({name: str(value) for name, value in where.items()}, DS_ACCELERATOR="cpu")
    dist.init_process_group("gloo")


def train_alone(folder: Path, names: list[str]) -> None:
    """Train the students `names` one after the other as the only worker; the last checkpoints land in `folder`/alone."""
    join(0, 1, free_port())
    for chosen in STUDENTS:
        if chosen.name in names:
            run_alone(folder, chosen, "alone", ())
            run_alone(folder, chosen, "broken", BROKEN.get(chosen.name, ()))


def begin() -> None:
    """Make this process the only worker."""
    join(0, 1, free_port())


class Interrupted(Exception):
    """The end of an attempt."""


def run_alone(folder: Path, chosen: Student, kind: str, ends: tuple[int, ...]) -> None:
    """Train `chosen` in this process; an attempt ends after each of the steps `ends`, and the next one resumes."""
    target, attempts = folder / kind / chosen.name, [*ends, 0] if kind == "alone" or ends else []

    def keep(checkpoint: Path) -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(checkpoint, target)

    spec = spec_for(folder, chosen)
    for end in attempts:

        def on_step(progress: Progress, steps: int, end: int = end) -> None:
            if progress.step == end:
                raise Interrupted

        resume = folder / "resume"
        shutil.rmtree(resume, ignore_errors=True)
        if target.exists():
            shutil.copytree(target, resume)
        with contextlib.suppress(Interrupted):
            loop.run(spec, WorkerContext(0, 1, torch.device("cpu"), resume if resume.exists() else None, keep, on_step))


def train_part(folder: Path, chosen: Student, target: Path, resume: Path | None = None, stop: int | None = None) -> None:
    """Train `chosen` in this process, which is one worker, from the checkpoint `resume` on, to step `stop`.

    The last checkpoint lands in `target`, the one of step 4 in `target`-4.
    """
    rank, world = dist.get_rank(), dist.get_world_size()

    def keep(checkpoint: Path) -> None:
        if rank == 0:
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(checkpoint, target)
            if Progress.read(target).step == 4:
                shutil.copytree(target, f"{target}-4", dirs_exist_ok=True)

    def on_step(progress: Progress, steps: int) -> None:
        if progress.step == stop:
            raise StopIteration

    with suppress(StopIteration):
        loop.run(spec_for(folder, chosen), WorkerContext(rank, world, torch.device("cpu"), resume, keep, on_step))


def train_shared(folder: Path, arguments: list[str]) -> None:
    """Be one worker of a training of `shared`: arguments are rank, world, port, ZeRO stage, target, checkpoint, last step."""
    rank, world, port, zero, target, resume, stop = arguments
    join(int(rank), int(world), int(port))
    train_part(folder, shared(int(world), int(zero)), folder / target, folder / resume, int(stop))


def train_unbroken(folder: Path, names: list[str]) -> None:
    """Train `shared` with one worker without a break, and again from the checkpoint of step 4 on."""
    join(0, 1, free_port())
    train_part(folder, shared(1, 0), folder / "unbroken")
    train_part(folder, shared(1, 0), folder / "resumed", folder / "unbroken-4")


def shared(workers: int, zero: int) -> Student:
    """A student whose batch can be shared by 1, 2 and 3 workers."""
    shape = {
        "batch_size": 6,
        "micro_batch_size": 1 if workers > 1 else 6,
        "epochs": 2,
        "early_stop": None,
        "freeze_embeddings": False,
    }
    return student("shared", **{**shape, "workers": workers, "zero": zero})


if __name__ == "__main__":
    modes = {"pipeline": train, "loop": train_alone, "unbroken": train_unbroken, "shared": train_shared, "remote": train_remote}
    modes[sys.argv[1]](Path(sys.argv[2]), sys.argv[3:])
