"""Damaged bytes, and the one sentence that a refusal must be."""

import os

ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "15"))


FIRST = int(os.environ.get("FUZZ_FIRST", "0"))


def flip(data, rng):
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)


def blank(data, rng):
    first = rng.randrange(len(data))
    data[first : first + rng.randint(1, 200)] = bytes(min(200, len(data) - first))


def cut(data, rng):
    del data[rng.randrange(len(data)) :]


def repeat(data, rng):
    first = rng.randrange(len(data))
    data[first:first] = data[first : first + rng.randint(1, 500)]


def damaged_bytes(whole, rng):
    data = bytearray(whole)
    # Half of them near an end, where the structure is and not the numbers.
    rng.choice((flip, flip, blank, cut, repeat))(data, rng)
    if rng.random() < 0.5:
        place = rng.choice((rng.randrange(min(3000, len(data) or 1)), -rng.randint(1, 3000)))
        if abs(place) < len(data):
            data[place] ^= rng.randrange(1, 256)
    return bytes(data)


def check_sentence(told, path):
    assert str(path) in told
    assert "\n" not in told
    assert len(told) < 900
