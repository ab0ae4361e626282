"""The one last step before a request: a conversation's items as this server takes them.

The conversation keeps what came, as it came. What is sent is made of it here, for both APIs, by these rules:

- A call and its output go together, the output right behind: what has lost its other half is left out.
- A call's arguments are a JSON object; any other text goes as `{"raw_arguments": text}`.
- What a server gave with its calls (IDs, signatures, reasoning) goes back to that server as it came, and to no other.
  Another gets IDs of nine letters and digits, made of the original: the one form that all take, always the same.
- No ID refers to what a server has stored. Tools that a server ran itself, and on chat completions all that only the
  Responses API knows, become calls with outputs, or are left out where their output is not known.
- A server that refuses what this leaves gets less of it (`Server.learn`).

Nothing that is given is changed. What is given may be anything: imports and programs write items too.
"""
