"""The conversation that every variant is given: questions, tool calls, what the tools said, answers."""

from __future__ import annotations

from typing import Any

QUESTION = "And what will the weather be like in Lisbon the day after that, in the afternoon?"


def items(count: int) -> list[dict[str, Any]]:
    """So many items as the Agents SDK keeps them, some 250 bytes each as JSON."""
    return [_item(number) for number in range(count)]


def _item(number: int) -> dict[str, Any]:
    match number % 4:
        case 0:
            return {"role": "user", "content": f"{number}. {QUESTION} {QUESTION}"}
        case 1:
            arguments = '{"place": "Lisbon", "day": "2031-07-14"}'
            return {
                "type": "function_call",
                "call_id": f"call_{number}",
                "name": "fetch_weather",
                "arguments": arguments,
            }
        case 2:
            output = f"Lisbon on 2031-07-14: light rain, 14.2 to 21.7 °C, wind up to {number} km/h, 3.1 mm of rain."
            return {"type": "function_call_output", "call_id": f"call_{number - 1}", "output": output}
        case _:
            text = "It will rain a little in the morning and clear up towards noon; take a light jacket with you."
            said = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
            return {
                "id": "__fake_id__",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [said],
            }
