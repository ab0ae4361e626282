"""The instance that Flame starts: `python -m flameagent.service MODULE`."""

from flamewire import standard_streams

if __name__ == "__main__":
    standard_streams.complete()
    from flameagent.service.process.instance import main

    main()
