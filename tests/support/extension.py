"""The C extensions, built by hand with other flags than the installed ones', and loaded in their place."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
NAME = "worker.text._subwords"
SANITIZERS = (
    *("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    *("-Wall", "-Wextra", "-Werror"),
)
INCLUDE = Path(sysconfig.get_paths()["include"])


def compiler() -> list[str] | None:
    """The C compiler that would build the extension: the variable CC, or `cc`.

    None where there is none, and where Python's headers are missing (Debian has them in python3-dev)."""
    command = shlex.split(os.environ.get("CC", "")) or ["cc"]
    return command if shutil.which(command[0]) and (INCLUDE / "Python.h").exists() else None


def build(folder: Path, *flags: str, name: str = "_subwords") -> Path:
    """Builds the extension into the folder. Raises RuntimeError with what the compiler said."""
    command = compiler()
    if command is None:
        raise RuntimeError("there is no C compiler, or Python's headers are missing")
    built = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    source = ROOT / "worker" / "text" / f"{name}.c"
    shared = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    arguments = [
        *command,
        "-std=c11",
        "-fPIC",
        *shared,
        f"-I{INCLUDE}",
        *flags,
        str(source),
        "-o",
        str(built),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(arguments)}\n{done.stdout}{done.stderr}")
    return built


def sanitized(folder: Path, *flags: str, name: str = "_subwords") -> tuple[Path, dict[str, str]]:
    """The extension built so that reads and writes outside of what is allocated, use after free and overflow end the
    process, and the environment to run it in. Skips the test where the compiler lacks the library, but for CI."""
    command = compiler() or []
    done = subprocess.run([*command, "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    library = Path(done.stdout.strip())
    if not library.is_absolute() and not os.environ.get("CI"):
        pytest.skip("this compiler has no libasan.so")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }
    return build(folder, *SANITIZERS, *flags, name=name), environment


def load(built: Path, name: str = "_subwords") -> ModuleType:
    """The extension in this file, as a module of its own."""
    loader = importlib.machinery.ExtensionFileLoader(name, str(built))
    spec = importlib.util.spec_from_file_location(name, built, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def install(built: Path) -> None:
    """From here on this is the extension that `worker.text.compiled` uses, for encoders that are not made yet."""
    from worker.text import compiled

    compiled._subwords = sys.modules[NAME] = load(built, NAME)
    compiled._AVAILABLE = True
