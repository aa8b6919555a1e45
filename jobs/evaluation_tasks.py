"""The tasks of an evaluation: what is called for features, cells, pictures and the reference."""

from sigma_pipeline.infra.storage import Storage
from sigma_pipeline.jobs.backlog import Backlog, Task
from sigma_pipeline.jobs.cell_limits import picture_limits, supervised_limits
from sigma_pipeline.jobs.cells import Cell
from sigma_pipeline.jobs.feature_request import FeatureRequest
from sigma_pipeline.jobs.feature_space import FeatureSpace
from sigma_pipeline.jobs.features import extract_features
from sigma_pipeline.jobs.gpu_sharing import capped
from sigma_pipeline.jobs.grid import Grid
from sigma_pipeline.jobs.pictures import PictureRequest, make_picture
from sigma_pipeline.jobs.planned_trials import PlannedTrial
from sigma_pipeline.jobs.scoring import run_cell
from sigma_pipeline.jobs.supervised import train_supervised
from sigma_pipeline.jobs.supervised_request import SupervisedRequest

_PICTURE_RANK, _SUPERVISED_RANK, _DEAR_RANK = 1, 2, 3


class TaskAdder:
    """Adds tasks of one grid to a backlog."""

    def __init__(self, storage: Storage, grid: Grid, backlog: Backlog, space: FeatureSpace) -> None:
        self._space = space
        self._storage = storage
        self._grid = grid
        self._backlog = backlog

    def is_new(self, key: str) -> bool:
        """Whether what lies at ``key`` is neither made nor planned."""
        return key not in self._backlog and not self._storage.exists(key)

    def add_cell(self, planned: PlannedTrial, cell: Cell) -> None:
        """Adds a cell that is new, and the features that it reads and nobody has."""
        request = self._grid.cell_request(planned, cell)
        # One that reads features is made with the others of its commit, while these are there.
        is_late = planned.cost == "dear" and not request.features
        self._space.add_reader(cell.key, request.features)
        for features in request.features:
            if self.is_new(features.key):
                self._add(self._features(features))
        self._add(
            Task(
                name=cell.key,
                title=str(cell),
                function=run_cell,
                arguments=(self._storage, request),
                needs=tuple(one.key for one in request.features if one.key in self._backlog),
                rank=_DEAR_RANK if is_late else 0,
                failure_key=cell.failure_key,
                limits=planned.limits,
            )
        )

    def add_picture(self, request: PictureRequest) -> None:
        """Adds the picture of a commit."""
        self._add(
            Task(
                name=request.key,
                title=f"picture of {request.source.name}",
                function=make_picture,
                arguments=(self._storage, request),
                rank=_PICTURE_RANK,
                limits=picture_limits(self._grid.request.evaluate, self._grid.request.launch),
            )
        )

    def add_supervised(self, request: SupervisedRequest) -> None:
        """Adds the training of the supervised reference."""
        self._add(
            Task(
                name=request.receipt_key,
                title="training of the supervised reference",
                function=train_supervised,
                arguments=(self._storage, request),
                rank=_SUPERVISED_RANK,
                failure_key=request.failure_key,
                limits=supervised_limits(self._grid.request.evaluate, self._grid.request.launch),
            )
        )

    def _features(self, request: FeatureRequest) -> Task:
        return Task(
            name=request.key,
            title=str(request),
            function=extract_features,
            arguments=(self._storage, request, self._grid.request.scratch_dir),
            limits=self._grid.feature_limits(request),
        )

    def _add(self, task: Task) -> None:
        self._backlog.add(capped(task, self._grid.request.launch))
