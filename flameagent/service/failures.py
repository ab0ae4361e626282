"""Failures of a turn as Answers: a sentence, and a code that sorts it.

Promises that nothing was added, unless the sentence says so.
"""

from __future__ import annotations

import os
import traceback

from flameagent.apis import Answer, Question
from flameagent.conversation import ConversationError
from flameagent.flame import FlameError
from flameagent.model_choice import ModelError, choose
from flameagent.network import find_mistake
from flameagent.service.containment import Escaped
from flameagent.text import closed


def failed_answer(error: Exception, question: Question) -> Answer:
    """The Answer to a question whose turn raised this; the agent's own mistakes are also printed with a traceback."""
    if isinstance(error, ConversationError):
        return Answer("", error=str(error), code=error.code)
    if isinstance(error, FlameError):
        return Answer("", error=str(error), code="failed")
    from agents import AgentsException, UserError
    from openai import OpenAIError

    from flameagent.service.models.explain import explain

    try:
        choice = choose(os.environ, question.model)
    except ModelError:
        choice = None
    expected = isinstance(error, ModelError | OpenAIError | AgentsException)
    if not expected:
        traceback.print_exception(error)  # for the instance's log: the agent's own code went wrong
    said = explain(error.raised if isinstance(error, Escaped) else error, choice)
    if (not expected or isinstance(error, UserError)) and (environment := find_mistake(os.environ)):
        # A client of HTTP that the agent makes does not say which is wrong.
        said = f"{closed(said)} {environment}"
    return Answer("", error=said, code="model" if expected else "failed")
