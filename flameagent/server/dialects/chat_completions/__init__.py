"""Chat completions, for programs that send the whole history with every question: Open WebUI, LibreChat, `llm`.

A chat that the program names is a session, in which a new text is a turn. Promises that a request which is made
again is answered again, and that the titles and the like that a program has made of a chat never touch it.
"""

from flameagent.server.dialects.chat_completions.routes import delete_left, routes

__all__ = ["delete_left", "routes"]
