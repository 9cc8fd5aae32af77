"""The scores agree with scikit-learn's, and what is undefined is said to be."""

import json

import numpy as np
import pytest
from sklearn import metrics as theirs

from svertka.vision.metrics import Evaluation, confusion_matrix


def _random_answers() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    true = draw.integers(0, 5, 400)
    return true, np.where(draw.random(400) < 0.7, true, draw.integers(0, 5, 400))


def _evaluation(confusion: np.ndarray) -> Evaluation:
    return Evaluation(tuple("abcdefgh"[: len(confusion)]), confusion, loss=0.5)


def test_scores_are_scikit_learns() -> None:
    true, predicted = _random_answers()
    evaluation = _evaluation(confusion_matrix(true, predicted, 5))
    np.testing.assert_array_equal(evaluation.confusion, theirs.confusion_matrix(true, predicted))
    assert evaluation.accuracy == pytest.approx(theirs.accuracy_score(true, predicted))
    columns = theirs.precision_recall_fscore_support(true, predicted)
    for score, *expected in zip(evaluation.per_class.values(), *columns, strict=True):
        assert (score.precision, score.recall, score.f1, score.support) == pytest.approx(tuple(expected))


def test_rows_are_the_true_classes() -> None:
    matrix = confusion_matrix([0, 0, 1], [1, 1, 0], 2)
    assert matrix.tolist() == [[0, 2], [1, 0]]
    assert matrix.tolist() != confusion_matrix([1, 1, 0], [0, 0, 1], 2).tolist()


def test_a_share_of_nothing_is_none() -> None:
    scores = _evaluation(np.array([[3, 0, 0], [1, 0, 0], [0, 0, 0]])).per_class
    assert scores["b"].precision is None and scores["b"].recall == 0 and scores["b"].f1 == 0
    assert scores["c"].precision is None and scores["c"].recall is None and scores["c"].f1 is None


def test_json_holds_everything_and_is_json() -> None:
    true, predicted = _random_answers()
    evaluation = _evaluation(confusion_matrix(true, predicted, 5))
    values = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert values["count"] == 400 and values["correct"] == evaluation.correct
    assert values["accuracy"] == evaluation.accuracy
    assert set(values["per_class"]["a"]) == {"precision", "recall", "f1", "support"}
    assert sum(map(sum, values["confusion"])) == 400
    again = Evaluation.from_dict(values)
    assert again.to_dict() == evaluation.to_dict() and again.per_class == evaluation.per_class
