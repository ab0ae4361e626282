"""The Agents API of OpenAI: `client.beta.agents.sessions`, in which an application is an agent."""

from flameagent.server.dialects.agents_api.sessions import routes

__all__ = ["routes"]
