"""The image file ``.lpuimg``: a program, the start contents of the memories, and what the host must know of them.

Little-endian. A header of 40 bytes, a description in JSON, then the arrays, each at a multiple of 64 bytes::

    0  8  magic "LPUIMAGE"
    8  4  format version
    12 4  CRC-32 of everything after this word
    16 8  fingerprint of the tile (`lpu_isa.fingerprint`)
    24 8  bytes of the whole file
    32 8  bytes of the description

The description holds the tile's parameters, the table of arrays and the metadata.
"""

import dataclasses
import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lpu_isa.bundle import BundleFormat
from lpu_isa.config import TileConfig
from lpu_isa.fingerprint import fingerprint
from lpu_isa.host import Window, depth

from .asm.program import Program, Section

__all__ = ["Image", "ImageError"]

MAGIC = b"LPUIMAGE"
VERSION = 1
_HEADER = struct.Struct("<8sIIQQQ")
_COVERED_FROM = 16
"""The checksum covers the file from here on; what stands before it is checked by itself."""
_ALIGNMENT = 64
_DTYPES = {"program": np.uint32, "timing": np.uint16, "wmem": np.int8, "vmem": np.uint32, "smem": np.uint32}


class ImageError(ValueError):
    """An image that cannot be used: what was found, and what was expected."""


@dataclass
class Image:
    """Everything that is loaded into a tile before it starts.

    ``program``: uint32 (bundles, beats), beats lowest first. ``timings``: uint16, from address 0. ``sections``: start
    contents of ``wmem``, ``vmem`` and ``smem``. ``metadata``: what JSON can hold, such as the model's name, the
    tokenizer's path and the cycles of each token.

    Raises ``ImageError`` when a part does not fit the tile.
    """

    config: TileConfig
    program: np.ndarray
    timings: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint16))
    sections: list[Section] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config = self.config
        beats = BundleFormat(config).beats
        _expect_array("program", self.program, (beats,), config)
        _expect_array("timing", self.timings, (), config)
        for section in self.sections:
            if section.space not in ("wmem", "vmem", "smem"):
                raise ImageError(f"found a section for {section.space!r}, expected wmem, vmem or smem")
            word = (config.rows, config.cols) if section.space == "wmem" else (config.rows,)
            _expect_array(section.space, section.data, word, config, section.address)

    @classmethod
    def from_program(cls, program: Program, metadata: dict[str, Any] | None = None) -> "Image":
        """The image of a program. Its inbox is kept as ``metadata["inbox"]``, its labels as ``metadata["labels"]``."""
        layout = BundleFormat(program.config)
        words = np.zeros((len(program.bundles), layout.beats), np.uint32)
        for pc, bundle in enumerate(program.bundles):
            word = layout.encode(bundle)
            words[pc] = [(word >> (32 * beat)) & 0xFFFFFFFF for beat in range(layout.beats)]
        known = {"inbox": program.inbox, "labels": program.labels}
        metadata = {name: value for name, value in known.items() if value} | (metadata or {})
        return cls(program.config, words, program.timings, program.sections, metadata)

    def to_program(self) -> Program:
        """The program, bundles decoded. Raises ``ImageError`` naming the bundle that holds no legal operation."""
        layout = BundleFormat(self.config)
        bundles = []
        for pc, beats in enumerate(self.program.tolist()):
            try:
                bundles.append(layout.decode(sum(beat << (32 * n) for n, beat in enumerate(beats))))
            except ValueError as error:
                raise ImageError(f"bundle {pc}: {error}") from None
        program = Program(self.config, bundles, self.timings, self.sections)
        program.inbox = list(self.metadata.get("inbox", []))
        program.labels = dict(self.metadata.get("labels", {}))
        program.sources = [None] * len(bundles)
        return program

    def save(self, path: str | Path) -> None:
        """Write the file. Equal images give equal bytes."""
        parts = [("program", 0, self.program), ("timing", 0, self.timings)]
        parts += [(section.space, section.address, section.data) for section in self.sections]
        arrays = [np.ascontiguousarray(data, np.dtype(_DTYPES[name]).newbyteorder("<")) for name, _, data in parts]
        table = [{"name": name, "address": address, "shape": list(data.shape)} for name, address, data in parts]
        text = {"tile": dataclasses.asdict(self.config), "arrays": table, "metadata": self.metadata}
        description = json.dumps(text, sort_keys=True).encode()
        chunks: list[bytes | memoryview] = [description]
        size = _HEADER.size + len(description)
        for array in arrays:
            padding = -size % _ALIGNMENT
            chunks += [bytes(padding), array.reshape(-1).view(np.uint8).data]
            size += padding + array.nbytes
        header = _HEADER.pack(MAGIC, VERSION, 0, fingerprint(self.config), size, len(description))
        checksum = zlib.crc32(header[_COVERED_FROM:])
        for chunk in chunks:
            checksum = zlib.crc32(chunk, checksum)
        header = _HEADER.pack(MAGIC, VERSION, checksum, fingerprint(self.config), size, len(description))
        with open(path, "wb") as file:
            file.write(header)
            file.writelines(chunks)

    @classmethod
    def load(cls, path: str | Path, config: TileConfig | None = None) -> "Image":
        """Read a file; its arrays are views of one buffer.

        ``config``: the tile that it must fit. Raises ``ImageError`` for anything but an undamaged image for that tile,
        and ``OSError`` when the file cannot be read.
        """
        raw = Path(path).read_bytes()
        try:
            return cls._parse(raw, config)
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from None

    @classmethod
    def _parse(cls, raw: bytes, config: TileConfig | None) -> "Image":
        if raw[: len(MAGIC)] != MAGIC:
            raise ImageError(f"found {raw[: len(MAGIC)]!r} at the start, expected an LPU image ({MAGIC!r})")
        if len(raw) < _HEADER.size:
            raise ImageError(f"found {len(raw)} bytes, expected a header of {_HEADER.size}: the file is truncated")
        _, version, checksum, stored, size, described = _HEADER.unpack_from(raw)
        if version != VERSION:
            raise ImageError(f"found image format {version}, expected {VERSION}: compile the model again")
        if len(raw) < size:
            raise ImageError(f"found {len(raw)} bytes, expected {size}: the file is truncated")
        if len(raw) > size:
            raise ImageError(f"found {len(raw)} bytes, expected {size}: something follows the image")
        found = zlib.crc32(memoryview(raw)[_COVERED_FROM:])
        if found != checksum:
            raise ImageError(f"found checksum {found:08x}, expected {checksum:08x}: the file is corrupted")
        try:
            description = json.loads(raw[_HEADER.size : _HEADER.size + described])
            tile = TileConfig(**description["tile"])
            parts = [(str(part["name"]), int(part["address"]), tuple(part["shape"])) for part in description["arrays"]]
            metadata = dict(description["metadata"])
        except (ValueError, TypeError, KeyError) as error:
            raise ImageError(f"found an unreadable description ({error!r}), expected JSON of the tile") from None
        if config is not None and tile != config:
            raise ImageError(f"found an image for tile {_describe(tile, config)}, expected {_describe(config, tile)}")
        if stored != fingerprint(tile):
            expected = f"{fingerprint(tile):016x} (tile {tile.name})"
            raise ImageError(
                f"found fingerprint {stored:016x}, expected {expected}: made for another version of the ISA"
            )
        return cls(tile, *_arrays(raw, _HEADER.size + described, parts), metadata)


def _arrays(
    raw: bytes, at: int, parts: list[tuple[str, int, tuple[int, ...]]]
) -> tuple[np.ndarray, np.ndarray, list[Section]]:
    """Program, timings and sections behind the description that ends at ``at``."""
    found: list[Section] = []
    for name, address, shape in parts:
        if name not in _DTYPES:
            raise ImageError(f"found an array {name!r}, expected one of {', '.join(_DTYPES)}")
        dtype = np.dtype(_DTYPES[name]).newbyteorder("<")
        count = int(np.prod(shape))
        at += -at % _ALIGNMENT
        if at + count * dtype.itemsize > len(raw):
            raise ImageError(f"found {len(raw)} bytes, expected {name} up to byte {at + count * dtype.itemsize}")
        found.append(Section(name, address, np.frombuffer(raw, dtype, count, at).reshape(shape)))
        at += count * dtype.itemsize
    if [part.space for part in found[:2]] != ["program", "timing"]:
        raise ImageError("found no program and timing memory at the start, expected both")
    return found[0].data, found[1].data, found[2:]


def _expect_array(name: str, data: np.ndarray, word: tuple[int, ...], config: TileConfig, address: int = 0) -> None:
    if data.dtype != _DTYPES[name] or data.ndim != len(word) + 1 or data.shape[1:] != word:
        expected = f"{np.dtype(_DTYPES[name])} (words{''.join(f', {n}' for n in word)})"
        raise ImageError(f"found {name} of {data.dtype} {data.shape}, expected {expected} on tile {config.name}")
    limit = depth(config, Window[name.upper()])
    if address < 0 or address + len(data) > limit:
        found = f"{len(data)} words of {name} from {address}"
        raise ImageError(f"found {found}, expected at most {limit} in all on tile {config.name}")


def _describe(tile: TileConfig, other: TileConfig) -> str:
    """A tile's name and fingerprint, and the parameters in which it differs from another of the same shape."""
    names = [f.name for f in dataclasses.fields(tile) if getattr(tile, f.name) != getattr(other, f.name)]
    differing = "".join(f", {name} {getattr(tile, name)}" for name in names if name not in ("rows", "cols"))
    return f"{tile.name} ({fingerprint(tile):016x}{differing})"
