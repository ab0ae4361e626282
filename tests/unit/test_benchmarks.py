"""The page of the benchmarks says what was measured."""

from pathlib import Path

from benchmarks import memory as memory_benchmark
from benchmarks import memory_measures, memory_report, report
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
    assert "| more in the cache a turn, of the JSON of its items | 160 % | 225 % | **missed** by 65 % |" in lines
    assert f"| {NOTHING}, over {IMPORT} | 2000 ms | 1500 ms | held |" in lines


def test_a_noisy_machine_is_said_to_be_one() -> None:
    assert "The machine was quiet" in report._page(results([5.0] * 20))
    assert "too busy to tell" in report._page(results([5.0] * 10 + [15.0] * 10))


def memory() -> memory_measures.Results:
    return memory_measures.Results(
        recall=[("LoCoMo, 10 conversations", 1531, 0.8012)],
        sizes=[memory_measures.Size(20_000, 1500.4, 12.2, 4.06, 9.5, 350.2, 640.0, 12.3)],
        costs=[memory_measures.Cost(1000, on=[14.0, 15.0, 16.0], off=[12.0, 12.5, 13.0])],
        load=[0.5, 1.25],
        cores=2,
    )


def test_what_is_said_of_memory_has_what_was_found_what_it_takes_and_what_a_turn_takes_more() -> None:
    lines = memory_report.section(memory()).splitlines()
    assert "| LoCoMo, 10 conversations | 1531 | 0.801 |" in lines
    assert "| 20 000 | 1 500 ms | 12 ms | 4.1 / 9.5 ms | 350 B | 640 B | 12 MB |" in lines
    assert "| 1 000 | 15.0 ms | 12.5 ms | 2.5 ms | 2.0 ms |" in lines
    assert any("on 2 cores that 0.5 to 1.2 processes wanted" in line for line in lines)


def test_the_part_about_memory_is_replaced_and_what_others_write_outlives_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    assert report._kept(page) == ""
    page.write_text("# Benchmarks\n\nAll.\n", encoding="utf-8")
    for _ in range(2):
        memory_report.write(memory(), page)
    assert page.read_text(encoding="utf-8") == "# Benchmarks\n\nAll.\n\n" + memory_report.section(memory())
    page.write_text(f"# Benchmarks\n\n{report.OTHERS}\n\nIt is light.\n", encoding="utf-8")
    memory_report.write(memory(), page)
    assert report._kept(page) == f"\n{report.OTHERS}\n\nIt is light.\n\n{memory_report.section(memory())}"


def test_what_is_looked_for_are_facts_days_and_of_what_changed_the_newest() -> None:
    for language in memory_benchmark.LANGUAGES:
        changed = memory_benchmark.contradicted(language, 100)
        for asked, newest in changed.questions:
            told = next(told for told, question in language.changes if question == asked)
            before, after = told.split("{}")
            there = [
                turn.number
                for turn in changed.turns
                if turn.question.startswith(before) and turn.question.endswith(after)
            ]
            assert len(there) == 5 and newest == {there[-1]}
        for asked, of_the_day in memory_benchmark.dated(language, 100).questions:
            assert "2025-" in asked and 1 <= len(of_the_day) <= 4
    found = {name: share for name, _, share in memory_benchmark.recalls(None, 100)}
    assert len(found) == 12 and all(0 <= share <= 1 for share in found.values())
