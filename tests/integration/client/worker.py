"""A process that lists the sessions of an agent on an embedded engine, or deletes one, until it is done or killed.

`python -m tests.integration.client.worker HOME APPLICATION [SESSION]`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from flameagent.client.application import Application
from flameagent.client.client import Client
from flameagent.client.engine import Embedded
from flameagent.client.environment import Environment


def main(home: str, application: str, delete: str = "") -> None:
    with Client(Embedded(Path(home)), Application(application), Environment({})) as client:
        if delete:
            client.delete_session(delete)
        print(json.dumps([info.as_json() for info in client.sessions()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
