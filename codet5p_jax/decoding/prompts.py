"""What a text becomes for each thing that a model was trained to do: encoder input and prompt.

denoise         <s> text with <extra_id_0> </s>      <s>
complete        [CLM] text                           <s>
continue        [CLM]                                <s> text
continue_both   <s> text </s>                        <s> text
instruct        <s> prompt </s>                      <s> prompt
code_to_text    <s> code </s>                        [TDEC]
text_to_code    <s> text </s>                        [CDEC]

With CodeGen's tokenizer nothing stands around a text that both halves read, and the decoder has no
`<s>`: it starts from the same id. `continue_both` is how the released 2B, 6B and 16B are asked:
their decoder is a language model that reads from left to right, and their encoder reads the same
text. `instruct` does it with Alpaca's prompt for an instruction.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

from codet5p_jax.instruction_prompt import alpaca_prompt
from codet5p_jax.tokenizer import NUM_SENTINELS, Tokenizer

_SENTINEL = re.compile(r"<extra_id_(\d{1,2})>")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
    """Input of one generation.

    Attributes:
        encoder_input_tokens: What the encoder reads.
        decoder_prompt: First tokens of the result, behind the decoder start.
    """

    encoder_input_tokens: tuple[int, ...]
    decoder_prompt: tuple[int, ...]


def denoise(text: str, tokenizer: Tokenizer) -> Prompt:
    """Asks for what `<extra_id_0>`, `<extra_id_1>`, ... stand for; they become ids, not text."""
    ids = [tokenizer.bos_id, *_encode_with_sentinels(text, tokenizer), tokenizer.eos_id]
    return Prompt(encoder_input_tokens=tuple(ids), decoder_prompt=tokenizer.target_prefix)


def complete(text: str, tokenizer: Tokenizer) -> Prompt:
    """Asks for the rest of a file that begins with `text`, which the encoder reads."""
    ids = (tokenizer.clm_id, *tokenizer.encode(text))
    return Prompt(encoder_input_tokens=ids, decoder_prompt=tokenizer.target_prefix)


def continue_text(text: str, tokenizer: Tokenizer) -> Prompt:
    """Asks for the same, with `text` in the decoder: the model is a language model."""
    prompt = (*tokenizer.target_prefix, *tokenizer.encode(text))
    return Prompt(encoder_input_tokens=(tokenizer.clm_id,), decoder_prompt=prompt)


def continue_in_both(text: str, tokenizer: Tokenizer) -> Prompt:
    """Asks for the same, with `text` in the encoder, too."""
    return read_by_both(tokenizer.encode(text), tokenizer)


def read_by_both(ids: Sequence[int], tokenizer: Tokenizer) -> Prompt:
    """Asks for what follows `ids`, which both halves read."""
    ids = tuple(ids)
    before, after = tokenizer.prompt_bounds
    return Prompt(
        encoder_input_tokens=(*before, *ids, *after),
        decoder_prompt=(*tokenizer.target_prefix, *ids),
    )


def instruct(instruction: str, tokenizer: Tokenizer) -> Prompt:
    """Asks for the answer to an instruction, as instruction tuning does."""
    return continue_in_both(alpaca_prompt(instruction), tokenizer)


def code_to_text(code: str, tokenizer: Tokenizer) -> Prompt:
    """Asks for the documentation of `code`; for models of two stages."""
    return _translate(code, tokenizer, first=tokenizer.tdec_id)


def text_to_code(text: str, tokenizer: Tokenizer) -> Prompt:
    """Asks for code that does what `text` says; for models of two stages."""
    return _translate(text, tokenizer, first=tokenizer.cdec_id)


PROMPTS: Mapping[str, Callable[[str, Tokenizer], Prompt]] = {
    "denoise": denoise,
    "complete": complete,
    "continue": continue_text,
    "continue_both": continue_in_both,
    "instruct": instruct,
    "code_to_text": code_to_text,
    "text_to_code": text_to_code,
}


def _translate(text: str, tokenizer: Tokenizer, *, first: int) -> Prompt:
    if first >= tokenizer.vocab_size:
        raise ValueError(
            "This model has no task tokens ([TDEC], [CDEC]): it has not been through stage 2, "
            "which teaches translation between text and code. Use denoise, complete or continue."
        )
    ids = (tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id)
    return Prompt(encoder_input_tokens=ids, decoder_prompt=(first,))


def _encode_with_sentinels(text: str, tokenizer: Tokenizer) -> list[int]:
    assert NUM_SENTINELS == 100  # two digits, as in _SENTINEL
    pieces = _SENTINEL.split(text)  # text, number, text, number, ..., text
    ids = list(tokenizer.encode(pieces[0]))
    for number, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        ids += [tokenizer.sentinel_id(int(number)), *tokenizer.encode(piece)]
    return ids
