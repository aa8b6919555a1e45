"""The table of scores, as lines of plain text."""

from sigma_pipeline.jobs.benchmarks.benchmark import Score
from sigma_pipeline.jobs.scores import TableCell, TableRow
from sigma_pipeline.pipeline.table import format_scores


def score(name: str, value: float) -> Score:
    return Score(name, value, "fraction", True, value - 0.05, value + 0.05, 200)


def done(label: str, *scores: Score, dataset: str = "demo", reason: str = "") -> TableCell:
    return TableCell(label, dataset, "done", scores, (scores,), reason=reason)


def test_columns_are_aligned_and_carry_half_the_interval() -> None:
    rows = [
        TableRow("untrained", 0, (done("knn", score("top1", 0.125)),)),
        TableRow("step 100", 100, (done("knn", score("top1", 0.5)),)),
    ]

    assert format_scores(rows) == [
        "encoder         knn top1",
        "untrained  0.125 +-0.050",
        "step 100   0.500 +-0.050",
    ]


def test_a_score_that_is_not_there_yet_is_a_dash() -> None:
    rows = [
        TableRow("untrained", 0, (done("knn", score("top1", 0.125)),)),
        TableRow("step 100", 100, (TableCell("knn", "demo", "missing"),)),
    ]

    assert format_scores(rows)[2].split() == ["step", "100", "-"]


def test_what_was_skipped_or_failed_says_why_below_the_table() -> None:
    skipped = TableCell("uvos", "demo", "skipped", reason="no object masks")
    failed = TableCell("knn", "demo", "failed", reason="out of memory")

    lines = format_scores([TableRow("untrained", 0, (skipped, failed))])

    assert lines[1].split() == ["untrained", "skipped", "failed"]
    assert lines[2:] == [
        "uvos on demo is skipped: no object masks",
        "knn on demo, untrained, failed: out of memory",
    ]


def test_a_remark_that_holds_for_all_rows_is_made_once() -> None:
    cell = done("knn", score("top1", 0.5), reason="k was capped")

    lines = format_scores([TableRow("untrained", 0, (cell,)), TableRow("step 9", 9, (cell,))])

    assert lines[3:] == ["knn on demo: k was capped"]


def test_columns_name_the_dataset_when_there_are_several() -> None:
    cells = (done("knn", score("top1", 0.5)), done("knn", score("top1", 0.1), dataset="ucf101"))

    header = format_scores([TableRow("untrained", 0, cells)])[0]

    assert header.split("  ")[-2:] == ["knn demo top1", "knn ucf101 top1"]


def test_the_best_commit_bears_a_star() -> None:
    rows = [
        TableRow("untrained", 0, (done("knn", score("top1", 0.125)),)),
        TableRow("step 100", 100, (done("knn", score("top1", 0.5)),), is_best=True),
    ]

    assert format_scores(rows) == [
        "encoder          knn top1",
        "untrained   0.125 +-0.050",
        "step 100 *  0.500 +-0.050",
        "* the best commit",
    ]


def test_of_remarks_that_differ_the_last_encoder_s_stands_for_all() -> None:
    rows = [
        TableRow("untrained", 0, (done("knn", score("top1", 0.5), reason="a rate of 1"),)),
        TableRow("step 9", 9, (done("knn", score("top1", 0.5), reason="a rate of 2"),)),
    ]

    assert format_scores(rows)[3:] == ["knn on demo, step 9: a rate of 2"]


def test_columns_that_do_not_fit_stand_in_a_table_below() -> None:
    cells = tuple(done(f"benchmark{i}", score("top1", 0.5)) for i in range(8))

    lines = format_scores([TableRow("untrained", 0, cells)])

    assert lines[2] == ""
    assert [line.split()[0] for line in (*lines[:2], *lines[3:])] == ["encoder", "untrained"] * 2
    assert max(map(len, lines)) <= 120
    assert sum(line.count("0.500 +-0.050") for line in lines) == 8
