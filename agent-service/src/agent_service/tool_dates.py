"""Dates that a question names, and how an argument wants them written."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from agent_service.tool_words import stem


@dataclass(frozen=True, kw_only=True)
class Date:
    """A day, or as much of one as was said."""

    year: int | None
    month: int
    day: int | None
    text: str


MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_MONTH = (
    r"(?P<month>Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|"
    r"Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_DATES = [
    re.compile(r"\b(?P<year>\d{4})[-/](?P<number>\d{1,2})[-/](?P<day>\d{1,2})\b"),
    re.compile(r"\b(?P<number>\d{1,2})[-/](?P<day>\d{1,2})[-/](?P<year>\d{4})\b"),
    re.compile(rf"\b{_MONTH}\s*(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(?P<year>\d{{4}}))?\b", re.IGNORECASE),
    re.compile(
        rf"\b(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?:,?\s+(?P<year>\d{{4}}))?\b", re.IGNORECASE
    ),
    re.compile(rf"\b{_MONTH},?\s+(?:of\s+)?(?P<year>\d{{4}})\b", re.IGNORECASE),
    re.compile(rf"(?:(?<=\bin )|(?<=\bof )|(?<=\bfor )){_MONTH}(?!\w)"),
]


def dates_in(text: str) -> Iterator[tuple[int, int, Date]]:
    """Where the dates of a text begin and end, and what they are."""
    taken: list[tuple[int, int]] = []
    for pattern in _DATES:
        for match in pattern.finditer(text):
            if any(match.start() < end and start < match.end() for start, end in taken):
                continue
            parts = match.groupdict()
            month = int(parts["number"]) if parts.get("number") else _month(parts["month"])
            day = int(parts["day"]) if parts.get("day") else None
            if not 1 <= month <= 12 or (day is not None and not 1 <= day <= 31):
                continue
            taken.append(match.span())
            year = int(parts["year"]) if parts.get("year") else None
            yield match.start(), match.end(), Date(year=year, month=month, day=day, text=match[0])


def _month(name: str) -> int:
    return next(n for n, month in enumerate(MONTHS, 1) if month.startswith(name.lower()[:3]))


_DATE_FORMAT = re.compile(
    r"\b(?:Y{4}|D{1,2}|M{1,2})([-/.])(?:Y{4}|D{1,2}|M{1,2})\1(?:Y{4}|D{1,2}|M{1,2})\b", re.IGNORECASE
)


def written(date: Date, name_words: Collection[str], description: str) -> str:
    """A date as an argument's description wants it, ISO 8601 where it says nothing; one without a day or year as it was
    said, or its month where that is what the argument is called."""
    if date.day is None or date.year is None:
        if stem("month") in name_words and stem("date") not in name_words:
            return MONTHS[date.month - 1].capitalize()
        return date.text
    wanted = _DATE_FORMAT.search(description)
    pattern = wanted[0] if wanted else "YYYY-MM-DD"
    parts = {"y": f"{date.year:04}", "m": f"{date.month:02}", "d": f"{date.day:02}"}
    return re.sub(r"Y+|M+|D+", lambda match: parts[match[0][0].lower()], pattern, flags=re.IGNORECASE)
