"""Instructions made from the documentation of functions, not written by people.

A documented function becomes a request to write it, or one to explain it:

    {"instruction": "Write a Python function called `mean` that returns the mean of the values.",
     "input": "", "output": "def mean(values): ...", ...}
    {"instruction": "Explain what this Python function does.",
     "input": "def mean(values): ...", "output": "It returns the mean of the values.", ...}

Only sentences that say what a function does are taken: they begin with a verb, and make sense
without their surroundings. Each record says where its function is from, and under which licence.
They are for tests and for a first look at instruction tuning; they hold no dialogue, no reasoning,
and nothing that a docstring does not say.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from codet5p_jax.data.corpus_records import read_records
from codet5p_jax.data.verbs import third_person_sentence

LANGUAGE_NAMES = {
    "c": "C",
    "cpp": "C++",
    "csharp": "C#",
    "go": "Go",
    "java": "Java",
    "javascript": "JavaScript",
    "php": "PHP",
    "python": "Python",
    "ruby": "Ruby",
}
WRITE = (
    "Write a {language} function called `{name}` that {does}.",
    "Implement `{name}` in {language}: a function that {does}.",
    "I need a {language} function `{name}` that {does}. Write it.",
)
EXPLAIN = (
    "Explain what this {language} function does.",
    "What does this {language} function do?",
    "Say in one sentence what this {language} function does.",
)
TURNS = ("write", "write", "explain")  # which of both is asked for, over and over
MADE_FROM = "documentation"  # value of the field that tells such records from those of people
WORDS = range(5, 31)  # of a sentence
LINES = range(5, 31)  # of a function
MOST_CHARACTERS = 1_200  # of a function

_FIRST_SENTENCE = re.compile(r"(.+?)[.!](?=\s+[A-Z`\"(]|\s*$)")
_PLAIN = re.compile(r"[\w\s`'\",.()/=+%\[\]&-]+", re.ASCII)
# Words that point at what is not there, talk to the reader, or hide a full stop.
_NEEDS_CONTEXT = re.compile(
    r"\b(this|these|those|above|below|following|example|see|deprecated|internal|internally|todo|"
    r"note|same|we|you|your|our|us|i|e\.g|i\.e|etc|param|params|superclass|subclass|subclasses|"
    r"method|constructor|callback|wrapper|helper|overload|override|it|its|they|them|their|here|"
    r"per|spec|rfc)\b|(?<![\w'])[b-z]\b",
    re.IGNORECASE,
)
# What shows that a function is one of an object, whose state cannot be asked for in a sentence.
_OF_AN_OBJECT = re.compile(
    r"\b(this|self|cls|super|base|parent|static::|\w+_)\b|\$this|^func \(|\b_[a-z]\w*|::\w+\(",
    re.MULTILINE,
)
_RUBY_STATE = re.compile(r"@\w")
_UNFIT_CODE = re.compile(r"<SECRET>|<EMAIL>|\b(TODO|FIXME|XXX|HACK|NotImplemented\w*)\b")
_UNFIT_NAME = re.compile(
    r"(?i)^(_+|init|main|constructor|setup|teardown|test\w*|__\w+__)$|^\W|^operator\b"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Function:
    """A documented function of a corpus; see the dataset `code_functions`."""

    name: str
    code: str
    docstring: str
    language: str
    license: str
    repository: str
    path: str
    id: str


def read_functions(corpus_dir: str | pathlib.Path, *, split: str = "train") -> Iterator[Function]:
    """Yields the documented functions of a split.

    Raises:
        FileNotFoundError: If the corpus has no `code_functions`.
    """
    names = [field.name for field in dataclasses.fields(Function)]
    for record in read_records("code_functions", corpus_dir=corpus_dir, split=split):
        if record["docstring"].strip():
            yield Function(**{name: record[name] for name in names})


def made_instructions(
    functions: Iterable[Function], *, count: int | None = None, seed: int = 0
) -> list[dict[str, str]]:
    """Returns records in Alpaca's format, with `license`, `origin` and `made_from` beside.

    Functions that stand alone are asked for, and others are to be explained: two of the former, one
    of the latter, as long as there are both. Languages take turns, and so do the repositories of a
    language. What is chosen, and how it is worded, follows from the seed and the hashes of the
    functions.

    Args:
        functions: In any order.
        count: How many records; None makes all that can be made.
        seed: Another one gives others.
    """
    fit = [(function, does) for function in functions if (does := what_it_does(function))]
    fit = sorted(fit, key=lambda pair: (_digest(pair[0], seed), pair[0].path, pair[0].name))
    saying = {does: function for function, does in reversed(fit)}  # the first that says it
    says = {(f.id, f.path, f.name): does for does, f in saying.items()}
    ordered = _in_turns([f for f, does in fit if saying[does] is f])
    records = [_record(f, says[f.id, f.path, f.name], _digest(f, seed)) for f in ordered]
    return list(itertools.islice(_alternating(records), count))


def what_it_does(function: Function) -> str | None:
    """Returns a function's first sentence from its verb on, in the third person, or None.

    "Return the mean of the values." -> "returns the mean of the values"
    """
    language = LANGUAGE_NAMES.get(function.language)
    if language is None or not _is_fit(function.code, function.name):
        return None
    found = _FIRST_SENTENCE.match(" ".join(function.docstring.split()))
    sentence = found.group(1) if found else " ".join(function.docstring.split())
    # Go begins with the function's name.
    sentence = re.sub(rf"^{re.escape(function.name)}\s+", "", sentence)
    sentence = re.sub(r"\+([\w?!]+)\+", r"`\1`", sentence).replace("``", "`")  # RDoc, RST
    if len(sentence.split()) not in WORDS or not _makes_sense_alone(sentence):
        return None
    if ". " in sentence:  # which the next one does not show by a capital
        return None
    does = third_person_sentence(sentence)
    return does and re.sub(r"^returns if\b", "returns whether", does)


def write_instructions(path: str | pathlib.Path, records: Sequence[Mapping[str, str]]) -> None:
    """Writes a JSON array, or a line for each where the name ends with .jsonl."""
    path = pathlib.Path(path)
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    text = "\n".join(lines) if path.suffix == ".jsonl" else "[\n" + ",\n".join(lines) + "\n]"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def _is_fit(code: str, name: str) -> bool:
    return (
        len(code.strip().splitlines()) in LINES
        and len(code) <= MOST_CHARACTERS
        and name in code
        and not _UNFIT_CODE.search(code)
        and not _UNFIT_NAME.match(name)
    )


def _makes_sense_alone(sentence: str) -> bool:
    balanced = all(sentence.count(a) == sentence.count(b) for a, b in ("()", "[]"))
    links = "`_" in sentence  # of RST
    paired = sentence.count("`") % 2 == sentence.count('"') % 2 == 0
    return (
        balanced
        and paired
        and not links
        and _PLAIN.fullmatch(sentence) is not None
        and _NEEDS_CONTEXT.search(sentence) is None
    )


def _stands_alone(function: Function) -> bool:
    """Whether the function can be written without knowing what it is a part of."""
    if function.language == "ruby" and _RUBY_STATE.search(function.code):
        return False
    return _OF_AN_OBJECT.search(function.code) is None


def _record(function: Function, does: str, digest: bytes) -> dict[str, str]:
    write = _stands_alone(function)
    wordings = WRITE if write else EXPLAIN
    language = LANGUAGE_NAMES[function.language]
    instruction = wordings[digest[-1] % len(wordings)].format(
        language=language, name=function.name, does=does
    )
    code = function.code.strip("\n")
    asked = {"input": "", "output": code} if write else {"input": code, "output": f"It {does}."}
    return {
        "instruction": instruction,
        **asked,
        "made_from": MADE_FROM,
        "language": function.language,
        "license": function.license,
        "origin": f"{function.repository}/{function.path}: {function.name}",
    }


def _in_turns(functions: Sequence[Function]) -> list[Function]:
    """Returns the functions, languages in turn, and repositories of a language in turn."""
    by_repository = _ranked(functions, lambda f: (f.language, f.repository))
    in_language = [f for _, f in sorted(by_repository, key=lambda pair: pair[0])]
    by_language = _ranked(in_language, lambda f: f.language)
    return [f for _, f in sorted(by_language, key=lambda pair: (pair[0], pair[1].language))]


def _alternating(records: Sequence[dict[str, str]]) -> Iterator[dict[str, str]]:
    asked = {
        "write": collections.deque(r for r in records if not r["input"]),
        "explain": collections.deque(r for r in records if r["input"]),
    }
    for turn in itertools.cycle(TURNS):
        if not any(asked.values()):
            return
        if asked[turn]:
            yield asked[turn].popleft()


def _ranked(functions, group):
    """Returns each function with the number of those of its group that came before it."""
    seen: collections.Counter = collections.Counter()
    ranked = []
    for function in functions:
        ranked.append((seen[group(function)], function))
        seen[group(function)] += 1
    return ranked


def _digest(function: Function, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{function.id}".encode()).digest()
