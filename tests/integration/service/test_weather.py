"""The weather tool, against Open-Meteo's two endpoints over real HTTP."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from agents import function_tool

import weather
from tests.support.weather_server import WeatherServer
from weather import fetch_weather


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WeatherServer]:
    with WeatherServer() as server:
        monkeypatch.setenv("OPEN_METEO_BASE_URL", server.url)
        yield server


async def test_todays_weather_is_one_sentence_with_units(server: WeatherServer) -> None:
    assert await fetch_weather("Paris") == (
        f"Paris, France, {server.today}: light rain, 4.1 to 9.4 °C, "
        "precipitation 3.2 mm (80 % likely), wind up to 21.0 km/h."
    )
    search, forecast = server.requests
    assert search[1]["name"] == "Paris"
    assert (forecast[1]["latitude"], forecast[1]["longitude"]) == ("48.85", "2.35")


async def test_a_day_is_today_tomorrow_or_a_date(server: WeatherServer) -> None:
    third = server.today + timedelta(days=2)
    assert f"{server.today + timedelta(days=1)}: clear sky" in await fetch_weather("Oslo", "tomorrow")
    assert f"{third}: thunderstorm" in await fetch_weather("Oslo", str(third))


async def test_a_region_after_a_comma_tells_places_of_one_name_apart(server: WeatherServer) -> None:
    assert (await fetch_weather("Paris, Texas")).startswith("Paris, Texas, United States")
    assert server.requests[0][1]["name"] == "Paris"


async def test_an_unknown_place_is_said(server: WeatherServer) -> None:
    assert "No place named 'Nowhere'" in await fetch_weather("Nowhere")


async def test_a_date_without_a_forecast_is_said_with_the_range(server: WeatherServer) -> None:
    answer = await fetch_weather("Oslo", "2001-01-01")
    assert f"from {server.today} to {server.today + timedelta(days=15)}" in answer


async def test_a_day_that_is_none_is_said(server: WeatherServer) -> None:
    assert "'someday' is not a day" in await fetch_weather("Oslo", "someday")


@pytest.mark.parametrize("body", ["<html>", "[]", '{"results": [{}]}', '{"results": "x"}', "null"])
async def test_an_unreadable_answer_is_said(body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with WeatherServer(body=body) as server:
        monkeypatch.setenv("OPEN_METEO_BASE_URL", server.url)
        assert "unreadable" in await fetch_weather("Oslo")


async def test_an_error_of_the_service_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with WeatherServer(status=503) as server:
        monkeypatch.setenv("OPEN_METEO_BASE_URL", server.url)
        assert "does not answer" in await fetch_weather("Oslo")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense"])
async def test_a_service_that_is_not_there_is_said(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPEN_METEO_BASE_URL", url)
    assert "does not answer" in await fetch_weather("Oslo")


async def test_a_service_that_keeps_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        monkeypatch.setenv("OPEN_METEO_BASE_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(weather, "TIMEOUT", 0.2)
        assert "does not answer" in await fetch_weather("Oslo")


def test_the_function_is_a_tool_whose_arguments_are_described() -> None:
    tool = function_tool(fetch_weather)
    properties = tool.params_json_schema["properties"]
    assert tool.description == "Fetch the weather forecast of a place for one day."
    assert "Paris" in properties["place"]["description"]
    assert "tomorrow" in properties["day"]["description"]
