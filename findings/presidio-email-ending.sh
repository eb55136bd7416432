#!/usr/bin/env bash
# An e-mail address of an internal domain is no e-mail address.
#
# Guess: EmailRecognizer finds an address by its form.
# Seen:  the ending must be on the Public Suffix List: ann@example.com is found, ann@mail.internal and ann@example.test are not,
#        at any score.
# With:  presidio-analyzer 2.2.366
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet presidio-analyzer==2.2.366
"$folder/venv/bin/python" - <<'PYTHON'
from presidio_analyzer.predefined_recognizers import EmailRecognizer

recognizer = EmailRecognizer()
texts = ("ann@example.com", "ann@mail.internal", "ann@example.test")
found = {text: bool(recognizer.analyze(text, ["EMAIL_ADDRESS"], None)) for text in texts}
print(found)
assert list(found.values()) == [True, False, False]
PYTHON
