"""Packages that only an exporter and its runtime see, in a folder of their own."""

from pathlib import Path
from typing import Literal, NamedTuple

from engine.contract.profile import Profile
from engine.inference.identity import version_in


class Packages(NamedTuple):
    """The packages of one exporter."""

    exporter: Literal["gguf", "int4"]
    tools: tuple[str, ...]
    """Distributions whose versions the record of an export names."""
    requirements: Path
    """File with what it does not work without, a `NAME==VERSION` a line."""
    note: str = ""
    """What to know before they are installed."""

    def folder(self, profile: Profile, models: str) -> str:
        """Return their folder; `models` is the folder of unpacked models."""
        return profile.exporters.get(self.exporter) or str(Path(models).parent / "exporters" / self.exporter)

    @property
    def needed(self) -> list[str]:
        """Names of the distributions without which it does not work."""
        return [line.partition("==")[0] for line in self.requirements.read_text().splitlines() if "==" in line]

    def missing(self, folder: str) -> str:
        """Return what lacks in `folder`, with the command that installs it; "" if nothing."""
        lacks = [name for name in self.needed if version_in(name, folder) is None]
        if not lacks:
            return ""
        return (
            f"needs {', '.join(lacks)}, which {'are' if len(lacks) > 1 else 'is'} not in {folder}. Install them there: "
            f"uv pip install --no-deps --target {folder} -r {self.requirements}{self.note}, or name another folder as "
            f"`exporters: {{{self.exporter}: FOLDER}}` in the profile."
        )
