"""Words as the engine compares them: tokens, stems, and what units measure."""

import re
from dataclasses import dataclass

TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+(?:[.,]\d+)*|\S", re.UNICODE)
NAME_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words that carry no meaning of their own, and so bound the phrases of a question.
PREPOSITIONS = _set(
    "about above across after against along among around as at before behind below beneath beside between "
    "beyond by despite down during except for from in inside into like near of off on onto out outside "
    "over past since than through throughout till to toward towards under until up upon using via with "
    "within without including excluding regarding featuring containing based called named titled"
)
FUNCTION_WORDS = PREPOSITIONS | _set(
    "a also an and any are be because been being both but can could did do does each either every find for get "
    "give had has have he her him his how i if is it its just let's let may me might more most much must my "
    "need neither no nor not now or our please provide shall she should show so some such tell that the their "
    "them then there these they this those too us want was we were what what's when where whether which while "
    "who whom whose why will would you your i'm i'd i'll calculate compute determine search look looking know "
    "help order given also make many shorter longer larger smaller greater higher lower least fewer "
)

# What each unit is called, and what it measures.
_UNITS = {
    "length": {
        "meter": "m meter meters metre metres",
        "kilometer": "km kilometer kilometers kilometre kilometres",
        "centimeter": "cm centimeter centimeters centimetre centimetres",
        "millimeter": "mm millimeter millimeters",
        "mile": "mile miles mi",
        "foot": "foot feet ft",
        "inch": "inch inches",
        "yard": "yard yards",
    },
    "time": {
        "second": "s sec secs second seconds",
        "minute": "min mins minute minutes",
        "hour": "h hr hrs hour hours",
        "day": "day days",
        "night": "night nights",
        "week": "week weeks",
        "month": "month months",
        "year": "year years yr yrs",
    },
    "mass": {
        "kilogram": "kg kilogram kilograms kgs",
        "gram": "g gram grams",
        "pound": "lb lbs pounds",
        "ounce": "oz ounce ounces",
    },
    "money": {"dollar": "$ dollar dollars usd", "euro": "€ euro euros eur", "sterling": "£ gbp"},
    "share": {"percent": "% percent percentage"},
    "temperature": {"kelvin": "k kelvin", "celsius": "°c celsius", "fahrenheit": "°f fahrenheit"},
    "frequency": {"hertz": "hz hertz khz"},
    "current": {"ampere": "ampere amperes amp amps"},
    "voltage": {"volt": "v volt volts"},
    "power": {"watt": "w watt watts"},
    "energy": {"joule": "j joule joules"},
    "force": {"newton": "n newton newtons"},
    "speed": {"speed": "m/s km/h mph kph"},
    "acceleration": {"acceleration": "m/s^2 m/s² m/s2"},
    "amount": {"mole": "mol mols mole moles"},
    "area": {"area": "m² m^2 sqft"},
    "angle": {"degree": "degree degrees °"},
}


# What an argument measures whose name or description has one of these words.
_MEASURES = {
    "length": "distance length height width radius diameter depth altitude side base",
    "time": "time duration period timeframe",
    "mass": "mass weight",
    "money": "price cost budget revenue salary income principal principle payment investment loan asset",
    "share": "percent percentage rate interest",
    "temperature": "temperature",
    "frequency": "frequency",
    "current": "current",
    "voltage": "voltage",
    "power": "power",
    "energy": "energy",
    "force": "force",
    "speed": "speed velocity",
    "acceleration": "acceleration",
    "amount": "quantity amount",
    "area": "area",
    "volume": "volume",
    "angle": "angle",
}


# Adjectives, and the nouns that name what they say.
NOUNS = {
    "high": "height", "tall": "height", "wide": "width", "long": "length", "deep": "depth", "old": "age",
    "far": "distance", "fast": "speed", "heavy": "weight", "hot": "temperature", "cold": "temperature",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit, and what it measures."""

    name: str
    measures: str


UNITS = {
    word: Unit(name=name, measures=measures)
    for measures, names in _UNITS.items()
    for name, words in names.items()
    for word in words.split()
}


def parts_of(name: str) -> list[str]:
    """The words of an argument's name, whether it is written with underscores or capitals."""
    return [part.lower() for part in NAME_PARTS.findall(name)]


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return [token.lower() for token in TOKEN.findall(text) if token[0].isalpha()]


def content_of(text: str) -> list[str]:
    """The stems of the words of a text that carry meaning."""
    return [stem(word) for word in words_of(text) if word not in FUNCTION_WORDS]


def stem(word: str) -> str:
    """What the forms of a word have in common, roughly; "high" is a form of "height"."""
    word = word.lower().removesuffix("'s").removesuffix("’s")
    word = NOUNS.get(word, word)
    for ending in ("ations", "ation", "ings", "ing", "ies", "ied", "ers", "er", "es", "ed", "s", "y", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: len(word) - len(ending)]
    return word


MEASURES = {stem(word): measures for measures, words in _MEASURES.items() for word in words.split()}
