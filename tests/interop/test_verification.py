import dataclasses
import json

import numpy as np
import pytest

from codet5p_jax.interop.verification import Comparison, Difference, Verdict, verify

TEXTS = ("a\n\tb", "def mean(values):", "x")
VOCAB = 393


EVERYTHING = frozenset({"generate", "embed", "match"})


@dataclasses.dataclass
class FakeModel:
    """Numbers are fixed functions of the inputs; generations are given."""

    shift: float = 0.0
    shifted: str = "logits"
    generations: tuple[tuple[int, ...], ...] = ((5, 6, 2), (7, 2), (8, 9))
    does: frozenset[str] = EVERYTHING
    exchanged: tuple[int, int] = (0, 0)

    def token_embeddings(self):
        table = np.arange(VOCAB * 4.0).reshape(VOCAB, 4)
        table[list(self.exchanged)] = table[list(self.exchanged)[::-1]]
        return {"encoder": table}

    def logits(self, encoder_input_tokens, decoder_input_tokens):
        token = decoder_input_tokens[..., None] + encoder_input_tokens[:, :1, None]
        return np.sin(token * np.arange(VOCAB) + 1.0) * 10 + self._shift("logits")

    def greedy(self, encoder_input_tokens, *, max_length):
        return [list(row) for row in self.generations]

    def language_model_logits(self, tokens):
        return np.sin(tokens[..., None] * np.arange(VOCAB) + 2.0) * 10 + self._shift("logits")

    def embed(self, tokens):
        return np.cos(tokens[:, :4] * 1.0) + self._shift("embedding")

    def match(self, text_tokens, code_tokens):
        return np.sin(text_tokens[:, 1:3] + code_tokens[:, 1:3]) + self._shift("matching")

    def _shift(self, what):
        return self.shift if what == self.shifted else 0.0


@dataclasses.dataclass
class FakeTokenizer:
    """Ours, as transformers would show it, possibly damaged."""

    ours: object
    swapped: bool = False
    specials: bool = True
    lossy: bool = False

    def encode(self, text, *, special_tokens):
        ids = self.ours.encode(text)[:: -1 if self.swapped else 1]
        return [1, *ids, 2] if special_tokens and self.specials else ids

    def decode(self, ids):
        text = self.ours.decode(ids)
        return text.replace("\n", " ") if self.lossy else text


@pytest.fixture
def compare(tokenizer):
    def run(theirs, their_tokenizer=None, ours=None, **arguments):
        return verify(
            ours or FakeModel(),
            theirs,
            tokenizer=tokenizer,
            their_tokenizer=their_tokenizer or FakeTokenizer(tokenizer),
            texts=TEXTS,
            **arguments,
        )

    return run


def test_equal_models_pass(compare):
    verdict = compare(FakeModel())
    assert verdict.passed
    assert [c.generated for c in verdict.comparisons] == [3, 2, 2]
    assert verdict.worst == {"logits": 0, "embedding": 0, "matching": 0}


def test_inputs_are_padded_to_the_longest(compare):
    verdict = compare(FakeModel())
    assert len({c.tokens + c.padding for c in verdict.comparisons}) == 1
    assert min(c.padding for c in verdict.comparisons) == 0


def test_the_difference_of_logits_is_relative_to_the_largest(compare):
    verdict = compare(FakeModel(shift=0.5))
    difference = verdict.comparisons[0].logits
    assert difference.absolute == pytest.approx(0.5)
    assert difference.relative == pytest.approx(0.05, rel=0.01)
    assert not verdict.passed
    assert compare(FakeModel(shift=0.5), tolerance=0.06).passed


@pytest.mark.parametrize("what", ["logits", "embedding", "matching"])
def test_numbers_that_differ_fail_each_alone(compare, what):
    verdict = compare(FakeModel(shift=0.5, shifted=what))
    assert not verdict.passed
    assert {name for name, value in verdict.worst.items() if value} == {what}


def test_the_scores_of_a_pair_may_be_near_0(compare, monkeypatch):
    def match(self, text_tokens, code_tokens):
        scores = np.array([[1e-9, 0], [5, -5], [3, 1]]) + 1e-6 * self.shift
        return scores

    monkeypatch.setattr(FakeModel, "match", match)
    verdict = compare(FakeModel(shift=1.0, shifted="matching"))
    assert verdict.comparisons[0].matching.relative == pytest.approx(2e-7)


def test_only_what_the_export_does_is_compared(compare):
    theirs = FakeModel(does=frozenset({"embed"}), shift=9.0, generations=())
    verdict = compare(theirs)
    assert verdict.passed
    assert verdict.worst == {"embedding": 0}
    assert verdict.comparisons[0].generated is None


def test_a_language_model_alone_is_compared_in_its_logits(compare):
    alone = frozenset({"continue"})
    ours = FakeModel(does=EVERYTHING | alone)
    verdict = compare(FakeModel(does=alone, generations=()), ours=ours)
    assert verdict.passed and verdict.worst == {"logits": 0}
    assert not compare(FakeModel(does=alone, shift=0.5), ours=ours).passed


def test_an_export_that_does_more_than_the_model_fails(compare, monkeypatch):
    verdict = compare(FakeModel(), ours=FakeModel(does=frozenset({"generate"})))
    assert verdict.problems == (
        "our model has nothing to embed with, the export has",
        "our model has nothing to match with, the export has",
    )
    assert not verdict.passed and set(verdict.worst) == {"logits"}


def test_rows_of_the_vocabulary_that_were_exchanged_are_named(compare):
    verdict = compare(FakeModel(exchanged=(300, 17)))
    assert not verdict.passed
    assert verdict.problems == (
        "token embedding of the encoder: 2 of 393 rows differ: those of the ids 17, 300",
    )


def test_a_vocabulary_of_another_size_is_named_and_no_numbers_are_compared(compare):
    class Shorter(FakeModel):
        def token_embeddings(self):
            return {"encoder": np.zeros([390, 4]), "decoder": np.zeros([390, 4])}

        def logits(self, encoder_input_tokens, decoder_input_tokens):
            raise IndexError("index out of range in self")  # as torch does for a row it lacks

    verdict = compare(Shorter())
    assert verdict.problems == (
        "token embedding of the encoder: [390, 4], expected [393, 4]. Is it the export of another "
        "run, or of another stage?",
        "token embedding of the decoder: our model has none",
    )
    assert not verdict.passed and verdict.worst == {}


def test_embeddings_of_another_width_fail(compare):
    class Narrower(FakeModel):
        def embed(self, tokens):
            return super().embed(tokens)[:, :3]

    verdict = compare(Narrower())
    assert not verdict.passed and not verdict.problems
    assert verdict.worst == {"logits": 0, "embedding": np.inf, "matching": 0}


def test_logits_that_are_not_finite_fail(compare):
    assert not compare(FakeModel(shift=np.nan)).passed


def test_another_generation_fails_and_tells_from_which_token_on(compare):
    verdict = compare(FakeModel(generations=((5, 7, 2), (7, 2), (8, 9))))
    assert not verdict.passed
    assert verdict.comparisons[0].agreeing == 1
    assert verdict.comparisons[0].tie is None


def test_a_generation_that_ends_early_fails(compare):
    assert not compare(FakeModel(generations=((5, 6, 2), (7, 2), (8,)))).passed


def test_a_tie_is_explained_and_passes(compare, monkeypatch):
    def logits(self, encoder_input_tokens, decoder_input_tokens):
        flat = np.full([*decoder_input_tokens.shape, VOCAB], 3.0)
        flat[..., 7] -= 1e-5
        return flat

    monkeypatch.setattr(FakeModel, "logits", logits)
    verdict = compare(FakeModel(generations=((5, 7, 2), (7, 2), (8, 9))))
    assert verdict.passed
    assert "tokens 6 and 7 are equally likely" in verdict.comparisons[0].tie


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ({"swapped": True}, "other ids"),
        ({"specials": False}, "other special tokens around the text"),
        ({"lossy": True}, "the ids do not decode to the text"),
    ],
)
def test_another_tokenizer_fails_and_tells_how(compare, tokenizer, damage, expected):
    verdict = compare(FakeModel(), FakeTokenizer(tokenizer, **damage))
    assert not verdict.passed
    assert verdict.comparisons[0].tokenizer == expected


def test_a_problem_on_loading_fails(compare):
    assert not compare(FakeModel(), problems=["missing_keys: shared.weight"]).passed


def test_a_verdict_is_written_as_json(compare):
    written = json.loads(json.dumps(compare(FakeModel()).to_dict()))
    assert written["passed"] is True
    assert written["worst"] == {"logits": 0.0, "embedding": 0.0, "matching": 0.0}
    assert written["comparisons"][1]["text"] == TEXTS[1]


def test_no_inputs_and_no_problems_is_no_failure():
    assert Verdict(comparisons=(), problems=(), tolerance=0.1).passed


def test_a_comparison_passes_only_within_tolerance():
    comparison = Comparison(
        text="x",
        tokens=3,
        padding=0,
        tokenizer=None,
        logits=Difference(absolute=1.0, relative=0.1),
        generated=1,
        agreeing=1,
    )
    assert comparison.passed(0.1) and not comparison.passed(0.09)
