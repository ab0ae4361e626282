"""The Responses dialect: `client.responses` of OpenAI's clients.

A response is a pass of a turn: what the agent says until it answers or stops for an approval. Its ID names session,
turn and pass, so that any server can tell of it.
"""

from flameagent.server.dialects.responses.routes import routes

__all__ = ["routes"]
