"""The page of the benchmarks says what was measured."""

from benchmarks import report
from benchmarks.measures import Results


def results(noise: list[float]) -> Results:
    taken = {"sqlite": 200.0, "memory": 190.0, "bare": 25.0, "naive": 300.0, "all": 32.0, "window": 15.0}
    return Results(
        "the embedded engine",
        turns={kind: {0: [5.0, 5.0, 6.0], 1000: [ms, ms, ms + 8]} for kind, ms in taken.items()},
        one_off={"client, start to exit": [500.0, 600.0, 700.0]},
        bytes_a_turn={"ours": (400.0, 8192.0, 1024.0)},
        cold={10_000: (90.0, 3)},
        crowds={8: (120.0, 900.0)},
        noise=noise,
    )


def test_the_table_has_a_row_for_each_way_and_what_the_engine_adds() -> None:
    lines = report.table(results([5.0] * 20)).splitlines()
    assert "| items before the turn | 0 | 1000 |" in lines
    assert "| here, through the engine, all items sent | 5 / 6 | 32 / 39 |" in lines
    assert "| engine and storage over the bare `Runner.run` | 0 | 7 |" in lines
    assert "| client, start to exit | 600 ms | 690 ms |" in lines
    assert "| 10000 items | 90 | 3 |" in lines
    assert "| 8 | 120.0 | 900 MB |" in lines
    assert "| here | 400 B | 8.0 KB | 1.0 KB |" in lines


def test_a_noisy_machine_is_said_to_be_one() -> None:
    assert "The machine was quiet" in report._page(results([5.0] * 20))
    assert "too busy to tell" in report._page(results([5.0] * 10 + [15.0] * 10))
