"""What requests' classes really were: joined to the answers by model and request id, counted once, corrected later."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from deployments.scores import Prediction
from models.variant_statistics import VariantStatistics

MAX_ANSWERS = 200_000
"""Requests that feedback may come for; the oldest are forgotten first."""

MAX_EARLY = 20_000
"""Truths that came before a Router reported the answer, which takes half a second."""

Noted = Literal["counted", "corrected", "duplicate", "pending", "ambiguous"]


class Truth(NamedTuple):
    """What the class of a request really was. Without `model`, the only one that answered a request of this id."""

    request_id: str
    label: str
    model: str | None = None


@dataclass(slots=True)
class Request:
    """The class that each version gave a request, and the true one once it is known."""

    model: str
    labels: dict[int, str] = field(default_factory=dict)
    truth: str | None = None


@dataclass(slots=True)
class Tally:
    """Of requests whose truth is known: how many a version had right, and how many another one had right as well."""

    labelled: int = 0
    correct: int = 0
    both_right: int = 0

    def count(self, is_right: bool, other_too: bool, sign: int) -> None:
        """Add one request, or take it back."""
        self.labelled += sign
        self.correct += sign * is_right
        self.both_right += sign * (is_right and other_too)


class Feedback:
    """Remembers answers until feedback comes for them, and counts."""

    def __init__(self, max_answers: int = MAX_ANSWERS) -> None:
        self._max_answers = max_answers
        self._requests: OrderedDict[tuple[str, str], Request] = OrderedDict()
        self._models: dict[str, tuple[str, ...]] = {}
        self._early: OrderedDict[tuple[str, str | None], str] = OrderedDict()
        self._alone: dict[tuple[str, int], Tally] = {}
        self._beside: dict[tuple[str, int, int], Tally] = {}

    def remember(self, predictions: Iterable[Prediction]) -> None:
        """Take in answers; where the truth came before a shadow's answer did, that is counted now."""
        for each in predictions:
            request = self._request(each.request_id, each.model)
            if request.truth is not None:
                self._count(request, -1)
            request.labels[each.version] = each.label
            if request.truth is None:
                request.truth = self._early_truth(each.request_id, each.model)
            if request.truth is not None:
                self._count(request, 1)
        while len(self._requests) > self._max_answers:
            (request_id, model), _ = self._requests.popitem(last=False)
            left = tuple(each for each in self._models.pop(request_id) if each != model)
            if left:
                self._models[request_id] = left

    def note(self, request_id: str, label: str, model: str | None = None) -> Noted:
        """Note what a request's class really was. It is pending while no answer to the request is known.

        Without a model it is ambiguous, and not counted, where several models answered a request of that id.
        """
        models = self._models.get(request_id, ())
        if model is None and len(models) > 1:
            return "ambiguous"
        request = self._requests.get((request_id, model or (models[0] if models else "")))
        if request is None:
            self._early[request_id, model] = label
            if len(self._early) > MAX_EARLY:
                self._early.popitem(last=False)
            return "pending"
        if request.truth == label:
            return "duplicate"
        is_first = request.truth is None
        if not is_first:
            self._count(request, -1)
        request.truth = label
        self._count(request, 1)
        return "counted" if is_first else "corrected"

    def _request(self, request_id: str, model: str) -> Request:
        if (request_id, model) not in self._requests:
            self._requests[request_id, model] = Request(model)
            self._models[request_id] = (*self._models.get(request_id, ()), model)
        return self._requests[request_id, model]

    def _early_truth(self, request_id: str, model: str) -> str | None:
        """The truth that came before the answer: of this model, or, if no other one answered, of any."""
        named = self._early.pop((request_id, model), None)
        if named is not None or len(self._models[request_id]) > 1:
            return named
        return self._early.pop((request_id, None), None)

    def statistics(self, model: str, version: int, champion: int) -> VariantStatistics:
        """How often a version was right, by itself and where the champion answered the same request."""
        alone = self._alone.get((model, version), Tally())
        mine = self._beside.get((model, version, champion), Tally())
        champions = self._beside.get((model, champion, version), Tally())
        return VariantStatistics(
            labelled=alone.labelled,
            correct=alone.correct,
            both_labelled=mine.labelled,
            both_correct=mine.correct,
            champion_correct=champions.correct,
            both_right=mine.both_right,
        )

    def _count(self, request: Request, sign: int) -> None:
        for version, label in request.labels.items():
            is_right = label == request.truth
            self._alone.setdefault((request.model, version), Tally()).count(is_right, False, sign)
            for other, others_label in request.labels.items():
                if other != version:
                    beside = self._beside.setdefault((request.model, version, other), Tally())
                    beside.count(is_right, others_label == request.truth, sign)
