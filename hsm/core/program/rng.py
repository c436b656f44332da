"""Gives each job its random streams: what the script seeded, and fresh ones for the rest.

    launcher's process, before its first fork:  states = capture()    what did the script seed?
    each job's process, before its job:         states.apply()        that again, the rest fresh

A plain fork gets both wrong: CPython reseeds `random` in every forked child, which loses the
script's seed, but copies NumPy's global state, so that unseeded jobs all draw the same numbers.

No hsm code runs before the script is imported, so only the states can show whether it seeded. Both
generators are the MT19937 of Makoto Matsumoto and Takuji Nishimura ("Mersenne Twister: a
623-dimensionally equidistributed uniform pseudo-random number generator", ACM TOMACS 8(1), 1998;
reference program mt19937ar.c, 2002). Its two steps can be undone:

- the *twist*, which makes the next 624 words of the state after every 624 words drawn;
- `init_by_array`, which spreads a key over the first 624 words. A seed is a short key, repeated to
  fill 624 words; an unseeded generator starts from 624 words of entropy.

So the state is twisted back, at most `MAX_TWISTS` times, until it proves to come from a repeated
key. This finds every seed of up to `MAX_KEY_WORDS` words (2,460 bytes, including the 64 that Python
appends to a string) unless more than 624,000 words were drawn since. The chance that an unseeded
state is taken for a seeded one is below 2**-100. It takes 0.05 ms, or 30 ms if numbers were drawn
from an unseeded generator. If no seed is found, the state counts as unseeded, and the job gets what
CPython's own fork would give it. NumPy's generator offers more clues, see `_numpy_is_seeded`.

Generators that a script creates (`random.Random()`, `numpy.random.default_rng()`) are globals like
any other: a fork copies them as they are.
"""

from __future__ import annotations

import importlib
import pickle
import struct
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

MAX_TWISTS = 1000
MAX_KEY_WORDS = 615

_N = 624  # words of state
_M = 397  # how far ahead the twist looks
_BITS = 32
_MASK = 0xFFFFFFFF
_UPPER = 0x80000000
_LOWER = 0x7FFFFFFF
_MATRIX_A = 0x9908B0DF
_REST = _N - _M  # words that the twist computes from words it has not replaced yet
_SKIPPED = 4  # words that do not simply yield their key: 0 is a constant, 1 is mixed twice

# A state is one int of 624 32-bit lanes, word 0 lowest, so that one operation handles all words.
_ALL = (1 << _BITS * _N) - 1
_ONES = _ALL // _MASK
_UPPERS = _ONES * _UPPER
_LOWERS = _ONES * _LOWER
_EVENS = _ALL // ((1 << 2 * _BITS) - 1) * _MASK
_CARRIED = _ONES * 3
_NUMBERS = sum(i << _BITS * i for i in range(_N))


def mt19937_is_seeded(words: Sequence[int]) -> bool:
    """Whether an MT19937 state of 624 words comes from a seed; for its accuracy see above."""
    state = _lanes(words)
    if _is_seeding(state):
        return True
    if _is_start(state):
        return False
    for _ in range(MAX_TWISTS):
        state = _untwist(state)
        if _is_seeding(state):
            return True
    return False


def _lanes(words: Sequence[int]) -> int:
    return int.from_bytes(struct.pack(f"<{_N}I", *words), "little")


def _is_start(state: int) -> bool:
    """Whether `state` is an initial one, before any twist; misses one in 2**31."""
    return (state ^ _word_0(state)) & _LOWER != 0


def _is_seeding(state: int) -> bool:
    return _is_from_short_key(state) or _is_from_one_word(state)


def _undo(difference: int) -> int:
    """Invert ``y -> (y >> 1) ^ (MATRIX_A if y & 1 else 0)`` in every lane."""
    odd = (difference >> (_BITS - 1)) & _ONES  # only MATRIX_A can have set the top bit
    return ((difference ^ odd * _MATRIX_A) << 1) | odd


def _word_0(state: int) -> int:
    """The lower 31 bits of word 0 of a state made by a twist, recomputed from its last word.

    The last word of a twist depends on the first word that it made.
    """
    return _undo((state >> _BITS * (_N - 1) ^ state >> _BITS * (_M - 1)) & _MASK)


def _untwist(state: int) -> int:
    """The state before the latest twist.

    Only the top bit of word 0 survives a twist. The other bits come out as the previous twist would
    have made them, and are meaningless if there was none.
    """
    rest, ahead = _BITS * _REST, (1 << _BITS * _M) - 1
    late = _undo(state >> rest ^ state & ahead)
    late_words = late & _UPPERS | late << _BITS & _LOWERS
    early = _undo((state ^ late_words >> _BITS * (_M - _REST)) & ((1 << rest) - 1))
    mixed = early | late << rest
    before = mixed & _UPPERS | mixed << _BITS & _LOWERS
    return before | _word_0(before) & _LOWER


def _mix(words: int, factor: int) -> int:
    """``(x ^ (x >> 30)) * factor`` modulo 2**32, in every lane."""
    words ^= words >> 30 & _CARRIED
    even = (words & _EVENS) * factor & _EVENS
    odd = (words >> _BITS & _EVENS) * factor & _EVENS
    return even | odd << _BITS


@lru_cache(maxsize=1)
def _array_start() -> int:
    """The state that init_by_array starts from: init_genrand(19650218)."""
    words = [19650218]
    for i in range(1, _N):
        words.append((1812433253 * (words[-1] ^ words[-1] >> 30) + i) & _MASK)
    return _lanes(words)


def _is_from_short_key(state: int) -> bool:
    """Whether init_by_array made `state`, from a key that repeats.

    Its two passes are ``a[i] = (start[i] ^ mix(a[i-1])) + key[j] + j``, with j cycling through the
    key, and ``s[i] = (a[i] ^ mix(s[i-1])) - i``. So each ``key[j] + j`` can be computed, and they
    repeat as the key does.
    """
    if not state & _UPPER:
        return False
    added = (state & _LOWERS) + _NUMBERS ^ state & _UPPERS
    passed = added ^ _mix(state << _BITS, 1566083941)
    mixed = _array_start() ^ _mix(passed << _BITS, 1664525)
    keys = (passed | _UPPERS) - (mixed & _LOWERS) ^ (passed ^ mixed ^ _UPPERS) & _UPPERS
    data = (keys & _ALL).to_bytes(_N * 4, "little")[_SKIPPED * 4 :]
    at = data.find(data[:4], 1)
    while 0 < at <= 4 * MAX_KEY_WORDS:
        if at % 4 == 0 and data.startswith(data[at:]):
            return True
        at = data.find(data[:4], at + 1)
    return False


def _is_from_one_word(state: int) -> bool:
    """Whether init_genrand made `state`; NumPy uses it for a single integer."""
    words = [state >> _BITS * i & _MASK for i in range(1, 6)]
    return all(
        words[i] == (1812433253 * (words[i - 1] ^ words[i - 1] >> 30) + i + 1) & _MASK
        for i in range(1, 5)
    )


def python_random_is_seeded(state: tuple[Any, ...]) -> bool:
    """Whether `state`, from `random.getstate()`, comes from a seed; False if not an MT19937."""
    if len(state) != 3 or len(state[1]) != _N + 1:
        return False
    return mt19937_is_seeded(state[1][:_N])


def _numpy_is_seeded(generator: Any) -> bool:
    """Whether NumPy's global `RandomState` has been seeded.

    Its bit generator holds the `SeedSequence` that it started from, or None once `seed` was called.

    - So `seed(something)` is detected however many numbers were drawn since. `seed()` differs only
      in the state that it sets, so a script that calls it and then draws counts as seeded. So does
      a script that seeds for a while and then restores a state from which it had drawn.
    - A bit generator made by the script, for `set_bit_generator`, counts as seeded if it is not an
      MT19937, or started from less than the 128 bits of system entropy that NumPy uses.
    - `set_state` leaves no trace except the state itself.
    """
    state = generator.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        return True
    key = state["state"]["key"].tolist()
    seed_sequence = getattr(generator._bit_generator, "_seed_seq", None)
    if seed_sequence is None:
        start = _lanes(key)
        return not _is_start(start) or _is_seeding(start)
    entropy = getattr(seed_sequence, "entropy", None)
    return not isinstance(entropy, int) or entropy.bit_length() <= 96 or mt19937_is_seeded(key)


class RandomStates(NamedTuple):
    """What the script has seeded. Pickles to a few kilobytes, and unpickles without NumPy.

    Attributes:
        python: the state of `random`; None if it was not seeded.
        numpy: the pickled state of NumPy's global generator; None if it was not seeded.
    """

    python: tuple[Any, ...] | None = None
    numpy: bytes | None = None

    def apply(self, *, is_forked: bool = False) -> None:
        """Set the streams of this process, which is about to run one job.

        Call this after the last fork or, in a spawned interpreter, once the job's function is
        loaded. Seeded generators continue as captured, and are imported if necessary. Unseeded
        ones, if loaded, are reseeded from the operating system's entropy.

        Args:
            is_forked: this process has just been forked, so CPython has already reseeded `random`.
        """
        if self.python is not None:
            importlib.import_module("random").setstate(self.python)
        elif "random" in sys.modules and not is_forked:
            sys.modules["random"].seed()
        if self.numpy is not None:
            _restore_numpy(pickle.loads(self.numpy))
        elif "numpy.random.mtrand" in sys.modules:
            module = sys.modules["numpy.random.mtrand"]
            # Not its seed(): a sweep inside the job would take that for a seed of the script's.
            fresh = module.RandomState(type(module._rand._bit_generator)())
            module._rand.set_state(fresh.get_state(legacy=False))


def _restore_numpy(state: dict[str, Any]) -> None:
    numpy_random = importlib.import_module("numpy.random")
    name = state["bit_generator"]
    if name != numpy_random.get_state(legacy=False)["bit_generator"]:  # In a fresh interpreter.
        numpy_random.set_bit_generator(getattr(numpy_random, name)())
    if name == "MT19937":
        numpy_random.seed(0)  # Shows a sweep inside the job that the generator is seeded.
    numpy_random.set_state(state)


def capture() -> RandomStates:
    """Find out what the script has seeded; imports nothing.

    Call this in the process that imported the script, before it forks: a fork reseeds `random`.
    """
    python: tuple[Any, ...] | None = None
    numpy: bytes | None = None
    if "random" in sys.modules:
        state = sys.modules["random"].getstate()
        python = state if python_random_is_seeded(state) else None
    if "numpy.random.mtrand" in sys.modules:
        generator = sys.modules["numpy.random.mtrand"]._rand
        if _numpy_is_seeded(generator):
            numpy = pickle.dumps(generator.get_state(legacy=False))
    return RandomStates(python, numpy)
