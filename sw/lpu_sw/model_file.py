"""A model's file and a tile, for the commands that take language models and networks alike."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

from lpu_sw.compiler.dump import PASSES, dump
from lpu_sw.compiler.llama import Compilation, facts_to_metadata, inbox_words
from lpu_sw.compiler.memory import Stretch
from lpu_sw.feed_forward.compile import NetworkCompilation
from lpu_sw.feed_forward.dump import PASSES as NETWORK_PASSES
from lpu_sw.frontends import load_model
from lpu_sw.frontends.onnx import read_onnx
from lpu_sw.frontends.tokenizer import load_tokenizer
from lpu_sw.image import Image
from lpu_sw.profile.figures import Profile, network_profile, token_profile
from lpu_sw.profile.timeline import Run
from lpu_sw.run import find_tile

__all__ = ["CNN_TILE", "LLAMA_TILE", "ModelFile", "open_model"]

LLAMA_TILE, CNN_TILE = "8x16", "16x16-cnn"
"""The tiles of language models and of networks, where none is asked for."""


class ModelFile(ABC):
    """What the compiler makes of a file for a tile; ``tile_name`` names it with its changes."""

    tile_name: str

    @abstractmethod
    def dump(self, name: str) -> str:
        """What a pass makes, as text; see `lpu_sw.compiler.dump.dump`."""

    @abstractmethod
    def image(self) -> Image:
        """What is loaded into the tile."""

    @property
    @abstractmethod
    def stretches(self) -> list[Stretch]:
        """The memory map."""

    @abstractmethod
    def profile(self, position: int | None, inside_prompt: bool) -> Profile:
        """Where the cycles go, of a language model at a position. Raises ValueError for one that there is not."""

    @abstractmethod
    def profiles(self) -> Iterator[Profile]:
        """The profiles that stand for the whole."""


class _LanguageFile(ModelFile):
    def __init__(self, path: Path, tile: str | None, context: int | None, tokenizer: Path | None) -> None:
        self.tile_name = tile or LLAMA_TILE
        self._model = load_model(path)
        # Only tokens that the tokenizer knows may be emitted.
        n_valid = load_tokenizer(path, self._model.config, tokenizer).vocab_size
        self._compilation = Compilation(self._model, find_tile(self.tile_name), n_valid, context)

    def dump(self, name: str) -> str:
        return dump(PASSES, self._compilation, name)

    def image(self) -> Image:
        """The image; its inbox generates from BOS to the end of the context."""
        compiled = self._compilation.compiled
        facts, bos = compiled.facts, self._model.config.bos_id or 0
        metadata = {"llama": facts_to_metadata(facts), "inbox": inbox_words(facts, [bos], facts.context, False, -1)}
        return Image.from_program(compiled.program, metadata)

    @property
    def stretches(self) -> list[Stretch]:
        return self._compilation.compiled.stretches

    def profile(self, position: int | None, inside_prompt: bool) -> Profile:
        position = position or 0
        run = Run(position + 2, position + 2) if inside_prompt else None
        return token_profile(self._compilation.compiled, self._model.config, position, run)

    def profiles(self) -> Iterator[Profile]:
        """At the first, a middle and the last position of the context."""
        context = self._compilation.compiled.facts.context
        return (self.profile(position, False) for position in (0, context // 2 - 1, context - 1))


class _NetworkFile(ModelFile):
    def __init__(self, path: Path, tile: str | None, dims: Mapping[str, int]) -> None:
        self.tile_name = tile or CNN_TILE
        self._compilation = NetworkCompilation(read_onnx(path, dims), find_tile(self.tile_name))

    def dump(self, name: str) -> str:
        return dump(NETWORK_PASSES, self._compilation, name)

    def image(self) -> Image:
        return Image.from_program(self._compilation.compiled.program)

    @property
    def stretches(self) -> list[Stretch]:
        return self._compilation.compiled.stretches

    def profile(self, position: int | None, inside_prompt: bool) -> Profile:
        if position is not None or inside_prompt:
            raise ValueError("a network has no positions: --position and --prefill are for language models")
        return network_profile(self._compilation.compiled)

    def profiles(self) -> Iterator[Profile]:
        """Its only one."""
        yield self.profile(None, False)


def open_model(
    path: Path,
    tile: str | None = None,
    context: int | None = None,
    tokenizer: Path | None = None,
    dims: Mapping[str, int] | None = None,
) -> ModelFile:
    """Read a file: a network if it ends in ``.onnx``, else a language model.

    tile : by name; see `find_tile`. context, tokenizer : of language models. dims : of networks; see `read_onnx`.

    Raises ValueError for a file or a tile that cannot be used.
    """
    if path.suffix != ".onnx":
        if dims:
            raise ValueError("a language model has no open axes: --dim is for networks")
        return _LanguageFile(path, tile, context, tokenizer)
    if context is not None or tokenizer is not None:
        raise ValueError("a network has no text: --context and --tokenizer are for language models")
    return _NetworkFile(path, tile, dims or {})
