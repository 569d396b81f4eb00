"""What several tests share: where the models are, and small models of random weights."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

# Matrices this small are slower on several threads, most of all beside other tests. Read when NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

from lpu_sw.model import LlamaConfig, LlamaModel, layer_shapes, model_shapes

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def story_llama() -> Path:
    """Folder of the model that the project ships."""
    return REPOSITORY / "models" / "story-llama"


@pytest.fixture(scope="session")
def story_moe() -> Path:
    """Folder of the mixture of experts that the project ships."""
    return REPOSITORY / "models" / "story-moe"


@pytest.fixture(scope="session")
def models_folder() -> Path:
    """Where the inputs are that are not shipped; it need not exist."""
    return Path(os.environ.get("LPU_MODELS", REPOSITORY.parent / "shared" / "models"))


def not_shipped(models: Path, name: str) -> Path:
    """A folder that is looked for in ``LPU_MODELS``; the test is skipped when it is absent."""
    folder = models / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder} (set LPU_MODELS to the folder that holds {name})")
    return folder


@pytest.fixture(scope="session")
def stories260k(models_folder: Path) -> Path:
    """Folder of Karpathy's stories260K."""
    return not_shipped(models_folder, "stories260K")


@pytest.fixture(scope="session")
def mlperf_tiny(models_folder: Path) -> Path:
    """Folder of two int8 networks of MLPerf Tiny."""
    return not_shipped(models_folder, "mlperf-tiny")


@pytest.fixture(scope="session", params=["pretrainedResnet_quant", "kws_ref_model"], ids=["ResNet-8", "DS-CNN"])
def mlperf_network(
    request: pytest.FixtureRequest, mlperf_tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, np.ndarray]:
    """Each of those networks as ONNX, and its inputs, int8."""
    spec = importlib.util.spec_from_file_location("tflite_to_onnx", REPOSITORY / "models" / "tflite_to_onnx.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    model = script.Converter((mlperf_tiny / f"{request.param}.tflite").read_bytes()).convert()
    path = tmp_path_factory.mktemp("mlperf-tiny") / f"{request.param}.onnx"
    path.write_bytes(model.SerializeToString())
    inputs = {"pretrainedResnet_quant": "ic-inputs", "kws_ref_model": "kws-inputs"}[request.param]
    with np.load(mlperf_tiny / f"{inputs}.npz") as loaded:
        x = loaded["x"].astype(np.int16) - (128 if loaded["x"].dtype == np.uint8 else 0)
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return path, x.reshape(-1, *shape).astype(np.int8)


@pytest.fixture(scope="session")
def random_model() -> Callable[..., LlamaModel]:
    """Maker of models: ``random_model(config, seed)``, weights normal and small, norms around 1."""

    def make(config: LlamaConfig, seed: int = 0) -> LlamaModel:
        random = np.random.default_rng(seed)
        shapes = model_shapes(config)
        for layer in range(config.n_layers):
            shapes |= {f"layers.{layer}.{name}": shape for name, shape in layer_shapes(config).items()}
        tensors = {
            name: (random.normal(size=shape) * shape[-1] ** -0.5 + ("norm" in name)).astype(np.float32)
            for name, shape in shapes.items()
        }
        return LlamaModel.from_tensors(config, tensors)

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the RTL of the largest tile, minutes of building alone, to the run that asks for it."""
    if os.environ.get("LPU_LARGE"):
        return
    for item in items:
        if "16x16" in item.name and ("/rtl/" in item.nodeid or "rtl" in item.name):
            item.add_marker(pytest.mark.skip(reason="the 16x16 tile on the RTL: set LPU_LARGE=1"))
