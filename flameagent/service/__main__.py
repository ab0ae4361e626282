"""The instance that Flame starts: `python -m flameagent.service MODULE[:OBJECT]`."""

import gc

from flamewire import standard_streams

if __name__ == "__main__":
    standard_streams.complete()
    gc.disable()  # what is imported stays: looking through it, again and again, takes 3 ms
    from flameagent.service.process.instance import main

    gc.enable()
    main()
