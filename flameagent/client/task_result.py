"""The result of a task that has ended: an answer, calls that wait, or the failure that it means.

Promises that nothing is said to have been added or not, unless Flame or the conversation says so.
"""

from __future__ import annotations

from flameagent.apis import Answer
from flameagent.client import approvals, errors, payloads
from flameagent.client.recorded_turn import RecordedTurn
from flameagent.conversation import ConversationError
from flameagent.flame import FlameError
from flameagent.flame.frontend import Task, TaskState
from flameagent.outcomes import ERRORS
from flameagent.text import closed


def read_result(task: Task, record: RecordedTurn) -> Answer:
    """The answer of a task, or what its conversation says came of it. Raises `ClientError` for a failure."""
    answer = payloads.answer(task.output) if task.state == TaskState.SUCCEED else None
    if answer is None or answer.code == "unclear":
        try:
            answer = record.answer() or answer
        except (FlameError, ConversationError) as error:
            if answer is None:
                raise errors.UnclearError(
                    f"The turn failed ({task.message or task.state.name}), and the conversation cannot be "
                    f"read now: something may have been added. {error}"
                ) from error
    elif answer.code == "waiting" and not answer.error:
        # Somebody may have decided since, if the task is one of before that is looked at again.
        answer = record.answer_if_readable() or answer
    if answer is None:
        raise errors.TurnFailed(why(task))
    if answer.error:
        raise _failure(answer)
    return answer


def _failure(answer: Answer) -> errors.ClientError:
    if answer.code == "waiting":
        return errors.WaitingError(answer.error, pending=approvals.calls_of(answer))
    kind = ERRORS.get(answer.code)
    if kind and kind.in_answers and kind.exit_code != errors.TurnFailed.exit_code:
        return errors.error_class(kind.code)(answer.error)
    return errors.TurnFailed(_nothing_added(answer.error), code=answer.code or "failed")


def why(task: Task) -> str:
    """Why a task that has ended has no answer, in a sentence."""
    if task.state == TaskState.CANCELLED:
        return "The turn was cancelled before it began: its session was closed. Nothing was added."
    if task.state == TaskState.SUCCEED:
        return "The agent answered with something that is not an apis.Answer; what it added is in the history."
    if "Connection refused" in task.message:  # what Flame 0.6.0 says from then on
        return (
            f"The session's instance has died, and Flame starts no other for it ({task.message}). Nothing was "
            "added. Restart its executor manager, 30 s after stopping it."
        )
    if task.message:
        return _nothing_added(task.message)
    return (
        f"The turn failed and Flame does not say why (task {task.id} of {task.session_id}); "
        "the log of the agent's instance may."
    )


def _nothing_added(sentence: str) -> str:
    """Say so, unless the sentence speaks of it itself."""
    said = "nothing was added" in sentence.lower() or "may have been added" in sentence
    return sentence if said else f"{closed(sentence)} Nothing was added."
