"""Text to ids and back: llama2.c's rules and Hugging Face's, byte for byte, with a clear refusal for the rest."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path

import pytest
import tokenizers

from lpu_sw.frontends.tokenizer import (
    HuggingFaceTokenizer,
    ScoredTokenizer,
    Tokenizer,
    TokenizerError,
    decode,
    load_tokenizer,
)
from lpu_sw.heldout import read_stories
from lpu_sw.model import LlamaConfig

BOS, EOS, FIRST_BYTE, FIRST_PIECE = 1, 2, 3, 259
CONFIG = LlamaConfig(
    dim=8, hidden_dim=16, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=4, vocab_size=512, max_positions=64
)  # fmt: skip


def scored_file(pieces: dict[str, float]) -> bytes:
    """A tokenizer.bin of the special tokens, the bytes, and pieces with their scores."""
    entries = {"<unk>": 0.0, "\n<s>\n": 0.0, "\n</s>\n": 0.0} | {f"<0x{byte:02X}>": 0.0 for byte in range(256)} | pieces
    encoded = [(piece.encode(), score) for piece, score in entries.items()]
    longest = struct.pack("<i", max(len(piece) for piece, _ in encoded))
    return longest + b"".join(struct.pack("<fi", score, len(piece)) + piece for piece, score in encoded)


def byte_level_file() -> bytes:
    """A tokenizer.json that can spell every byte, with a few merges and BOS in front."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<unk>", "<s>", "</s>", *alphabet, "ab", "Ġab"]
    model = tokenizers.models.BPE({piece: token for token, piece in enumerate(pieces)}, [("a", "b"), ("Ġ", "ab")])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    tokenizer.enable_truncation(4)
    return tokenizer.to_str().encode()


# Ids 259 to 267. "ab" and "bc" compete: by score, not by place; so do the equal "cd" and "dd": the leftmost first.
PIECES = {" ": -20.0, "a": -21.0, "b": -22.0, "c": -23.0, "d": -24.0, "ab": -2.0, "bc": -1.0, "cd": -3.0, "dd": -3.0}
SPACE, A, B, C, D, AB, BC, CD, DD = range(FIRST_PIECE, FIRST_PIECE + len(PIECES))


@pytest.fixture
def scored() -> ScoredTokenizer:
    return ScoredTokenizer(scored_file(PIECES))


@pytest.fixture
def byte_level() -> HuggingFaceTokenizer:
    return HuggingFaceTokenizer(byte_level_file())


@pytest.fixture
def tok512(stories260k) -> Tokenizer:
    return load_tokenizer(stories260k / "stories260K.bin", CONFIG)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        (" ", [SPACE, SPACE]),
        ("a", [SPACE, A]),
        ("abc", [SPACE, A, BC]),
        ("ab c", [SPACE, AB, SPACE, C]),
        ("cdd", [SPACE, CD, D]),
        ("ddd", [SPACE, DD, D]),
        ("\t", [SPACE, FIRST_BYTE + 9]),
        ("é", [SPACE, FIRST_BYTE + 0xC3, FIRST_BYTE + 0xA9]),
        ("<0x41>", [SPACE, *(FIRST_BYTE + ord(character) for character in "<0x41>")]),
        ("a\0b", [SPACE, A, FIRST_BYTE, B]),
        ("\udc92a", [SPACE, FIRST_BYTE + 0x92, A]),
        ("\udcff\udc80a", [SPACE, FIRST_BYTE + 0xFF, FIRST_BYTE + 0x80, A]),
    ],
)
def test_merges_by_score_and_falls_back_to_bytes(scored, text, ids):
    assert scored.encode(text) == [BOS, *ids]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        (" ", [410, 410]),
        ("  a", [410, 410, 261]),
        ("a  b", [261, 410, 268]),
        ("\t", [410, 12]),
        ("a" * 600, [261, *[412] * 599]),
        ("Once upon a time", [403, 407, 261, 378]),
        ("Lily\n\nsaid", [317, 13, 13, 419, 412, 292]),
        ("<0x41><s></s>", [410, 504, 477, 444, 484, 475, 505, 504, 419, 505, 504, 492, 419, 505]),
        ("é😀漢é", [410, 485, 243, 162, 155, 131, 233, 191, 165, 485]),
        ("\udcff" + "\udc80" * 5 + "\udcc3", [410, 258, *[131] * 5, 198]),
    ],
)
def test_encodes_as_llama2c_does(tok512, text, ids):
    """Ids from llama2.c's own ``encode``, compiled."""
    assert tok512.encode(text) == [BOS, *ids]


@pytest.mark.parametrize("make", [lambda: scored_file(PIECES), byte_level_file], ids=["scored", "byte-level"])
def test_every_character_comes_back(make):
    contents = make()
    tokenizer = (HuggingFaceTokenizer if contents.startswith(b"{") else ScoredTokenizer)(contents)
    texts = [
        "".join(map(chr, range(1, 128))),
        "".join(map(chr, range(128, 2048))),
        "😀漢字e\u0301",
        "  a  b \n",
        "<s></s>",
    ]
    for text in texts:
        assert decode(tokenizer, tokenizer.encode(text)) == text


@pytest.mark.parametrize("name", ["scored", "byte_level"])
def test_a_character_appears_with_its_last_byte(request, name):
    tokenizer = request.getfixturevalue(name)
    ids = tokenizer.encode("a😀b")
    stream = tokenizer.stream()
    pieces = [stream.push(token) for token in ids]
    assert [piece for piece in pieces if piece] == ["a", "😀", "b"]
    assert pieces[-2:] == ["😀", "b"] and stream.finish() == ""


@pytest.mark.parametrize("name", ["scored", "byte_level"])
def test_an_unfinished_character_is_marked_at_the_end(request, name):
    tokenizer = request.getfixturevalue(name)
    stream = tokenizer.stream()
    assert "".join(map(stream.push, tokenizer.encode("a😀")[:-1])) == "a"
    assert set(stream.finish()) == {"\N{REPLACEMENT CHARACTER}"}


def test_bytes_that_are_not_utf8_come_back_as_marks(scored):
    assert decode(scored, scored.encode("a\udcffb")) == "a\N{REPLACEMENT CHARACTER}b"


def test_special_tokens_have_no_text_and_the_first_space_goes(scored):
    assert decode(scored, [BOS, SPACE, A, SPACE, FIRST_BYTE + 0x0A, EOS]) == "a \n"


@pytest.mark.parametrize("token", [-1, FIRST_PIECE + len(PIECES)])
def test_refuses_ids_that_have_no_text(scored, token):
    with pytest.raises(TokenizerError, match=f"token {token} is outside the tokenizer's 268 ids"):
        scored.stream().push(token)


def test_a_lone_surrogate_is_refused(scored, byte_level):
    for tokenizer in (scored, byte_level):
        with pytest.raises(TokenizerError, match=r"character 2 of the text is not valid .*: '\\ud800'"):
            tokenizer.encode("ab\ud800")


def test_the_library_wants_utf8(byte_level):
    with pytest.raises(TokenizerError, match=r"character 1 of the text is not valid UTF-8: '\\udcff'"):
        byte_level.encode("a\udcff")


def test_a_long_prompt_is_not_cut_by_the_settings_of_the_file(byte_level):
    assert len(byte_level.encode("x" * 50)) == 51


def test_the_shipped_tokenizer_gives_the_ids_of_the_reference(story_llama):
    tokenizer = load_tokenizer(story_llama, CONFIG)
    for continuation in json.loads((story_llama / "reference.json").read_text())["greedy"]:
        assert tokenizer.encode(continuation["prompt"]) == continuation["prompt_ids"]
        assert decode(tokenizer, continuation["prompt_ids"] + continuation["greedy_ids"]) == continuation["text"]
    for story in read_stories(story_llama / "heldout.txt")[:10]:
        assert decode(tokenizer, tokenizer.encode(story)) == story


def test_the_shipped_tokenizer_names_what_it_cannot_spell(story_llama):
    with pytest.raises(TokenizerError, match="the tokenizer cannot spell 'é', character 3 of the text"):
        load_tokenizer(story_llama, CONFIG).encode("Café")


@pytest.mark.parametrize("words", ["Whitespace", "Metaspace", None])
def test_a_character_that_the_library_would_drop_is_named(words):
    model = tokenizers.models.BPE({"a": 0, "b": 1, " ": 2, "\u2581": 3, "ab": 4}, [("a", "b")])
    tokenizer = tokenizers.Tokenizer(model)
    if words:
        tokenizer.pre_tokenizer = getattr(tokenizers.pre_tokenizers, words)()
    ours = HuggingFaceTokenizer(tokenizer.to_str().encode())
    assert len(ours.encode("ab a")) >= 2
    with pytest.raises(TokenizerError, match="the tokenizer cannot spell 'x'"):
        ours.encode("ab xa")


def test_an_empty_prompt_is_bos_alone(story_llama):
    assert load_tokenizer(story_llama, CONFIG).encode("") == [BOS]


def test_an_empty_prompt_without_bos_is_refused():
    contents = json.loads(byte_level_file()) | {"post_processor": None}
    with pytest.raises(TokenizerError, match="the text is empty and the tokenizer puts no BOS in front of it"):
        HuggingFaceTokenizer(json.dumps(contents).encode()).encode("")


@pytest.mark.parametrize("cut", [0, 3, 4, 5, 11, 13, 100, -1])
def test_refuses_a_truncated_file(tmp_path, cut):
    path = tmp_path / "tokenizer.bin"
    path.write_bytes(scored_file(PIECES)[:cut])
    with pytest.raises(TokenizerError) as error:
        load_tokenizer(tmp_path / "model.bin", CONFIG)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("contents", [b"", b"{", b"{}", b"\xff\xfe", b'{"model": {"type": "none"}}'])
def test_refuses_a_broken_tokenizer_json(tmp_path, contents):
    (tmp_path / "tokenizer.json").write_bytes(contents)
    with pytest.raises(TokenizerError, match="not a readable tokenizer.json"):
        load_tokenizer(tmp_path, CONFIG)


def test_names_both_numbers_when_the_tokenizer_is_too_large(tmp_path):
    pieces = {f"piece {index}": float(-index) for index in range(32000 - FIRST_PIECE)}
    (tmp_path / "tokenizer.bin").write_bytes(scored_file(pieces))
    with pytest.raises(TokenizerError, match="the tokenizer has 32000 ids, the model's vocabulary only 512"):
        load_tokenizer(tmp_path / "model.bin", CONFIG)


def test_a_smaller_tokenizer_says_where_the_padding_begins(tmp_path):
    (tmp_path / "tokenizer.bin").write_bytes(scored_file(PIECES))
    assert load_tokenizer(tmp_path / "model.bin", CONFIG).vocab_size == 268


def test_looks_beside_the_model_for_its_own_vocabulary_first(tmp_path):
    model = tmp_path / "model.bin"
    (tmp_path / "tokenizer.json").write_bytes(byte_level_file())
    assert isinstance(load_tokenizer(model, CONFIG), HuggingFaceTokenizer)
    (tmp_path / "tokenizer.bin").write_bytes(scored_file({}))
    assert load_tokenizer(model, CONFIG).vocab_size == 259
    (tmp_path / "tok512.bin").write_bytes(scored_file(PIECES))
    assert load_tokenizer(model, CONFIG).vocab_size == 268
    assert load_tokenizer(model, dataclasses.replace(CONFIG, vocab_size=300)).vocab_size == 259
    assert load_tokenizer(model, CONFIG, tmp_path / "tokenizer.bin").vocab_size == 259


@pytest.mark.parametrize(
    ("model", "tokenizer", "message"),
    [
        ("model.bin", None, "no tokenizer beside the model, expected tok512.bin or tokenizer.bin or tokenizer.json"),
        ("model.safetensors", None, "no tokenizer beside the model, expected tokenizer.json; name one with"),
        (".", None, "no tokenizer beside the model, expected tokenizer.json; name one with --tokenizer"),
        (".", "nothing.json", "nothing.json: "),
        (".", "config.txt", "unknown kind of tokenizer, expected tokenizer.json or llama2.c's tokenizer.bin"),
    ],
)
def test_says_which_tokenizer_is_missing(tmp_path: Path, model, tokenizer, message):
    (tmp_path / "config.txt").write_text("")
    with pytest.raises(TokenizerError) as error:
        load_tokenizer(tmp_path / model, CONFIG, tokenizer and tmp_path / tokenizer)
    assert message in str(error.value)
