"""The ground of both sides of Flame's wire: the embedded engine, and the library of agents and clients."""
