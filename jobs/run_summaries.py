"""What a run's cells say together, as files beside them and in MLflow.

SEVERE's table with its radar, and what was learned from few with its curves. They are made anew
from the cells at the end of each evaluation, and are never read.
"""

from collections.abc import Sequence

from sigma_pipeline.infra.journal import Journal
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.evaluate_request import evaluate_folder
from sigma_pipeline.jobs.few import FewTable, few_tables
from sigma_pipeline.jobs.few_curves import few_curves
from sigma_pipeline.jobs.few_text import few_csv
from sigma_pipeline.jobs.figure_curve import draw_curves
from sigma_pipeline.jobs.figure_radar import draw_radar
from sigma_pipeline.jobs.planned_trials import read_grid
from sigma_pipeline.jobs.scores import score_table
from sigma_pipeline.jobs.severe import SevereTable, severe_table
from sigma_pipeline.jobs.severe_radar import severe_radar
from sigma_pipeline.jobs.severe_text import as_csv, markdown

_FOLDERS = ("severe", "few")


def write_summaries(storage: Storage, journal: Journal, run_name: str) -> None:
    """Writes those that the last evaluation of a run has anything for, and deletes all others.

    Args:
        storage: where the run lies.
        journal: hears of the files that are new or others than before.
        run_name: the run.
    """
    files, folder = _files(storage, run_name), evaluate_folder(run_name)
    for path, data in files.items():
        key = f"{folder}/{path}"
        if not storage.exists(key) or storage.read(key) != data:
            storage.write(key, data)
            journal.artifact(f"evaluate/{path}", key)
    for kind in _FOLDERS:
        for key in storage.list(f"{folder}/{kind}"):
            if key.removeprefix(f"{folder}/") not in files:
                storage.delete(key)


def _files(storage: Storage, run_name: str) -> dict[str, bytes]:
    """By path below the folder of the evaluation."""
    trials = read_grid(storage, run_name)
    if all(one.column is None and one.trial.examples is None for one in trials):
        return {}
    rows = score_table(storage, run_name)
    severe = _severe_files(severe_table(storage, run_name, rows))
    return severe | _few_files(storage, few_tables(trials, rows))


def _severe_files(table: SevereTable | None) -> dict[str, bytes]:
    if table is None or not table.rows:
        return {}
    files = {"severe/severe.md": markdown(table), "severe/severe.csv": as_csv(table)}
    radar = severe_radar(table)
    return files if radar is None else {**files, "severe/severe.png": draw_radar(radar)}


def _few_files(storage: Storage, tables: Sequence[FewTable]) -> dict[str, bytes]:
    if not tables:
        return {}
    curves = {f"few/{one.name}.png": draw_curves(few_curves(storage, one)) for one in tables}
    return {**curves, "few/few.csv": few_csv(tables)}
