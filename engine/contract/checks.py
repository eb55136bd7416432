"""Settings of the deterministic checks, chosen by `type`. `engine/checks` has one function for each type."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from engine.contract.base import Name, Positive, Section, Share
from engine.contract.reference import Pattern, Reference, has_groups

LANGUAGES = frozenset(
    "ace af am an ar ary arz as az ba bcl be bg bn br bs ca crh cs cy da de dz el en eo es et eu ext fa fi fo fr fuv fy ga gcf gcr "
    "gd gl gom grc gu gug guw ha hbo he hi hr ht hu hy id ig is it ja jv ka kab kik kk km kn ko ku ky la lb lg lij ln lo lt ltg lv "
    "mg mk ml mn mr ms mt my ne nl nn no nso oc om or pa pcm pl ps pt qu ro ru rw sa sdh se si sk sl sn so sq sr st sv sw ta te tg "
    "th tk tl tr tt ug uk ur uz uzs vec vi vo wa wuu xh yo yue zh zu".split()
)
"""Languages that py3langid can identify (ISO 639)."""


def _is_a_unit(unit: str) -> str:
    import pint

    try:
        pint.application_registry.parse_units(unit)
    except Exception:  # pint lets errors of its parser through
        raise ValueError(f"{unit!r} is not a unit that pint knows; write it as in kg, km/h, m^2 or degC") from None
    return unit


def _is_a_language(code: str) -> str:
    if code not in LANGUAGES:
        raise ValueError(f"{code!r} is not a language that py3langid identifies; expected one of {' '.join(sorted(LANGUAGES))}")
    return code


LanguageCode = Annotated[str, AfterValidator(_is_a_language)]

Isolation = Literal["landlock", "seccomp", "namespaces"]


class Checked(Section):
    """Keys that every check has."""

    name: Name | None = None
    """Name in reports and in the column `checks`; null: the type."""
    task_units: tuple[str, ...] = ()
    """Check only answers of these task units; empty: of all."""

    @property
    def title(self) -> str:
        """The name in reports: `name`, or else the type."""
        return self.name or str(getattr(self, "type", ""))

    @property
    def wants_references(self) -> bool:
        """Whether an answer fails if its prompt has no reference."""
        references = [value for value in vars(self).values() if isinstance(value, Reference)]
        return any(ref.value is None and ref.pattern is None and ref.missing == "fail" for ref in references)


class JsonSchema(Checked):
    """The answer parses as JSON and validates against the task unit's schema."""

    type: Literal["json_schema"]


class Grounded(Checked):
    """Every value of the answer's JSON fields occurs in the prompt: a text as whole words, a number also if it is written in
    another way, such as 1,234. Null, true and false are not looked for."""

    type: Literal["grounded"]
    fields: Literal["all"] | tuple[str, ...] = "all"


class Choice(Checked):
    """The answer, or a field of it, is one of `allowed`; null passes."""

    type: Literal["choice"]
    allowed: tuple[str, ...] = Field(min_length=1)
    field: str | None = None


class Regex(Checked):
    """The answer, or a field of it, fully matches `pattern`; null passes. Matching may take one second."""

    type: Literal["regex"]
    pattern: Pattern
    field: str | None = None


class Numeric(Checked):
    """The answer, or a field of it, is a number in [min, max] and close to the reference; null passes. The prompt's `language`
    decides between 1.234 and 1,234."""

    type: Literal["numeric"]
    min: float | None = None
    max: float | None = None
    field: str | None = None
    unit: Annotated[str, AfterValidator(_is_a_unit)] | None = None
    """A unit that the answer must have, or one that converts to it (pint); also the unit of bounds and tolerance. Null: none, or
    that of the reference."""
    reference: Reference | None = None
    """Null: the number is compared with no reference."""
    abs_tol: float = Field(default=0, ge=0)
    """Absolute tolerance around the reference."""
    rel_tol: float = Field(default=0, ge=0)
    """Tolerance as a fraction of the reference; the larger of both tolerances holds, as in `math.isclose`."""

    @model_validator(mode="after")
    def bounds_and_tolerance_make_sense(self) -> "Numeric":
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min and max: found {self.min:g} > {self.max:g}, so no number passes; swap them")
        if self.reference is None and (self.abs_tol or self.rel_tol):
            raise ValueError("abs_tol and rel_tol: a tolerance needs a reference; add reference: {} for the prompt's own")
        return self


class Mathematics(Checked):
    """The answer, or a field of it, is mathematically equal to the reference. Both are LaTeX or plain text (math-verify); where
    neither is mathematics, they are compared as text."""

    type: Literal["math"]
    reference: Reference = Reference()
    field: str | None = None
    seconds: Positive = 5
    memory_mib: Positive = 1024


class Code(Checked):
    """The Python code of the answer passes tests in the sandbox."""

    type: Literal["code"]
    tests: Reference = Reference()
    """Python code that raises an exception if the answer is wrong; it can use all global names of the answer."""
    field: str | None = None
    """The field of a JSON answer that holds the code. Null: the first fenced block, or the whole answer if it has no fence."""
    cpu_seconds: Positive = 5
    seconds: Positive = 15
    """Wall-clock time."""
    memory_mib: Positive = 256
    """Address space; Python itself takes about 30 MiB."""
    output_kib: Positive = 64
    """Limit of what the program prints, and of the files in its folder."""
    isolation: tuple[Isolation, ...] = ("landlock", "seccomp")
    """Kernel mechanisms that are required: a machine that lacks one of them runs nothing. Others that it has are used as well."""


class Sql(Checked):
    """The answer's query returns the same rows as the reference query (DuckDB, in memory)."""

    type: Literal["sql"]
    reference: Reference = Reference()
    """The reference query."""
    setup: Reference = Reference(value="")
    """SQL that creates and fills the tables; for all prompts: `setup: {value: !include shop.sql}`."""
    field: str | None = None
    ordered: bool = False
    """Whether the order of the rows counts. The order of columns always counts, their names never do."""
    seconds: Positive = 5
    memory_mib: Positive = 256


class Citations(Checked):
    """Cited ids are passages of the prompt; quotations occur in a cited passage, or in the prompt if none is cited."""

    type: Literal["citations"]
    citation_pattern: Annotated[str, has_groups(1, "the id of a passage")] = r"\[([\w.-]+)\]"
    """Matched in the answer; its one group is the id of a passage."""
    passage_pattern: Annotated[str, has_groups(2, "the id of a passage, and its text")] = r"(?m)^\s*\[([\w.-]+)\]\s*(.+)$"
    """Matched in the prompt; its two groups are the id of a passage and its text."""
    min_citations: int = Field(default=1, ge=0)
    """Citations that an answer must have at least."""
    min_quote_words: Positive = 3
    """Text in double quotes with fewer words is no quotation."""
    field: str | None = None


class Language(Checked):
    """The answer is in an allowed language (py3langid). Of a JSON answer, the text in its values is checked; code is not. An answer
    passes where the language of prompt or answer is not sure, and the result says so."""

    type: Literal["language"]
    allowed: Literal["prompt"] | tuple[LanguageCode, ...] = "prompt"
    """`prompt`: the prompt's `language`, or the language detected in its text where the source does not say."""
    min_chars: Positive = 20
    """A shorter answer passes: its language cannot be detected."""
    min_probability: Share = 0.5
    """Fail only if another language has at least this probability."""


class Length(Checked):
    """The length of the answer, or of a field of it, is in [min, max]; null passes."""

    type: Literal["length"]
    unit: Literal["characters", "words", "tokens"] = "words"
    """`tokens`: words and punctuation marks; a model's tokenizer counts more."""
    min: int = Field(default=0, ge=0)
    max: Positive | None = None
    field: str | None = None

    @model_validator(mode="after")
    def something_passes(self) -> "Length":
        if not self.min and self.max is None:
            raise ValueError("min and max: found neither, so everything passes; give one")
        if self.max is not None and self.min > self.max:
            raise ValueError(f"min and max: found {self.min} > {self.max}, so nothing passes; swap them")
        return self


class Repetition(Checked):
    """At most `max_share` of the answer's n-grams are repetitions of an earlier one."""

    type: Literal["repetition"]
    ngram: Positive = 3
    unit: Literal["word", "character"] = "word"
    """`character` for scripts without spaces."""
    max_share: Share = 0.3


class LeakedPrompt(Checked):
    """The answer does not repeat the task unit's instruction, the prompt's system text, or one of `texts`."""

    type: Literal["leaked_prompt"]
    min_words: Positive = 8
    """A run of so many words that the user did not write is a leak; of a shorter text, all of its words."""
    texts: tuple[str, ...] = ()
    """Further texts that must not be repeated, such as a teacher's system text (YAML anchors: `&name` and `*name`)."""


class Refusal(Checked):
    """The answer refuses exactly where it must. A refusal is a form of nulls, or begins with one of `phrases`."""

    type: Literal["refusal"]
    scenarios: tuple[str, ...] = ()
    """Prompts of these scenarios must be refused."""
    reference: Reference | None = None
    """Prompts whose reference is a refusal must be refused. With neither key, no prompt must be refused."""
    phrases: tuple[str, ...] = (
        "i cannot", "i can't", "i can not", "i am unable", "i'm unable", "i am not able", "i'm not able", "i won't", "i will not",
        "i'm sorry", "i am sorry", "sorry, but", "i must decline", "as an ai",
    )  # fmt: skip
    """Searched in the first 200 characters, as whole words, without regard to case."""

    @model_validator(mode="after")
    def one_rule_decides(self) -> "Refusal":
        if self.scenarios and self.reference:
            raise ValueError("scenarios and reference: found both, expected one, or neither where no prompt must be refused")
        return self


class Policy(Checked):
    """The answer contains no banned word or phrase."""

    type: Literal["policy"]
    banned: tuple[str, ...] = Field(min_length=1)
    """Matched as whole words, without regard to case and white space; usually `!include words.yaml`."""


class Tools(Checked):
    """A tool call succeeded, and the values of the answer occur in the last result."""

    type: Literal["tools"]


Check = Annotated[
    JsonSchema | Grounded | Choice | Regex | Numeric | Mathematics | Code | Sql | Citations | Language | Length | Repetition
    | LeakedPrompt | Refusal | Policy | Tools,
    Field(discriminator="type"),
]  # fmt: skip
