"""The process that reads a GGUF file with llama.cpp: started, asked, and started again after a death."""

import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.contract.models import LlamaCppModel
from engine.errors import ModelError
from engine.inference.identity import version_in

PACKAGE = "llama-cpp-python"
NEEDED = (PACKAGE, "diskcache")  # which it imports, and this environment need not have
SCRIPT = Path(__file__).with_name("llama_cpp_process.py")


class Died(Exception):
    """The process ended, or refused what it was asked."""


class LlamaCppChild:
    """A process with a loaded file.

    Raises:
        ModelError: llama-cpp-python is missing, or llama.cpp does not load the file.
    """

    def __init__(self, file: Path, model: LlamaCppModel, *, threads: int) -> None:
        if problem := missing(model.packages):
            raise ModelError(f"{file}: {problem}")
        self.packages = model.packages or ""
        self.load = {"file": str(file), "context": model.max_model_len, "threads": threads}
        self.process: subprocess.Popen[str] | None = None
        try:
            self.size = int(self._start()["size"])
        except Died as error:
            self.close()
            raise ModelError(f"llama.cpp cannot serve {file}: {error}. Export the student again, or choose another type.") from None

    def ask(self, **question: Any) -> dict[str, Any]:
        """Return the answer to one question, with a new process where the last one has ended; see `llama_cpp_process.answer`.

        Raises:
            Died: llama.cpp refused the question, or ended because of it.
        """
        if self.process is None:
            self._start()
        return self._send(question)

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout, self.log):
                with suppress(BrokenPipeError):  # what was written last may not have been read
                    if pipe:
                        pipe.close()
            self.process = None

    def _start(self) -> dict[str, Any]:
        self.log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - it lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(SCRIPT), self.packages],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
        )  # fmt: skip
        return self._send(self.load)

    def _send(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            why = self._last_words()
            self.close()
            raise Died(why)
        reply = json.loads(line)
        if "error" in reply:
            raise Died(f"{reply['error']} {self._last_words()}".strip())
        return reply

    def _last_words(self) -> str:
        """Return the last line that the library wrote about an error."""
        self.log.seek(0)
        lines = [
            line.strip() for line in self.log if "error" in line.lower() or "assert" in line.lower() or "failed" in line.lower()
        ]
        return lines[-1][:300] if lines else "the process ended without a word"


def missing(folder: str | None) -> str:
    """Return what llama.cpp lacks in the folder of packages `folder` and in this environment, with the command that installs it; ""
    if nothing."""
    lacks = [name for name in NEEDED if version_in(name, folder) is None]
    if not lacks:
        return ""
    target, where = (f" --target {folder}", f"neither in {folder} nor") if folder else ("", "not")
    return (
        f"llama.cpp needs {' and '.join(lacks)}, which {'are' if len(lacks) > 1 else 'is'} {where} in this environment. "
        f"Install it: uv pip install --no-deps{target} "
        f"{' '.join(NEEDED)} (llama.cpp is compiled: cmake, a C++ compiler, some minutes)."
    )
