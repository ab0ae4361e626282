"""Open-Meteo's two endpoints on loopback: a few places, and the same forecast for each.

Records every request; `body` and `status` replace its answers. By hand:
`python -m tests.support.weather_server --port 0` prints its URL.
"""

import argparse
import contextlib
import json
import threading
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

PLACES: list[dict[str, Any]] = [
    {"name": "Paris", "latitude": 48.85, "longitude": 2.35, "country": "France", "country_code": "FR"},
    {
        "name": "Paris",
        "latitude": 33.66,
        "longitude": -95.55,
        "country": "United States",
        "country_code": "US",
        "admin1": "Texas",
    },
    {"name": "Oslo", "latitude": 59.91, "longitude": 10.75, "country": "Norway", "country_code": "NO"},
]


class WeatherServer:
    """The server, running inside `with`; `url` is for OPEN_METEO_BASE_URL, `today` its first day."""

    def __init__(self, *, status: int = 200, body: str | None = None, port: int = 0) -> None:
        self.status = status
        self.body = body
        self.today: date = datetime.now(UTC).date()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def serve_forever(self) -> None:
        self._http.serve_forever()

    def answer(self, path: str, query: dict[str, str]) -> Any:
        if path == "/v1/search":
            found = [place for place in PLACES if place["name"].lower() == query["name"].lower()]
            return {"results": found} if found else {"generationtime_ms": 0.1}
        days = [self.today + timedelta(days=ahead) for ahead in range(int(query["forecast_days"]))]
        columns: dict[str, list[Any]] = {
            "weather_code": [61, 0, 95],
            "temperature_2m_min": [4.1, 5.2, 6.3],
            "temperature_2m_max": [9.4, 10.5, 11.6],
            "precipitation_sum": [3.2, 0.0, 12.5],
            "precipitation_probability_max": [80, 5, None],
            "wind_speed_10m_max": [21.0, 10.5, 40.0],
        }
        daily = {name: [values[i % 3] for i in range(len(days))] for name, values in columns.items()}
        asked = query["daily"].split(",")
        return {"daily": {"time": [day.isoformat() for day in days]} | {name: daily[name] for name in asked}}


def _handler(server: WeatherServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            server.requests.append((parts.path, query))
            body = server.body if server.body is not None else json.dumps(server.answer(parts.path, query))
            self.send_response(server.status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    server = WeatherServer(port=parser.parse_args().port)
    print(server.url, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
