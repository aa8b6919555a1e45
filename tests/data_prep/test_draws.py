"""Draws are functions of their place alone."""

import pytest

from sigma_pipeline.data_prep.draws import generator, sample_seed

PLACE = (7, 3, 11, "crop")
OTHER_PLACES = [(8, 3, 11, "crop"), (7, 4, 11, "crop"), (7, 3, 12, "crop"), (7, 3, 11, "start")]


def test_the_same_place_draws_the_same_numbers() -> None:
    first = generator(*PLACE).random(5)
    generator(*OTHER_PLACES[0]).random(5)

    assert (generator(*PLACE).random(5) == first).all()


@pytest.mark.parametrize("other", OTHER_PLACES)
def test_each_part_of_the_place_changes_the_draws(other: tuple[int, int, int, str]) -> None:
    assert generator(*other).random() != generator(*PLACE).random()
    assert sample_seed(*other) != sample_seed(*PLACE)


def test_neighbouring_places_do_not_share_a_stream() -> None:
    here = set(generator(*PLACE).integers(1 << 62, size=100).tolist())
    next_position = set(generator(7, 3, 12, "crop").integers(1 << 62, size=100).tolist())

    assert not here & next_position


def test_draws_are_even() -> None:
    draws = [generator(0, 0, position, "start").random() for position in range(2000)]

    assert abs(sum(draws) / 2000 - 0.5) < 0.03  # 4.6 standard errors


def test_seeds_have_63_bits_and_stay_what_they_were() -> None:
    assert all(0 <= sample_seed(0, 0, position, "mask") < 1 << 63 for position in range(100))
    assert sample_seed(0, 0, 0, "mask") == 4529548583898354404  # runs that resume depend on it
