"""The weather of a place, from Open-Meteo, as a sentence for a model.

Always answers with a sentence: what cannot be answered is said in words that a model can act on.
"""

import asyncio
import os
from datetime import date
from typing import Any

import httpx2

from flameagent.model_choice import ModelError
from flameagent.network import client_options

GEOCODING_URL = "https://geocoding-api.open-meteo.com"
FORECAST_URL = "https://api.open-meteo.com"
TIMEOUT = 10.0
"""Seconds for both requests together."""
DAYS = 16
"""How far Open-Meteo's forecast goes, today included."""

_DAILY = (
    "weather_code,temperature_2m_max,temperature_2m_min,"
    "precipitation_sum,precipitation_probability_max,wind_speed_10m_max"
)

# WMO 4677, the codes that Open-Meteo uses (https://open-meteo.com/en/docs).
_DESCRIPTIONS = {
    0: "clear sky",
    1: "mainly clear",
    2: "partly cloudy",
    3: "overcast",
    45: "fog",
    48: "fog with rime",
    51: "light drizzle",
    53: "drizzle",
    55: "dense drizzle",
    56: "light freezing drizzle",
    57: "freezing drizzle",
    61: "light rain",
    63: "rain",
    65: "heavy rain",
    66: "light freezing rain",
    67: "freezing rain",
    71: "light snow",
    73: "snow",
    75: "heavy snow",
    77: "snow grains",
    80: "light rain showers",
    81: "rain showers",
    82: "violent rain showers",
    85: "light snow showers",
    86: "heavy snow showers",
    95: "thunderstorm",
    96: "thunderstorm with light hail",
    99: "thunderstorm with heavy hail",
}


async def fetch_weather(place: str, day: str = "today") -> str:
    """Fetch the weather forecast of a place for one day.

    Args:
        place: A city or village, such as "Paris" or "Springfield, Illinois".
        day: "today", "tomorrow", or a date such as "2026-01-31", at most 15 days ahead.
    """
    base = os.environ.get("OPEN_METEO_BASE_URL", "").strip().rstrip("/")
    try:
        async with asyncio.timeout(TIMEOUT):
            found = await _find(base or GEOCODING_URL, place)
            if found is None:
                return f"No place named {place!r} is known. Ask for another spelling or a larger town nearby."
            daily = await _forecast(base or FORECAST_URL, found)
            return _sentence(found, daily, day)
    except ModelError as error:
        return f"The weather service cannot be reached from here. {error}"
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError):
        return "The weather service does not answer at the moment. Say so, and suggest asking again later."
    except (ValueError, LookupError, TypeError, AttributeError):  # not JSON, or JSON of another shape
        return "The weather service answered with something unreadable. Say so, and suggest asking again later."


async def _find(base: str, place: str) -> dict[str, Any] | None:
    # Open-Meteo searches for one name; what follows a comma tells places of that name apart.
    name, _, region = (part.strip() for part in place.partition(","))
    places = await _get(f"{base}/v1/search", {"name": name, "count": 10, "language": "en"})
    results: list[dict[str, Any]] = places.get("results") or []
    for result in results:
        if region and region.casefold() in {
            str(result.get(key, "")).casefold() for key in ("country", "country_code", "admin1", "admin2")
        }:
            return result
    return results[0] if results else None


async def _forecast(base: str, place: dict[str, Any]) -> dict[str, list[Any]]:
    query = {
        "latitude": place["latitude"],
        "longitude": place["longitude"],
        "daily": _DAILY,
        "timezone": "auto",
        "forecast_days": DAYS,
    }
    daily: dict[str, list[Any]] = (await _get(f"{base}/v1/forecast", query))["daily"]
    return daily


async def _get(url: str, query: dict[str, Any]) -> dict[str, Any]:
    async with httpx2.AsyncClient(timeout=TIMEOUT, **client_options(url, os.environ)) as http:
        response = await http.get(url, params=query)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


def _sentence(place: dict[str, Any], daily: dict[str, list[Any]], day: str) -> str:
    dates: list[str] = daily["time"]  # the first is today where the place is
    wanted = {"today": dates[0], "": dates[0], "tomorrow": dates[1]}.get(day.strip().lower(), day.strip())
    try:
        wanted = date.fromisoformat(wanted).isoformat()
    except ValueError:
        return f"{day!r} is not a day: use today, tomorrow, or a date such as {dates[0]}."
    if wanted not in dates:
        return f"There is no forecast for {wanted}: it goes from {dates[0]} to {dates[-1]}."

    at = dates.index(wanted)
    code = daily["weather_code"][at]
    low, high = daily["temperature_2m_min"][at], daily["temperature_2m_max"][at]
    rain, chance = daily["precipitation_sum"][at], daily["precipitation_probability_max"][at]
    likely = "" if chance is None else f" ({chance} % likely)"
    where = ", ".join(str(place[key]) for key in ("name", "admin1", "country") if place.get(key))
    return (
        f"{where}, {wanted}: {_DESCRIPTIONS.get(code, f'weather code {code}')}, {low} to {high} °C, "
        f"precipitation {rain} mm{likely}, wind up to {daily['wind_speed_10m_max'][at]} km/h."
    )
