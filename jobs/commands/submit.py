"""`rayleigh submit`: run a contract on a cluster by Ray's job API, follow it, and end with its exit code."""

import asyncio
import hashlib
import json
import logging
import shlex
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

from engine.cluster.write import object_name
from engine.contract.load import load_contract
from engine.contract.sections import is_url, read_yaml
from engine.errors import InputError, MachineError
from engine.records.base import Json
from jobs import places
from jobs.commands import check
from jobs.commands.check_nodes import node_paths
from jobs.commands.submit_attempts import (
    ENDED,
    RUN,
    RUNNING,
    STOPPED,
    SUCCEEDED,
    Client,
    attempts,
    number_of,
    require_alone,
    status,
)

STOP_SECONDS = "60"  # between SIGTERM and SIGKILL of a job that is stopped; by default 3, too few to finish a batch
DETACHED = 130
RECONNECTS, RECONNECT_SECONDS = 12, 5.0  # a minute without a dashboard; a forwarded port is often torn and opened again
LASTED_SECONDS = 2 * RECONNECT_SECONDS  # of a connection that was open
POLLS, POLL_SECONDS = 10, 1.0  # of the record after a log has ended

Say = Callable[[str], None]


class Submission(NamedTuple):
    """A run as a job of Ray."""

    id: str
    """Of the run: the same contract and run folder have the same one. Attempts after the first append a number."""
    entrypoint: str
    working_dir: str
    """Folder that Ray packs, without what its `.rayignore` and `.gitignore` name."""
    variables: Sequence[str]
    """Environment variables with keys, which every node must have."""
    run: str = ""
    """Run folder: of two jobs that work in it at the same time each would pay."""

    @property
    def runtime_env(self) -> Json:
        """Return Ray's runtime environment. The values of `variables` are not in it: the cluster shows it to everybody."""
        return {"working_dir": self.working_dir, "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": STOP_SECONDS}}

    @property
    def metadata(self) -> dict[str, str]:
        """Return what the job's record says of the run."""
        return {"rayleigh": self.id, RUN: self.run, "environment": ",".join(self.variables)}


def plan(contract: str, run: str, *, profile: str, changes: Sequence[str], working_dir: str | None) -> Submission:
    """Return the job that runs `contract` in the run folder `run`.

    Raises:
        ContractError: contract or profile cannot be used.
        InputError: a file lies outside of the working directory, or the run folder is one of this machine.
    """
    if is_url(contract):
        raise InputError(
            f"{contract}: `rayleigh submit` sends a contract with its folder, found a URL. A job of the cluster reads that itself: "
            f"ray job submit -- {_words(contract, run, profile, changes)}"
        )
    loaded = load_contract(contract, changes, is_new=False)  # the job knows whether its run folder is
    folder = Path(working_dir or Path(contract).resolve().parent).resolve()
    if "://" not in run and not run.startswith("/"):
        raise InputError(
            f"{run}: the run folder of a cluster must be a URL, or an absolute path of a shared mount. Write s3://BUCKET/{run}"
        )
    _check_inside(folder, {"the contract": Path(contract), **{f"!include {path}": path for path in includes(Path(contract))}})
    named = [(key, path) for key, path in node_paths(loaded.contract) if "://" not in path and not path.startswith("/")]
    _check_inside(folder, {key: Path(loaded.root, path) for key, path in named})
    places.profile_path(profile)
    if profile.endswith((".yaml", ".yml")):
        _check_inside(folder, {"--profile": Path(profile)})
        profile = str(Path(profile).resolve().relative_to(folder))
    words = _words(str(Path(contract).resolve().relative_to(folder)), run, profile, changes)
    identity = json.dumps([run.rstrip("/"), loaded.contract.model_dump(mode="json")], sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    keys = {model.key_env for _, model, *_ in check.chat_models(loaded.contract) if model.type == "endpoint" and model.key_env}
    name = f"rayleigh-{object_name(loaded.contract.name)}-{digest}"
    return Submission(name, words, str(folder), sorted(keys), run.rstrip("/"))


def _words(contract: str, run: str, profile: str, changes: Sequence[str]) -> str:
    """Return the command that runs `contract` on the cluster."""
    sets = [word for change in changes for word in ("--set", change)]
    return shlex.join(["rayleigh", "run", contract, run, "--profile", profile, *sets])


def includes(path: Path) -> list[Path]:
    """Return the files that the contract `path` includes, and those that they include; what lies behind URLs is not sent."""
    found: list[Path | str] = []
    read_yaml(path, included=found)
    return [Path(place) for place in found if not is_url(place)]


def _check_inside(folder: Path, paths: Mapping[str, Path]) -> None:
    outside = [f"  {key}: {path}" for key, path in paths.items() if not path.resolve().is_relative_to(folder)]
    if outside:
        raise InputError(
            "\n".join([f"{folder}: the job gets only this folder, and these files lie outside of it:", *outside])
            + "\nName a folder that holds them all: --working-dir FOLDER, or name the files by URL."
        )


def connect(address: str) -> Client:
    """Return a client of the cluster whose dashboard is at `address`.

    Raises:
        InputError: nothing answers there.
        MachineError: Ray's dashboard is not installed.
    """
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise MachineError(f"rayleigh submit: a package of Ray's dashboard is missing: {error}. Install ray[default].") from None
    for noisy in ("ray._private.runtime_env.packaging", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(noisy).setLevel(logging.WARNING)  # they tell of each package and connection, between the job's lines
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        why = " ".join(str(error).split())[:300]
        hint = "KubeRay: kubectl port-forward service/NAME-head-svc 8265; ray up: ray dashboard FILE"
        raise InputError(f"--address {address}: no cluster of Ray answers: {why}. Forward its dashboard: {hint}.") from None


def submit(client: Client, submission: Submission, say: Say) -> str:
    """Submit the job, or find it where it runs or has succeeded; return the id of the attempt.

    Raises:
        InputError: the cluster refuses the job, or a job with another contract works in the run folder.
    """
    earlier = attempts(client, submission.id)
    if earlier:
        last, found = earlier[-1]
        if found in RUNNING:
            say(f"job      {last} runs already: following it")
            return last
        if found == SUCCEEDED:
            say(f"job      {last} has succeeded already; a further submit needs another run folder or contract")
            return last
        say(f"job      {last} is {found}: the next attempt goes on from the run folder")
    require_alone(client, submission.run)
    number = 1 + max((number_of(submission.id, name) for name, _ in earlier), default=0)
    name = submission.id if number == 1 else f"{submission.id}-{number}"
    try:
        client.submit_job(
            entrypoint=submission.entrypoint,
            submission_id=name,
            runtime_env=submission.runtime_env,
            metadata=submission.metadata,
        )
    except RuntimeError as error:
        if name in [found for found, _ in attempts(client, submission.id)]:  # another submit was quicker
            return name
        raise InputError(f"job {name}: the cluster refuses it: {' '.join(str(error).split())[:500]}") from None
    except ValueError as error:  # the package is too large
        raise InputError(f"{submission.working_dir}: cannot be sent: {error}. Name what is not needed in .rayignore.") from None
    say(f"job      {name}\nfolder   {submission.working_dir}\ncommand  {submission.entrypoint}")
    if submission.variables:
        say(f"secrets  every node must have {', '.join(submission.variables)}; `rayleigh manifests` takes them from a secret")
    return name


def follow(client: Client, name: str, say: Say, write: Callable[[str], None]) -> int:
    """Write the logs of the job until it ends, and return the exit code of its command; Ctrl-C leaves it running.

    Raises:
        InputError: the cluster does not answer any more.
    """
    try:
        return exit_code(asyncio.run(_tail(client, name, say, write)))
    except KeyboardInterrupt:
        say(f"\nThe job {name} goes on. The same command follows it again; with --stop it ends it.")
        return DETACHED


def stop(client: Client, submission: Submission, say: Say, *, waits: bool = True) -> int:
    """Ask the running attempt to end: its driver gets SIGTERM, finishes its writes and keeps what is paid.

    Until it has ended Ray calls it running, and a further submit would follow it: so this `waits` for its end.
    """
    running = [name for name, found in attempts(client, submission.id) if found in RUNNING]
    if not running:
        raise InputError(f"job {submission.id}: none is running. `ray job list` shows all jobs.")
    client.stop_job(running[-1])
    if not waits:
        say(f"job      {running[-1]} ends within {STOP_SECONDS} s; a submit before that follows it.")
        return 0
    say(f"job      {running[-1]} ends within {STOP_SECONDS} s")
    end = time.monotonic() + int(STOP_SECONDS) + RECONNECT_SECONDS
    while status(client.get_job_info(running[-1])) not in ENDED:
        if time.monotonic() > end:
            say(f"job      {running[-1]} has not ended yet; a submit before that follows it.")
            return 0
        time.sleep(POLL_SECONDS)
    say("Submit again to go on.")
    return 0


def exit_code(info: Any) -> int:
    """Return the exit code of a job's command."""
    if info.driver_exit_code is not None and info.driver_exit_code >= 0:
        return int(info.driver_exit_code)
    return {SUCCEEDED: 0, STOPPED: DETACHED}.get(status(info), 1)


async def _tail(client: Client, name: str, say: Say, write: Callable[[str], None]) -> Any:
    """Write the logs of the job until it ends, and return its record."""
    record = None
    async with aclosing(_log(client, name, say)) as items:
        async for item in items:
            if isinstance(item, str):
                write(item)  # here, as its errors are none of the connection: a closed pipe, `| head`, ends the command
            else:
                record = item
    return record


async def _log(client: Client, name: str, say: Say) -> AsyncGenerator[Any, None]:
    """Yield the text of the job's log until it ends, over as many connections as that takes, and at last its record."""
    import aiohttp  # comes with Ray's dashboard

    shown = failures = 0
    is_told = False
    while True:
        begin, start = 0, time.monotonic()
        try:
            async for text in client.tail_job_logs(name):
                if new := text[max(0, shown - begin) :]:  # each connection gets the log from its beginning on
                    shown, failures, is_told = begin + len(text), 0, False
                    yield new
                begin += len(text)
            for _ in range(POLLS):  # the logs end some moments before the record says so; or a proxy has closed the connection
                if status(info := client.get_job_info(name)) in ENDED:
                    yield info
                    return
                await asyncio.sleep(POLL_SECONDS)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            is_open = not isinstance(error, (aiohttp.ClientConnectorError, TimeoutError))
            if is_open and time.monotonic() - start > LASTED_SECONDS:  # a proxy cuts what is idle, as of a silent job
                failures = 0
            failures += 1
            why = " ".join(str(error).split())[:300] or type(error).__name__
            if failures > RECONNECTS:
                hint = "Forward its dashboard again and repeat the command: it follows the job, which may have gone on."
                raise InputError(f"job {name}: the cluster does not answer any more: {why}. {hint}") from None
            if not is_told:
                say(f"job      {name}: the connection is lost, trying again: {why}")
                is_told = True
            await asyncio.sleep(RECONNECT_SECONDS)
