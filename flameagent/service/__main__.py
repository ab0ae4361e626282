"""The instance that Flame starts: `python -m flameagent.service MODULE`."""

from localflame import streams

if __name__ == "__main__":
    streams.complete()
    from flameagent.service.instance import main

    main()
