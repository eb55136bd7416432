#!/usr/bin/env bash
# A fresh installation of evidently cannot be imported: it takes a pandas that it does not run with.
#
# Guess: what pip resolves without a conflict can be imported; a library that needs pandas below 3 says so in its requirements.
# Seen:  evidently requires pandas without an upper bound, pip takes pandas 3, and `from evidently import Report` ends with an
#        ImportError: its legacy part imports infer_dtype_from_object from pandas' internals, where it is no more. With pandas 2.3.3
#        the same import works.
# With:  evidently 0.7.23, pandas 3.1.1 and 2.3.3, numpy 2.4.6
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet evidently==0.7.23 pandas==3.1.1 numpy==2.4.6
"$folder/venv/bin/pip" check
cat > "$folder/look.py" <<'PYTHON'
from importlib.metadata import requires, version

print("evidently", version("evidently"), "requires", [each for each in requires("evidently") if each.startswith("pandas")], end=": ")
try:
    from evidently import Report
except ImportError as error:
    print("with pandas", version("pandas"), "->", str(error).split(" (")[0])
    raise SystemExit(1)
print("with pandas", version("pandas"), "->", Report.__name__, "is imported")
PYTHON
if "$folder/venv/bin/python" "$folder/look.py"; then echo "it is imported with pandas 3"; exit 1; fi
"$folder/venv/bin/pip" install --quiet pandas==2.3.3
"$folder/venv/bin/python" "$folder/look.py"
