"""Who decides, and why: what the history of a model says of every change."""

from dataclasses import dataclass

from models.rollout import Action, Event


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes something, and the reason they gave or the command they typed."""

    by: str = "operator"
    because: str = ""

    def event(
        self,
        model: str,
        version: int,
        action: Action,
        *,
        share: float | None = None,
        champion: int | None = None,
        evidence: dict[str, int] | None = None,
    ) -> Event:
        """An event of theirs."""
        return Event(
            model=model,
            version=version,
            action=action,
            by=self.by,
            because=self.because,
            share=share,
            champion=champion,
            evidence=dict(evidence or {}),
        )
