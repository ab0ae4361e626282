"""`python -m localflame`: start, serve, status, metrics, stop and config.

Standard output carries data only; an error is one sentence on standard error and exit code 5.
"""

from __future__ import annotations

import argparse
import json
import sys

from flamewire import arrow
from flamewire.standard_streams import complete, silence
from localflame.control import Control
from localflame.home import EngineError, default_home
from localflame.launch import Engine, find, start, stop
from localflame.metrics import text

NO_ENGINE = 5

CONFIG = """\
current-context: localflame
contexts:
  - name: localflame
    cluster:
      endpoint: "{endpoint}"
    cache:
      endpoint: "{cache_endpoint}"
"""


def main() -> int:
    """Run one command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m localflame", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("start", help="start the engine, or find the one that runs, and print where it is")
    serve = commands.add_parser("serve", help="run the engine in the foreground")
    serve.add_argument("--report", type=int, help=argparse.SUPPRESS)  # the pipe of `start`
    commands.add_parser("status", help="print what the engine is doing")
    commands.add_parser("metrics", help="print what it has counted, as Prometheus reads it")
    commands.add_parser("stop", help="end the engine and its instances")
    commands.add_parser("config", help="print a flame.yaml for flmctl and flamepy")
    arguments = parser.parse_args()
    try:
        home = default_home()
        if arguments.command == "start":
            print(_where(start(home)))
        elif arguments.command == "serve":
            arrow.process_is_ours()
            from localflame.engine import serve as run  # loads gRPC and Arrow

            return run(home, arguments.report)
        elif arguments.command == "status":
            print(json.dumps(Control(home).status()))
        elif arguments.command == "metrics":
            print(text(Control(home).metrics()), end="")
        elif arguments.command == "stop":
            if not stop(home):
                print(f"No engine runs in {home}.", file=sys.stderr)
        else:
            engine = find(home)
            if engine is None:
                raise EngineError(f"No engine runs in {home}; start it with `python -m localflame start`.")
            print(CONFIG.format(endpoint=engine.endpoint, cache_endpoint=engine.cache_endpoint), end="")
        sys.stdout.flush()
    except EngineError as error:
        print(error, file=sys.stderr)
        return NO_ENGINE
    except OSError as error:
        silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # a reader that goes away is no error
            print(f"The output could not be written: {error.strerror}.", file=sys.stderr)
            return 1
    return 0


def _where(engine: Engine) -> str:
    return json.dumps(
        {
            "endpoint": engine.endpoint,
            "cache_endpoint": engine.cache_endpoint,
            "pid": engine.pid,
            "home": str(engine.home),
        }
    )


if __name__ == "__main__":
    complete()
    sys.exit(main())
