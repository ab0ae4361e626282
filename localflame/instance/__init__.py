"""An instance of an application: a process, from its start to the end of its group, and the calls to it."""
