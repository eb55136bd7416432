#!/usr/bin/env bash
# The system prompt moves with each turn.
#
# Guess: the system prompt is the start of a conversation, so that the tokens of one turn are the beginning of those of the next,
#        which prefix caching and training on several turns at once stand on.
# Seen:  in version 3 it is written before the last question: with the next turn the text changes from the first token on, and
#        the answer that was given with the system prompt stands after a question without it. In versions 1 and 7 it stays at the
#        start.
# With:  mistral_common 1.13.1, sentencepiece 0.2.3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mistral_common==1.13.1 sentencepiece==0.2.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

FIRST = [SystemMessage(content="SYSTEM"), UserMessage(content="one")]
SECOND = [*FIRST, AssistantMessage(content="two"), UserMessage(content="three")]


def kept(tokenizer):
    """The texts of both turns, and whether the first is the beginning of the second."""
    turns = [tokenizer.encode_chat_completion(ChatCompletionRequest(messages=messages)) for messages in (FIRST, SECOND)]
    return turns[0].text, turns[1].text, turns[1].tokens[: len(turns[0].tokens)] == turns[0].tokens


seen = {name: kept(getattr(MistralTokenizer, name)()) for name in ("v1", "v3", "v7")}
print("mistral_common", version("mistral_common"), *seen.items(), sep="\n")
assert [same for _, _, same in seen.values()] == [True, False, True]
for name in ("v1", "v7"):
    assert seen[name][1].index("SYSTEM") < seen[name][1].index("one")
assert seen["v3"][1].index("one") < seen["v3"][1].index("SYSTEM") < seen["v3"][1].index("three")
PYTHON
