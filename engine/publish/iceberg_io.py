"""Files of an Iceberg table that is written in one folder and will lie in another one. pyiceberg loads it by its name."""

from pyiceberg.io.pyarrow import PyArrowFileIO  # pyright: ignore[reportMissingImports]

FINAL, PART = "rayleigh.final", "rayleigh.part"
"""Properties of the catalogue: the folder that locations name, and the one in which the files are until it is whole."""


class Relocated(PyArrowFileIO):
    """Reads and writes what a location names below FINAL at the same place below PART."""

    @staticmethod
    def parse_location(location: str, properties: dict[str, str]) -> tuple[str, str, str]:  # pyright: ignore
        """Return scheme, host and path of the file."""
        scheme, host, path = PyArrowFileIO.parse_location(location, properties)
        final, part = properties[FINAL], properties[PART]
        return scheme, host, part + path.removeprefix(final) if path.startswith(f"{final}/") else path
