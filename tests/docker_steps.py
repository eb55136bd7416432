"""Run the steps of cluster/Dockerfile in a folder, all but `FROM`: `python -m tests.docker_steps --device cpu FOLDER`.

Paths below /home/ray are moved below FOLDER, COPY copies from the project, and RUN runs in bash with the image's variables. With
`--resolve` packages are only resolved (`uv pip install --dry-run`), and steps that need them installed are left out.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "cluster" / "Dockerfile"
HOME = "/home/ray"
INSTALL = "uv pip install"


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction of a Dockerfile and its arguments, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for joined in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if joined.strip():
            word, _, rest = joined.strip().partition(" ")
            yield word.upper(), rest.strip()


def run(folder: Path, device: str, *, resolve: bool) -> None:
    """Run the steps.

    Raises:
        CalledProcessError: a step failed.
    """
    variables = {"DEVICE": device, "PATH": os.environ["PATH"], "HOME": str(folder)}
    variables |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))}
    work = folder
    for word, rest in instructions(DOCKERFILE.read_text(encoding="utf-8")):
        moved = rest.replace(HOME, str(folder))
        if word == "ARG" and "=" in rest:
            name, _, value = rest.partition("=")
            variables.setdefault(name, value)
        elif word == "ENV":
            for name, value in re.findall(r"(\w+)=(\S+)", moved):
                variables[name] = value.replace("${PATH}", variables["PATH"])
        elif word == "WORKDIR":
            work = Path(moved)
            work.mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            _copy([one for one in moved.split() if not one.startswith("--")], work)
        elif word == "RUN":
            step = _resolved(moved) if resolve else moved
            if links := os.environ.get("PIP_FIND_LINKS"):  # as `make setup`: where the index of PyTorch is not reached
                step = step.replace("--torch-backend cpu", f"--find-links {shlex.quote(links)}")
            if step:
                print(f"RUN {step}", flush=True)
                subprocess.run(["bash", "-o", "pipefail", "-c", step], cwd=work, env=variables, check=True)


def _copy(words: list[str], work: Path) -> None:
    *sources, target = words
    if sources == ["."]:
        tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
        sources = [name for name in tracked if name and not name.startswith(("tests/", "notebooks/", "findings/"))]
        places = {name: work / name for name in sources}
    else:
        places = {name: work / target / Path(name).name for name in sources}
    for name, place in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, place)


def _resolved(step: str) -> str:
    """Return the step with installations that only resolve; "" if it needs what they would install."""
    if "--editable" in step:
        return ""
    return step.replace(INSTALL, f"{INSTALL} --dry-run")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder in place of /home/ray")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--resolve", action="store_true", help="only resolve the packages")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    run(options.folder.resolve(), options.device, resolve=options.resolve)
