"""`rayleigh bench scale`: what the line takes at several sizes, what of it grows with rows, and whether a cost model holds.

Each size has a cluster of its own; prompts, candidates and dataset are commands one after the other, with the model that answers at
once. `--json` prints a `ScaleBench`; `--out` writes the coefficients that `rayleigh plan --rows` reads, and the sizes beside them,
after each size: what has been measured outlives a size that fails, and goes on with `--with`. Each stage is a line on stderr as
soon as it is measured.
"""

import math
import os
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import yaml

from engine.contract.profile import Profile, load_profile
from engine.contract.prompts import Prompts
from engine.errors import InputError
from engine.records.base import Record
from engine.records.scale import Line, ScaleModel, StageUse
from engine.storage.provenance import commit
from jobs import places
from jobs.bench.list_calls import BUCKET, ListingCounter, counting_store
from jobs.bench.raylets import start_raylets
from jobs.bench.references import reference_bytes
from jobs.bench.scale_site import CHANGES, CONTRACT, text_length, write_site
from jobs.bench.scale_stage import LOG, STAGES, run_stage
from jobs.bench.watch import rayleigh
from jobs.commands.scale_files import NamedModel, load_model, read_record
from jobs.commands.scale_fit import QUANTITIES, Verdict, Work, fit, growth, value, work_of

SHARD_ROWS = Prompts.model_fields["shard_rows"].default  # which the contract leaves as it is
AIM = 0.2  # largest relative error of the cost model


class Order(NamedTuple):
    """What is measured."""

    rows: tuple[int, ...]
    raylets: int = 1
    list_rows: int = 100_000
    """Largest size of which listings are counted, in a second run on a stand-in for S3; 0: none."""


class Files(NamedTuple):
    """Files that are read and written."""

    earlier: str | None = None
    """A `ScaleBench`, whose sizes are added."""
    against: str | None = None
    """Coefficients that are checked; None: those that are shipped."""
    out: str | None = None
    """Where the coefficients are written, as soon as there are two sizes; the `ScaleBench` itself lies in `sizes`."""

    @property
    def sizes(self) -> Path | None:
        """`NAME.sizes.json` beside `out`."""
        return Path(self.out).with_suffix(".sizes.json") if self.out else None


class QuantityGrowth(Record):
    """How a quantity grows from one measured size to the next."""

    stage: str
    """Name of the job."""
    quantity: str
    """Field of `StageUse`."""
    rows: tuple[int, int]
    """Both sizes."""
    ratio: float | None
    """Quantity at the larger divided by that at the smaller; null if there was none at the smaller."""
    verdict: Verdict
    """Whether it grows with rows."""


class ModelCheck(Record):
    """A measured quantity, and what a cost model expected of it."""

    stage: str
    """Name of the job."""
    quantity: str
    """Field of `StageUse`."""
    rows: int
    """Size."""
    measured: float
    """The quantity itself."""
    expected: float
    """What the model said."""
    error: float
    """Expected divided by measured, minus 1."""
    model: str
    """`smaller sizes`: fitted to the smaller sizes of this call; or the file of the coefficients."""


class ScaleBench(Record):
    """The result of the benchmark."""

    raylets: int
    """Raylets that shared the machine."""
    cores: int
    """Cores of the machine."""
    commit: str
    """Commit of Rayleigh."""
    reference_bytes: float
    """Memory of a driver for each reference to an object that it holds."""
    uses: tuple[StageUse, ...]
    """Every stage at every size."""
    growth: tuple[QuantityGrowth, ...]
    """Every quantity from one size to the next."""
    checks: tuple[ModelCheck, ...]
    """The cost model held against what was measured."""


def run(order: Order, files: Files, *, profile: str) -> ScaleBench:
    """Measure `order` with the `files` that are given, and write the coefficients.

    Raises:
        InputError: a file cannot be read or written, or see `bench`.
    """
    earlier = read_record(files.earlier, ScaleBench, "--with") if files.earlier else None
    model = load_model(files.against)
    if files.out:
        require_sizes({*order.rows, *(use.rows for use in (earlier.uses if earlier else ()))})
    results = bench(order, profile=profile, earlier=earlier, against=model)
    _require_writable(files)
    result = None
    for result in results:
        _save(result, files)
    assert result is not None, "an order has a size"
    return result


def bench(
    order: Order, *, profile: str, earlier: ScaleBench | None = None, against: NamedModel | None = None
) -> Iterator[ScaleBench]:
    """Measure `order`, and return after each size what is known, with the sizes of an `earlier` call; the model `against`, with its
    name, is checked by them.

    Raises:
        InputError: the profile joins a cluster, the earlier sizes are of others, or moto is missing.
    """
    found = load_profile(places.profile_path(profile))
    if found.ray.address != "local":
        raise InputError(
            f"bench scale: profile {found.name}: ray.address is {found.ray.address!r}, expected `local`: this benchmark starts "
            "raylets of its own on this machine, and no cluster is joined."
        )
    if earlier:
        _require_same(earlier, order)
    return _results(order, found, earlier, against)


def _results(order: Order, profile: Profile, earlier: ScaleBench | None, against: NamedModel | None) -> Iterator[ScaleBench]:
    with start_raylets(1, profile) as raylets:
        of_reference = reference_bytes(raylets.address)
    uses = [use for use in earlier.uses if use.rows not in order.rows] if earlier else []
    for rows in sorted(set(order.rows)):
        uses = sorted([*uses, *_measure(rows, order, profile)], key=lambda use: use.rows)
        yield summarize(uses, order.raylets, of_reference, against)


def _require_same(earlier: ScaleBench, order: Order) -> None:
    """Raise InputError if the `earlier` sizes were measured by other raylets, another machine or another Rayleigh."""
    here = {"raylets": order.raylets, "cores": os.cpu_count() or 1, "commit": commit() or ""}
    for name, mine in here.items():
        if (found := getattr(earlier, name)) != mine:
            raise InputError(
                f"--with: {name} of the earlier sizes: found {found!r}, expected {mine!r}: one line is drawn through all. "
                "Measure them again, or leave --with out."
            )


def _require_writable(files: Files) -> None:
    """Raise InputError unless both files can be written; a file that was there stays as it is."""
    for path in (files.out, files.sizes):
        try:
            if path:
                Path(path).open("a").close()
        except OSError as error:
            raise InputError(f"--out: {path} cannot be written: {error.strerror}. Make its folder, or name another file.") from None


def _save(result: ScaleBench, files: Files) -> None:
    """Write the sizes, and the coefficients once there are two."""
    if files.out is None or files.sizes is None:
        return
    files.sizes.write_text(result.model_dump_json(indent=1) + "\n")
    if len({use.rows for use in result.uses}) > 1:
        Path(files.out).write_text(model_of(result).model_dump_json(indent=1) + "\n")


def model_of(result: ScaleBench) -> ScaleModel:
    """Return the coefficients.

    Raises:
        InputError: fewer than two sizes were measured.
    """
    sizes = tuple(sorted({use.rows for use in result.uses}))
    require_sizes(sizes)
    stages = tuple(fit([use for use in result.uses if use.stage == stage]) for stage in STAGES)
    return ScaleModel(
        sizes=sizes, raylets=result.raylets, cores=result.cores, commit=result.commit, text_length=text_length(),
        reference_bytes=result.reference_bytes, stages=stages,
    )  # fmt: skip


def require_sizes(sizes: Collection[int]) -> None:
    """Raise InputError unless lines can be drawn through `sizes`."""
    if len(sizes) < 2:
        raise InputError(f"bench scale: coefficients need two sizes, found {len(sizes)}. Give --rows twice, or --with FILE.")


def _measure(rows: int, order: Order, profile: Profile) -> list[StageUse]:
    with tempfile.TemporaryDirectory(prefix="rayleigh-bench-") as name, ExitStack() as stack:
        site = Path(name)
        write_site(site, rows)
        counter = stack.enter_context(counting_store()) if rows <= order.list_rows else None
        raylets = stack.enter_context(start_raylets(order.raylets, profile))
        joined = profile.model_copy(update={"ray": profile.ray.model_copy(update={"address": raylets.address})})
        path = site / "profile.yaml"
        path.write_text(yaml.safe_dump(joined.model_dump(mode="json", exclude_defaults=True)))
        uses = [_shown(run_stage(site, stage, rows, raylets, profile=path)) for stage in STAGES]
        calls = _list_calls(site, path, counter) if counter else {}
    work = work_of(rows, profile.teacher, shard_rows=SHARD_ROWS)
    same = {"blocks": work.blocks, "batches": work.batches}
    return [use.model_copy(update={**same, "list_calls": calls.get(use.stage)}) for use in uses]


def _shown(use: StageUse) -> StageUse:
    """Print what a stage took: the next one may take an hour, and fail."""
    print(use.model_dump_json(), file=sys.stderr, flush=True)
    return use


def _list_calls(site: Path, profile: Path, counter: ListingCounter) -> dict[str, int]:
    """Run the same stages again, with a run folder behind the URL of a stand-in; return the listings of each."""
    calls = {}
    for stage in STAGES:
        before = counter.calls
        words = ["run", str(site / CONTRACT), f"s3://{BUCKET}/run", "--profile", str(profile), "--until", stage]
        rayleigh(words, log=site / LOG, changes=CHANGES)
        calls[stage] = counter.calls - before
    return calls


def summarize(uses: Sequence[StageUse], raylets: int, of_reference: float, against: NamedModel | None) -> ScaleBench:
    """Return the result for `uses`, in the order of their rows; `of_reference` is the memory of a driver for a reference."""
    checks = [*_from_smaller(uses), *(_held_against(uses, against.name, against.model) if against else [])]
    return ScaleBench(
        raylets=raylets,
        cores=os.cpu_count() or 1,
        commit=commit() or "",
        reference_bytes=round(of_reference, 1),
        uses=tuple(uses),
        growth=tuple(_growth(uses)),
        checks=tuple(checks),
    )


def _growth(uses: Sequence[StageUse]) -> Iterator[QuantityGrowth]:
    for stage in STAGES:
        mine = [use for use in uses if use.stage == stage]
        for smaller, larger in pairwise(mine):
            for quantity in QUANTITIES:
                if found := growth(smaller, larger, quantity):
                    ratio = round(found.ratio, 3) if math.isfinite(found.ratio) else None
                    sizes = smaller.rows, larger.rows
                    yield QuantityGrowth(stage=stage, quantity=quantity, rows=sizes, ratio=ratio, verdict=found.verdict)


def _from_smaller(uses: Sequence[StageUse]) -> Iterator[ModelCheck]:
    """Yield checks of each size from the third on, of a model that was fitted to all smaller ones."""
    for stage in STAGES:
        mine = [use for use in uses if use.stage == stage]
        for number in range(2, len(mine)):
            lines = fit(mine[:number]).lines
            yield from _checks(mine[number], lines, "smaller sizes")


def _held_against(uses: Sequence[StageUse], name: str, model: ScaleModel) -> Iterator[ModelCheck]:
    lines = {stage.stage: stage.lines for stage in model.stages}
    for use in uses:
        yield from _checks(use, lines.get(use.stage, {}), name)


def _checks(use: StageUse, lines: Mapping[str, Line], name: str) -> Iterator[ModelCheck]:
    for quantity, line in lines.items():
        measured = getattr(use, quantity)
        if measured:
            expected = value(line, Work(use.rows, use.blocks, use.batches))
            yield ModelCheck(
                stage=use.stage, quantity=quantity, rows=use.rows, measured=measured, expected=round(expected, 1),
                error=round(expected / measured - 1, 4), model=name,
            )  # fmt: skip
