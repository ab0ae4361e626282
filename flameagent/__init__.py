"""The library that the agent and its client are made of.

`flameagent.conversation` is what a conversation is and how it is kept in Flame's CommonData;
`flameagent.service` runs inside a Flame instance; `flameagent.client` talks to Flame from outside;
`flameagent.flame` is the one place that knows Flame's protocol and its traps.
"""
