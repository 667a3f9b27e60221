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

ROOT = Path(__file__).parents[2]
NAME = "worker.text._subwords"
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
