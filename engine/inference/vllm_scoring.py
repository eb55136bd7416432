"""Scores the tokens of given texts by prefill in vLLM: one forward pass a text, logits of the target's positions only.

vLLM's own `prompt_logprobs` computes the output layer and a log-softmax at every token of the prompt, returns a dict of objects for
each, reads no prefix cache, and knows no grammar. Here a method that vLLM adds to its worker (`worker_extension_cls`) looks at the
hidden states of each step and takes those before the target's tokens: prompts share their prefix cache, and the whole row of logits
is there for a mask and for the mass of the tail. It hooks into vLLM's first model runner, the only one without Triton.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.inference.scoring import Distribution, Unscored, top

KEY = "scored"
"""Key of a request's `SamplingParams.extra_args`: its number."""
ROWS = 256  # rows of logits at once: 50 MB for 49,152 words


class Wanted(NamedTuple):
    """The positions of one prompt that are scored."""

    start: int  # index into the prompt of the target's first token; the last token is predicted, not part of the prompt
    tokens: np.ndarray  # int32 [T]
    mask: np.ndarray | None  # int32 [T, ceil(V / 32)]


Scores = dict[int, dict[int, tuple[np.ndarray, ...]]]
"""Number of a request -> first position of a piece -> ids, logprobs, own, tail of its tokens."""


class ScoringWorker:
    """Mixed into vLLM's worker, whose `model_runner` is there."""

    model_runner: Any

    def begin_scoring(self, wanted: Mapping[int, Wanted], k: int) -> None:
        """Score the requests with these numbers from now on.

        Raises:
            RuntimeError: vLLM uses another model runner than its first one.
        """
        runner = self.model_runner
        if not hasattr(runner, "_get_prompt_logprobs_dict"):
            raise RuntimeError("scoring hooks into vLLM's first model runner; set VLLM_USE_V2_MODEL_RUNNER=0 for its process")
        if not hasattr(runner, "plain_prompt_logprobs"):
            runner.plain_prompt_logprobs = runner._get_prompt_logprobs_dict
            runner._get_prompt_logprobs_dict = self.score_step
        runner.scoring = (wanted, k, Scores())

    def end_scoring(self) -> Scores:
        """Return the scores since `begin_scoring`; {} on a worker without logits."""
        scores = self.model_runner.scoring[-1]
        self.model_runner.scoring = ({}, 0, {})
        return scores

    def score_step(self, hidden_states: Any, scheduled: Mapping[str, int]) -> Any:
        """Score what a step has computed of the wanted requests; hidden_states [tokens of the step, H].

        The output layer reads the positions of several requests at once: for the few of one it mostly waits for its weights.
        """
        runner = self.model_runner
        pieces = list(self._pieces(scheduled))
        for part in parts(pieces, ROWS):
            rows = np.concatenate([np.arange(piece.row, piece.row + len(piece.tokens)) for piece in part])
            logits = runner.model.compute_logits(hidden_states[rows])
            if logits is not None:
                for piece, columns in zip(part, scored_pieces(logits, part, runner.scoring[1]), strict=True):
                    runner.scoring[2].setdefault(piece.number, {})[piece.place] = columns
        return runner.plain_prompt_logprobs(hidden_states, scheduled)

    def _pieces(self, scheduled: Mapping[str, int]) -> Iterator["Piece"]:
        """Yield what the step has computed of each wanted request."""
        runner = self.model_runner
        wanted = runner.scoring[0]
        for request_id, count in scheduled.items():
            request = runner.requests[request_id]
            number = ((request.sampling_params and request.sampling_params.extra_args) or {}).get(KEY)
            if number is None or number not in wanted:
                continue
            start, tokens, mask = wanted[number]
            before = request.num_computed_tokens
            first, last = max(start - 1, before), min(start - 1 + len(tokens), before + count)
            if first < last:
                offset = int(runner.query_start_loc.np[runner.input_batch.req_id_to_index[request_id]]) - before
                piece = slice(first - start + 1, last - start + 1)
                yield Piece(number, piece.start, offset + first, tokens[piece], mask if mask is None else mask[piece])


class Piece(NamedTuple):
    """Target tokens of one request whose hidden states a step has computed."""

    number: int  # of the request
    place: int  # of the first token in the target
    row: int  # of its hidden state in the step
    tokens: np.ndarray  # int32 [T]
    mask: np.ndarray | None  # int32 [T, ceil(V / 32)]


def parts(pieces: Sequence[Piece], rows: int) -> Iterator[list[Piece]]:
    """Yield consecutive pieces that have at most `rows` tokens together, or one that has more."""
    part: list[Piece] = []
    for piece in pieces:
        if part and sum(len(each.tokens) for each in [*part, piece]) > rows:
            yield part
            part = []
        part.append(piece)
    if part:
        yield part


def scored_pieces(logits: Any, pieces: Sequence[Piece], k: int) -> list[tuple[np.ndarray, ...]]:
    """Return `scored` of each of `pieces`, whose logits [T, V] are one after the other; what has no mask is not masked."""
    tokens, masks = np.concatenate([piece.tokens for piece in pieces]), [piece.mask for piece in pieces]
    width = next((mask.shape[1] for mask in masks if mask is not None), None)
    mask = None
    if width is not None:
        open_to_all = [np.full((len(piece.tokens), width), -1, np.int32) if piece.mask is None else piece.mask for piece in pieces]
        mask = np.concatenate(open_to_all)
    columns = scored(logits, tokens, mask, k)
    bounds = np.cumsum([len(piece.tokens) for piece in pieces])[:-1]
    return list(zip(*(np.split(column, bounds) for column in columns), strict=True))


def scored(logits: Any, tokens: np.ndarray, mask: np.ndarray | None, k: int) -> tuple[np.ndarray, ...]:
    """Return `engine.inference.scoring.top` of logits [T, V], after the mask."""
    import torch

    logits = logits.float()
    if mask is not None:
        import xgrammar

        xgrammar.apply_token_bitmask_inplace(logits, torch.from_numpy(mask).to(logits.device), vocab_size=logits.shape[-1])
    return top(logits, torch.from_numpy(tokens), k)


def merged(pieces: Mapping[int, tuple[np.ndarray, ...]], count: int) -> tuple[np.ndarray, ...] | None:
    """Return the pieces of one request joined; None if they are not all of its `count` tokens."""
    ordered = [pieces[start] for start in sorted(pieces)]
    ends = [start + len(pieces[start][0]) for start in sorted(pieces)]
    if not ends or [0, *ends] != [*sorted(pieces), count]:
        return None
    return tuple(np.concatenate(columns) for columns in zip(*ordered, strict=True))


def wanted_of(head: Sequence[int], tokens: np.ndarray, mask: np.ndarray | None) -> tuple[list[int], Wanted]:
    """Return the prompt that predicts `tokens` behind `head`, and what is scored of it."""
    return [*head, *tokens[:-1].tolist()], Wanted(len(head), tokens, mask)


def distribution(wanted: Wanted, found: tuple[np.ndarray, ...] | None, tokens_in: int) -> Distribution | Unscored:
    """Return what was wanted of a prompt of `tokens_in` tokens, from its `merged` pieces."""
    if found is None:
        return Unscored("error", "vLLM computed no logits of some of its tokens")
    ids, logprobs, own, tail = found
    return Distribution(wanted.tokens, ids, logprobs, own, tail, tokens_in, wanted.mask is not None)
