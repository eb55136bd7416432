"""Records of `rayleigh dedup`: its summary, and the record of a batch in an index."""

from pydantic import AliasChoices, Field, field_validator

from engine.records.base import Record

Settings = dict[str, int | float | str | None] | None


class SharedWords(Record):
    """What the texts of a source or task unit have in common."""

    ngrams: int
    """N-grams that more than `max_df` of the texts have, and that do not count for likeness."""
    share: float
    """Share of the texts that have the most widespread n-gram, 0 to 1."""
    words: str
    """The longest passage of widespread n-grams in one of the texts, case folded and without punctuation."""


class IndexRecipe(Record):
    """The settings that all batches of an index share."""

    version: int
    """Version of what is stored; an index of another version is refused."""
    matcher: Settings = Field(validation_alias=AliasChoices("matcher", "alike"))
    """Settings of MinHash (section `prompts.copies`), or `model` and `threshold` of the embeddings; null = equal texts only."""
    keep: tuple[str, ...]
    """Columns by which the document to keep is chosen, `longest` and `shortest` among them."""
    normalization: str = "none"
    """Unicode form in which texts are compared (nfc, nfkc); indexes of before it was stored compared them as they are written."""
    columns: dict[str, str]
    """Arrow type of the ids and of the `keep` columns, by name; all forms of text are `string`."""

    @field_validator("columns")
    @classmethod
    def texts_are_one(cls, columns: dict[str, str]) -> dict[str, str]:
        """An index made by an earlier version says `large_string` too."""
        return {name: "string" if kind in ("large_string", "string_view") else kind for name, kind in columns.items()}


class IndexBatch(Record):
    """`INDEX/batch-00000/record.json`: one batch of an index, complete once this file is there."""

    recipe: IndexRecipe
    rows: int
    """Documents of the batch."""
    parts: tuple[str, ...]
    """File names of the batch's parts."""


class DedupCounts(Record):
    """Rows of a corpus before and after deduplication."""

    rows: int
    """Rows of the input."""
    kept: int
    """Rows that stay."""
    duplicates: dict[str, int]
    """Method (exact, minhash, semantic) -> rows that do not stay."""
    rejected: dict[str, int] = {}  # noqa: RUF012
    """Reason -> rows that cannot be read, or damaged parts of files; listed in `rejects` beside the output."""


class DedupSummary(DedupCounts):
    """`__dedup__/OUTPUT/summary.json` beside OUTPUT, and what `rayleigh dedup --json` prints: options, counts and time."""

    input: str
    """The corpus, as given."""
    output: str
    """URL of the output folder."""
    side: str = ""
    """URL of the folder of `duplicates.parquet`, `summary.json` and `rejects`."""
    text_column: str
    id_column: str | None
    threshold: float | None
    """Least similarity of a duplicate: Jaccard for minhash, cosine for semantic, 1 for exact."""
    method: str
    """exact, minhash or semantic."""
    model: str
    """The embedding model; used with method semantic."""
    keep: tuple[str, ...]
    """Columns by which the row to keep is chosen, `longest` and `shortest` among them."""
    against: str | None
    """A corpus whose rows win and are not written."""
    normalization: str | None
    """Unicode form in which texts were compared: nfc, nfkc or none."""
    damaged: str = "refuse"
    """`refuse` or `keep`: what is done with a file that is cut or damaged."""
    index: str | None
    """The index that the corpus was compared with and added to."""
    seconds: float
    """Wall time of the command."""
