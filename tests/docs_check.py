"""`make docs-check`: runs the commands of every README, in a scratch folder with the files that the README shows.

The scratch folder sees `jobs`, `cluster`, `tests` and a copy of the finished run `runs/smoke`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import docs

SECONDS = 900


def main(run: Path) -> int:
    """Return the number of commands that failed."""
    failures = 0
    for readme in docs.readmes():
        commands = [command for command in docs.commands(readme) if command.runs]
        if commands:
            with tempfile.TemporaryDirectory() as scratch:
                prepare(Path(scratch), run, docs.files(readme))
                failures += sum(not passes(command, Path(scratch)) for command in commands)
    print(f"{failures} commands failed" if failures else "every command ran")
    return failures


def prepare(scratch: Path, run: Path, files: dict[str, str]) -> None:
    """Fill the folder in which the commands of one README run."""
    for name in ("engine", "jobs", "cluster", "tests", "findings", "Makefile", "pyproject.toml"):
        (scratch / name).symlink_to(docs.ROOT / name)
    shutil.copytree(run, scratch / "runs" / "smoke", copy_function=os.link)
    for name, body in files.items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_text(body, encoding="utf-8")


def passes(command: docs.Command, scratch: Path) -> bool:
    """Run one command; print it, its time and, if it failed, its output."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(docs.ROOT)}
    started = time.monotonic()
    done = subprocess.run(
        command.line,
        shell=True,
        cwd=scratch,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
    )
    print(
        f"{'ok  ' if done.returncode == 0 else 'FAIL'} {time.monotonic() - started:5.1f} s  {command.readme}: {command.line}",
        flush=True,
    )
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:])
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(min(1, main(Path(sys.argv[1]))))
