"""The section `capture`: what is refused before anything is paid, servers that score texts, and what a plan says."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_run import YAML
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from engine.contract.capture import Capture
from engine.contract.consumers import consumers
from engine.contract.contract import Contract
from engine.contract.models import EndpointModel
from engine.contract.profile import Pool
from engine.errors import ModelError
from engine.inference import sending
from engine.inference.endpoint import EndpointEngine
from engine.inference.engine import Lost
from engine.inference.scoring import Distribution, Target
from jobs.commands.check_capture import ask_captured, verify_capture
from jobs.commands.estimate import Extrapolation, Pilot, capture, consumer_plans
from jobs.pipeline import pipeline

SERVER = {"type": "endpoint", "url": "http://127.0.0.1:1/v1", "path": "m"}


def contract(section: Any, *more: Any) -> Contract:
    raw = yaml.safe_load(YAML)
    raw["teachers"]["models"] += [{"name": f"t{at}", "model": model} for at, model in enumerate(more)]
    raw["teachers"]["mode"] = "direct"
    return Contract.model_validate({**raw, "capture": section} if section is not None else raw)


def test_contract_without_a_capture_is_dumped_and_run_as_before() -> None:
    plain, ordered = contract(None), contract({})
    assert "capture" not in plain.model_dump() and "capture" in ordered.model_dump()
    assert "capture" not in {job.name for job in pipeline(plain)} and "capture" in {job.name for job in pipeline(ordered)}
    assert [each.payee for each in consumers(plain)] == ["t"] and [each.payee for each in consumers(ordered)] == ["t", "capture"]


def test_entries_follow_from_k_or_mass() -> None:
    assert (Capture().entries, Capture(k=3).entries, Capture(mass=0.99).entries, Capture(mass=0.99, most=9).entries) == (
        16,
        3,
        64,
        9,
    )
    assert Capture.model_validate({"teachers": ["a", "b"]}).teachers == {"a": 1.0, "b": 1.0}


@pytest.mark.parametrize(
    ("section", "model", "words"),
    [
        ({"k": 4, "mass": 0.9}, None, "found k 4 and mass 0.9, expected one of them"),
        ({"k": 255}, None, "less than or equal to 254"),
        ({"teachers": {}}, None, "expected a positive weight for each"),
        ({"teachers": {"t": 0}}, None, "expected a positive weight for each"),
        ({"teachers": ["t", "t"]}, None, "names must differ"),
        ({"teachers": ["nobody"]}, None, "found ['nobody'], expected teachers that answer: ['t']"),
        ({}, {**SERVER, "logprobs": False}, "t0 is a teacher without log-probabilities"),
        ({}, SERVER, "capture.constraint: found answer, but the teacher t0 is behind an endpoint"),
        ({"constraint": "none"}, SERVER, "capture.tokenizers.t0: is needed"),
    ],
)
def test_what_cannot_be_captured_is_refused(section: Any, model: Any, words: str) -> None:
    with pytest.raises(ValidationError) as error:
        contract(section, *([model] if model else []))
    assert words in str(error.value)


def test_teacher_that_cannot_score_may_be_left_out() -> None:
    assert contract({"teachers": ["t"]}, {**SERVER, "logprobs": False}).capture


def test_more_entries_than_the_teacher_has_tokens_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"vocab_size": 100}')
    order = contract({"k": 101}, {"type": "vllm", "path": "m"})
    with pytest.raises(ModelError, match=r"capture.k: found 101, but the teacher t0 has 100 tokens"):
        verify_capture(order, root=str(tmp_path), models=str(tmp_path))
    verify_capture(contract({"k": 100}, {"type": "vllm", "path": "m"}), root=str(tmp_path), models=str(tmp_path))
    with pytest.raises(ModelError, match=r"capture.tokenizers.t0: found no folder at"):
        verify_capture(
            contract({"constraint": "none", "tokenizers": {"t0": "gone"}}, SERVER), root=str(tmp_path), models=str(tmp_path)
        )


class Completions(BaseHTTPRequestHandler):
    """Scores each token i of a prompt with the choices i (0.5) and i + 1 (0.25), or leaves the scores out."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        asked: Any = self.server
        asked.bodies.append((self.path, body))
        fault = asked.faults.pop(0) if asked.faults else None
        if fault is None and len(body["prompt"]) > asked.longest:
            fault = (400, b'{"error": {"message": "no such token"}}')
        if fault is not None:
            self.reply(*fault)
            return
        scores: Any = [{str(at): {"logprob": np.log(0.5)}, str(at + 1): {"logprob": np.log(0.25)}} for at in body["prompt"]]
        choice = {"index": 0, "text": "x", **({"prompt_logprobs": [None, *scores[1:]]} if asked.scores else {})}
        self.reply(200, json.dumps({"choices": [choice]}).encode())

    def reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Any:
    running: Any = ThreadingHTTPServer(("127.0.0.1", 0), Completions)
    running.bodies, running.scores, running.faults, running.longest = [], True, [], 99
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def write_tokenizer(folder: Path) -> None:
    words = {word: at for at, word in enumerate(["</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    bare = Tokenizer(models.BPE(vocab=words, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="</s>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}</s>{% endfor %}"
    tokenizer.save_pretrained(folder)


def endpoint(server: Any) -> dict[str, Any]:
    return {**SERVER, "url": f"http://127.0.0.1:{server.server_port}/v1", "retries": 0}


def test_server_that_scores_prompts_gives_distributions(tmp_path: Path, server: Any) -> None:
    write_tokenizer(tmp_path / "words")
    engine = EndpointEngine(EndpointModel.model_validate(endpoint(server)), Pool(), tmp_path / "words")
    [found] = engine.distributions([Target([{"role": "user", "content": "ab"}], "cd")], 2)
    assert isinstance(found, Distribution)
    [(path, body)] = server.bodies
    assert path == "/v1/completions" and body["prompt_logprobs"] == 2 and body["prompt"][-3:] == found.tokens.tolist()
    assert found.ids.tolist() == [[token, token + 1] for token in found.tokens.tolist()] and found.tokens[-1] == 0
    assert np.allclose(np.exp(found.own), 0.5) and np.allclose(np.exp(found.tail), 0.25)
    assert engine.tokens_read == len(body["prompt"])


def scoring(tmp_path: Path, server: Any, monkeypatch: Any, **model: Any) -> Any:
    """Return what scores texts, and gives the kind of each outcome."""
    monkeypatch.setattr(sending, "FIRST_WAIT", 0.01)
    write_tokenizer(tmp_path / "words")
    engine = EndpointEngine(EndpointModel.model_validate({**endpoint(server), **model}), Pool(), tmp_path / "words")
    return lambda *texts: [type(each) for each in engine.distributions([Target([], text) for text in texts], 2)]


def test_scoring_waits_for_a_server_and_bears_what_an_answer_of_a_chat_does(tmp_path: Path, server: Any, monkeypatch: Any) -> None:
    score = scoring(tmp_path, server, monkeypatch)  # no retries: to be turned away is no failure
    server.faults = [(429, b"{}")] * 7
    assert score("ab") == [Distribution] and len(server.bodies) == 8
    server.faults = [(200, b'{"choices": [')]
    assert sorted(map(str, score("ab", "cd"))) == sorted(map(str, [Distribution, Lost]))
    server.faults = [(200, b'{"choices": [')]
    assert scoring(tmp_path, server, monkeypatch, retries=1)("ab") == [Distribution]


def test_text_that_is_refused_stops_no_capture_and_a_server_that_refuses_a_short_one_does(
    tmp_path: Path, server: Any, monkeypatch: Any
) -> None:
    score = scoring(tmp_path, server, monkeypatch)
    server.longest = 12  # tokens, with its turn marks
    assert score("a" * 99, "ab") == [Lost, Distribution]
    assert score("a" * 99) == score("b" * 99) == [Lost]
    server.longest = 0
    with pytest.raises(ModelError, match=r"(?s)the server scores no text. It says: 400 .*no such token"):
        score("a" * 99, "ab")
    with pytest.raises(ModelError, match=r"a teacher without log-probabilities of given texts: 400 .*no such token"):
        scoring(tmp_path, server, monkeypatch)("ab")


def test_server_that_scores_no_prompts_is_refused_when_it_is_asked_and_before_anything_is_paid(tmp_path: Path, server: Any) -> None:
    write_tokenizer(tmp_path / "words")
    order = contract({"constraint": "none", "tokenizers": {"t0": "words"}}, endpoint(server))
    assert ask_captured(order, root=str(tmp_path)) == [f"{endpoint(server)['url']} scores texts, as capture wants of t0"]
    server.scores = False
    with pytest.raises(ModelError, match="a teacher without log-probabilities of given texts: its completions have no"):
        ask_captured(order, root=str(tmp_path))


def test_tokenizer_of_a_server_is_read_before_anything_is_paid(tmp_path: Path, server: Any) -> None:
    def refused(words: str, check: Any, **options: str) -> None:
        with pytest.raises(ModelError, match=words):
            check(contract({"constraint": "none", "tokenizers": {"t0": "words"}}, endpoint(server)), root=str(tmp_path), **options)

    (tmp_path / "words").mkdir()
    refused("words: no tokenizer can be loaded from here", verify_capture, models="")
    small = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a")), eos_token="</s>"
    )
    small.chat_template = "{{ raise_exception('no') }}"
    small.save_pretrained(tmp_path / "words")
    refused("capture.k: found 16, but the teacher t0 has 2 tokens", verify_capture, models="")
    refused("did not score a word for capture.teachers t0: the chat template refuses the chat: .*no", ask_captured)


def test_plan_names_tokens_and_bytes_of_a_capture() -> None:
    sums = {name: np.array([1.0, 1.0]) for name in ("answers", "learnable")}
    sums |= {"exam_in": np.array([100.0, 100.0]), "exam_out": np.array([10.0, 10.0])}
    pilot = Pilot(sums, 20, 1.0, 1, {"t": np.array([110.0, 110.0])})
    estimates = Extrapolation(pilot, times=100, level=0.95, seed=0)
    order = contract({"k": 16})
    assert order.capture
    plan = capture(order.capture, estimates)
    assert plan.tokens_in and plan.bytes and (plan.tokens_in.value, plan.bytes.value) == (2200, 200 * 51)
    [tokens] = [each.tokens for each in consumer_plans(order, estimates, synthesis=None) if each.kind == "capture"]
    assert tokens and tokens.value == 2200
