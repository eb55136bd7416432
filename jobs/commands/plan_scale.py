"""`rayleigh plan --rows N`: what a run of N prompts takes on the cluster of a profile, stage by stage.

Tokens come from the pilot of `rayleigh plan`; CPU, bytes, files and memory from lines that `rayleigh bench scale` has measured;
engine hours from a speed that the caller gives: a pilot of a few prompts does not fill an engine, and its record does not say on
which GPU it ran. Every number names its basis; what is not known is null, and in no sum. `--json` prints a `ScalePlan`
(engine/records/scale.py).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.contract.budget import CAPTURE
from engine.contract.consumers import Consumer, consumers
from engine.contract.contract import Contract
from engine.contract.profile import Pool, Profile, load_profile
from engine.distributed.capacity import captured
from engine.errors import InputError
from engine.readers.columns import did_you_mean
from engine.records.scale import Figure, ScalePlan, StageCost
from jobs import places, workspace
from jobs.commands import estimate, plan
from jobs.commands.estimate import Extrapolation, Pilot
from jobs.commands.scale_cost import HOUR, Costs, Shape
from jobs.commands.scale_files import load_model, rows_per_block
from jobs.commands.scale_nodes import cores_of_machine, misfits
from jobs.pipeline import pipeline
from jobs.workspace import Workspace

MEMORY = ("driver_bytes", "head_bytes", "task_bytes")
FIGURES = (
    "tokens", "gpu_hours", "cpu_hours", "shuffled_bytes", "spilled_bytes", "storage_bytes", "files", "list_calls", "objects",
    *MEMORY, "money",
)  # fmt: skip
UNMEASURED = Figure(value=None, basis="not measured by bench scale")


class ScaleOrder(NamedTuple):
    """What is planned."""

    rows: int
    """Prompts."""
    pilot: int
    """Prompts that are answered, unless they have been."""
    pilot_profile: str | None = None
    """Where; None: on the profile of the plan."""
    coefficients: str | None = None
    """File of `rayleigh bench scale --out`; None: those that are shipped."""
    speeds: Mapping[str, float] = {}
    """Teacher, judge or student -> tokens a second, in and out together, of one actor or training worker."""


class Engine(NamedTuple):
    """Work of one model."""

    name: str
    pool: Pool
    tokens: float


def plan_scale(path: str, run: str | None, order: ScaleOrder, *, profile: str, changes: Sequence[str]) -> ScalePlan:
    """Return the plan of `order` for the contract in the file `path` on `profile`; its pilot is that of `plan`, in `run`.

    Raises:
        ContractError: the budget's cap left a prompt of the pilot unanswered.
        InputError: a speed is of no model of the contract, or a file of coefficients cannot be read.
        RecipeMismatch: the run folder or its pilot was made by another recipe.
    """
    work = workspace.create(path, run, profile=order.pilot_profile or profile, changes=changes)
    target, model = load_profile(places.profile_path(profile)), load_model(order.coefficients)
    _require_known(order.speeds, work.contract)
    with workspace.locked(work.folder):
        drawn = plan.answer_pilot(work, order.pilot)
    pilot = plan.read_pilot(work, drawn, represents=order.rows)
    answers = float(pilot.sums["answers"].sum())
    width = float(pilot.sums["size"].sum()) / max(answers, 1.0) / model.model.text_length
    costs = Costs(model.model, work.contract, target, Shape(answers / pilot.drawn, width, rows_per_block(work)))
    planner = Planner(work.contract, target, order, Extrapolation(pilot, times=2, level=0.95, seed=0), costs)
    stages = tuple(planner.stage(name, whole=work) for name in _jobs(work.contract))
    needs, notes = costs.needs(), []
    if not target.nodes:
        notes.append(f"The profile {target.name} declares no nodes, so no memory is held against it.")
    if rounds := ", ".join(f"students/{student.name}" for student in work.contract.students if student.on_policy):
        notes.append(f"In no figure: the samples and scores of the on-policy rounds of {rounds}, which do not grow with prompts.")
    return ScalePlan(
        run=str(work.folder),
        contract=work.contract.name,
        profile=target.name,
        currency=work.contract.budget.price.currency,
        rows=order.rows,
        pilot_prompts=pilot.drawn,
        coefficients=f"{model.name}, measured at {', '.join(f'{size:,}' for size in model.model.sizes)} rows",
        stages=stages,
        total={name: _total(stages, name) for name in FIGURES},
        unknown=tuple(_unknown(stages)),
        misfits=misfits(target, needs, order.rows) if target.nodes else (),
        notes=tuple(notes),
    )


class Planner:
    """Figures of every stage."""

    def __init__(self, contract: Contract, profile: Profile, order: ScaleOrder, estimates: Extrapolation, costs: Costs) -> None:
        self.contract, self.profile, self.order, self.estimates, self.costs = contract, profile, order, estimates, costs

    @property
    def pilot(self) -> Pilot:
        """The pilot, as if it had been drawn from all prompts of the plan."""
        return self.estimates.pilot

    def stage(self, name: str, *, whole: Workspace) -> StageCost:
        """Return the cost of the job `name`."""
        rows, engines, remote, basis = self._work(name, whole)
        measured = self.costs.figures(name, self.order.rows) if name in self.costs.stages else {}
        figures = {each: measured.get(each, UNMEASURED) for each in FIGURES}
        tokens = sum(engine.tokens for engine in engines) + sum(remote.values())
        figures["tokens"] = Figure(value=tokens, basis=basis)
        figures["gpu_hours"] = self._gpu_hours(engines)
        figures["money"] = self._money(engines, remote, figures["cpu_hours"].value)
        return StageCost(name=name, rows=rows, figures=figures)

    def _work(self, name: str, whole: Workspace) -> tuple[float | None, list[Engine], dict, str]:
        """Return rows, engines of ours, remote teacher or judge -> tokens, and what the tokens rest on."""
        pilot, rows = self.pilot, self.order.rows
        if name == "prompts":
            return rows, [], {}, "no model is asked" if not self.contract.prompts.synthesize else "those of synthesis are not known"
        if name == "candidates":
            engines, remote = self._asked()
            basis = f"the pilot's, in proportion to prompts: teachers and judges; {pilot.drawn} prompts were drawn"
            return self.costs.rows_of(name, rows), engines, remote, basis
        if name == "dataset":
            return self.costs.rows_of(name, rows), [], {}, "no model is asked"
        if name.startswith("students/"):
            return self._training(name.removeprefix("students/"))
        if name == "reports":
            holdout = workspace.finished(whole.folder, "prompts").table("holdout").rows
            return float(holdout), [], {}, "none in proportion to prompts: the holdout stays as it is"
        learnable = self.estimates.count("learnable").value
        if name == CAPTURE and self.contract.capture:
            read = estimate.capture(self.contract.capture, self.estimates)
            tokens = read.tokens_in.value if read.tokens_in else 0.0
            first, *others = captured(self.contract)
            pool = self.profile.teacher if others else self.profile.teacher_of(first)
            return learnable, [Engine(CAPTURE, pool, tokens)], {}, read.basis
        return learnable, [], {}, "no model is asked"

    def _asked(self) -> tuple[list[Engine], dict[str, float]]:
        """Return the engines of ours that answer and judge, and the tokens of those behind endpoints."""
        engines, remote = [], {}
        for consumer in _in_candidates(self.contract):
            tokens = self._tokens(consumer) * self.pilot.times
            if consumer.model.type == "endpoint":
                remote[consumer.payee] = tokens
            elif tokens:
                is_teacher = consumer.kind == "teacher"
                pool = self.profile.teacher_of(consumer.payee) if is_teacher else self.profile.judge
                engines.append(Engine(consumer.payee, pool, tokens))
        return engines, remote

    def _tokens(self, consumer: Consumer) -> float:
        if consumer.kind == "teacher":
            found = self.pilot.tokens.get(consumer.payee)
            return 0.0 if found is None else float(found.sum())
        return float(self.pilot.judge_tokens.get(consumer.payee, 0))

    def _training(self, name: str) -> tuple[float, list[Engine], dict, str]:
        [student] = [student for student in self.contract.students if student.name == name]
        sums, learnable = self.pilot.sums, self.estimates.count("learnable").value
        read = float((sums["learnable"] * (sums["exam_in"] + sums["exam_out"])).sum()) / max(1, len(self.pilot.tokens))
        epochs = student.max_steps * student.batch_size / max(1.0, learnable) if student.max_steps else student.epochs
        tokens = read * self.pilot.times * epochs * student.seeds
        length = f"{student.max_steps} steps" if student.max_steps else f"once an epoch, {student.epochs} epochs"
        times = f", {student.seeds} seeds" if student.seeds > 1 else ""
        basis = f"at most: every prompt with an answer in a pool that is learnt from, {length}{times}"
        return learnable, [Engine(name, self.profile.trainer_of(name), tokens)], {}, basis

    def _hours(self, engine: Engine) -> float | None:
        """Return the hours of one actor; None without a speed."""
        return engine.tokens / self.order.speeds[engine.name] / HOUR if engine.name in self.order.speeds else None

    def _gpu_hours(self, engines: Sequence[Engine]) -> Figure:
        on_gpus = [engine for engine in engines if engine.pool.gpus]
        if not on_gpus:
            return Figure(value=0.0, basis="no model of this stage runs on GPUs of the profile")
        hours = {engine.name: self._hours(engine) for engine in on_gpus}
        if missing := [name for name, found in hours.items() if found is None]:
            names = ", ".join(missing)
            return Figure(value=None, basis=f"not measured: how fast {names} is on such a GPU; give --speed {missing[0]}=TOKENS")
        value = sum((hours[engine.name] or 0.0) * engine.pool.gpus * engine.pool.pipeline for engine in on_gpus)
        given = ", ".join(f"{name} {self.order.speeds[name]:g}" for name in hours)
        return Figure(value=value, basis=f"tokens divided by the speed that was given, in tokens a second: {given}")

    def _money(self, engines: Sequence[Engine], remote: Mapping[str, float], cpu_hours: float | None) -> Figure:
        """Return the price of tokens, and of machines for the hours of engines and CPUs."""
        price, hours = self.contract.budget.price, {engine.name: self._hours(engine) for engine in engines}
        missing = [name for name, found in hours.items() if found is None]
        parts = [f"tokens of {', '.join(remote)}"] if remote else []
        if missing:
            names = ", ".join(missing)
            return Figure(value=None, basis=f"not measured: the hours of {names}; give --speed {missing[0]}=TOKENS")
        if cpu_hours is None and not engines:
            return Figure(value=None, basis="not measured: the hours of this stage")
        machines = sum((hours[engine.name] or 0.0) * self.profile.machine_share(engine.pool) for engine in engines)
        machines += (cpu_hours or 0.0) / (cores_of_machine(self.profile) or self.costs.model.cores)
        parts.append(f"{machines:.3g} machine hours at {price.per_machine_hour:g}: shares of nodes for engines and CPUs")
        spent = self._price_of_tokens(remote) + machines * price.per_machine_hour
        return Figure(value=spent, basis="; ".join(parts))

    def _price_of_tokens(self, remote: Mapping[str, float]) -> float:
        """Return the price of the tokens of teachers in and out; a judge's is that of `budget.price.tokens.per_1m_in`."""
        price, sums = self.contract.budget.price, self.pilot.sums
        total = float(sums["tokens_in"].sum() + sums["tokens_out"].sum()) or 1.0
        share_in = float(sums["tokens_in"].sum()) / total
        teachers = {teacher.name for teacher in self.contract.teachers.models}
        return sum(
            price.money(name, tokens * share_in, tokens * (1 - share_in), 0.0)
            if name in teachers
            else price.money(name, tokens, 0, 0)
            for name, tokens in remote.items()
        )


def _in_candidates(contract: Contract) -> list[Consumer]:
    """Return each payee of the job `candidates` once."""
    return list({each.payee: each for each in consumers(contract) if each.job == "candidates"}.values())


def _jobs(contract: Contract) -> list[str]:
    return [job.name for job in pipeline(contract)]


def _require_known(speeds: Mapping[str, float], contract: Contract) -> None:
    names = [*(each.payee for each in _in_candidates(contract)), *(student.name for student in contract.students)]
    names += [CAPTURE] if contract.capture else []
    for name in speeds:
        if name not in names:
            raise InputError(f"--speed {name}: found no such model, expected one of {', '.join(names)}.{did_you_mean(name, names)}")


def _total(stages: Sequence[StageCost], name: str) -> float | None:
    known = [found for stage in stages if (found := stage.figures[name].value) is not None]
    return (max(known) if name in MEMORY else sum(known)) if known else None


def _unknown(stages: Sequence[StageCost]) -> list[str]:
    """Return a line for each stage with what is known of none of its figures."""
    lines = []
    for stage in stages:
        if names := [name for name in FIGURES if stage.figures[name].value is None]:
            lines.append(f"{stage.name}: {', '.join(names)}")
    return lines
