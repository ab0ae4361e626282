"""Models: what is sent to a server, what is read of its answer, and the small one that runs in this process."""
