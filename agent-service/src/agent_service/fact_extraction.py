"""Which lasting facts a user tells of in what they say.

First a rule looks for statements of the user about themselves: small talk has none, and costs no model call. Then the
model puts them into short facts of their own, as JSON that a schema holds. A fact whose words the user did not use is
made up, as small models do, and left out. Where no fact is left, the statements stand as the user said them.
"""

import re
from collections.abc import Sequence

import orjson

MAX_FACTS = 3
FACT_CHARACTERS = 200
STATEMENT_CHARACTERS = 300
# So much of a fact's words the user must have said.
GROUNDED_SHARE = 0.7
# A fact has so many words at least; fewer say nothing of anybody.
LEAST_WORDS = 3

FACTS_SCHEMA = orjson.dumps(
    {
        "type": "object",
        "properties": {
            "facts": {
                "type": "array",
                "maxItems": MAX_FACTS,
                "items": {"type": "string", "maxLength": FACT_CHARACTERS},
            }
        },
        "required": ["facts"],
        "additionalProperties": False,
    }
).decode()

INSTRUCTION = (
    "List the lasting facts about the user in what the user said, each a short sentence about the user that can be "
    "understood by itself. Leave out questions, greetings and what matters only now. No facts: an empty list.\n\n"
    'The user said: "Hi! I\'m a nurse and my cat is called Tom. What is the weather?"\n'
    '{"facts": ["The user is a nurse.", "The user\'s cat is called Tom."]}'
)

_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_OWN = re.compile(
    r"\b(?:my|our|mine)\b|\b(?:i|we)(?:['’](?:m|ve|d|ll|re)\b| (?:am|was|were|are|have|had|live|lived|work|worked|like|"
    r"love|hate|dislike|prefer|enjoy|want|need|use|speak|study|studied|play|own|eat|drink|come|grew|moved|can(?:no|['’])t|"
    r"don['’]t|do not|never|always|usually|just|really|also|now|currently)\b)",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"\b(?:remember|keep in mind|note|don['’]t forget|for the future|from now on|call me)\b", re.IGNORECASE
)
# First persons that tell nothing: wishes, thanks, and what is going on.
_SMALL_TALK = re.compile(
    r"^(?:(?:hi|hello|hey|thanks|thank you|ok|okay|yes|no|well|so|and|but)\b[,! ]*)*"
    r"(?:i['’]?m (?:fine|good|ok|okay|well|sorry|here|ready|back|done|not sure|curious|wondering)\b"
    r"|i am (?:fine|good|ok|okay|well|sorry|here|ready|back|done|not sure|curious|wondering)\b"
    r"|i (?:have|['’]?ve) (?:a|one|another) question\b|i (?:want|need|['’]?d like|would like) (?:to|you)\b"
    r"|i need (?:help|some)\b)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W_]+")
_STOP = frozenset(
    _WORD.findall(
        "the a an and or but of to in on at for with from as by is are was were be been am has have had do does did i "
        "we he she they it you me my our his her their its user users s m ve that this who which called named"
    )
)


def statements(text: str) -> list[str]:
    """The sentences in which a user tells of themselves, or asks to remember something; the first few."""
    found: list[str] = []
    for match in _SENTENCE.finditer(text):
        sentence = " ".join(match[0].split())
        if not 2 < len(sentence) <= STATEMENT_CHARACTERS or _SMALL_TALK.search(sentence):
            continue
        if _ASKED.search(sentence) or (_OWN.search(sentence) and not sentence.endswith("?")):
            found.append(sentence)
    return found[:MAX_FACTS]


def is_grounded(fact: str, said: str) -> bool:
    """Whether the fact says something, made of what the user said: most of its words, and every name and number."""
    if len(_WORD.findall(fact)) < LEAST_WORDS:
        return False
    words = [word for word in _WORD.findall(fact) if word.casefold() not in _STOP]
    spoken = {_stem(word) for word in _WORD.findall(said)}
    missing = [word for word in words if _stem(word) not in spoken]
    if not words or len(missing) > len(words) * (1 - GROUNDED_SHARE):
        return False
    return not any(word[0].isupper() or word[0].isdigit() for word in missing)


def grounded(facts: Sequence[object], said: Sequence[str]) -> list[str]:
    """Those of the model's facts that hold, or what the user said where none does."""
    text = " ".join(said)
    kept: list[str] = []
    for fact in facts:
        if isinstance(fact, str) and 0 < len(fact.strip()) <= FACT_CHARACTERS and is_grounded(fact, text):
            short = " ".join(fact.split())
            if short not in kept:
                kept.append(short)
    return kept[:MAX_FACTS] or [f'The user said: "{sentence}"' for sentence in said]


def _stem(word: str) -> str:
    """Enough of a stem for English: lives, lived and live are one."""
    word = word.casefold()
    for ending in ("ing", "ies", "ed", "es", "s", "e"):
        if len(word) > len(ending) + 2 and word.endswith(ending):
            return word.removesuffix(ending)
    return word
