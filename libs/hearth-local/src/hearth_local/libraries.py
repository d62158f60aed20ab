"""Libraries of the system that the embedded parts need and no package brings along."""

import ctypes
import sys
from collections.abc import Iterable

from hearth_local.home import StartError

# Of llama.cpp: slim images of Debian lack it.
OF_MODELS = ("libgomp.so.1",)
ADVICE = (
    "Install it (Debian and Ubuntu: apt install libgomp1; Fedora: dnf install libgomp), "
    "or set OLLAMA_URL to an Ollama, whose models need nothing here."
)


def check_libraries(names: Iterable[str] = OF_MODELS) -> None:
    """Raises StartError that says what to install where one of them cannot be loaded. Linux alone names them so."""
    if sys.platform != "linux":
        return
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError as error:
            raise StartError(f"The embedded model needs {name}, which cannot be loaded ({error}). {ADVICE}") from error
