"""The supervised reference as it is asked for, and where it lies; without PyTorch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from sigma_pipeline.data_prep.config import ViewConfig
from sigma_pipeline.data_prep.index import DatasetRef
from sigma_pipeline.infra.identity import fingerprint
from sigma_pipeline.infra.storage import Storage, read_json, write_json
from sigma_pipeline.jobs.config import Pooling, Precision, SupervisedConfig
from sigma_pipeline.jobs.encoders import SUPERVISED, EncoderSource
from sigma_pipeline.jobs.evaluate_request import evaluate_folder

_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class SupervisedRequest:
    """Everything the reference's weights depend on."""

    run_name: str
    config: SupervisedConfig
    model: Mapping[str, Any]
    """ModelConfig as plain data."""
    ref: DatasetRef
    view: ViewConfig
    """Evaluation's: training clips have its stride and kind of crop."""
    pooling: Pooling
    precision: Precision
    seed: int

    @property
    def folder(self) -> str:
        """Key of the folder of its weights and receipt."""
        content = fingerprint({**self.to_plain(), "version": _VERSION})
        return f"{evaluate_folder(self.run_name)}/{SUPERVISED}/{content}"

    @property
    def receipt_key(self) -> str:
        """Put last: there is a reference once this is there."""
        return f"{self.folder}/receipt.json"

    @property
    def failure_key(self) -> str:
        """Where the error of the last failure lies, until training succeeds."""
        return f"{self.folder}/train.failure"

    def to_plain(self) -> dict[str, Any]:
        """The request as JSON takes it."""
        sections = {
            "config": self.config.model_dump(mode="json"),
            "view": self.view.model_dump(mode="json"),
        }
        return {**asdict(self), **sections}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The request that ``to_plain`` turned into JSON."""
        changed = {
            "config": SupervisedConfig.model_validate(plain["config"]),
            "ref": DatasetRef(**plain["ref"]),
            "view": ViewConfig.model_validate(plain["view"]),
        }
        return cls(**{**plain, **changed})


def name_current(storage: Storage, run_name: str, request: SupervisedRequest | None) -> None:
    """Makes ``request`` the reference that tables show; an earlier one stays in the store."""
    if request is None:
        storage.delete(_current_key(run_name))
    else:
        write_json(storage, _current_key(run_name), request.to_plain())


def current_supervised(storage: Storage, run_name: str) -> SupervisedRequest | None:
    """The reference that the last evaluation asked for; None if it asked for none."""
    try:
        plain = read_json(storage, _current_key(run_name))
    except FileNotFoundError:
        return None
    return SupervisedRequest.from_plain(plain)


def find_supervised(storage: Storage, request: SupervisedRequest) -> EncoderSource | None:
    """The reference encoder; None while it is not trained."""
    try:
        receipt = read_json(storage, request.receipt_key)
    except FileNotFoundError:
        return None
    return EncoderSource(
        name=SUPERVISED,
        step=0,
        weights_key=receipt["weights"],
        weights_sha256=receipt["weights_sha256"],
        model=request.model,
    )


def _current_key(run_name: str) -> str:
    return f"{evaluate_folder(run_name)}/{SUPERVISED}/current.json"
