"""When two facts are one: their texts, compared as texts."""

import hashlib
import re

_WORD = re.compile(r"\w[\w'’-]*")


def content_hash(content: str) -> str:
    """The same for texts that differ in spaces, case and a full stop at the end alone."""
    folded = " ".join(content.split()).rstrip(".!").casefold()
    return hashlib.sha256(folded.encode()).hexdigest()


def values(content: str) -> frozenset[str]:
    """What makes a fact another one however similar the rest of it is: numbers, names, and negations.

    Embedding models put "is 34 years old" beside "is 35 years old". The first word is capitalised whatever it is.
    """
    words = _WORD.findall(content)
    found = {word for word in words if any(character.isdigit() for character in word)}
    found |= {word.casefold() for word in words[1:] if word[0].isupper() and word != "I"}
    found |= {"not" for word in words if _is_negation(word.casefold())}
    return frozenset(found)


def _is_negation(word: str) -> bool:
    return word in ("not", "no", "never", "nothing", "cannot") or word.endswith(("n't", "n’t"))
