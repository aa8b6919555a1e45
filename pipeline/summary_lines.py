"""What is printed of a run's cells together: SEVERE's table, and what was learned from few."""

from collections.abc import Sequence

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.few import FewTable, few_tables
from sigma_pipeline.jobs.few_text import few_remark, few_rows
from sigma_pipeline.jobs.planned_trials import read_grid
from sigma_pipeline.jobs.scores import TableRow, score_table
from sigma_pipeline.jobs.severe import NO_CELL, NOT_YET, SevereTable, severe_table
from sigma_pipeline.jobs.severe_columns import COLUMNS
from sigma_pipeline.jobs.severe_text import main_rows, remarks, stand_in_rows
from sigma_pipeline.pipeline.absent_columns import absent_columns
from sigma_pipeline.pipeline.benchmark_lines import Block
from sigma_pipeline.pipeline.config import PipelineConfig
from sigma_pipeline.pipeline.table import aligned, aligned_narrow


def summary_blocks(storage: Storage, run_name: str, rows: Sequence[TableRow]) -> list[Block]:
    """Both, as far as the last evaluation of a run has any of either.

    Args:
        storage: where the run lies.
        run_name: the run.
        rows: of its table of scores.
    """
    table = severe_table(storage, run_name, rows)
    few = few_tables(read_grid(storage, run_name), rows)
    return [*(_severe_blocks(table) if table and table.rows else []), *_few_blocks(few)]


def severe_blocks(config: PipelineConfig, storage: Storage) -> list[Block]:
    """SEVERE's table of a run, and remarks; before the first evaluation, the published rows.

    Raises:
        ConfigError: no cell of the recipe fills a column.
    """
    run_name = config.run_name
    table = severe_table(storage, run_name, score_table(storage, run_name))
    return _severe_blocks(table or _before(config, storage))


def few_blocks(config: PipelineConfig, storage: Storage) -> list[Block]:
    """The tables of a run of what was learned from few, and a remark.

    Raises:
        MissingInputError: there are none.
    """
    run_name = config.run_name
    tables = few_tables(read_grid(storage, run_name), score_table(storage, run_name))
    if not tables:
        raise MissingInputError(
            f"run {run_name!r} has no curve of learning from few, which takes several sizes or "
            "seeds that are done: give a cell of its recipe examples, such as [250, 500, 1000], "
            "or seeds, and the command sigma-pipeline run --stage evaluate"
        )
    return _few_blocks(tables)


def _before(config: PipelineConfig, storage: Storage) -> SevereTable:
    asked = [cell.column for cell in config.evaluate.cells if cell.column is not None]
    if not asked:
        raise ConfigError(
            "no cell of the recipe fills a column of SEVERE: name one as the cell's column, or "
            "take --config severe"
        )
    absent = absent_columns(config, storage)
    reasons = {name: absent.get(name, NOT_YET if name in asked else NO_CELL) for name in COLUMNS}
    return SevereTable(config.run_name, (), reasons)


def _severe_blocks(table: SevereTable) -> list[Block]:
    blocks = [aligned(main_rows(table))]
    if rows := stand_in_rows(table):
        blocks.append(aligned_narrow(rows))
    return [*blocks, remarks(table)]


def _few_blocks(tables: Sequence[FewTable]) -> list[Block]:
    if not tables:
        return []
    return [*(aligned_narrow(few_rows(table)) for table in tables), [few_remark(tables)]]
