#!/usr/bin/env bash
# Of a long training ten thousand losses are read, another choice for each length.
#
# Guess: EventAccumulator(folder).Scalars(tag) gives the points that were logged: what is sampled for a picture is sampled by the
#        web page.
# Seen:  of 12,000 points it gives 10,000, a random sample that ends with the last one; a lowest loss may be among the others.
#        Nothing warns. size_guidance={"scalars": 0} gives all.
# With:  tensorboard 2.21.0, tensorboardX 2.6.5, numpy 2.2.6, protobuf 6.33.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorboard==2.21.0 tensorboardX==2.6.5 numpy==2.2.6 protobuf==6.33.6 setuptools==80.9.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import SummaryWriter

POINTS = 12_000
with SummaryWriter("run") as writer:
    for step in range(POINTS):
        writer.add_scalar("loss", 1 / (step + 1), step)


def steps(**options):
    """The steps of the points that are read."""
    events = EventAccumulator("run", **options)
    events.Reload()
    return [point.step for point in events.Scalars("loss")]


default, whole = steps(), steps(size_guidance={"scalars": 0})
print("tensorboard", version("tensorboard"), "logged:", POINTS, "read:", len(default), "last:", default[-1], "asked for all:", len(whole))
assert len(default) == 10_000
assert default[-1] == POINTS - 1
assert whole == list(range(POINTS))
PYTHON
