"""What a fact is about."""

import pytest
from agent_service.topics import topic_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The user lives in Rome.", "I moved to Paris"),
        ("The user lives in Rome.", "I'm living in Oslo now."),
        ("My dog is called Rex.", "The user's dog is named Max."),
        ("My name is Ada.", "The user is called Eve."),
        ("The user is 34 years old.", "I'm 35."),
        ("My favorite color is blue", "The user's favourite colour is green."),
        ("The user is 34, and a nurse.", "I'm 35 now."),
        ("I was born in Rome.", "The user was born in Paris."),
        ("I was born on May 3.", "The user was born on 4 May 1990."),
        ("I work at Siemens.", "The user works for Bosch."),
        ("I like tea.", "The user does not like tea."),
        ("I like tea.", "I hate tea."),
        ("My birthday is on May 3.", "The user's birthday is on May 4."),
    ],
)
def test_these_cannot_both_hold(one: str, other: str) -> None:
    assert topic_of(one) is not None
    assert topic_of(one) == topic_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I have a dog.", "I have a cat."),
        ("I am a vegetarian.", "I am a doctor."),
        ("My dog is called Rex.", "My cat is called Tom."),
        ("My favourite colour is blue.", "My sister's favourite colour is green."),
        ("I like tea.", "I like coffee."),
        ("I live in Rome.", "I work as a nurse."),
        ("I am 34.", "I am 180 cm tall."),
        ("I am 34.", "I am 1,80 m tall."),
        ("I am 34.", "I am 50% done."),
        ("I was born in Rome.", "I was born on May 3."),
        ("I was born in Rome.", "I was born in May."),
        ("I was born in 1990.", "I was born on May 3."),
        ("I was born in Rome.", "I was born in 1990."),
        ("Ich wohne in Rom.", "Ich wohne in Bonn."),
    ],
)
def test_these_can(one: str, other: str) -> None:
    assert topic_of(one) is None or topic_of(one) != topic_of(other)
