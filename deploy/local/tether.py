"""Ties a program's life to its starter's: `python tether.py STARTER_PID PROGRAM [ARGUMENT…]`.

The program takes this process over (same process id) after asking the kernel to kill it when the thread that
started it ends (prctl(2), PR_SET_PDEATHSIG; it survives execve). So nothing of the stack is left behind, even when
its starter is killed outright. Run as a script, because `subprocess`' preexec_fn is unsafe beside threads.
Elsewhere than on Linux the program simply starts.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(starter: int, program: list[str]) -> None:
    """Never returns."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != starter:  # it died before the line above
            sys.exit(1)
    os.execv(program[0], program)  # noqa: S606  the program is what our own code named


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
