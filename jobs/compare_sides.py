"""The two sides of a comparison: which encoders of which runs are meant, and how they relate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from sigma_pipeline.infra.errors import ConfigError, MissingInputError
from sigma_pipeline.infra.storage import Storage, check_key
from sigma_pipeline.jobs.best_commit import find_best
from sigma_pipeline.jobs.commits import list_commits, step_title
from sigma_pipeline.jobs.compare_statistics import Relation
from sigma_pipeline.jobs.encoders import SUPERVISED, EncoderSource, committed_encoder
from sigma_pipeline.jobs.gone_commits import gone_encoders
from sigma_pipeline.jobs.supervised_request import current_supervised, find_supervised

LAST, BEST, UNTRAINED, IMPORTED = "last", "best", "untrained", "imported"
_PLACES = (LAST, BEST, UNTRAINED, IMPORTED, SUPERVISED)
RecipeOf = Callable[[str], str | None]
"""Of a run's name: what is equal for runs that only their seeds tell apart; None if not known."""


@dataclass(frozen=True)
class Wanted:
    """An encoder as somebody names it: ``run``, ``run@step``, ``run@best`` and so on."""

    run_name: str
    which: str = LAST

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of ``run`` or ``run@which``.

        Raises:
            ConfigError: it has another form.
        """
        run_name, _, which = text.strip().partition("@")
        which = which if "@" in text else LAST
        try:
            check_key(run_name)
        except ValueError:
            run_name = ""
        if not run_name or "/" in run_name or not _is_known(which):
            raise ConfigError(
                f"{text!r} names no encoder: write RUN, RUN@STEP, RUN@{LAST}, RUN@{BEST}, "
                f"RUN@{UNTRAINED}, RUN@{IMPORTED} or RUN@{SUPERVISED}, and several runs as RUN,RUN"
            )
        return cls(run_name, which)


@dataclass(frozen=True)
class Member:
    """One encoder of a side."""

    run_name: str
    source: EncoderSource
    place: str
    """Where in its run it stands, the same for runs that can be compared: ``step 1000``,
    ``best``, ``untrained``, ``imported`` or ``supervised``."""

    def __str__(self) -> str:
        """For people."""
        step = self.source.step
        where = f"{BEST}, step {step}" if self.place == BEST else self.place
        return f"{self.run_name} ({where})"


@dataclass(frozen=True)
class Side:
    """One encoder, or those of several runs of one recipe."""

    members: tuple[Member, ...]

    @property
    def run_names(self) -> tuple[str, ...]:
        """Of its members."""
        return tuple(member.run_name for member in self.members)

    @property
    def encoders(self) -> frozenset[tuple[str, str]]:
        """Run and name of each."""
        return frozenset((member.run_name, member.source.name) for member in self.members)

    def __str__(self) -> str:
        """For people."""
        return ", ".join(map(str, self.members))


def find_side(storage: Storage, text: str, recipe_of: RecipeOf) -> Side:
    """The side that ``text`` names.

    Args:
        storage: where all runs lie.
        text: an encoder, or several with commas between them.
        recipe_of: tells recipes apart.

    Raises:
        ConfigError: it is no such text, or its runs are not of one recipe at one place.
        MissingInputError: an encoder is not there.
    """
    wanted = [Wanted.parse(part) for part in text.split(",")]
    side = Side(tuple(_member(storage, one) for one in wanted))
    _check(side, text, recipe_of)
    return side


def find_relation(a: Side, b: Side, recipe_of: RecipeOf, *, of_encoders: bool = False) -> Relation:
    """How ``b`` differs from ``a``; with ``same_runs`` it has them in the same order.

    Args:
        a: one side.
        b: the other.
        recipe_of: tells recipes apart.
        of_encoders: whether how they came about is not asked.

    Raises:
        ConfigError: both sides are the same encoders; some runs are on both, and some are not.
    """
    if a.encoders == b.encoders:
        raise ConfigError(
            f"A and B are both {a}: nothing is compared with itself; name another run or step, as "
            f"RUN@{UNTRAINED}"
        )
    if of_encoders:
        return "two_encoders"
    shared = set(a.run_names) & set(b.run_names)
    if not shared:
        recipes = {recipe_of(run_name) for run_name in (*a.run_names, *b.run_names)}
        places = {member.place for member in (*a.members, *b.members)}
        is_one = len(recipes) == len(places) == 1 and None not in recipes
        return "one_recipe" if is_one else "two_recipes"
    if a.run_names == b.run_names:
        return "same_runs"
    raise ConfigError(
        f"{', '.join(sorted(shared))} on both sides: name there the same runs in the same order, "
        "or none twice"
    )


def _is_known(which: str) -> bool:
    return which in _PLACES or (which.isascii() and which.isdigit())


def _check(side: Side, text: str, recipe_of: RecipeOf) -> None:
    names = side.run_names
    if len(set(names)) < len(names):
        raise ConfigError(f"{text!r} names a run twice: a side has one encoder of each run")
    if len(places := dict.fromkeys(member.place for member in side.members)) > 1:
        raise ConfigError(
            f"{text!r} mixes {', '.join(places)}: name one step for all, as "
            f"{','.join(f'{name}@STEP' for name in names)}"
        )
    recipes = {name: recipe_of(name) for name in names}
    if len(names) > 1 and None in recipes.values():
        unknown = next(name for name in names if recipes[name] is None)
        raise ConfigError(
            f"{text!r} is no side: nothing says how {unknown} was trained, so it stands alone"
        )
    others = [name for name in names if recipes[name] != recipes[names[0]]]
    if others:
        raise ConfigError(
            f"{text!r} is no side: {others[0]} was trained with other settings than {names[0]}, "
            f"not only with another seed; see runs/{others[0]}/train/settings.json"
        )


def _member(storage: Storage, wanted: Wanted) -> Member:
    run_name, which = wanted.run_name, wanted.which
    if which == SUPERVISED:
        return Member(run_name, _supervised(storage, run_name), SUPERVISED)
    if which == BEST:
        return Member(run_name, committed_encoder(find_best(storage, run_name)), BEST)
    return _committed(storage, wanted)


def _committed(storage: Storage, wanted: Wanted) -> Member:
    """By its step; the scores of one that was deleted are still there."""
    run_name = wanted.run_name
    members = [
        Member(run_name, committed_encoder(commit), commit.title)
        for commit in list_commits(storage, run_name)
    ]
    gone = gone_encoders(storage, run_name, {member.source.name for member in members})
    members += [Member(run_name, source, step_title(source.step)) for source in gone]
    found = [member for member in members if _is_meant(member, wanted.which)]
    if not found:
        raise MissingInputError(_absence(storage, wanted, members))
    return max(found, key=lambda member: member.source.step)


def _is_meant(member: Member, which: str) -> bool:
    return which in (LAST, member.place) or (which.isdigit() and int(which) == member.source.step)


def _absence(storage: Storage, wanted: Wanted, members: Sequence[Member]) -> str:
    run_name = wanted.run_name
    if not members:
        return (
            f"run {run_name!r} has no commit in {storage.root_uri}: name another, or another "
            "root_uri, or train it: sigma-pipeline run --stage train"
        )
    if wanted.which == UNTRAINED and any(member.place == IMPORTED for member in members):
        return f"run {run_name!r} has no untrained encoder, as its weights are imported"
    steps = ", ".join(map(str, sorted(member.source.step for member in members)))
    return f"run {run_name!r} has no commit {wanted.which!r}, only those of steps {steps}"


def _supervised(storage: Storage, run_name: str) -> EncoderSource:
    request = current_supervised(storage, run_name)
    source = None if request is None else find_supervised(storage, request)
    if source is None:
        raise MissingInputError(
            f"run {run_name!r} has no supervised encoder: set evaluate.supervised, and give the "
            "command sigma-pipeline run --stage evaluate"
        )
    return source
