from deployments.feedback import Feedback
from deployments.scores import Prediction


def remembered(feedback: Feedback, request_id: str, **labels: str) -> None:
    feedback.remember(Prediction("digits", int(name[1:]), request_id, label) for name, label in labels.items())


def test_the_truth_is_counted_once_for_every_version_that_answered() -> None:
    feedback = Feedback()
    remembered(feedback, "a", v1="3", v2="8")
    assert feedback.note("a", "3") == "counted"
    assert feedback.note("a", "3") == "duplicate"
    challenger = feedback.statistics("digits", 2, champion=1)
    assert (challenger.labelled, challenger.correct) == (1, 0)
    assert (challenger.both_labelled, challenger.both_correct, challenger.champion_correct) == (1, 0, 1)
    champion = feedback.statistics("digits", 1, champion=1)
    assert (champion.labelled, champion.correct, champion.both_labelled) == (1, 1, 0)


def test_who_thinks_again_is_counted_anew() -> None:
    feedback = Feedback()
    remembered(feedback, "a", v1="3")
    feedback.note("a", "8")
    assert feedback.note("a", "3") == "corrected"
    champion = feedback.statistics("digits", 1, champion=1)
    assert (champion.labelled, champion.correct) == (1, 1)


def test_a_shadow_that_answers_after_the_truth_came_is_counted() -> None:
    feedback = Feedback()
    remembered(feedback, "a", v1="3")
    feedback.note("a", "3")
    remembered(feedback, "a", v2="3")
    shadow = feedback.statistics("digits", 2, champion=1)
    assert (shadow.both_labelled, shadow.both_correct, shadow.champion_correct, shadow.both_right) == (1, 1, 1, 1)


def test_feedback_that_comes_too_late_counts_for_nobody() -> None:
    feedback = Feedback(max_answers=1)
    remembered(feedback, "a", v1="3")
    remembered(feedback, "b", v1="3")
    assert feedback.note("a", "3") == "pending"
    assert feedback.statistics("digits", 1, champion=1).labelled == 0


def test_feedback_that_comes_before_the_answer_is_reported_counts_then() -> None:
    feedback = Feedback()
    assert feedback.note("a", "8") == "pending"
    assert feedback.note("a", "3") == "pending"
    remembered(feedback, "a", v1="3")
    assert feedback.note("a", "3") == "duplicate"
    champion = feedback.statistics("digits", 1, champion=1)
    assert (champion.labelled, champion.correct) == (1, 1)


def of_two_models(feedback: Feedback) -> None:
    for model, label in (("digits", "3"), ("cats", "tabby")):
        feedback.remember([Prediction(model, 1, "a", label)])


def correct(feedback: Feedback, model: str) -> tuple[int, int]:
    counted = feedback.statistics(model, 1, champion=1)
    return counted.labelled, counted.correct


def test_a_request_id_of_two_models_is_told_apart_by_the_model() -> None:
    feedback = Feedback()
    of_two_models(feedback)
    assert feedback.note("a", "3") == "ambiguous"
    assert feedback.note("a", "3", "digits") == "counted"
    assert feedback.note("a", "siamese", "cats") == "counted"
    assert feedback.note("a", "siamese", "dogs") == "pending"
    assert (correct(feedback, "digits"), correct(feedback, "cats")) == ((1, 1), (1, 0))


def test_the_truth_of_a_model_that_comes_before_its_answer_is_its_own() -> None:
    feedback = Feedback()
    assert feedback.note("a", "tabby", "cats") == "pending"
    of_two_models(feedback)
    assert (correct(feedback, "digits"), correct(feedback, "cats")) == ((0, 0), (1, 1))


def test_what_is_forgotten_of_one_model_makes_nothing_ambiguous() -> None:
    feedback = Feedback(max_answers=1)
    of_two_models(feedback)
    assert feedback.note("a", "tabby") == "counted"
    assert (correct(feedback, "digits"), correct(feedback, "cats")) == ((0, 0), (1, 1))
