"""Files for others to read: indexed PNGs in DAVIS's colours, and the evaluator's two tables."""

import io

import numpy as np
from PIL import Image

from sigma_pipeline.jobs.vos_results import palette_png, results_csv
from tests.jobs.object_scores import scored
from tests.mask_folders import two_objects


def test_a_png_holds_the_ids_with_the_colours_of_davis() -> None:
    ids = two_objects()[0]

    image = Image.open(io.BytesIO(palette_png(ids)))

    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), ids)
    colours = np.asarray(image.convert("RGB"))
    assert colours[ids == 1].tolist()[0] == [128, 0, 0]
    assert colours[ids == 2].tolist()[0] == [0, 128, 0]
    assert colours[ids == 255].tolist()[0] == [224, 224, 192]


def test_ids_that_are_a_view_of_others_are_written_as_they_look() -> None:
    ids = two_objects()[0].T[::2]

    assert np.array_equal(np.asarray(Image.open(io.BytesIO(palette_png(ids)))), ids)


def test_tables_have_the_names_and_columns_of_the_official_evaluator() -> None:
    files = results_csv(
        {"bear": [scored(1, 1, 0.5)], "cows": [scored(1, 0.4, 0.7), scored(2, 0, 0)]}
    )

    assert {name: data.decode().splitlines() for name, data in files.items()} == {
        "global_results-val.csv": [
            "J&F-Mean,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay",
            "0.4333,0.4667,0.3333,0.0000,0.4000,0.3333,0.0000",
        ],
        "per-sequence_results-val.csv": [
            "Sequence,J-Mean,F-Mean",
            "bear_1,1.0000,0.5000",
            "cows_1,0.4000,0.7000",
            "cows_2,0.0000,0.0000",
        ],
    }
