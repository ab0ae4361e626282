"""A help desk of two agents, with a guardrail, an approval, an output type and an MCP server.

    uv run client.py --app examples.handoffs.agent:desk -m "Where is order 1002?"

The agents are ordinary ones of the OpenAI Agents SDK, and nothing else is needed. Only a tool that must not pay twice
asks for a key.
"""

import re
import sys
from pathlib import Path
from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    RunContextWrapper,
    function_tool,
    input_guardrail,
)
from agents.mcp import MCPServerStdio
from agents.tool_context import ToolContext
from pydantic import BaseModel

from flameagent.service.turn import idempotency_key

HERE = Path(__file__).parent

orders = MCPServerStdio(
    {"command": sys.executable, "args": [str(HERE / "orders.py")]}, name="orders", cache_tools_list=True
)


class Refund(BaseModel):
    """The answer of the refunds agent."""

    order: str
    euros: float
    done: bool


@input_guardrail(run_in_parallel=False)
async def no_card_numbers(
    context: RunContextWrapper[Any], agent: Agent[Any], asked: str | list[Any]
) -> GuardrailFunctionOutput:
    """Stop a question that holds a card's number, before a model reads it."""
    text = asked if isinstance(asked, str) else str(asked[-1])
    return GuardrailFunctionOutput(None, tripwire_triggered=bool(re.search(r"\b(\d[ -]?){15}\d\b", text)))


@function_tool(needs_approval=True)
def refund(context: ToolContext[Any], order: str, euros: float) -> str:
    """Pay money back for an order.

    Args:
        order: The number of the order.
        euros: How much.
    """
    # What a payment service would do with the key: the same one again changes nothing.
    ledger = HERE / "refunds.txt"
    line = f"{idempotency_key(context)} {order} {euros:.2f}\n"
    paid = ledger.read_text() if ledger.exists() else ""
    if line not in paid:
        ledger.write_text(paid + line)
    return f"Paid back {euros:.2f} euros for order {order}."


refunds = Agent(
    name="refunds",
    handoff_description="Pays money back.",
    instructions="Pay back what the user asks for, and say what was done.",
    tools=[refund],
    output_type=Refund,
)

desk = Agent(
    name="help-desk",
    instructions="Help with orders: look them up. Hand over to refunds whoever wants money back.",
    mcp_servers=[orders],
    handoffs=[refunds],
    input_guardrails=[no_card_numbers],
)
