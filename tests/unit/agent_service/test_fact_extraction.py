"""Which statements hold lasting facts, and which facts of a model's hold."""

import pytest
from agent_service.fact_extraction import MAX_FACTS, grounded, is_grounded, statements


@pytest.mark.parametrize(
    "small_talk",
    [
        "Hi, how are you?",
        "I'm fine, thanks!",
        "Thanks, I am good.",
        "Name three colours.",
        "What is my dog called?",
        "I have a question.",
        "I want to know the capital of France.",
        "I need help with this code.",
        "Tell me a joke",
        "",
    ],
)
def test_small_talk_holds_none(small_talk: str) -> None:
    assert statements(small_talk) == []


def test_statements_of_the_user_about_themselves_are_found() -> None:
    said = "Hello! I'm Ada. My dog is called Rex and I live in Lisbon. Where can I walk him?"
    assert statements(said) == ["I'm Ada.", "My dog is called Rex and I live in Lisbon."]
    assert statements("Remember that the meeting is on Friday.") == ["Remember that the meeting is on Friday."]
    assert len(statements("I like tea. " * 10)) == MAX_FACTS
    assert statements(f"I like {'tea and ' * 100}") == [], "nobody puts a fact so"


@pytest.mark.parametrize(
    ("fact", "holds"),
    [
        ("The user lives in Lisbon.", True),
        ("The user's dog is called Rex.", True),
        ("The user is a nurse.", False),
        ("The user's dog is called Max.", False),
        ("The user lives in Lisbon and has 3 dogs.", False),
        ("The user.", False),
        ("My dog", False),
        ("Rex", False),
    ],
)
def test_a_fact_is_made_of_what_was_said(fact: str, holds: bool) -> None:
    assert is_grounded(fact, "My dog is called Rex and I live in Lisbon.") is holds


def test_what_a_model_makes_up_is_left_out() -> None:
    said = ["My dog is called Rex."]
    fact = "The user's dog is called Rex."
    assert grounded([fact, "The user is a nurse.", fact, 7, " "], said) == [fact]


def test_where_nothing_of_the_models_holds_the_users_own_words_stand() -> None:
    assert grounded(["The user is a nurse."], ["My dog is called Rex."]) == ['The user said: "My dog is called Rex."']
