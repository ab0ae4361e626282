"""The page of the benchmarks says what was measured."""

from benchmarks import report
from benchmarks.measures import IMPORT, NOTHING, WARM, Bytes, Results
from flameagent.conversation.reader import SEGMENT_RECORDS


def results(noise: list[float]) -> Results:
    taken = {"sqlite": 200.0, "memory": 190.0, "bare": 25.0, "naive": 300.0, "all": 32.0, "window": 15.0}
    return Results(
        "the embedded engine",
        turns={kind: {0: [5.0, 5.0, 6.0], 1000: [ms, ms, ms + 8]} for kind, ms in taken.items()},
        one_off={WARM: [500.0, 600.0, 700.0], NOTHING: [3000.0], IMPORT: [1500.0]},
        bytes_a_turn={"ours": Bytes(400.0, 900.0, 1024.0, 8192.0)},
        segments={64: (1.25, 20.0, 3), SEGMENT_RECORDS: (2.0, 15.0, 2)},
        cold={10_000: (90.0, 3)},
        crowds={8: (120.0, 900.0)},
        noise=noise,
    )


def test_the_table_has_a_row_for_each_way_and_what_the_engine_adds() -> None:
    lines = report.table(results([5.0] * 20)).splitlines()
    assert "| items before the turn | 0 | 1000 |" in lines
    assert "| here, through the engine, all items sent | 5 / 6 | 32 / 39 |" in lines
    assert "| engine and storage over the bare `Runner.run` | 0 | 7 |" in lines
    assert f"| {WARM} | 600 ms | 690 ms |" in lines
    assert "| 10000 items | 90 | 3 |" in lines
    assert "| 8 | 120.0 | 900 MB |" in lines
    assert "| here | 400 B | 900 B | 1.0 KB | 8.0 KB |" in lines
    assert "| 64 | 1.2 ms | 20 ms | 3 |" in lines
    assert f"| {SEGMENT_RECORDS} (here) | 2.0 ms | 15 ms | 2 |" in lines


def test_each_aim_is_said_to_be_held_or_missed_by_how_much() -> None:
    lines = report.aims(results([5.0] * 20)).splitlines()
    assert "| a turn at 0 items, all sent | 15 ms | 5 ms | held |" in lines
    assert "| engine and storage over the bare `Runner.run`, 1000 items | 8 ms | 7 ms | held |" in lines
    assert "| a turn at 1000 items, all sent, of what SQLiteSession takes in process | 17 % | 16 % | held |" in lines
    assert "| more in the cache a turn, of the JSON of its items | 150 % | 225 % | **missed** by 75 % |" in lines
    assert f"| {NOTHING}, over {IMPORT} | 2000 ms | 1500 ms | held |" in lines


def test_a_noisy_machine_is_said_to_be_one() -> None:
    assert "The machine was quiet" in report._page(results([5.0] * 20))
    assert "too busy to tell" in report._page(results([5.0] * 10 + [15.0] * 10))
