"""The table of catalogues."""

from pathlib import Path
from typing import get_args

import pytest

from sigma_pipeline.data_prep.catalogue_names import CatalogueName, default_splits, is_drawn
from sigma_pipeline.data_prep.catalogues import CATALOGUES, list_items
from sigma_pipeline.data_prep.config import DatasetConfig
from sigma_pipeline.infra.errors import ConfigError, MissingInputError

NAMES: tuple[CatalogueName, ...] = get_args(CatalogueName)


def test_every_name_that_a_recipe_may_use_has_its_catalogue() -> None:
    assert set(CATALOGUES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_own_splits_are_all_shares_or_all_lists(name: CatalogueName) -> None:
    kinds = {type(value) for value in default_splits(name).values()}

    assert kinds == ({float} if is_drawn(name) else {str})


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_is_a_missing_input(name: CatalogueName, tmp_path: Path) -> None:
    dataset = DatasetConfig(source=str(tmp_path), catalogue=name)

    with pytest.raises(MissingInputError):
        list_items(dataset, [tmp_path])


@pytest.mark.parametrize("name", NAMES)
def test_no_catalogue_takes_an_option_that_it_does_not_know(
    name: CatalogueName, tmp_path: Path
) -> None:
    dataset = DatasetConfig(source=str(tmp_path), catalogue=name, options={"nonsense": 1})

    with pytest.raises(ConfigError, match=rf"options\.nonsense: unknown; catalogue '{name}'"):
        list_items(dataset, [tmp_path])
