"""What a short fact is about, told by its English wording: two facts of one topic cannot both hold.

"The user lives in Rome" is about where the user lives, and so is "I moved to Paris". "Has a dog" and "has a cat" have
no topic, since both may be so. A fact in other words, or in another language, has the topic that whoever tells it
gives.
"""

import re

_SPACES = re.compile(r"\s+")
_SELF = re.compile(r"^(?:the user's|user's|my|our)\b|^(?:the user|user|i|we|he|she|they)\b", re.IGNORECASE)
_SHORT = ((re.compile(r"\bi['’]m\b", re.IGNORECASE), "i am"), (re.compile(r"['’]ve\b", re.IGNORECASE), " have"))
_WHO = r"(?P<who>[\w'’ -]{1,60}?)"
# What somebody has once.
_NOUNS = (
    "name|first name|last name|surname|nickname|birthday|birth date|date of birth|age|address|email|email address|"
    "phone|phone number|job|job title|title|profession|employer|company|home|hometown|city|country|nationality|"
    "time zone|timezone|native language|mother tongue|diet|height|weight|size|budget|deadline|goal"
)
_MONTH = r"(?:january|february|march|april|may|june|july|august|september|october|november|december)\b"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), topic)
    for pattern, topic in (
        (rf"^{_WHO} (?:now |currently |just )?(?:live|lives|am living|is living|are living|reside|resides)\b", "home"),
        (rf"^{_WHO} (?:have |has )?(?:just |recently )?moved (?:to|into)\b", "home"),
        (rf"^{_WHO} (?:now |currently )?(?:work|works|am working|is working) (?:at|for)\b", "employer"),
        (rf"^{_WHO} (?:now |currently )?(?:work|works|am working|is working) as\b", "job"),
        (rf"^{_WHO} (?:was|were|am|is) born on (?:the )?(?:\d|{_MONTH})", "birth date"),
        (rf"^{_WHO} (?:was|were|am|is) born in \d{{4}}\b", "birth year"),
        (rf"^{_WHO} (?:was|were|am|is) born in (?!\d|{_MONTH})", "birthplace"),
        (rf"^{_WHO} (?:come|comes|am|is|are) from\b", "origin"),
        (rf"^{_WHO} (?:am|is|are) (?:called|named)\b", "name"),
        (rf"^{_WHO} (?:am|is|are) \d{{1,3}}(?: years? (?:old|of age)\b|(?: now)?(?:$|[,;] ))", "age"),
        (rf"^{_WHO}(?:['’]s)? (?P<noun>fav(?:ou?rite|e) [\w -]{{1,40}}?) (?:is|are)\b", ""),
        (rf"^{_WHO}(?:['’]s)? (?P<noun>{_NOUNS}) (?:is|are)\b", ""),
        (
            rf"^{_WHO} (?:really |still |also )?(?:do not |does not |don['’]t |doesn['’]t |never )?"
            r"(?:like|likes|love|loves|hate|hates|dislike|dislikes|enjoy|enjoys|eat|eats|drink|drinks|speak|speaks) "
            r"(?:to )?(?P<noun>[\w'’ -]{1,60})$",
            "",
        ),
    )
)


def topic_of(content: str) -> str | None:
    """The topic of the fact; None where nothing in it rules another fact out."""
    text = _SPACES.sub(" ", content).strip().rstrip(".!")
    for pattern, plain in _SHORT:
        text = pattern.sub(plain, text)
    text = _SELF.sub("user", text.casefold())
    for pattern, topic in _PATTERNS:
        if (match := pattern.search(text)) is not None:
            noun = topic or match["noun"]
            return f"{match['who'].removesuffix('’s').removesuffix(chr(39) + 's')}: {_british(noun)}"
    return None


def _british(noun: str) -> str:
    return noun.replace("favorite", "favourite").replace("fave", "favourite").replace("color", "colour")
