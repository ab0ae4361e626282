"""The server: the agents of an engine over HTTP, for many people, with the clients that they have.

Keeps nothing itself: what it knows is in Flame, so that any number of servers stand in front of one engine and each
can answer any request.
"""
