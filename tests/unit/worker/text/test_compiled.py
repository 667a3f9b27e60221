"""The compiled encoder against the plain reference, `Vocabulary.encode_ids`: same ids, same cuts, whatever arrives.

They run where the extension was built, and those that build it anew where there is a C compiler. CI misses none of it.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.faults import fuzz_encoder
from tests.faults.fuzz_encoder import ODD, PIECES, compare, ids_of, large_subwords
from tests.support import extension
from worker.records import DType
from worker.text import compiled
from worker.text.compiled import CompiledEncoder
from worker.text.vocabulary import UNDERSCORE, Vocabulary, has_line_break

CI = bool(os.environ.get("CI"))
PLAIN = (
    "the_",
    "the",
    "th",
    "mov",
    "ie_",
    "ies_",
    ", ",
    ". ",
    " ",
    "  ",
    "é",
    "ée_",
    "😀",
    "a",
    "s_",
    "1",
    "12_",
    "...",
)
VOCABULARIES = {
    "plain": Vocabulary(PLAIN),
    "reserved": Vocabulary((*PLAIN, "<br", "foo\\&undsc", "._", "a b", "\ufffd\ufffda")),
    "odd": Vocabulary(ODD),
    "none": Vocabulary(()),
}
TEXTS = st.lists(st.sampled_from(PIECES) | st.sampled_from(ODD) | st.text(max_size=6), max_size=12).map("".join)
SUBWORDS = st.lists(
    st.text("ab_\\&é .-\U0001f600", min_size=1, max_size=5)
    | st.sampled_from([*ODD, UNDERSCORE[:3], UNDERSCORE[2:] + "_", "a" + UNDERSCORE])
    | st.text(st.characters(codec="utf-8"), min_size=1, max_size=4),
    max_size=14,
).map(lambda subwords: [subword for subword in subwords if not has_line_break(subword)])
FORMATS = {DType.INT32: "i", DType.INT64: "q", DType.FLOAT32: "f"}

built = pytest.mark.skipif(not compiled.available(), reason="the extension is not built: there was no C compiler")
compiles = pytest.mark.skipif(extension.compiler() is None, reason="there is no C compiler")


def encoder(subwords: Sequence[str] = PLAIN, **settings: Any) -> CompiledEncoder:
    return CompiledEncoder(Vocabulary(subwords), **{"max_tokens": fuzz_encoder.ALL, **settings})


@pytest.fixture(scope="module", params=VOCABULARIES, ids=str)
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    return VOCABULARIES[request.param]


@pytest.fixture(scope="module")
def whole(vocabulary: Vocabulary) -> dict[int, CompiledEncoder]:
    return {fuzz_encoder.ALL: CompiledEncoder(vocabulary, max_tokens=fuzz_encoder.ALL)}


@compiles
def test_it_is_built_where_there_is_a_compiler() -> None:
    assert compiled.available(), "install the project again: pip install --no-deps -e ."


# Ids


@built
@given(st.lists(TEXTS, max_size=4))
@example(["", " the", "the ", "the  ", "the the", "...", "...\x00", "the\x00", "é", "日", "_"])
@example(['the "movie" (a), <br /><br />the_movies the\\&undsc the.', "\\&undsc \\&undsc_ _ __ \\&unds"])
@example(["a" * 63 + " é the", "é" * 31 + "日" * 11 + "😀" * 17, "the " * 700, " é" * 3_000, "_ " * 40])
@settings(max_examples=400)
def test_ids_are_the_references(vocabulary: Vocabulary, whole: dict[int, CompiledEncoder], texts: list[str]) -> None:
    compare(vocabulary, whole, texts)


@built
@given(SUBWORDS, st.lists(st.text("ab_\\&é .-\U0001f600", max_size=30) | TEXTS, max_size=4), st.integers(1, 9))
@example(["a\\&"], ["a_", "a_b a\\&undsc"], 3)
@example(["_", "__", " _", "_ "], ["_ _", "__ ", "  ", "a ", " a"], 5)
@example([UNDERSCORE, "a", "a", "a_", "a_"], ["\\&undsc a a_ ", "a a"], 5)
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_ids_are_the_references_for_any_vocabulary(subwords: list[str], texts: list[str], limit: int) -> None:
    vocabulary = Vocabulary([*subwords, *subwords[:1]])
    for_limit = {tokens: CompiledEncoder(vocabulary, max_tokens=tokens) for tokens in (limit, vocabulary.size, 10_000)}

    compare(vocabulary, for_limit, [*texts, *subwords, " ".join(subwords)])


@built
@given(st.text(st.characters() | st.characters(categories=["Cs"])))
@example("the\ud800movie \udfff ")
@example("\ud83d\ude00")
@example("\ud800" * 30 + "_" + "a" * 40)
def test_lone_surrogates_count_as_replacement_characters(
    vocabulary: Vocabulary, whole: dict[int, CompiledEncoder], text: str
) -> None:
    replaced = re.sub("[\ud800-\udfff]", "\ufffd", text)
    [ours] = whole.values()

    alone, mended = ids_of(ours.encode_many([text, replaced]))

    assert alone == mended == vocabulary.encode_ids(text)


@built
def test_word_characters_are_those_of_this_interpreters_regular_expressions() -> None:
    # A word takes the space in, others do not: so the ids tell which it is. `fuzz_encoder --points` does more of it.
    ours = encoder(["_"])
    points = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]

    rows = ours.encode_many([f"{point} a" for point in points])
    ids = memoryview(rows.tensor(range(len(points)), 6).content).cast("i")
    space_taken_in = [ids[6 * row + tokens - 2] == 1 for row, tokens in enumerate(rows.tokens)]

    words = [re.match(r"\w", point) is not None for point in points]
    assert space_taken_in == words


@built
@given(st.lists(st.sampled_from(PLAIN), max_size=300))
def test_tokens_as_long_as_the_hash_holds_and_longer(parts: list[str]) -> None:
    word = "".join(part.strip(" _") for part in parts)
    lengths = range(1, min(len(word), 20))
    vocabulary = Vocabulary(tuple(word[:length] + ending for length in lengths for ending in ("", "_")))
    texts = [word[:length] + ending for length in lengths for ending in ("", " ", "\x00", " \x00", "a")]

    compare(vocabulary, {fuzz_encoder.ALL: CompiledEncoder(vocabulary, max_tokens=fuzz_encoder.ALL)}, texts)


@built
def test_ten_thousand_texts_of_the_fuzz_run() -> None:
    assert fuzz_encoder.run(seed=1, count=10_000).total() == 10_000


@built
def test_a_large_vocabulary() -> None:
    subwords = large_subwords(Random(5), 40_000)
    vocabulary = Vocabulary(subwords)
    texts = ["".join(Random(number).choices(subwords, k=50)).replace("_", " ") for number in range(100)]

    compare(vocabulary, {tokens: CompiledEncoder(vocabulary, max_tokens=tokens) for tokens in (7, 1_000)}, texts)


# Cuts


@built
@given(TEXTS, st.integers(1, 12), st.none() | st.integers(1, 12))
def test_a_row_is_cut_at_the_limit_and_says_so(
    vocabulary: Vocabulary, text: str, max_tokens: int, length: int | None
) -> None:
    limit = max_tokens if length is None else min(max_tokens, length)
    ids = vocabulary.encode_ids(text)

    rows = CompiledEncoder(vocabulary, max_tokens=max_tokens, length=length).encode_many([text, "", text])

    assert ids_of(rows) == [ids[:limit], [], ids[:limit]]
    assert list(rows.tokens) == [len(ids[:limit]), 0, len(ids[:limit])]
    cut = len(ids) > limit
    assert [rows.is_truncated(row) for row in range(3)] == [cut, False, cut]
    assert rows.truncated == 2 * cut


@built
@given(TEXTS.filter(bool), st.integers(1, 5))
def test_a_text_that_is_far_too_long_is_cut_where_it_would_have_been_anyway(
    vocabulary: Vocabulary, text: str, max_tokens: int
) -> None:
    compare(vocabulary, {max_tokens: CompiledEncoder(vocabulary, max_tokens=max_tokens)}, [text * 200])


# Tensors


@built
@given(
    st.lists(TEXTS, min_size=1, max_size=6),
    st.sampled_from(list(FORMATS)),
    st.sampled_from([0, 7]),
    st.none() | st.integers(1, 20),
    st.data(),
)
def test_a_tensor_is_the_rows_padded_in_the_models_dtype(
    vocabulary: Vocabulary, texts: list[str], dtype: DType, padding_id: int, length: int | None, data: st.DataObject
) -> None:
    made = CompiledEncoder(vocabulary, max_tokens=30, dtype=dtype, padding_id=padding_id, length=length)
    indexes = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=8))

    rows = made.encode_many(texts)
    longest = max([0, *(rows.tokens[index] for index in indexes)]) + data.draw(st.integers(0, 2))
    tensor = rows.tensor(indexes, longest)

    width = longest if length is None else length
    wanted = [vocabulary.encode_ids(texts[index])[: 30 if length is None else min(30, length)] for index in indexes]
    padded = [number for ids in wanted for number in [*ids, *[padding_id] * (width - len(ids))]]
    assert (tensor.dtype, tensor.shape) == (dtype, (len(indexes), width))
    assert tensor.content == struct.pack(f"<{len(padded)}{FORMATS[dtype]}", *padded)


@built
@pytest.mark.parametrize("dtype", FORMATS)
def test_a_large_tensor(dtype: DType) -> None:
    rows = encoder(dtype=dtype, padding_id=9).encode_many(["the " * 2_000, "", "a"])

    tensor = rows.tensor([2, 0, 1] * 40, 2_000)

    row = [18 - 4, *[9] * 1_999, *[1] * 2_000, *[9] * 2_000]
    assert tensor.content == struct.pack(f"<{len(row) * 40}{FORMATS[dtype]}", *row * 40)


@built
def test_rows_that_are_not_there_and_rows_that_do_not_fit_are_refused() -> None:
    rows = encoder().encode_many(["the the", "a"])

    for index in (2, -1, 1 << 70):
        with pytest.raises(IndexError):
            rows.tensor([0, index], 9)
        with pytest.raises(IndexError):
            rows.is_truncated(index)
    with pytest.raises(ValueError, match="a row of 2 tokens does not fit into 1"):
        rows.tensor([0, 1], 1)
    with pytest.raises(ValueError, match="-1 tokens"):
        rows.tensor([], -1)
    with pytest.raises(MemoryError):
        rows.tensor([0, 1, 0], sys.maxsize // 2)
    with pytest.raises(TypeError):
        rows.tensor(cast("Any", ["0"]), 9)


@built
def test_what_the_extension_is_given_is_checked() -> None:
    from worker.text import _subwords

    with pytest.raises(TypeError):
        cast("Any", _subwords.Rows)()
    for subwords in (["a", ""], ["\ud800"], ["a", 3]):
        with pytest.raises(ValueError, match=r"a subword is a str|surrogates not allowed"):
            _subwords.Encoder(cast("Any", subwords), 1)
    with pytest.raises(ValueError, match="a limit of -1"):
        _subwords.Encoder(["a"], -1)
    rows = _subwords.Encoder(["a"], 5).encode_many(("a", "aa"))
    assert len(rows) == 2
    for kind, padding in (("i", b"12345678"), ("q", b"1234"), ("d", b"12345678"), ("f", b"")):
        with pytest.raises(ValueError, match="ids are i, q or f"):
            rows.padded([0], 2, cast("Any", kind), padding)


@built
@pytest.mark.parametrize("dtype", [DType.TEXT, DType.FLOAT64])
def test_a_dtype_that_holds_no_ids_is_refused(dtype: DType) -> None:
    with pytest.raises(ValueError, match="ids are sent as int32, int64, float32"):
        encoder(dtype=dtype)


@built
def test_a_text_that_is_no_str_is_refused() -> None:
    with pytest.raises(TypeError, match="a text is a str, not bytes"):
        encoder().encode_many(cast("Any", ["the", b"the"]))


@built
def test_an_empty_window() -> None:
    rows = encoder().encode_many([])

    assert (list(rows.tokens), rows.truncated, rows.tensor([], 0).shape) == ([], 0, (0, 0))


# Threads


@built
def test_several_threads_share_an_encoder_and_rows() -> None:
    vocabulary = VOCABULARIES["odd"]
    shared = CompiledEncoder(vocabulary, max_tokens=300)
    random = Random(3)
    windows = [[fuzz_encoder.random_text(random, ODD) for _ in range(300)] for _ in range(4)]
    wanted = [[vocabulary.encode_ids(text)[:300] for text in window] for window in windows]
    rows = shared.encode_many(windows[0])
    tensor = rows.tensor(range(300), 300)
    wrong: list[object] = []
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        barrier.wait()
        for _ in range(10):
            if ids_of(shared.encode_many(windows[number])) != wanted[number]:
                wrong.append(number)
            if rows.tensor(range(300), 300) != tensor:
                wrong.append("tensor")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.fixture
def elsewhere() -> Iterator[Callable[[], int]]:
    """How often another thread has had the interpreter, which nobody gives it but who releases the lock."""
    turns, stop, usual = 0, False, sys.getswitchinterval()

    def take_turns() -> None:
        nonlocal turns
        while not stop:
            turns += 1
            time.sleep(0)

    sys.setswitchinterval(1_000)
    thread = threading.Thread(target=take_turns)
    thread.start()
    yield lambda: turns
    stop = True
    thread.join()
    sys.setswitchinterval(usual)


@built
def test_the_lock_is_released_while_a_window_is_encoded_and_padded(elsewhere: Callable[[], int]) -> None:
    ours = encoder()
    window = ["a movie. " * 5_000] * 20

    def others_run_during(work: Callable[[], object]) -> bool:
        before = elsewhere()
        work()
        return elsewhere() != before

    rows = ours.encode_many(window)
    longest = max(rows.tokens)
    # Where the lock is kept another thread never runs, however often it is tried.
    assert any(others_run_during(lambda: ours.encode_many(window)) for _ in range(200))
    assert any(others_run_during(lambda: rows.tensor(range(20), longest)) for _ in range(200))
    assert not any(others_run_during(lambda: ours.encode_many(["a movie"])) for _ in range(20))


# Time and memory


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The extension, built to count its steps."""
    return extension.load(extension.build(tmp_path_factory.mktemp("counting"), "-O1", "-DCOUNT_STEPS"))


HOSTILE = {
    "one letter": "a",
    "spaces": " ",
    "underscores": "_",
    "escaped underscores": "\\&undsc",
    "almost escaped": "\\&undsx",
    "words": "a ",
    "beyond ASCII": "é",
    "marks": "<",
    "almost a reserved subword": "b.b.",
    "lone surrogates": "\ud800",
    "nearly the longest": "a" * 39 + "c",
}


@compiles
@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_the_steps_for_a_text_grow_with_it_and_no_faster(counting: ModuleType, piece: str) -> None:
    subwords = [
        "a" * 40 + "b",
        "a",
        "b.b.b.b.b.b.b!",
        "<" * 30 + ">",
        " " * 20 + "\t",
        "é" * 20 + "a",
        "\\&undsc" * 3 + "a",
    ]
    longest = max(len(subword.encode()) for subword in subwords)
    ours = counting.Encoder(subwords, fuzz_encoder.ALL)

    def steps_for(characters: int) -> int:
        text = "".join(islice(cycle(piece), characters))
        counting.take_steps()
        ours.encode_many([text])
        steps = cast("int", counting.take_steps())
        assert steps <= 8 * len(text.encode("utf-8", "surrogatepass")) * (longest + 17)
        return steps

    assert steps_for(262_144) <= 2.1 * steps_for(131_072)


@compiles
@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
def test_the_steps_for_a_text_are_bounded_by_the_token_limit(counting: ModuleType, piece: str) -> None:
    ours = counting.Encoder(["a" * 40 + "b", "a"], 100)
    counting.take_steps()

    rows = ours.encode_many([piece * 1_000_000])

    assert (rows.tokens, rows.truncated) == ((100,), 1)
    assert counting.take_steps() <= 8 * 4 * 104 * 41 * (41 + 17)


@compiles
def test_the_steps_for_the_tables_grow_with_the_vocabulary_and_little_faster(counting: ModuleType) -> None:
    def steps_for(count: int) -> int:
        subwords = large_subwords(Random(1), count)
        counting.take_steps()
        counting.Encoder(subwords, 100)
        return cast("int", counting.take_steps())

    assert steps_for(32_000) <= 2.5 * steps_for(16_000)


@built
def test_nothing_is_kept_from_window_to_window() -> None:
    ours = encoder()

    def work() -> None:
        rows = ours.encode_many(["the movie " * 50, "_" * 500, "é\ud800", ""])
        rows.tensor([0, 1] * 20, 1_000)
        for wrong in (lambda: ours.encode_many(cast("Any", ["the", 3])), lambda: rows.tensor([0, 9] * 20, 1_000)):
            with pytest.raises((TypeError, IndexError)):
                wrong()
        encoder(ODD)

    def kept() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        for _ in range(5):
            work()
        before = kept()
        for _ in range(400):
            work()
        assert kept() - before < 400 * 16
    finally:
        tracemalloc.stop()


# Building


@compiles
@pytest.mark.timeout(120)
def test_random_texts_under_the_sanitizers(tmp_path: Path) -> None:
    """Reads and writes outside of what is allocated, use after free, overflow: any of them ends the run."""
    sanitized, environment = extension.sanitized(tmp_path, "-DEXACT_ROOM")
    program = [sys.executable, "-m", "tests.faults.fuzz_encoder", "--extension", str(sanitized)]
    no_memory = ["--no-memory"] if importlib.util.find_spec("_testcapi") else []

    done = subprocess.run(
        [*program, "--seed", "1", "--texts", "5000", "--points", "197", *no_memory],
        capture_output=True,
        text=True,
        env=environment,
        cwd=extension.ROOT,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert str(sanitized) in done.stdout
    assert "5,000 random texts, whole and cut: the same" in done.stdout


@pytest.fixture
def installed(tmp_path: Path) -> Callable[..., list[Path]]:
    """Builds what pyproject.toml tells setuptools of the extension, elsewhere; returns what was built."""

    def build(**environment: str) -> list[Path]:
        for name in ("pyproject.toml", "README.md", "LICENSE", "worker/text/_subwords.c", "worker/text/_normalise.c"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(extension.ROOT / name, tmp_path / name)
        subprocess.run(
            [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "build_ext", "--build-lib", "built"],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            check=True,
        )
        return sorted((tmp_path / "built").rglob("_*"))

    return build


@compiles
def test_installing_builds_both_where_there_is_a_compiler(installed: Callable[..., list[Path]]) -> None:
    normalise, built = installed()

    assert extension.load(normalise, "_normalise").words("A <b>", True) == "a "
    assert extension.load(built).Encoder(["a"], 5).encode_many(["aa"]).tokens == (2,)


def test_installing_succeeds_where_there_is_none(installed: Callable[..., list[Path]], tmp_path: Path) -> None:
    assert installed(CC=str(tmp_path / "no-compiler")) == []


def test_without_the_extension_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, extension.NAME, None)
    monkeypatch.delattr("worker.text._subwords", raising=False)  # where it was imported before
    spec = importlib.util.spec_from_file_location("compiled_without", compiled.__file__)
    assert spec is not None
    assert spec.loader is not None
    without = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)

    assert not without.available()
    with pytest.raises(ImportError, match="was not built: install the project where there is a C compiler"):
        without.CompiledEncoder(VOCABULARIES["plain"], max_tokens=5)
