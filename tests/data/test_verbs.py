import pytest

from codet5p_jax.data.verbs import VERBS, third_person, third_person_sentence


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("return", "returns"),
        ("match", "matches"),
        ("push", "pushes"),
        ("fix", "fixes"),
        ("copy", "copies"),
        ("display", "displays"),
        ("process", "processes"),
        ("go", "goes"),
    ],
)
def test_the_third_person_of_a_verb(verb, expected):
    assert third_person(verb) == expected


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Return the mean of the values", "returns the mean of the values"),
        ("Returns the mean", "returns the mean"),
        ("check whether two sets are equal", "checks whether two sets are equal"),
        ("Return `None` if the list is empty", "returns `None` if the list is empty"),
        # Verbs behind the first one follow it.
        ("Parse the header and return the rest", "parses the header and returns the rest"),
        ("Open a file, and close the other", "opens a file, and closes the other"),
        ("Parses the header and returns the rest", "parses the header and returns the rest"),
        ("Searches for a value", "searches for a value"),
        ("Allows callers to parse and return a tree", "allows callers to parse and return a tree"),
    ],
)
def test_a_sentence_goes_on_behind_it(sentence, expected):
    assert third_person_sentence(sentence) == expected


@pytest.mark.parametrize(
    "sentence",
    [
        "The mean of the values",
        "Sort order of a list",  # a noun
        "Tests of the parser",
        "Records for the index",
        "Test cases of the parser",
        "Parses the header and return the rest",  # which of both is the verb's form?
        "Ask the user to open the file and read a line",  # who reads?
        "Return",
    ],
)
def test_what_is_no_sentence_of_a_verb_is_left_out(sentence):
    assert third_person_sentence(sentence) is None


def test_no_verb_is_the_third_person_of_another():
    assert not VERBS & {third_person(verb) for verb in VERBS}
