"""Surveys: satisfaction (csat), recommendation (nps) and effort (ces)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from domain.event import Other, Personal, Ref, Touchpoint, event
from domain.units import tell, words

Metric = Literal["csat", "nps", "ces"]
Score = Annotated[
    float, msgspec.Meta(ge=0, le=100, description="nps 0 to 10, csat mostly 1 to 5, ces 1 to 7")
]


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One question and what was answered."""

    question: str | None = None
    answer: str | None = None
    score: Score | None = None


class _Survey(Touchpoint, frozen=True, kw_only=True):
    contact: Other[Ref] | None = None
    survey_id: str | None = None
    invitation_id: str | None = None  # joins an answer to its question
    metric: Metric | None = None
    about: str | None = None  # delivery, case, visit, shop …
    case_id: str | None = None
    order_id: str | None = None
    visit_id: str | None = None
    conversation_id: str | None = None
    campaign_id: str | None = None
    agent: str | None = None  # whose work is asked about


@event("survey.sent", channel="survey", direction="outbound")
class SurveySent(_Survey, frozen=True, kw_only=True):
    """We asked a customer for an opinion."""

    def headline(self) -> str:
        return tell("Survey sent", (self.metric or "").upper(), words(self.about))


@event("survey.answered", channel="survey", direction="inbound")
class SurveyAnswered(_Survey, frozen=True, kw_only=True):
    """A customer gave an opinion."""

    score: Score | None = None
    best_score: Score | None = None  # the top of the scale that was shown
    answers: Personal[list[Answer]] | None = None
    comment: Personal[str] | None = None
    language: str | None = None

    def headline(self) -> str:
        best = self.best_score or {"nps": 10, "csat": 5, "ces": 7}.get(self.metric or "")
        if self.score is None:
            given = ""
        else:
            given = f"{self.score:g}" + (f" of {best:g}" if best and best >= self.score else "")
        what = (
            f"Survey answered, {self.metric.upper()} {given}".rstrip() if self.metric else "Survey answered"
        )
        return tell(what, given if not self.metric else "", self.comment, words(self.about))
