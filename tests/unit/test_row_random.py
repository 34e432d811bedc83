"""Random numbers: the generator's published answers, equality of its implementations, and independence of batches."""

import ctypes
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from no_copies import NoCopies
from scipy import stats

from dpt_ray.core.philox import host, kernel, reference
from dpt_ray.core.row_random import RowRandom
from dpt_ray.core.seeds import derive_seed

KNOWN_ANSWERS = [
    ("0 0 0 0", "0 0", "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
    (
        "ffffffffffffffff ffffffffffffffff ffffffffffffffff ffffffffffffffff",
        "ffffffffffffffff ffffffffffffffff",
        "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0",
    ),
    (
        "243f6a8885a308d3 13198a2e03707344 a4093822299f31d0 082efa98ec4e6c89",
        "452821e638d01377 be5466cf34e90c6c",
        "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
    ),
]
"""Counter, key and words of philox4x64-10 in `kat_vectors` of Random123, the library of the generator's authors."""

DISTRIBUTIONS = [("uniform", 0), ("normal", 0), ("integers", 9), ("integers", 2**31 - 1), ("integers", 2**31)]
SEEDS = st.integers(0, 2**63 - 1)


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def signed(word: int) -> torch.Tensor:
    return torch.from_numpy(np.array([word], np.uint64).view(np.int64))


def assert_same(got: torch.Tensor, expected: torch.Tensor, distribution: str) -> None:
    """Integers and uniform numbers to the bit, normal numbers to rounding."""
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    if distribution == "normal":
        torch.testing.assert_close(got, expected, rtol=0, atol=4e-6)
    else:
        assert torch.equal(got, expected)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_blocks_are_the_published_ones(counter, key, answer):
    given_counter, given_key = ([signed(word) for word in words(text)] for text in (counter, key))
    block = reference.philox4x64(tuple(given_counter), tuple(given_key))
    assert [int(word.item()) % 2**64 for word in block] == words(answer)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_numpys_blocks_are_the_published_ones(counter, key, answer):
    before = sum(word << 64 * place for place, word in enumerate(words(counter))) - 1
    philox = np.random.Philox(key=0)
    philox.state = philox.state | {
        "state": {
            "counter": [(before >> 64 * place) % 2**64 for place in range(4)],
            "key": words(key),
        },
        "buffer_pos": 4,
    }
    assert philox.random_raw(4).tolist() == words(answer)


@given(
    seeds=st.lists(SEEDS, min_size=1, max_size=5),
    index=st.integers(0, 2**40),
    count=st.integers(1, 70),
    what=st.sampled_from(DISTRIBUTIONS),
)
@settings(deadline=None)
def test_the_hosts_numbers_are_those_of_the_reference(seeds, index, count, what):
    expected = reference.draw(torch.tensor(seeds), index, count, *what)
    assert_same(torch.from_numpy(host.draw(seeds, index, count, *what)), expected, what[0])


@pytest.mark.parametrize("what", DISTRIBUTIONS)
@pytest.mark.parametrize("count", [16384, 16385, 40001])
def test_long_draws_are_cut_where_nobody_sees_it(what, count):
    seeds = [3, 2**62]
    expected = reference.draw(torch.tensor(seeds), 5, count, *what)
    assert_same(torch.from_numpy(host.draw(seeds, 5, count, *what)), expected, what[0])


@pytest.fixture(scope="module")
def compiled_kernels(tmp_path_factory):
    """Return the kernels for GPUs, compiled for the CPU: their sources are C++ but for three intrinsic functions."""
    if (compiler := shutil.which("g++")) is None:
        pytest.skip("needs g++")
    folder = tmp_path_factory.mktemp("kernels")
    found = {}
    for name, source in kernel.SOURCES.items():
        (folder / f"{name}.cpp").write_text(
            "#include <cmath>\n#include <cstring>\n"
            "static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {\n"
            "  return (unsigned long long)((unsigned __int128)(a) * b >> 64); }\n"
            "static inline int __float_as_int(float x) { int bits; std::memcpy(&bits, &x, 4); return bits; }\n"
            f"{source}\n"
            'extern "C" long long number(long long a, long long b, long long c, long long d) {\n'
            f"  return philox_{name}<long long>(a, b, c, d); }}\n"
        )
        library = folder / f"{name}.so"
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, folder / f"{name}.cpp"], check=True)
        found[name] = ctypes.CDLL(str(library)).number
        found[name].argtypes, found[name].restype = [ctypes.c_longlong] * 4, ctypes.c_longlong
    return found


@pytest.mark.parametrize(("distribution", "high"), DISTRIBUTIONS)
def test_the_kernels_numbers_are_those_of_the_reference(compiled_kernels, distribution, high):
    seeds, index, count = [0, 7, 2**63 - 1], 11, 37
    numbers = [[compiled_kernels[distribution](seed, p, index, high) for p in range(count)] for seed in seeds]
    got = torch.tensor(numbers)
    if distribution != "integers":
        got = got.to(torch.int32).view(torch.float32)
    assert_same(got, reference.draw(torch.tensor(seeds), index, count, distribution, high), distribution)


@pytest.mark.parametrize("distribution", kernel.SOURCES)
def test_torch_finds_the_kernel_in_its_source(distribution):
    assert kernel._compiled(distribution).kernel_name == f"philox_{distribution}"


def test_integers_are_the_high_word_of_the_product():
    drawn = np.array([0, 1, 2**32 - 1, 2**32, 2**63, 2**64 - 1], np.uint64)
    for high in (1, 3, 10, 2**31 - 1, 2**31):
        out = np.empty(len(drawn), np.int64)
        host._integers(drawn, high, out)
        assert out.tolist() == [int(word) * high >> 64 for word in drawn]


@pytest.mark.parametrize("high", [0, -1, 2**31 + 1])
def test_a_bound_out_of_range_is_refused(high):
    with pytest.raises(ValueError, match=r"bound in 1\.\.2147483648: got"):
        RowRandom([1]).integers(high)


def draws(random: RowRandom) -> list[torch.Tensor]:
    return [random.uniform(3), random.normal(2, 5), random.integers(9, 2), random.uniform(), random.normal()]


@given(seeds=st.lists(SEEDS, min_size=1, max_size=6, unique=True), rows=st.integers(1, 5), data=st.data())
@settings(deadline=None)
def test_rows_get_the_same_numbers_in_any_batch(seeds, rows, data):
    whole = draws(RowRandom(seeds, rows))
    order = data.draw(st.permutations(range(len(seeds))))
    part = order[: data.draw(st.integers(1, len(order)))]
    kept = torch.cat([torch.arange(stream * rows, (stream + 1) * rows) for stream in part])
    for expected, got in zip(whole, draws(RowRandom([seeds[stream] for stream in part], rows)), strict=True):
        assert torch.equal(got, expected[kept])


def test_parts_go_on_where_the_whole_is():
    whole = RowRandom(range(6), 2)
    first = whole.uniform(2)
    parts = whole.split(3)
    rest = draws(whole)
    for expected, *got in zip(rest, *(draws(part) for part in parts), strict=True):
        assert torch.equal(torch.cat(got), expected)
    assert torch.equal(RowRandom(range(6), 2).uniform(2), first)
    assert [len(part) for part in whole.split(4)] == [4, 4, 2, 2]
    with pytest.raises(ValueError, match="6 random streams cannot be cut into 7 parts"):
        whole.split(7)


def test_a_longer_draw_begins_like_a_shorter_one():
    for name, *arguments in (("uniform",), ("normal",), ("integers", 7)):
        long, short = (getattr(RowRandom([4]), name)(*arguments, count) for count in (5000, 33))
        assert torch.equal(long[:, :33], short)


def test_threads_do_not_disturb_each_other():
    expected = [draws(RowRandom([seed], 200)) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for mine, got in zip(
                expected, pool.map(lambda seed: draws(RowRandom([seed], 200)), range(40)), strict=True
            ):
                assert all(torch.equal(a, b) for a, b in zip(mine, got, strict=True))


def test_uniform_numbers_are_uniform():
    values = RowRandom([derive_seed("test", 1)]).uniform(200_000)[0].double().numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert values.mean() == pytest.approx(0.5, abs=4 / (12 * len(values)) ** 0.5)


def test_normal_numbers_are_normal():
    values = RowRandom([derive_seed("test", 2)]).normal(200_000)[0].double().numpy()
    assert stats.kstest(values, "norm").pvalue > 1e-3
    for power, moment, deviation in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert (values**power).mean() == pytest.approx(moment, abs=4 * deviation / len(values) ** 0.5)


@pytest.mark.parametrize("high", [2, 9, 13, 1000])
def test_integers_are_equally_frequent(high):
    values = RowRandom([derive_seed("test", 3)]).integers(high, 100 * high)[0]
    assert stats.chisquare(torch.bincount(values, minlength=high).numpy()).pvalue > 1e-3


def test_streams_draws_and_positions_are_uncorrelated():
    count = 4096
    random = RowRandom([*range(6), *(2**62 + seed for seed in range(6))])  # neighbouring seeds
    series = torch.cat([random.uniform(count), random.uniform(count), random.normal(count), random.normal(count)])
    series = torch.cat([series, series[:, 1:].roll(1, 1).repeat(1, 2)[:, :count], series.square()]).double()
    rows = len(series) // 3
    correlation = torch.corrcoef(series)
    # A series is compared with all others, with their shifts by one position, and with their squares.
    for block in (correlation[:rows, :rows], correlation[:rows, rows : 2 * rows]):
        others = block - torch.diag(torch.diagonal(block))
        assert others.abs().max() < 5 / count**0.5
    normals = slice(24, 48)
    assert correlation[normals, 2 * rows :][:, normals].abs().max() < 5 / count**0.5


def test_the_device_gets_no_numbers_from_the_host():
    random = RowRandom(range(4), 2, "meta")
    with NoCopies():
        shapes = [(tuple(drawn.shape), drawn.dtype) for drawn in draws(random)]
    assert shapes == [(tuple(drawn.shape), drawn.dtype) for drawn in draws(RowRandom(range(4), 2))]
    with pytest.raises(AssertionError, match="copies from the host"), NoCopies():
        RowRandom(range(4), 2, "meta")


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_draws_are_traced_without_a_break(backend):
    def step(seeds: torch.Tensor) -> list[torch.Tensor]:
        return [drawn * 2 for drawn in draws(RowRandom(seeds, 3))]

    traced = torch.compile(step, fullgraph=True, backend=backend)
    for first in (0, 50):  # other seeds need no other graph
        seeds = torch.arange(first, first + 4)
        assert all(torch.equal(a, b) for a, b in zip(traced(seeds), step(seeds), strict=True))
