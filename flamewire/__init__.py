"""What both sides of the wire of Flame stand on: the embedded engine, and the library of agents and clients."""
