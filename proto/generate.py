"""Generates `gen/` from the .proto files: `python proto/generate.py [DIRECTORY]`.

The output is committed, so that building Hearth needs no protoc; `make check` fails where it is not current.
"""

import shutil
import subprocess
import sys
from pathlib import Path

PROTO = Path(__file__).resolve().parent


def generate(destination: Path) -> None:
    """Replaces `destination/hearth` by what the .proto files say."""
    shutil.rmtree(destination / "hearth", ignore_errors=True)
    destination.mkdir(parents=True, exist_ok=True)
    scripts = Path(sys.executable).parent
    plugins = [f"--plugin={name}={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    outputs = [f"--{kind}_out={destination}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{destination}" for kind in ("mypy", "mypy_grpc")]
    sources = [str(path.relative_to(PROTO)) for path in sorted(PROTO.glob("hearth/**/*.proto"))]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}"]
    subprocess.run([*protoc, *plugins, *outputs, *sources], check=True, cwd=PROTO)


if __name__ == "__main__":
    generate(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else PROTO / "gen")
