#!/usr/bin/env bash
# A chat template of Jinja, rendered by Jinja, is another prompt.
#
# Guess: a chat template is a template of Jinja2, so Environment(trim_blocks=True, lstrip_blocks=True) renders what
#        apply_chat_template does: a server or a test can do without transformers.
# Seen:  tojson differs: Jinja2 sorts the keys and writes <, >, &, ' and all that is not ASCII as escapes, for use in HTML;
#        transformers has a tojson of its own, which keeps order and letters. The tools of a prompt are other tokens, for the
#        same template. With this tojson among the filters of the environment both are equal.
# With:  Jinja2 3.1.6, MarkupSafe 3.0.4, transformers 5.24.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet Jinja2==3.1.6 MarkupSafe==3.0.4 transformers==5.24.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import json
import os
from importlib.metadata import version

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from jinja2 import Environment
from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATE = "{% for tool in tools %}\n{{ tool | tojson }}\n{% endfor %}\n{{ messages[0].content }}"
TOOLS = [{"type": "function", "function": {"name": "find", "description": "the customer's orders < 5 \u20ac"}}]
MESSAGES = [{"role": "user", "content": "Where is it?"}]

environment = Environment(trim_blocks=True, lstrip_blocks=True)
plain = environment.from_string(TEMPLATE).render(messages=MESSAGES, tools=TOOLS)
environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
mended = environment.from_string(TEMPLATE).render(messages=MESSAGES, tools=TOOLS)
prompt = render_jinja_template([MESSAGES], tools=TOOLS, chat_template=TEMPLATE)[0][0]
print("Jinja2", version("Jinja2"), "transformers", version("transformers"), plain, prompt, sep="\n")
assert prompt == mended == f"{json.dumps(TOOLS[0], ensure_ascii=False)}\nWhere is it?"
assert plain == (
    '{"function": {"description": "the customer\\u0027s orders \\u003c 5 \\u20ac", "name": "find"}, "type": "function"}\nWhere is it?'
)
PYTHON
