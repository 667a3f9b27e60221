"""Generates the message modules and their type stubs from the .proto files beside them.

`python -m protos.generate` writes them; `python -m protos.generate --check` only says whether what is checked in is
what the .proto files give, and exits with 1 if it is not. Needs grpcio-tools, whose version decides the oldest protobuf
runtime the generated modules accept, and mypy-protobuf, because protoc's own stubs do not pass `mypy --strict`; both
are in the `dev` extra.

gRPC stubs are not generated: the worker calls methods by their full names.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The folder that import paths (`protos/serving/tensor.proto`) start from."""


def sources() -> list[Path]:
    """Every .proto file, as a path relative to ROOT."""
    return sorted(path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*.proto"))


def generate(into: Path) -> list[Path]:
    """Writes `…_pb2.py` and `…_pb2.pyi` for every source below `into`; their paths relative to it."""
    stubs = Path(sysconfig.get_path("scripts")) / "protoc-gen-mypy"
    paths = [f"-I{ROOT}", f"--plugin={stubs}"]
    outputs = [f"--python_out={into}", f"--mypy_out=quiet:{into}"]
    # In a process of its own: beside TensorFlow, which brings another copy of the same C++ library, protoc crashes.
    command = [sys.executable, "-m", "grpc_tools.protoc", *paths, *outputs, *map(str, sources())]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit("protoc failed; its own message is above.")
    return [source.with_name(f"{source.stem}_pb2{suffix}") for source in sources() for suffix in (".py", ".pyi")]


def outdated() -> list[Path]:
    """The generated files that are missing or differ from what their .proto files give, relative to ROOT."""
    with tempfile.TemporaryDirectory() as fresh:
        return [
            path
            for path in generate(Path(fresh))
            if not (ROOT / path).exists() or (ROOT / path).read_bytes() != (Path(fresh) / path).read_bytes()
        ]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m protos.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if anything is out of date")
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    for path in (stale := outdated()):
        print(f"{path} is not what its .proto file gives; run `python -m protos.generate`.")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
