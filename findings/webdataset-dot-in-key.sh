#!/usr/bin/env bash
# Two samples whose keys have a dot are read as one.
#
# Guess: what TarWriter takes as __key__, WebDataset returns as __key__: a name such as llama-3.1-0 is as good as another, or
#        the writer refuses it.
# Seen:  the writer takes the key as it is, and the reader cuts a name at its first dot: the samples llama-3.1 and llama-3.2
#        come back as one sample, llama-3, with the fields 1.txt and 2.txt. Nothing warns; a dot in a folder of the key does no
#        harm.
# With:  webdataset 1.0.2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webdataset==1.0.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import warnings
from importlib.metadata import version

from webdataset import TarWriter, WebDataset

warnings.simplefilter("error", UserWarning)


def trip(*keys):
    """What is read of one sample for each key."""
    with TarWriter("shard.tar") as writer:
        for key in keys:
            writer.write({"__key__": key, "txt": key})
    samples = WebDataset("shard.tar", shardshuffle=False).decode()
    return [{"key": sample["__key__"], **{name: sample[name] for name in sample if name[0] != "_"}} for sample in samples]


dots, plain, folder = trip("llama-3.1", "llama-3.2"), trip("llama-3-1", "llama-3-2"), trip("v3.1/a", "v3.1/b")
print("webdataset", version("webdataset"), "two samples with a dot:", dots)
print("without:", plain, "in a folder with a dot:", folder)
assert dots == [{"key": "llama-3", "1.txt": "llama-3.1", "2.txt": "llama-3.2"}]
assert plain == [{"key": key, "txt": key} for key in ("llama-3-1", "llama-3-2")]
assert folder == [{"key": key, "txt": key} for key in ("v3.1/a", "v3.1/b")]
PYTHON
