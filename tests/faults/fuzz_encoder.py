"""Texts without end through the compiled encoder and the plain reference:
`python -m tests.faults.fuzz_encoder --texts 1000000 --seed 7`.

Each window of random texts is encoded whole and cut to a random limit. The ids and what was cut must be the reference's
(`Vocabulary.encode_ids`) with every vocabulary: odd ones made by hand, a large one, new random ones, and one from a file
where it is named. `--points 1` adds every code point in several surroundings, `--no-memory` a failure of each allocation.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING

from tests.support import extension
from worker.text.unicode import well_formed
from worker.text.vocabulary import Vocabulary, has_line_break

if TYPE_CHECKING:  # it is imported once it is known which extension is meant
    from worker.text.compiled import CompiledEncoder, CompiledRows

WINDOW = 250
ALL = 1 << 40
"""More tokens than any text has."""

MOST_DISPENSABLE = 20
"""Allocations in a row that can fail and all goes well: then there are no more."""

PIECES = (
    *("_", "__", "_ ", " _", " ", "  ", "   ", " " * 16, "\n", "\r\n", "\t", "\x00", "\x01", "\x1c", "\x7f", "\x85", "\xa0"),
    *("\\", "\\&", "&undsc", "undsc", "undsc ", "\\&undsc", "\\&undsc ", "\\&undsc_", "\\&unds"),
    *("a", "b", "Z", "0", "9", "the", "the ", "and ", "movie", "it's", "'s ", "x" * 15, "y" * 16, "z" * 17, "w" * 70),
    *(".", ",", ", ", ". ", "!", "?!", "'", '"', "-", "...", "...\x00", "." * 17, "<br /><br />"),
    *("²", "ª", "½", "Ⅷ", "①", "٣", "߀", "१", "𝟘", "㊀", "ǅ", "ß", "ſ", "K", "é", "é" * 8, "e\u0301", "\u0301", "\u0345"),
    *("ा", "क्षि", "ไทย", "한국어", "ᄒ", "日本語", "日" * 6, "中", "々", "〇", "㐀", "𠀀", "𰀀"),
    *("\U000323af", "Ω", "Ж", "א", "ع", "ـ"),
    *("😀", "👨‍👩‍👧", "🇩🇪", "\u200d", "\ufe0f", "\u2028", "\u3000", "\ufeff", "\u2160", "\u24b6", "\u203f"),
    *("\uff3f", "\U0001f130"),
    *("\ud800", "\udfff", "\udbff\udfff", "\udc00\ud800", "\ufffd", "\uffff", "\ue000", "\U0010ffff"),
)  # fmt: skip
"""What texts are made of."""

ODD = (
    *("a", "_", "__", "_a", "a_b", "ab_", "a b", "a b_", "it's", "it's_", "'s", "'s_", "!_", "! ", " ", "  ", " a"),
    *(". ", "._"),
    *("\\", "\\&", "\\&undsc", "\\&undsc_", "\\&undscx", "foo\\&undsc", "a\\&", "undsc", "undsc_", "&undsc", "sc_", "c_"),
    *(" _", "_ "),
    *("é", "日本", "日本_", "\u0301", "²", "ª_", "😀", "😀_", "x" * 16, "x" * 17, "x" * 15 + "_", "x" * 16 + "_", "y" * 40),
    *("." * 16, "." * 17, "...", "\x00", "\x00\x00", "\x01", "a\x00", "br", " /><", "the_", "the", "th", "t", "a", "it's"),
)  # fmt: skip
"""Subwords of every kind: mixed, with underscores in and at the end, prefixes of each other, doubled, long."""

SURROUNDINGS = ("{}", "a{} b", ".{} a", "{}{}_{} ")


class Differs(AssertionError):
    """The compiled encoder and the reference do not agree; the message says where."""


def random_subwords(random: Random) -> tuple[str, ...]:
    """A small vocabulary of pieces, of what stands between pieces, and of prefixes of them."""
    found = []
    for _ in range(random.choice((0, 1, 2, 5, 20, 60))):
        subword = "".join(random.choice(PIECES) for _ in range(random.choice((1, 1, 2, 3))))
        subword = subword[random.randrange(len(subword)) :][: random.choice((1, 2, 3, 5, 20))]
        found.append(subword + random.choice(("", "", "_")))
    return tuple(well_formed(subword) for subword in found if not has_line_break(subword))


def large_subwords(random: Random, count: int) -> tuple[str, ...]:
    """Random words, as many as a large model has, and half of them with a space behind."""
    letters = "etaoinshrdlucmfwypvbgkjqxzéß日本²"
    words = ("".join(random.choices(letters, k=random.randint(1, 14))) for _ in range(count))
    return tuple(dict.fromkeys(word + random.choice(("", "_")) for word in words))


def in_a_text(subword: str, random: Random) -> str:
    """The subword, or something near it, as a text may hold it."""
    if subword.endswith("_"):
        subword = subword[:-1] + random.choice((" ", " ", " ", "", "  ", "_"))
    return subword[: random.randint(0, len(subword))] if random.random() < 0.2 else subword


def random_text(random: Random, subwords: Sequence[str]) -> str:
    """Pieces, subwords and any characters in one of several mixtures."""
    [count] = random.choices((1, 2, 3, 5, 8, 13, 40, 600), (4, 4, 4, 4, 4, 4, 4, 1))
    kind = random.random()
    if kind < 0.3:
        return "".join(random.choices(PIECES, k=count))
    if kind < 0.85 and subwords:
        found = (in_a_text(random.choice(subwords), random) for _ in range(count))
        return "".join(text if random.random() < 0.8 else random.choice(PIECES) for text in found)
    highest = random.choice((0x80, 0x80, 0x100, 0x3000, 0x11_0000))
    return "".join(chr(random.randrange(highest)) for _ in range(count))


def ids_of(rows: CompiledRows) -> list[list[int]]:
    """All ids of each row, without padding."""
    return [array("i", rows.tensor([row], tokens).content)[:tokens].tolist() for row, tokens in enumerate(rows.tokens)]


def compare(vocabulary: Vocabulary, encoders: dict[int, CompiledEncoder], texts: Sequence[str]) -> None:
    """Raises Differs where one of the encoders, by its limit, gives something else than the reference."""
    wanted = [vocabulary.encode_ids(text) for text in texts]
    for limit, encoder in encoders.items():
        rows = encoder.encode_many(texts)
        found = ids_of(rows)
        for row, (text, ids) in enumerate(zip(texts, wanted, strict=True)):
            if found[row] != ids[:limit] or rows.is_truncated(row) != (len(ids) > limit):
                raise Differs(f"{text!a} cut to {limit}: {found[row]} instead of {ids[:limit]}")
        if rows.truncated != sum(len(ids) > limit for ids in wanted):
            raise Differs(f"{rows.truncated} rows cut to {limit}")


def vocabularies(random: Random, file: Path | None) -> dict[str, Vocabulary]:
    """By name; those that stay the same throughout a run."""
    made = {"odd": ODD, "few": ODD[1:20], "sparse": ODD[::3], "one": ("a",), "none": ()}
    found = {name: Vocabulary(subwords) for name, subwords in made.items()}
    found["large"] = Vocabulary(large_subwords(random, 30_000))
    if file is not None:
        found["file"] = Vocabulary.parse(file.read_bytes())
        found["file and odd"] = Vocabulary((*found["file"].subwords, *ODD))
    return found


def windows(seed: int, count: int, file: Path | None) -> Iterator[tuple[str, Vocabulary, list[str]]]:
    """The seed's windows of texts, `count` texts in all: a vocabulary's name, the vocabulary, and texts for it."""
    random = Random(seed)
    fixed = vocabularies(random, file)
    words = max(fixed.values(), key=lambda vocabulary: vocabulary.size).subwords
    for done in range(0, count, WINDOW):
        name = random.choice((*fixed, "random", "random"))
        vocabulary = fixed.get(name) or Vocabulary(random_subwords(random))
        source = words if random.random() < 0.2 else vocabulary.subwords
        yield name, vocabulary, [random_text(random, source) for _ in range(min(WINDOW, count - done))]


def run(seed: int, count: int, file: Path | None = None) -> Counter[str]:
    """How many texts were compared, by the name of their vocabulary. Raises Differs."""
    encoder = import_module("worker.text.compiled").CompiledEncoder
    random = Random(seed)
    known: dict[str, dict[int, CompiledEncoder]] = {}
    compared: Counter[str] = Counter()
    for number, (name, vocabulary, texts) in enumerate(windows(seed, count, file)):
        limits = (ALL, random.choice((1, 2, 3, 7, 20)))
        made = {} if name == "random" else known.setdefault(name, {})
        for limit in limits:
            if limit not in made:
                made[limit] = encoder(vocabulary, max_tokens=limit)
        try:
            compare(vocabulary, {limit: made[limit] for limit in limits}, texts)
        except Exception as error:
            error.add_note(f"seed {seed}, window {number}, vocabulary {name}: {vocabulary.subwords[:60]!a}")
            raise
        compared[name] += len(texts)
    return compared


def every_point(step: int = 1, first: int = 0) -> int:
    """Compares every code point, or each `step`-th, in several surroundings; returns how many texts that were."""
    encoder = import_module("worker.text.compiled").CompiledEncoder
    vocabulary = Vocabulary(ODD)
    encoders = {ALL: encoder(vocabulary, max_tokens=ALL)}
    compared = 0
    for around in SURROUNDINGS:
        for start in range(first, sys.maxunicode + 1, 4096 * step):
            points = map(chr, range(start, min(start + 4096 * step, sys.maxunicode + 1), step))
            texts = [around.replace("{}", point) for point in points]
            compare(vocabulary, encoders, texts)
            compared += len(texts)
    return compared


def without_memory() -> int:
    """Lets each allocation fail, one after the other, until none is left; returns how many ended with MemoryError.

    The others can be done without. Needs CPython's own test module. Under the sanitizers nothing may be freed twice."""
    testing = import_module("_testcapi")
    native = import_module(extension.NAME)
    subwords, texts = ODD, ["the movie", "a_b \\&undsc ", "日本 é 😀 \ud800", "x" * 5_000, "_" * 3_000]

    def all_of_it() -> bytes:
        rows = native.Encoder(subwords, 10_000).encode_many(texts)
        return bytes(rows.padded([3, 1, 2], 6_000, "q", b"\1" * 8))

    wanted = all_of_it()
    failed = well_in_a_row = 0
    for allocation in itertools.count():
        try:
            testing.set_nomemory(allocation, allocation + 1)
            found = all_of_it()
        except MemoryError:
            failed, well_in_a_row = failed + 1, 0
            continue
        finally:
            testing.remove_mem_hooks()
        if found != wanted:
            raise Differs("ids differ after an allocation failed")
        well_in_a_row += 1
        if well_in_a_row == MOST_DISPENSABLE:
            break
    return failed


def main() -> int:
    """Compares, and shows how much was compared."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz_encoder")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1_000_000))
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--vocabulary", type=Path, help=".subwords file, used beside the others")
    parser.add_argument("--points", type=int, default=0, metavar="STEP", help="compare each STEP-th code point, too")
    parser.add_argument("--no-memory", action="store_true", help="let each allocation fail, too")
    parser.add_argument("--extension", type=Path, help="use this build of the extension")
    given = parser.parse_args()
    if given.extension is not None:
        extension.install(given.extension)
    try:
        native = import_module(extension.NAME)
    except ImportError:
        print("The compiled encoder is not built here (there was no C compiler), so there is nothing to compare.")
        return 0
    print(f"seed {given.seed}, Python {sys.version.split()[0]}, {native.__file__}", flush=True)
    if given.no_memory:
        print(f"{without_memory()} allocations failed, one at a time: MemoryError each time", flush=True)
    if given.points:
        print(f"{every_point(given.points):,} texts around one code point each: the same", flush=True)
    compared = run(given.seed, given.texts, given.vocabulary)
    print(f"{compared.total():,} random texts, whole and cut: the same")
    print(", ".join(f"{name}: {count:,}" for name, count in sorted(compared.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
