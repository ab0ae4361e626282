"""Asks the agent, and looks after its sessions and the embedded engine: `flameagent.cli`, run from this folder."""

from flameagent.cli import main

if __name__ == "__main__":
    main()
