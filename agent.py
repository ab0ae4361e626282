"""The agent that the service runs. To bring your own, change `agent`; the rest stays."""

from agents import Agent, function_tool

from flameagent import Answer, FlameInstance, Question
from flameagent.service import memory
from weather import fetch_weather

agent = Agent(
    name="weather-forecaster",
    instructions=(
        "You are a weather forecaster. When you are asked about the weather, make sure which place and day "
        "are meant, then use the fetch_weather tool. Remember what the user tells you about themselves. "
        "Answer briefly."
    ),
    tools=[function_tool(fetch_weather), *memory.tools()],
)

instance = FlameInstance()


@instance.entrypoint
async def ask(question: Question) -> Answer:
    """Answer a question in the conversation of its session."""
    return await instance.answer(agent, question)


def main() -> None:
    """Run as a Flame instance; Flame starts it."""
    instance.run()


if __name__ == "__main__":
    main()
