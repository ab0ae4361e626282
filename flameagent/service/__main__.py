"""The instance that Flame starts: `python -m flameagent.service MODULE`."""

from flameagent.service.instance import main

if __name__ == "__main__":
    main()
