"""Prompts of very different lengths, for the embedding tests."""

TEXTS = [
    "How many apples are left when three of seven are eaten?",
    "Sort the words: pear, fig, apple.",
    "Is the review friendly? The soup was cold and the waiter was rude.",
    "7 - 3 =",
    "A long story " + "about a train that never arrives " * 60,
]
