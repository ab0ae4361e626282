"""The processes of an instance: the one that Flame starts, and its worker, which runs the agent."""
