"""Tests of codet5p_jax.training.curriculum."""

import pytest

from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.sizes import model_config
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream


def _stream(name, weight=1.0):
    objective = Seq2SeqObjective(model=CodeT5p(model_config("codet5p_test")))
    return Stream(name=name, objective=objective, dataset=name, weight=weight)


def _curriculum():
    first = Phase(name="first", steps=3, streams=[_stream("a")])
    second = Phase(name="second", steps=2, streams=[_stream("a"), _stream("b")])
    return Curriculum(phases=[first, second])


def test_phases_switch_at_the_right_step():
    curriculum = _curriculum()
    names = [curriculum.phase_at(step)[0].name for step in range(5)]
    ends = [curriculum.phase_at(step)[1] for step in range(5)]
    assert names == ["first"] * 3 + ["second"] * 2
    assert ends == [3, 3, 3, 5, 5]
    assert curriculum.steps == 5


def test_a_stream_of_several_phases_counts_once():
    assert list(_curriculum().streams) == ["a", "b"]


def test_a_step_behind_the_end_is_refused():
    with pytest.raises(ValueError, match="Step 5 lies behind the curriculum's 5 steps"):
        _curriculum().phase_at(5)


def test_one_name_for_two_streams_is_refused():
    first = Phase(name="first", steps=3, streams=[_stream("a")])
    second = Phase(name="second", steps=2, streams=[_stream("a", weight=2.0)])
    with pytest.raises(ValueError, match="Stream 'a' is defined in two ways"):
        Curriculum(phases=[first, second])


@pytest.mark.parametrize("steps, streams", [(0, [_stream("a")]), (3, [])])
def test_a_phase_that_trains_nothing_names_what_to_set(steps, streams):
    with pytest.raises(ValueError, match=r"Phase 'p' .* Set Phase\.steps and Phase\.streams"):
        Phase(name="p", steps=steps, streams=streams)


def test_a_phase_that_names_a_stream_twice_is_refused():
    with pytest.raises(ValueError, match="names a stream twice: a, a"):
        Phase(name="p", steps=1, streams=[_stream("a"), _stream("a")])


def test_an_empty_curriculum_is_refused():
    with pytest.raises(ValueError, match=r"set Curriculum\.phases"):
        Curriculum(phases=[])


@pytest.mark.parametrize("weight", [-0.5, float("nan"), float("inf")])
def test_a_weight_that_is_no_weight_is_refused(weight):
    with pytest.raises(ValueError, match=r"Stream 'a' has the weight .* Set Stream\.weight"):
        _stream("a", weight=weight)


def test_a_phase_of_weights_of_0_is_refused():
    with pytest.raises(ValueError, match=r"Phase 'p' trains nothing.* Set one Stream\.weight to 1"):
        Phase(name="p", steps=1, streams=[_stream("a", weight=0.0), _stream("b", weight=0.0)])
    Phase(name="p", steps=1, streams=[_stream("a", weight=0.0), _stream("b")])
