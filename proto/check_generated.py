"""Fails where `gen/` is not what the .proto files generate: `make proto` mends it."""

import filecmp
import sys
import tempfile
from pathlib import Path

from generate import PROTO, generate


def differences(expected: Path, actual: Path) -> list[str]:
    """The files below `expected` and `actual` that are not the same, by their path."""
    names = {
        path.relative_to(root)
        for root in (expected, actual)
        for pattern in ("*.py", "*.pyi")
        for path in root.rglob(pattern)
    }
    return sorted(
        str(name)
        for name in names
        if not (expected / name).is_file()
        or not (actual / name).is_file()
        or not filecmp.cmp(expected / name, actual / name, shallow=False)
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        changed = differences(Path(folder), PROTO / "gen")
    if changed:
        sys.exit("Generated code is not current; run `make proto`: " + ", ".join(changed))
