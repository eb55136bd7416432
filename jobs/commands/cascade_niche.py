"""`rayleigh cascade`: what is outside the niche of a run, and which prompts of its holdout are."""

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.contract.curation import Semantic
from engine.contract.profile import WeightsCache
from engine.contract.serving import NicheCheck
from engine.errors import StorageError
from engine.inference.bundled import BUNDLED
from engine.inference.locate import find, locate
from engine.inference.sentence_encoder import SentenceEncoder
from engine.readers.below import below
from engine.records.certificate import NicheUse
from engine.rows import EXAMPLE, PROMPT, content_id
from engine.serving.certify import Holdout, halves
from engine.serving.niche import Niche, NicheModel, fit
from engine.serving.niche_engine import Checked
from engine.stats.intervals import Array
from engine.storage.folder import Folder
from jobs import places, workspace
from jobs.workspace import Workspace

FILE = "cascade.niche.npz"
MOST = 20_000  # training prompts that are kept: 31 MB with 384 dimensions


class Found(NamedTuple):
    """The niche of a run."""

    use: NicheUse
    outside: Array
    """(n,) bool: which prompts of the holdout are outside."""


def niche_of(work: Workspace, texts: Sequence[str], holdout: Holdout, section: NicheCheck, *, seed: int) -> Found:
    """Return the niche of the run's training prompts, written to RUN/cascade.niche.npz; `texts` are those of `holdout`.

    Distances are calibrated on the half of the holdout that certifies no threshold: so what is outside does not depend on the rows
    that do.

    Raises:
        MissingArtifact: the run has no dataset.
        ModelError: the encoder cannot be loaded.
    """
    contract = work.contract
    name = (contract.curation.semantic or Semantic()).model
    encoder = name if name in BUNDLED else below(work.root, name)
    embed = SentenceEncoder(locate(encoder, root=".", home=places.models_home(), cache=work.profile.weights_cache))
    calibrates = ~halves(holdout.labels, seed)
    training = _training(work)
    model = fit(training[:MOST], list(compress(texts, calibrates)), contract.specialist, section, embed)
    model = model._replace(longest=max(map(len, training)))
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **model.arrays())
    work.folder.write(FILE, data.getvalue())
    niche = Niche(section, contract.specialist.niche.languages, model, embed)
    reasons = niche.reasons(texts, calibrates)
    use = NicheUse(
        section=section.model_dump(mode="json"),
        languages=contract.specialist.niche.languages,
        encoder=encoder,
        file=FILE,
        sha256=hashlib.sha256(data.getvalue()).hexdigest(),
        rows=len(texts),
        outside=dict(sorted(Counter(reason.partition(":")[0] for reason in reasons if reason).items())),
    )
    return Found(use, np.array([bool(reason) for reason in reasons]))


def read_niche(use: NicheUse, folder: Folder, cache: WeightsCache) -> Checked:
    """Return what a server checks, of the `cascade.json` in `folder`.

    Raises:
        ModelError: the encoder is not on this machine.
        StorageError: the file of the vectors is missing or damaged.
    """
    again = "Write it again: rayleigh cascade RUN"
    if not folder.exists(use.file):
        raise StorageError(f"{folder}/{use.file}: is missing; {FILE} belongs beside cascade.json. {again}")
    data = folder.read(use.file)
    if (found := hashlib.sha256(data).hexdigest()) != use.sha256:
        raise StorageError(f"{folder}/{use.file}: found sha256 {found[:12]}, expected {use.sha256[:12]}. {again}")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        model = NicheModel.of_arrays(arrays)
    weights = find(use.encoder, root=".", home=places.models_home(), cache=cache)
    return Checked(NicheCheck.model_validate(use.section), use.languages, model, weights)


def _training(work: Workspace) -> list[str]:
    """Return the texts of the prompts that students learn, in an order by hash."""
    examples = workspace.finished(work.folder, "dataset").read("examples", EXAMPLE, ["prompt_id", "split"])
    learned = examples.filter(pc.equal(examples["split"], "train"))["prompt_id"].unique()
    prompts = workspace.finished(work.folder, "prompts").read("prompts", PROMPT, ["prompt_id", "text"])
    rows = prompts.filter(pc.is_in(prompts["prompt_id"], value_set=pa.array(learned, pa.string())))
    return [row["text"] for row in sorted(rows.to_pylist(), key=lambda row: content_id("niche", row["prompt_id"]))]
