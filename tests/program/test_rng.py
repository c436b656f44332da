"""Each job's random streams: `python_random_is_seeded`, `capture` and `RandomStates.apply`."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsm.core.program import rng
from hsm.core.program.rng import RandomStates, capture, mt19937_is_seeded, python_random_is_seeded

WORDS = 624

seeds = st.one_of(
    st.integers(),
    st.integers(min_value=2**600, max_value=2**19000),
    st.floats(allow_nan=False),
    st.text(max_size=300),
    st.binary(max_size=2000),
    st.binary(max_size=2000).map(bytearray),
)


def words_drawn(generator: random.Random, words: int) -> tuple[Any, ...]:
    """The generator's state after as many words as `words` were drawn from it."""
    if words:
        generator.getrandbits(32 * words)
    return generator.getstate()


@given(seed=seeds, words=st.integers(0, 3 * WORDS))
@settings(max_examples=200, deadline=None)
def test_a_seed_is_found(seed: int | float | str | bytes | bytearray, words: int) -> None:
    generator = random.Random()
    generator.seed(seed)
    assert python_random_is_seeded(words_drawn(generator, words))


@pytest.mark.parametrize("words", [0, 1, 226, 227, 228, 396, 397, 398, 623, 624, 625, 1248, 1249])
@pytest.mark.parametrize("seed", [0, 1, 42, -42, 2**32 - 1, 2**32, 2**31, "0", "", b"\0", 0.5])
def test_a_seed_is_found_wherever_in_a_block_the_generator_is(
    seed: int | float | str | bytes, words: int
) -> None:
    assert python_random_is_seeded(words_drawn(random.Random(seed), words))


def test_a_seed_of_the_older_kind_is_found() -> None:
    generator = random.Random()
    generator.seed("a word", version=1)
    assert python_random_is_seeded(words_drawn(generator, 1000))


@pytest.mark.parametrize("words", [1, 2, 3, 311, 312, 313, 600, rng.MAX_KEY_WORDS])
def test_keys_of_any_length_up_to_the_limit_are_found(words: int) -> None:
    key = random.Random(words).getrandbits(32 * words) | 1 << 32 * words - 1
    generator = random.Random(key)
    assert python_random_is_seeded(generator.getstate())
    assert python_random_is_seeded(words_drawn(generator, 5000))


def test_a_key_as_long_as_the_state_cannot_be_told_from_entropy() -> None:
    key = random.Random(1).getrandbits(32 * WORDS) | 1 << 32 * WORDS - 1
    assert not python_random_is_seeded(random.Random(key).getstate())


def test_a_seed_is_found_up_to_the_stated_number_of_draws() -> None:
    within = words_drawn(random.Random(7), WORDS * rng.MAX_TWISTS)
    assert python_random_is_seeded(within)
    beyond = words_drawn(random.Random(7), WORDS * rng.MAX_TWISTS + 1)
    assert not python_random_is_seeded(beyond)


def test_mixed_draws_leave_the_seed_visible() -> None:
    generator = random.Random("mixed")
    for _ in range(300):
        generator.gauss(0, 1)
        generator.shuffle(list(range(10)))
        generator.randrange(10**30)
        generator.choice("abc")
    assert python_random_is_seeded(generator.getstate())


def test_a_seeded_state_that_was_set_is_found() -> None:
    generator = random.Random()
    generator.setstate(words_drawn(random.Random(3), 700))
    assert python_random_is_seeded(generator.getstate())


def test_no_unseeded_state_is_taken_for_a_seeded_one() -> None:
    for words in [0] * 200 + [1, 624, 625, 10_000, 100_000]:
        assert not python_random_is_seeded(words_drawn(random.Random(), words))


def test_reseeding_from_entropy_ends_a_seed() -> None:
    generator = random.Random(5)
    generator.random()
    generator.seed()
    assert not python_random_is_seeded(generator.getstate())


def test_a_state_of_another_kind_is_not_seeded() -> None:
    assert not python_random_is_seeded((2, (1, 2, 3), None))
    assert not python_random_is_seeded(())


@pytest.mark.parametrize("words", [[0] * 624, list(range(624)), [0x80000000, *[0] * 623]])
def test_words_that_come_from_nowhere_are_not_seeded(words: list[int]) -> None:
    assert not mt19937_is_seeded(words)


def test_the_usual_answers_take_well_under_10_ms() -> None:
    for state in (random.Random().getstate(), words_drawn(random.Random(1), 1000)):
        durations = []
        for _ in range(5):
            started = time.perf_counter()
            python_random_is_seeded(state)
            durations.append(time.perf_counter() - started)
        assert min(durations) < 0.010


class TestNumpy:
    @pytest.fixture
    def np(self) -> Any:
        return pytest.importorskip("numpy")

    @pytest.mark.parametrize("seed", [0, 42, 2**32 - 1, [1], [1, 2, 3], list(range(600))])
    @pytest.mark.parametrize("draws", [0, 1, 1000, 100_000, 2_000_000])
    def test_a_seed_is_found_after_any_number_of_draws(
        self, np: Any, seed: int | list[int], draws: int
    ) -> None:
        generator = np.random.RandomState()
        generator.seed(seed)
        generator.random_sample(draws)
        assert rng._numpy_is_seeded(generator)

    @pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, [1, 2], list(range(600))])
    @pytest.mark.parametrize("draws", [0, 1, 312, 50_000])
    def test_the_state_alone_shows_the_seed(
        self, np: Any, seed: int | list[int], draws: int
    ) -> None:
        seeded = np.random.RandomState(seed)
        seeded.random_sample(draws)
        generator = np.random.RandomState()
        generator.set_state(seeded.get_state())
        assert rng._numpy_is_seeded(generator)

    @pytest.mark.parametrize("draws", [0, 1, 312, 50_000])
    def test_unseeded(self, np: Any, draws: int) -> None:
        generator = np.random.RandomState()
        generator.random_sample(draws)
        assert not rng._numpy_is_seeded(generator)

    def test_a_seed_for_a_while_does_not_count(self, np: Any) -> None:
        generator = np.random.RandomState()
        before = generator.get_state()
        generator.seed(1)
        generator.random_sample(5)
        generator.set_state(before)
        assert not rng._numpy_is_seeded(generator)

    def test_seed_without_an_argument_does_not_count(self, np: Any) -> None:
        for draws in (0, 1, 1000):
            generator = np.random.RandomState(5)
            generator.random_sample(draws)
            generator.seed()
            assert not rng._numpy_is_seeded(generator)

    def test_a_bit_generator_of_the_script(self, np: Any) -> None:
        assert rng._numpy_is_seeded(np.random.RandomState(np.random.MT19937(42)))
        assert rng._numpy_is_seeded(np.random.RandomState(np.random.MT19937([1, 2])))
        assert rng._numpy_is_seeded(np.random.RandomState(np.random.PCG64(42)))
        assert not rng._numpy_is_seeded(np.random.RandomState(np.random.MT19937()))


# A launching process, a fork server forked from it, and jobs forked from that. Each job tells
# what it draws, and what a sweep that it starts would take for seeded; then the script draws.
SCRIPT = """
import json, os, sys
{head}
from hsm.core.program.rng import capture

def draw():
    import random
    drawn = [random.random(), random.gauss(0, 1)]
    if "numpy.random.mtrand" in sys.modules:
        import numpy
        drawn += [numpy.random.rand(), numpy.random.randn(), int(numpy.random.randint(2**30))]
    return drawn

def forked(function):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        with os.fdopen(write, "w") as pipe:
            pipe.write(json.dumps(function()))
            pipe.flush()
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        result = json.load(pipe)
    os.waitpid(pid, 0)
    return result

def job():
    states.apply()
    drawn = draw()
    inner = capture()
    return drawn, [inner.python is not None, inner.numpy is not None]

states = capture()
jobs = forked(lambda: [forked(job) for _ in range(4)])
print(json.dumps([jobs, draw(), [states.python is not None, states.numpy is not None]]))
"""

SEEDED = "import random, numpy.random; random.seed('s'); numpy.random.seed(3)"
DRAWN = "[random.gauss(0, 1) for _ in range(1501)]; numpy.random.randn(1501)"


def run_python(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_jobs(head: str) -> tuple[list[list[float]], list[list[bool]], list[float], list[bool]]:
    """What four jobs drew and seem to have seeded; what the script draws, and has seeded."""
    jobs, undisturbed, seeded = json.loads(run_python(SCRIPT.format(head=head)))
    return [job[0] for job in jobs], [job[1] for job in jobs], undisturbed, seeded


@pytest.mark.parametrize("head", [SEEDED, f"{SEEDED}; {DRAWN}"])
def test_jobs_of_a_seeded_script_go_on_with_its_stream(head: str) -> None:
    pytest.importorskip("numpy")
    drawn, inside, undisturbed, seeded = run_jobs(head)
    assert seeded == [True, True]
    assert drawn == [undisturbed] * 4
    assert inside == [[True, True]] * 4


@pytest.mark.parametrize(
    "head",
    ["import random, numpy.random", f"import random, numpy.random; {DRAWN}"],
)
def test_jobs_of_an_unseeded_script_all_draw_differently(head: str) -> None:
    pytest.importorskip("numpy")
    drawn, inside, undisturbed, seeded = run_jobs(head)
    assert seeded == [False, False]
    for values in zip(undisturbed, *drawn, strict=True):
        assert len(set(values)) == 5
    assert inside == [[False, False]] * 4


def test_a_script_that_seeds_from_entropy_is_unseeded() -> None:
    pytest.importorskip("numpy")
    head = "import random, numpy.random; random.seed(); numpy.random.seed()"
    drawn, _, undisturbed, seeded = run_jobs(head)
    assert seeded == [False, False]
    for values in zip(undisturbed, *drawn, strict=True):
        assert len(set(values)) == 5


def test_each_generator_is_judged_by_itself() -> None:
    pytest.importorskip("numpy")
    drawn, inside, undisturbed, _ = run_jobs("import random, numpy.random; random.seed(1)")
    assert [job[:2] for job in drawn] == [undisturbed[:2]] * 4
    assert len({job[2] for job in drawn}) == 4
    assert inside == [[True, False]] * 4
    drawn, inside, undisturbed, _ = run_jobs("import random, numpy.random; numpy.random.seed(1)")
    assert [job[2:] for job in drawn] == [undisturbed[2:]] * 4
    assert len({job[0] for job in drawn}) == 4
    assert inside == [[False, True]] * 4


def test_a_bit_generator_of_the_script_goes_on_in_its_jobs() -> None:
    np = pytest.importorskip("numpy")
    if not hasattr(np.random, "set_bit_generator"):
        pytest.skip("this NumPy has no set_bit_generator")
    head = "import numpy.random as r; r.set_bit_generator(r.PCG64(5))"
    drawn, _, undisturbed, _ = run_jobs(head)
    assert [job[2:] for job in drawn] == [undisturbed[2:]] * 4


def test_nothing_is_imported_for_a_script_that_uses_no_numpy() -> None:
    assert run_python("""
        import pickle, random, sys
        from hsm.core.program.rng import capture
        random.seed(1)
        states = pickle.loads(pickle.dumps(capture()))
        states.apply()
        print(states.python is not None, states.numpy, "numpy" in sys.modules)
    """).split() == ["True", "None", "False"]


IN_FRESH_INTERPRETER = """
    import pickle, sys
    states = pickle.load(open(sys.argv[1], "rb"))
    lazy = "numpy" not in sys.modules
    states.apply()
    import random
    from hsm.core.program.rng import capture
    inner = capture()
    import numpy
    print([lazy, random.random(), float(numpy.random.rand()), inner == states])
"""


def test_a_fresh_interpreter_goes_on_with_the_seeded_streams(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    states = tmp_path / "states"
    undisturbed = run_python(
        f"""
        {SEEDED}; {DRAWN}
        import pickle, sys
        from hsm.core.program.rng import capture
        with open(sys.argv[1], "wb") as file: pickle.dump(capture(), file)
        print([True, random.random(), float(numpy.random.rand()), True])
        """,
        str(states),
    )
    assert run_python(IN_FRESH_INTERPRETER, str(states)) == undisturbed


def test_a_sweep_in_a_fresh_interpreter_finds_the_seed_too(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    states = tmp_path / "states"
    seeded = np.random.RandomState(3).get_state(legacy=False)
    states.write_bytes(pickle.dumps(RandomStates(numpy=pickle.dumps(seeded))))
    program = """
        import pickle, sys
        pickle.load(open(sys.argv[1], "rb")).apply()
        import numpy
        numpy.random.random_sample(2_000_000)
        from hsm.core.program.rng import capture
        print(capture().numpy is not None)
    """
    assert run_python(program, str(states)).strip() == "True"


def test_a_fresh_interpreter_imports_no_numpy_for_an_unseeded_script(tmp_path: Path) -> None:
    pytest.importorskip("numpy")
    states = tmp_path / "states"
    states.write_bytes(pickle.dumps(RandomStates()))
    first, second = (run_python(IN_FRESH_INTERPRETER, str(states)) for _ in range(2))
    assert first.startswith("[True, ")
    assert first != second


def test_capture_leaves_the_streams_alone() -> None:
    before = random.getstate()
    first = capture()
    assert random.getstate() == before
    assert capture() == first
