"""Settings of training, of evaluation, of where jobs run, and of what is recorded."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from sigma_pipeline.data_prep.config import ClipConfig, LoaderConfig, MultiViewConfig, ViewConfig
from sigma_pipeline.jobs.best_by import best_problem
from sigma_pipeline.jobs.example_sizes import ExampleSizes
from sigma_pipeline.jobs.severe_columns import SevereColumn, column_problems

Pooling = Literal["mean", "slices", "slices_grid2"]
Precision = Literal["fp32", "bf16_autocast"]
TrainPrecision = Literal[Precision, "bf16"]
Weight = Annotated[float, Field(ge=1e-6, le=1e6)]


class OptimizerConfig(BaseModel, frozen=True, extra="forbid"):
    """AdamW and its schedule over optimizer steps (protocols 1.1)."""

    base_lr: PositiveFloat = 1.5e-4
    """Learning rate per 256 clips; the peak is ``base_lr * global_batch_clips / 256``."""
    min_lr: float = Field(default=1e-5, ge=0)
    """End of the cosine, per 256 clips like ``base_lr``."""
    warmup_epochs: float = Field(default=40, ge=0)
    """Linear warm-up from 0."""
    schedule_epochs: PositiveFloat | None = None
    """Length of the cosine when it is longer than the run; the run's ``epochs`` when absent."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: PositiveFloat = 1e-8
    weight_decay: float = Field(default=0.05, ge=0)
    gradient_clip_norm: PositiveFloat | None = None
    target_lr_scale: float = Field(default=1.0, gt=0, le=1)
    """Learning rate of the target branch and the prototypes, relative to the others. Ours; 1 is the
    published method. Below 1, targets stay put while the decoder learns to predict them."""


class TrainConfig(BaseModel, frozen=True, extra="forbid"):
    """Pre-training: on what, how long, how often committed."""

    dataset: str | Annotated[dict[str, Weight], Field(min_length=1)]
    """One dataset, or several with their weights: of ``{a: 3, b: 1}``, three of four clips are
    from ``a``. No sample comes twice in an epoch, so the dataset that is short for its weight
    ends it."""
    split: str = "train"
    """Of each of them."""
    epochs: PositiveInt = 800
    global_batch_clips: PositiveInt = 512
    micro_batch_clips: PositiveInt = 32
    """Clips per process and forward pass; the rest of its share is accumulated."""
    clip: ClipConfig = ClipConfig()
    loader: LoaderConfig = LoaderConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    zero_stage: Literal[1, 2, 3] = 1
    """What ranks share out instead of each keeping all: 1 the optimizer's state and its float32
    masters, 2 gradients too, 3 weights too. More saves memory and costs messages; a run may go on
    at another stage."""
    precision: TrainPrecision = "bf16_autocast"
    """``bf16`` keeps weights and activations in bfloat16, beside float32 masters: less memory than
    ``bf16_autocast``, and further from ``fp32``."""
    commit_every_steps: PositiveInt = 1000
    """The first (step 0, untrained) and the last step are always committed."""
    commit_every_min: PositiveFloat | None = None
    """Commits also when this time has passed since the last one."""
    keep_last: PositiveInt = 2
    """Newest commits that keep their optimizer state; weights of every commit stay."""
    keep_every_steps: PositiveInt | None = None
    """Commits at multiples of this keep it too."""
    commit_grace_min: float = Field(default=60, ge=0)
    """How long training goes on while no commit can be written (disk full, store unreachable), or
    waits for data that cannot be read."""
    max_bad_steps: PositiveInt = 3
    """Steps in a row with numbers that are not finite before ``after_bad_steps`` is done."""
    after_bad_steps: Literal["stop", "roll_back"] = "stop"
    """``roll_back`` returns to the last commit and from there leaves those steps' batches out."""
    log_every_steps: PositiveInt = 10

    @field_validator("zero_stage", mode="before")
    @classmethod
    def _refuse_stage_0(cls, stage: Any) -> Any:
        if stage == 0:
            raise ValueError(
                "zero_stage=0 takes a hidden first step in bf16 and applies gradients that are not "
                "finite (DeepSpeed 0.19); set 1, which on one process is plain AdamW"
            )
        return stage

    @property
    def weights(self) -> dict[str, float]:
        """Of each dataset; in the order of names, which the order of samples goes by."""
        mixture = {self.dataset: 1.0} if isinstance(self.dataset, str) else self.dataset
        return {name: mixture[name] for name in sorted(mixture)}


class CellConfig(BaseModel, frozen=True, extra="forbid"):
    """One benchmark on one dataset, over the commits of a run."""

    benchmark: str
    """Name of one; ``sigma-pipeline benchmarks`` lists them."""
    dataset: str
    train_split: str | None = None
    """Where labelled examples come from (k-NN bank, probe training); ``train`` when absent, for
    benchmarks that learn from any."""
    test_split: str = "val"
    every: PositiveInt | None = None
    """Take each n-th commit; the first and the last always. When absent, a cheap benchmark takes
    every commit, and a dear one the last one alone."""
    best: PositiveInt | None = None
    """Instead of ``every``: take so many commits, those that ``evaluate.best_by`` puts first when
    training has ended."""
    view: ViewConfig | MultiViewConfig | None = None
    """How this cell's clips are cut; ``evaluate.view`` when absent."""
    cpus: PositiveFloat | None = None
    """Of a task; ``launch.evaluate.cpus_per_task`` when absent."""
    gpus: float | None = Field(default=None, ge=0)
    """Of a task, a share of one or whole ones; ``launch.evaluate.gpus_per_task`` when absent."""
    processes: PositiveInt = 1
    """Of a benchmark that trains through the encoder: they add up their gradients, and ``cpus``,
    ``gpus`` and ``memory_gib`` are those of each. As many as divide its batch."""
    memory_gib: PositiveFloat | None = None
    """Of a task: more is not started at once than fits the node. No limit when absent."""
    deadline_min: PositiveFloat | None = None
    """After which a task is ended; ``evaluate.deadline_min`` when absent."""
    seeds: tuple[NonNegativeInt, ...] = (0,)
    examples: ExampleSizes | None = None
    """Sizes of the part of the training split that is learned from; all of it when absent."""
    column: SevereColumn | None = None
    """Which column of the SEVERE table it fills. A cell that does is left out, and said to be
    absent, while its dataset is not sharded; on other data than the column's it is a stand-in."""
    settings: dict[str, int | float | str | bool] = {}
    """Overrides of the benchmark's own defaults, checked by the benchmark."""

    @property
    def learned_split(self) -> str:
        """Where labelled examples come from, if the benchmark wants any."""
        return self.train_split or "train"

    @model_validator(mode="after")
    def _refuse_two_policies(self) -> Self:
        if self.every is not None and self.best is not None:
            raise ValueError("every and best exclude each other: set one of them")
        return self


class SupervisedConfig(BaseModel, frozen=True, extra="forbid"):
    """A small encoder of the same shape trained with labels: shows that the task can be learned."""

    dataset: str
    split: str = "train"
    steps: PositiveInt = 300
    batch_clips: PositiveInt = 32
    peak_lr: PositiveFloat = 1e-3
    weight_decay: float = Field(default=0.05, ge=0)


class EvaluateConfig(BaseModel, frozen=True, extra="forbid"):
    """Which benchmarks follow each commit."""

    cells: tuple[CellConfig, ...] = ()
    view: ViewConfig | None = None
    """Of all cells that have none of their own; each benchmark's own when absent."""
    pooling: Pooling = "mean"
    """How tokens become one vector: ``mean`` over all tokens; ``slices``: mean per time slice,
    concatenated; ``slices_grid2``: the same per quarter of the frame."""
    batch_clips: PositiveInt = 32
    precision: Precision = "fp32"
    """Of the encoder, over evaluation clips and in the supervised reference; features are pooled
    and scored in fp32."""
    supervised: SupervisedConfig | None = None
    pictures: bool = True
    """One picture per commit: input, mask, assigned prototypes; and what benchmarks show."""
    retries: NonNegativeInt = 2
    deadline_min: PositiveFloat = 120
    best_by: str | None = None
    """The score that says which commit is best: ``benchmark/dataset/score`` of a cell, such as
    ``knn/k400/top1``."""
    gpu_hours: PositiveFloat | None = None
    """Of all dear cells of the run together; those that would begin later are skipped."""
    features_gib: PositiveFloat = 50
    """Of the run's features in the store; what no cell waits for goes first."""

    @model_validator(mode="after")
    def _check_cells(self) -> Self:
        problems = [best_problem(self.best_by, self.cells), *column_problems(self.cells)]
        if found := [problem for problem in problems if problem]:
            raise ValueError("; ".join(found))
        return self


class ShardLaunchConfig(BaseModel, frozen=True, extra="forbid"):
    """Resources of the shard stage: one machine, or the tasks of a SLURM array."""

    workers: PositiveInt = 2
    """Processes on the machine, or in each task."""
    tasks: PositiveInt = 4
    """Of the array, which ``cluster: slurm`` makes; each begins with its part of the shards."""
    cpus_per_task: PositiveInt | None = None
    """Processors of a task; one per worker when absent."""
    memory_gib: PositiveFloat | None = None
    """Of a task; what the site gives when absent."""
    timeout_min: PositiveInt = 720
    """Of a task; one that needs longer is queued again, ten times at most."""


class TrainLaunchConfig(BaseModel, frozen=True, extra="forbid"):
    """Resources of training, and how it lives on when an attempt at it ends.

    One process per GPU where CUDA is found, else on CPU cores.
    """

    nodes: PositiveInt = 1
    gpus_per_node: PositiveInt = 1
    cpu_processes: PositiveInt = 2
    """Processes per node on a machine without CUDA."""
    cpus_per_process: PositiveInt = 1
    memory_gib: PositiveFloat | None = None
    """Of a node; what the site gives when absent."""
    timeout_min: PositiveInt = 1440
    """Of one attempt; training that needs longer saves in time and is queued again."""
    continue_by: Literal["requeue", "chain"] = "requeue"
    """How SLURM starts the next attempt. ``chain``: ``chain_jobs`` jobs are submitted at once, each
    to start when the one before has ended; for sites where a job may not queue itself again."""
    chain_jobs: PositiveInt = 8
    max_attempts_without_progress: PositiveInt = 3
    """Attempts in a row that end without a newer commit before the run is given up."""
    backoff_s: PositiveFloat = 60
    """Wait before an attempt after a failure; doubles with each failure without progress."""
    stall_timeout_s: PositiveFloat = 1800
    """Longest that one step may take: a rank that no longer answers ends the attempt then."""
    preflight: bool = True
    """Whether nodes are tried before the first step; SLURM's next attempt avoids a bad one."""


class EvaluateLaunchConfig(BaseModel, frozen=True, extra="forbid"):
    """Resources of the evaluation grid: this machine, nodes of SLURM, or a Ray cluster."""

    ray_address: str | None = None
    """``host:port`` of a Ray cluster that runs already; its resources are taken as they are."""
    nodes: PositiveInt = 1
    """Of SLURM; Ray is started on all of them inside the job."""
    cpus: PositiveInt = 2
    """Processor slots that Ray hands out on each node."""
    cpus_per_task: PositiveFloat = 1
    gpus_per_task: float = Field(default=0.0, ge=0)
    gpus: NonNegativeInt = 0
    """Of the node, asked of SLURM."""
    memory_gib: PositiveFloat | None = None
    """Of the node; what the site gives when absent."""
    timeout_min: PositiveInt = 240
    gpu_sharing: Literal["pause", "memory_cap"] | None = None
    """On one machine whose GPU training and evaluation share. ``pause``: training waits while a
    commit is evaluated. ``memory_cap``: both go on, and each keeps to its share of the memory."""
    gpu_memory_share: float = Field(default=0.3, gt=0, lt=1)
    """Of evaluation, with ``memory_cap``; training has the rest."""


class LaunchConfig(BaseModel, frozen=True, extra="forbid"):
    """Where jobs run: submitit's executors."""

    cluster: Literal["local", "slurm", "debug"] = "local"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    """Nodes never to be used, as SLURM lists them: ``n[1-3],n7``."""
    setup: tuple[str, ...] = ()
    """Shell lines before the job: ``module load cuda``, ``source env.sh``. They are recorded with
    the recipe: no place for secrets."""
    python: str | None = None
    """Command that starts Python on the nodes, as through a container: ``apptainer exec --nv
    image.sif python``; the interpreter of this command when absent."""
    host_python: str | None = None
    """Python >= 3.11 on the nodes themselves, for what decides after an attempt and needs SLURM's
    commands; the interpreter of this command when absent."""
    sbatch: dict[str, str | int | bool] = {}
    """More of sbatch's options by name: ``{mail-type: FAIL, exclusive: true}``."""
    jobs_may_submit: bool = True
    """Whether each commit submits its evaluation. False, for sites where jobs may not submit jobs:
    one evaluation job follows the training."""
    shard: ShardLaunchConfig = ShardLaunchConfig()
    train: TrainLaunchConfig = TrainLaunchConfig()
    evaluate: EvaluateLaunchConfig = EvaluateLaunchConfig()


class TrackConfig(BaseModel, frozen=True, extra="forbid"):
    """Where MLflow keeps the run."""

    experiment: str = "sigma"
    tracking_uri: str | None = None
    """An http server or a sqlite file; when absent, sqlite in a local ``root_uri``."""
