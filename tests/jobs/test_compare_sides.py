"""Sides of a comparison: which encoders are meant, and how two sides relate."""

from pathlib import Path

import numpy as np
import pytest

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage, open_storage
from sigma_pipeline.jobs.commits import IMPORTED
from sigma_pipeline.jobs.compare_sides import Wanted, find_relation, find_side
from tests.compared_runs import add_commit, add_run, one_recipe, planned

GOOD = np.arange(60) % 10 < 8
BAD = np.arange(60) % 10 < 4


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path))


@pytest.mark.parametrize("text", ["", "@last", "a/b", "r@", "r@newest", "r@-1", "../r", "a,,b"])
def test_what_names_no_encoder_is_refused(storage: Storage, text: str) -> None:
    with pytest.raises(ConfigError, match="names no encoder: write RUN, RUN@STEP"):
        find_side(storage, text, one_recipe)


def test_an_encoder_that_is_not_there_is_named_with_those_that_are(storage: Storage) -> None:
    add_run(storage, "r", {0: BAD, 40: GOOD}, planned())

    with pytest.raises(MissingInputError, match="no commit '30', only those of steps 0, 40"):
        find_side(storage, "r@30", one_recipe)
    with pytest.raises(MissingInputError, match="run 's' has no commit in"):
        find_side(storage, "s", one_recipe)
    with pytest.raises(MissingInputError, match="no best commit yet"):
        find_side(storage, "r@best", one_recipe)
    with pytest.raises(MissingInputError, match="no supervised encoder"):
        find_side(storage, "r@supervised", one_recipe)


def test_a_side_is_of_one_recipe_and_one_place(storage: Storage) -> None:
    for run_name in ("r_0", "r_1", "s"):
        add_run(storage, run_name, {0: BAD, 40: GOOD}, planned())

    assert str(find_side(storage, "r_0,r_1", one_recipe)) == "r_0 (step 40), r_1 (step 40)"
    with pytest.raises(ConfigError, match="s was trained with other settings than r_0"):
        find_side(storage, "r_0,s", one_recipe)
    with pytest.raises(ConfigError, match="mixes step 40, untrained"):
        find_side(storage, "r_0,r_1@0", one_recipe)
    with pytest.raises(ConfigError, match="names a run twice"):
        find_side(storage, "r_0,r_0@40", one_recipe)
    with pytest.raises(ConfigError, match="nothing says how r_0 was trained"):
        find_side(storage, "r_0,r_1", lambda run_name: None)


def test_sides_overlap_wholly_or_not_at_all(storage: Storage) -> None:
    for run_name in ("r_0", "r_1", "r_2"):
        add_run(storage, run_name, {0: BAD, 40: GOOD}, planned())
    sides = {text: find_side(storage, text, one_recipe) for text in ("r_0,r_1", "r_1,r_2", "r_0@0")}

    with pytest.raises(ConfigError, match="r_1 on both sides"):
        find_relation(sides["r_0,r_1"], sides["r_1,r_2"], one_recipe)
    assert find_relation(sides["r_0@0"], sides["r_1,r_2"], one_recipe) == "two_recipes"


def test_a_name_may_have_blanks_around_it() -> None:
    assert Wanted.parse(" r@40 ") == Wanted("r", "40")


def test_imported_weights_are_called_so_and_are_not_untrained(storage: Storage) -> None:
    add_commit(storage, "imp", 0, config_fingerprint=IMPORTED)
    add_commit(storage, "r", 0)

    assert str(find_side(storage, "imp", one_recipe)) == "imp (imported)"
    assert str(find_side(storage, "imp@imported", one_recipe)) == "imp (imported)"
    with pytest.raises(MissingInputError, match="'imp' has no untrained encoder, as its weights"):
        find_side(storage, "imp@untrained", one_recipe)
    with pytest.raises(MissingInputError, match="no commit 'imported', only those of steps 0"):
        find_side(storage, "r@imported", one_recipe)


@pytest.mark.parametrize("of_encoders", [False, True])
def test_an_encoder_is_not_compared_with_itself(storage: Storage, of_encoders: bool) -> None:
    for run_name in ("r_0", "r_1"):
        add_run(storage, run_name, {0: BAD, 40: GOOD}, planned())
    one, several = (find_side(storage, text, one_recipe) for text in ("r_0", "r_0,r_1"))

    for side, other in ((one, find_side(storage, "r_0@40", one_recipe)), (several, several)):
        with pytest.raises(ConfigError, match="nothing is compared with itself"):
            find_relation(side, other, one_recipe, of_encoders=of_encoders)
