"""How ranks agree."""

from sigma_pipeline.jobs.control import Agreement
from sigma_pipeline.jobs.distributed import RankContext


def test_what_is_sent_is_known_one_call_later(one_rank: RankContext) -> None:
    agreement = Agreement(one_rank.control_group)

    answers = [agreement.exchange(flags) for flags in ([0, 3], [1, 0], [0, 2])]

    assert answers == [[0, 0], [0, 3], [1, 0]]
    assert agreement.close() == [0, 2]
    assert agreement.close() == []
