"""A model reads given answers as if it had written them: log-probabilities of their tokens by prefill, paid once."""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import pyarrow as pa

from engine.contract.judges import Scored
from engine.inference.client import ClientSpec, ModelClient, measured
from engine.inference.engine import Engine, Lost
from engine.inference.few_shot import FewShotSelector
from engine.inference.scoring import Distribution, Target
from engine.inference.token_logprobs import of_distribution
from engine.judges.grader_spec import ReaderSpec
from engine.judges.judge_client import require_all
from engine.rows import TOKEN_LOGPROBS, Row, content_id
from engine.teachers.teacher import prompt_of

PAID = pa.schema([("prompt_id", pa.string()), ("likelihood_id", pa.string()), ("token_logprobs", TOKEN_LOGPROBS)])


class Reading(NamedTuple):
    """An answer to be read."""

    prompt_id: str  # partitions the ledger
    target: Target


class Read(NamedTuple):
    """What was read of an answer."""

    key: str  # hash of model, prompt and answer
    tokens: list[Row] | None  # rows.TOKEN_LOGPROBS; None if it could not be read, or was not paid for
    is_new: bool = False  # whether the ledger or a model had to be asked, as the item did not hold it


class Reader:
    """One model with its prompt; the model is loaded for the first answer that is not in the ledger."""

    def __init__(self, spec: ReaderSpec) -> None:
        self.spec = spec
        self.client: ModelClient[Reading] = ModelClient(
            spec.client, PAID, prompt_id=lambda reading: reading.prompt_id, crashed=lambda reading: {"token_logprobs": None}
        )

    @cached_property
    def few_shot(self) -> FewShotSelector:
        """Chooses the worked examples; made for the first answer that is read."""
        return FewShotSelector(self.spec.teacher.shots)

    def __call__(
        self, rows: Sequence[Row], *, known: Sequence[Scored | None] | None = None, payee: str, capped: bool = True
    ) -> list[Read]:
        """Return what the model reads in the `answer` of each row with `prompt_id`, `messages`, `text` and `task_unit`.

        What `known` holds under the same key is not asked again.

        Raises:
            ModelError: the engine gives no log-probabilities of a text that it did not write, or a text was lost
                and `capped` is false, as it is for labelled items.
        """
        readings = [Reading(row["prompt_id"], self._target(row)) for row in rows]
        keys = self.keys(rows)
        held = {each.key: _entries(each) for each in known or () if each is not None}
        missing = {key: reading for key, reading in zip(keys, readings, strict=True) if key not in held}
        with self.client.block(reading.prompt_id for reading in missing.values()):
            paid = self.client.answer(
                missing, measured(_read, "token_logprobs"), batch=self.client.spec.pool.batch, payee=payee, capped=capped
            )
        if not capped:
            require_all(self.client, {key: missing[key].target.text for key in self.client.lost}, payee)
        tokens = held | {key: row["token_logprobs"] for key, row in paid.items()}
        return [Read(key, tokens.get(key), key in missing) for key in keys]

    def keys(self, rows: Sequence[Row]) -> list[str]:
        """Return the hash of model, prompt and answer of each row; no model is loaded."""
        return [self._key(self._target(row)) for row in rows]

    def _target(self, row: Row) -> Target:
        system = self.spec.systems.get(row["task_unit"], self.spec.teacher.system)
        chat = prompt_of(self.spec.teacher, self.spec.specialist, self.few_shot, row, system=system).chat
        return Target(chat, row["answer"])

    def _key(self, target: Target) -> str:
        return content_id(self.client.identity, "likelihood", json.dumps(target.chat), target.text)


def client_of(spec: ClientSpec, lenders: Sequence[ModelClient]) -> ModelClient | None:
    """Return the client of this process whose engine a client of `spec` may use; None if there is none."""
    return next((each for each in lenders if each.spec.model == spec.model and each.spec.weights == spec.weights), None)


def scored(read: Read) -> Scored | None:
    """Return what was read in the form of a labelled item."""
    if read.tokens is None:
        return None
    ends = [token["end"] for token in read.tokens]
    return Scored(key=read.key, ends=tuple(ends), logprobs=tuple(round(token["logprob"], 4) for token in read.tokens))


def _entries(known: Scored) -> list[Row]:
    ends = known.ends or (-1,) * len(known.logprobs)
    return [{"end": end, "logprob": logprob} for end, logprob in zip(ends, known.logprobs, strict=True)]


def _read(engine: Engine, readings: Sequence[Reading]) -> list[list[Row] | Lost | None]:
    found = engine.distributions([reading.target for reading in readings], 1)
    return [of_distribution(each) if isinstance(each, Distribution) else each if isinstance(each, Lost) else None for each in found]
