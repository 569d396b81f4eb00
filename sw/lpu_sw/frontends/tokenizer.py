"""Tokenizers: text to ids and back, one token at a time, for both kinds of checkpoint.

llama2.c's ``tokenizer.bin`` is read and applied here; Hugging Face's ``tokenizer.json`` goes through the
``tokenizers`` library. A prompt is plain text: the spelling of a special token in it is not that token.
"""

from __future__ import annotations

import codecs
import json
import math
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import tokenizers

from lpu_sw.model import LlamaConfig

__all__ = [
    "HuggingFaceTokenizer",
    "ScoredTokenizer",
    "TextStream",
    "Tokenizer",
    "TokenizerError",
    "decode",
    "load_tokenizer",
]


# A byte and the continuation bytes after it, four bytes at most: a character of UTF-8, or of what is not UTF-8.
CHARACTER = re.compile(rb"[\x80-\xBF]{1,4}|[^\x80-\xBF][\x80-\xBF]{0,3}")
LONGEST_PIECE_BYTES = 4
ENTRY = struct.Struct("<fi")


class TokenizerError(ValueError):
    """A tokenizer that cannot be used, or text that it cannot spell. One line: what was found, what was expected."""


class TextStream(Protocol):
    """Text of a sequence of tokens, piece by piece. A character spread over tokens appears with its last byte."""

    def push(self, token: int) -> str:
        """Text that the next token completes, often none. The sequence opens with its BOS, where it has one."""
        ...

    def finish(self) -> str:
        """What is left: U+FFFD for the bytes of an unfinished character."""
        ...


class Tokenizer(Protocol):
    """What the rest of the software knows of a tokenizer."""

    @property
    def vocab_size(self) -> int:
        """Number of ids that have a text. A model's ids from here on are padding and must never be emitted."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of a text, BOS in front. Bytes that are not UTF-8 may come as lone surrogates, as in ``sys.argv``."""
        ...

    def stream(self) -> TextStream:
        """Start decoding a sequence."""
        ...


def decode(tokenizer: Tokenizer, tokens: Iterable[int]) -> str:
    """Text of a whole sequence (BOS in front, where it has one)."""
    stream = tokenizer.stream()
    return "".join([*map(stream.push, tokens), stream.finish()])


def load_tokenizer(model_path: str | Path, config: LlamaConfig, tokenizer_path: str | Path | None = None) -> Tokenizer:
    """Read the tokenizer given, or else the one beside the model, and hold it against the model's vocabulary.

    Raises TokenizerError when there is none, when it is corrupt, or when it has more ids than the model has rows.
    """
    path = Path(tokenizer_path) if tokenizer_path is not None else _find_tokenizer(Path(model_path), config)
    try:
        contents = path.read_bytes()
        if path.suffix not in (".bin", ".json"):
            raise TokenizerError("unknown kind of tokenizer, expected tokenizer.json or llama2.c's tokenizer.bin")
        tokenizer = (ScoredTokenizer if path.suffix == ".bin" else HuggingFaceTokenizer)(contents)
        if tokenizer.vocab_size > config.vocab_size:
            raise TokenizerError(
                f"the tokenizer has {tokenizer.vocab_size} ids, the model's vocabulary only "
                f"{config.vocab_size}: they do not belong together"
            )
    except (TokenizerError, OSError) as error:
        raise TokenizerError(f"{path}: {error}") from error
    return tokenizer


def _find_tokenizer(model_path: Path, config: LlamaConfig) -> Path:
    folder = model_path if model_path.is_dir() else model_path.parent
    names = ["tokenizer.json"]
    if model_path.suffix == ".bin":
        names = [f"tok{config.vocab_size}.bin", "tokenizer.bin", *names]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise TokenizerError(
        f"{folder}: no tokenizer beside the model, expected {' or '.join(names)}; name one with --tokenizer"
    )


class ScoredTokenizer:
    """llama2.c's tokenizer: byte-pair merges in the order of their scores, single bytes for the rest.

    Format and rules: karpathy/llama2.c, ``tokenizer.py`` and ``run.c``. Little-endian; int32 longest piece, then for
    each id float32 score, int32 length and that many bytes. Ids 0, 1, 2 are unknown, BOS and EOS, then come the 256
    bytes, spelled ``<0x00>`` to ``<0xFF>``.

    contents: the file's bytes. Raises TokenizerError when they end early or the 259 fixed ids are not there.
    """

    BOS, EOS, FIRST_BYTE, FIRST_PIECE = 1, 2, 3, 259

    def __init__(self, contents: bytes) -> None:
        self._pieces: list[bytes] = []
        scores: list[float] = []
        start = LONGEST_PIECE_BYTES
        while start < len(contents):
            # An entry cut short reads as a negative length.
            score, length = ENTRY.unpack(contents[start : start + ENTRY.size].ljust(ENTRY.size, b"\xff"))
            start += ENTRY.size + length
            if length < 0 or start > len(contents):
                raise TokenizerError(f"truncated or corrupt: entry {len(self._pieces)} does not end in the file")
            self._pieces.append(contents[start - length : start])
            scores.append(score)
        if self._pieces[self.FIRST_BYTE : self.FIRST_PIECE] != [b"<0x%02X>" % byte for byte in range(256)]:
            raise TokenizerError("ids 3 to 258 are not <0x00> to <0xFF>, expected a tokenizer made by llama2.c")
        # Only what text may turn into: never a special token nor, as the text "<0x41>" could, a byte. Reversed, so
        # that of equal pieces the first one counts.
        spelling = reversed(range(self.FIRST_PIECE, len(self._pieces)))
        self._ids = {self._pieces[token]: token for token in spelling}
        self._scores = {piece: scores[token] for piece, token in self._ids.items()}

    @property
    def vocab_size(self) -> int:
        """Number of ids that have a text."""
        return len(self._pieces)

    def encode(self, text: str) -> list[int]:
        """BOS, then the text with a space in front of it; no text, no space.

        Raises TokenizerError for a lone surrogate that does not stand for a byte.
        """
        try:
            contents = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"character {error.start} of the text is not valid Unicode: {text[error.start]!r}"
            ) from error
        tokens: list[int] = []
        for character in [b" ", *CHARACTER.findall(contents)] if contents else []:
            if character in self._ids:
                tokens.append(self._ids[character])
            else:
                tokens += [self.FIRST_BYTE + byte for byte in character]
        self._merge(tokens)
        return [self.BOS, *tokens]

    def _merge(self, tokens: list[int]) -> None:
        """Merge, in place, the pair whose piece has the highest score, of equals the leftmost, until none is left."""

        def piece(place: int) -> bytes:
            return self._pieces[tokens[place]] + self._pieces[tokens[place + 1]]

        scores = [self._scores.get(piece(place), -math.inf) for place in range(len(tokens) - 1)]
        while scores and (best := max(scores)) > -math.inf:
            place = scores.index(best)
            tokens[place : place + 2] = [self._ids[piece(place)]]
            del scores[place]
            for neighbour in range(max(place - 1, 0), min(place + 1, len(scores))):
                scores[neighbour] = self._scores.get(piece(neighbour), -math.inf)

    def stream(self) -> TextStream:
        """Start decoding a sequence."""
        return _ByteStream(self)

    def token_bytes(self, token: int, previous: int | None) -> bytes:
        """Bytes that a token stands for after another; the space that ``encode`` put after BOS is taken away."""
        if token in (self.BOS, self.EOS):
            return b""
        if self.FIRST_BYTE <= token < self.FIRST_PIECE:
            return bytes([token - self.FIRST_BYTE])
        if not 0 <= token < len(self._pieces):
            raise TokenizerError(f"token {token} is outside the tokenizer's {len(self._pieces)} ids")
        return self._pieces[token].removeprefix(b" ") if previous == self.BOS else self._pieces[token]


class _ByteStream:
    """Text stream of a tokenizer whose tokens are bytes."""

    def __init__(self, tokenizer: ScoredTokenizer) -> None:
        self._tokenizer = tokenizer
        self._previous: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        text = self._decoder.decode(self._tokenizer.token_bytes(token, self._previous))
        self._previous = token
        return text

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class HuggingFaceTokenizer:
    """A ``tokenizer.json``, applied by the ``tokenizers`` library.

    contents: the file's bytes. Raises TokenizerError when the library cannot read them.
    """

    def __init__(self, contents: bytes) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(contents)
        except Exception as error:  # the library raises nothing narrower
            raise TokenizerError(f"not a readable tokenizer.json: {error}") from error
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._vocab_size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        model = json.loads(contents)["model"]
        self._unknown = model.get("unk_token")
        self._drops = model.get("type") == "BPE" and self._unknown is None and not model.get("byte_fallback")

    @property
    def vocab_size(self) -> int:
        """Number of ids that have a text."""
        return self._vocab_size

    def encode(self, text: str) -> list[int]:
        """Ids with the BOS that tokenizer.json puts in front.

        Raises TokenizerError for text that is not UTF-8, that the vocabulary cannot spell, or that gives no token.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"character {error.start} of the text is not valid UTF-8: {text[error.start]!r}"
            ) from error
        if dropped := self._dropped(text):
            raise TokenizerError(f"the tokenizer cannot spell {dropped!r}")
        encoding = self._tokenizer.encode(text)
        if self._unknown in encoding.tokens:
            start, _ = encoding.offsets[encoding.tokens.index(self._unknown)]
            raise TokenizerError(f"the tokenizer cannot spell {text[start]!r}, character {start} of the text")
        if not encoding.ids:
            raise TokenizerError("the text is empty and the tokenizer puts no BOS in front of it")
        return encoding.ids

    def _dropped(self, text: str) -> str | None:
        """The first character, as the vocabulary has them, that the library would leave out without a word."""
        normalise, split = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        text = normalise.normalize_str(text) if normalise else text
        words = [word for word, _ in split.pre_tokenize_str(text)] if split else [text]
        characters = "".join(words) if self._drops else ""
        return next((one for one in characters if self._tokenizer.token_to_id(one) is None), None)

    def stream(self) -> TextStream:
        """Start decoding a sequence; special tokens have no text."""
        return _WholeTextStream(self._tokenizer)


class _WholeTextStream:
    """Text stream of a tokenizer whose decoder wants the whole sequence: what a token adds is a difference."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._emitted = 0

    def push(self, token: int) -> str:
        self._tokens.append(token)
        # An unfinished character decodes to U+FFFD and may still become another one.
        return self._emit(self._tokenizer.decode(self._tokens).rstrip("\N{REPLACEMENT CHARACTER}"))

    def finish(self) -> str:
        return self._emit(self._tokenizer.decode(self._tokens))

    def _emit(self, text: str) -> str:
        start, self._emitted = self._emitted, max(self._emitted, len(text))
        return text[start:]
