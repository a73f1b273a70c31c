"""What is looked up is what is there, whatever hashes collide."""

import random

import numpy as np
import pytest

from audit.flows.fields import ALL_ONES, FIELDS, KEPT, WORDS, limbs, read, write
from audit.flows.lookups import Lookup


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 2, 300])
def test_each_packet_has_the_key_that_a_dictionary_has(width: int, count: int) -> None:
    rng = random.Random(width * count)  # noqa: S311 - no secrets
    few = [rng.getrandbits(32) for _ in range(7)]
    keys = list(
        {
            tuple(rng.choice(few) + rng.randrange(9) & ALL_ONES for _ in range(width))
            for _ in range(count)
        }
    )
    asked = [*keys, *(tuple(rng.choice(few) for _ in range(width)) for _ in range(500))]
    numbers = {key: number for number, key in enumerate(keys)}
    found = Lookup(keys).find(list(np.array(asked, np.uint32).T))
    assert found.tolist() == [numbers.get(key, -1) for key in asked]


def test_a_field_is_written_where_it_is_read_and_nowhere_else() -> None:
    rng = random.Random(5)  # noqa: S311 - no secrets
    for _ in range(400):
        name, place = rng.choice(sorted(FIELDS.items()))
        low = rng.randrange(place.width)
        part = place.part(low, rng.randrange(place.width - low) + 1)
        words = np.array([[rng.getrandbits(32)] for _ in range(WORDS)], np.uint32)
        before = words.copy()
        value = rng.getrandbits(part.width)
        write(words, part, np.array([[limb] for limb in limbs(value, part.width)], np.uint32))
        after = read(words, part)[:, 0].tolist()
        assert sum(limb << 32 * at for at, limb in enumerate(after)) == value, name
        tests = part.masked(value, (1 << part.width) - 1)
        for word in range(WORDS):
            mask, expected = tests.get(word, (0, 0))
            assert int(words[word, 0]) & mask == expected
            assert not (int(words[word, 0]) ^ int(before[word, 0])) & ~mask


def test_registers_are_parts_of_longer_ones() -> None:
    words = np.zeros((WORDS, 1), np.uint32)
    write(words, FIELDS["xxreg0"], np.array([[4], [3], [2], [1]], np.uint32))
    assert [int(read(words, FIELDS[f"reg{n}"])[0, 0]) for n in range(4)] == [1, 2, 3, 4]
    assert read(words, FIELDS["xreg1"])[:, 0].tolist() == [4, 3]
    assert FIELDS["arp.spa"].words == KEPT["ip4.src"].words
