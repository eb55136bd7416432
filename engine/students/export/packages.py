"""Packages that only an exporter and its runtime see, in a folder of their own."""

from pathlib import Path
from typing import Literal, NamedTuple

from engine.contract.profile import Profile
from engine.inference.identity import version_in


class Packages(NamedTuple):
    """The packages of one exporter."""

    exporter: Literal["gguf", "int4"]
    needed: tuple[str, ...]
    """Distributions without which it does not work."""
    requirements: Path
    """File with the versions to install."""
    note: str = ""
    """What to know before they are installed."""

    def folder(self, profile: Profile, models: str) -> str:
        """Return their folder; `models` is the folder of unpacked models."""
        return profile.exporters.get(self.exporter) or str(Path(models).parent / "exporters" / self.exporter)

    def missing(self, folder: str) -> str:
        """Return what lacks in `folder`, with the command that installs it; "" if nothing."""
        lacks = [name for name in self.needed if version_in(name, folder) is None]
        if not lacks:
            return ""
        return (
            f"needs {' and '.join(lacks)}, which {'are' if len(lacks) > 1 else 'is'} not in {folder}. Install them there: "
            f"uv pip install --no-deps --target {folder} -r {self.requirements}{self.note}, or name another folder as "
            f"`exporters: {{{self.exporter}: FOLDER}}` in the profile."
        )
