"""The worker as it is where no C compiler was: `python -m tests.bench.without_compiled run …`."""

from __future__ import annotations

from worker.__main__ import main
from worker.text import compiled, normalising

if __name__ == "__main__":
    compiled._AVAILABLE = False
    normalising._quick_words = normalising._words
    main()
