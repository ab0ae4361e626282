"""The answers of a model's server, read in one place, streamed or whole, for both APIs.

Both ways give the same: an answer that is checked (`answer.check_completion`), or a `ModelAnswerError` that says
what came instead. Shapes that servers really send and that are clear are read (docs/providers.md), and no tool call
is lost or glued to another. A stream is passed on while it comes, in the one shape that the SDK expects.
"""
