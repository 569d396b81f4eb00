"""Front ends: one file a checkpoint format, chosen here by what the path is."""

from __future__ import annotations

from pathlib import Path

from lpu_sw.frontends.llama2c import read_llama2c
from lpu_sw.frontends.safetensors import read_folder, read_safetensors
from lpu_sw.model import LlamaModel, ModelError

__all__ = ["load_model"]


def load_model(path: str | Path) -> LlamaModel:
    """Read a model: a llama2.c ``.bin``, a ``.safetensors`` file, or a folder in Hugging Face's layout.

    Raises ModelError, opening with the path, for anything else and for whatever the reader refuses.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return read_folder(path)
        if not path.exists():
            raise ModelError("no such file or folder")
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        if path.suffix == ".bin":
            return read_llama2c(path)
        raise ModelError(
            "unknown kind of model, expected a llama2.c .bin file, a .safetensors file or a folder with "
            "config.json and model.safetensors or its shards"
        )
    except (ModelError, OSError) as error:
        raise ModelError(f"{path}: {error}") from error
