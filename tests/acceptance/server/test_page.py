"""The page as a person has it: in Chromium, in front of a real server and engine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect, sync_playwright

from tests.acceptance.program import PATIENCE, Program, eventually
from tests.acceptance.server.conftest import Served, serving, token_of
from tests.support.model_server import Call, ModelServer, Step

pytestmark = pytest.mark.skipif(not shutil.which("chromium"), reason="there is no Chromium")

_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0000003010100"
    "c9fe92ef0000000049454e44ae426082"
)
_TABLE = (
    "| column one | column two | column three | column four |\n|--:|:-:|---|---|\n| 1 | 2 | some words | more words |"
)
_WIDE = f"{_TABLE}\n\n```\n{'code ' * 60}\n```\n\n{'longword' * 40}\n\n1. one\n2. `{'x' * 200}`"


@pytest.fixture(scope="module")  # not longer: it has an event loop of its own
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(chromium: Browser, url: str, token: str = "", width: int = 1100) -> Iterator[Page]:
    """A page of somebody who has come in; what goes wrong in it fails the test."""
    expect.set_options(timeout=PATIENCE * 1000)
    context = chromium.new_context(base_url=url, viewport={"width": width, "height": 800})
    context.set_default_timeout(PATIENCE * 1000)
    page, wrong = context.new_page(), list[str]()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda told: wrong.append(told.text) if "Content Security Policy" in told.text else None)
    page.goto(f"/login?token={token}" if token else "/")
    yield page
    assert wrong == []
    context.close()


@pytest.fixture
def page(chromium: Browser, served: Served, ada: str) -> Iterator[Page]:
    with opened(chromium, served.url, ada) as page:
        yield page


def turn(page: Page, number: int) -> Locator:
    return page.locator("article").nth(number - 1)


def ask(page: Page, question: str) -> None:
    page.get_by_label("Your question").fill(question)
    page.get_by_label("Your question").press("Enter")


def asked(page: Page, question: str, number: int = 1, state: str = "answered") -> Locator:
    """The turn of a question that is asked, once it has come to that state."""
    ask(page, question)
    expect(turn(page, number)).to_have_attribute("data-state", state)
    return turn(page, number)


def press_in(menu: str, page: Page) -> None:
    page.get_by_label("More about this conversation").click()
    page.get_by_role("button", name=menu).click()


def test_nothing_can_be_typed_or_pressed_before_the_script_is_there(
    page: Page, ada: str, served: Served, model: ModelServer
) -> None:
    """It would be lost: the browser itself sends a form somewhere else."""
    model.steps += [Step("Yes."), Step(calls=(Call("forget", '{"key": "tea"}', "c1"),))]
    expect(asked(page, "Is it there?").locator(".parts")).to_contain_text("Yes.")
    asked(page, "Forget it", 2, state="waiting")
    held = list[Route]()
    for path in (page.url, f"{served.url}/", f"{served.url}/memory"):
        page.route("**/page.js", lambda route: held.append(route))
        with page.expect_request("**/page.js"):
            page.goto(path, wait_until="commit")
        page.wait_for_function("() => document.readyState === 'interactive'")
        assert page.locator("#controls :is(button, input, textarea, select)").count() > 3
        assert page.locator("#controls :is(button, input, textarea, select):enabled").count() == 0
        held.pop().continue_()
        page.unroute("**/page.js")
        expect(page.get_by_label("Search in conversations")).to_be_enabled()
    page.goto(f"{served.url}/")
    expect(page.get_by_label("Your question")).to_be_focused()


def test_somebody_comes_in_asks_and_goes(chromium: Browser, served: Served, ada: str, model: ModelServer) -> None:
    with opened(chromium, served.url) as page:
        page.get_by_label("Your token").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("The token is not known, or was revoked.")
        page.get_by_label("Your token").fill(ada)
        page.get_by_label("Your token").press("Enter")
        expect(page).to_have_url(f"{served.url}/")
        model.steps += [
            Step("# Rain\n\nIt **rains**, see [there](https://example.org).\n\n- a\n- b", chunk_delay=0.05)
        ]
        first = asked(page, "Will it rain?")
        expect(page).to_have_url(re.compile("/chat/openai-agent-"))
        expect(first.get_by_role("heading", name="Rain")).to_be_visible()
        assert first.locator("strong").inner_text() == "rains"
        assert first.get_by_role("link", name="there").get_attribute("rel") == "noopener noreferrer nofollow"
        expect(page.get_by_role("heading", level=1)).to_have_text("Will it rain?")
        expect(page.locator("#said")).to_contain_text("It rains, see there.")
        expect(page.locator("#list [aria-current]")).to_contain_text("Will it rain?1 turn")
        live = first.locator(".parts").inner_html()
        page.reload()
        assert turn(page, 1).locator(".parts").inner_html().split() == live.split()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Your token")).to_be_visible()
        page.goto("/memory")
        expect(page.get_by_label("Your token")).to_be_visible()


def test_a_call_is_shown_approved_for_good_and_rejected_with_a_reason(
    page: Page, served: Served, embedded: Program, ada: str, model: ModelServer
) -> None:
    forget = '{"key": "tea"}'
    model.steps += [
        Step("I will.", calls=(Call("recall", "{}", "c0"),)),
        Step("So.", calls=(Call("forget", forget, "c1"),)),
    ]
    first = asked(page, "Forget the tea", state="waiting")
    approval = first.get_by_label("Waits for your decision")
    expect(approval).to_be_focused()
    expect(approval.locator("pre")).to_contain_text('"key": "tea"')
    call = first.locator("details.call")
    expect(call).to_have_count(1)
    call.locator("summary").click()
    expect(call).to_contain_text("Result")
    with serving(embedded) as another, another.http(ada) as http:
        assert "Waits for your decision" in http.get(page.url.removeprefix(served.url)).text
    page.reload()
    approval.get_by_label("Approve every later call").check()
    model.steps += [Step("Forgotten.")]
    approval.get_by_role("button", name="Approve").click()
    expect(first).to_have_attribute("data-state", "answered")
    expect(first.locator(".parts")).to_contain_text("Forgotten.")
    expect(first.locator(".foot")).to_contain_text("ada approved forget")

    model.steps += [Step(calls=(Call("forget", forget, "c2"),)), Step("At once.")]
    expect(asked(page, "Again", 2).locator(".parts")).to_contain_text("At once.")
    page.get_by_role("link", name="New conversation", exact=True).click()
    expect(page).to_have_url(f"{served.url}/")
    expect(page.locator("article")).to_have_count(0)  # what is typed before is typed into the page that goes
    model.steps += [Step(calls=(Call("forget", forget, "c3"),))]
    other = asked(page, "Forget it", state="waiting")
    other.get_by_label("Reason for rejecting forget").fill("Keep it, please")
    other.get_by_role("button", name="Reject").click()
    expect(other).to_have_attribute("data-state", "answered")
    expect(other.locator(".foot")).to_contain_text("ada rejected forget")
    assert "Keep it, please" in str(model.bodies[-1]["messages"])


def test_a_question_is_edited_with_its_files_and_asked_again(page: Page, model: ModelServer, tmp_path: Path) -> None:
    picture, note = tmp_path / "a pixel.png", tmp_path / "note.txt"
    picture.write_bytes(_PIXEL)
    note.write_text("The code is 4711.")
    page.get_by_label("Attach files").set_input_files([picture, note])
    page.get_by_role("button", name="Do not attach note.txt").click()
    model.steps += [Step(calls=(Call("forget", '{"key": "tea"}', "c1"),))]
    first = asked(page, "What is it? \u202e", state="waiting")
    image = first.get_by_role("img", name="a pixel.png")
    eventually(lambda: image.evaluate("each => each.naturalWidth") == 1)
    first.get_by_role("button", name="Reject").click()
    expect(first).to_have_attribute("data-state", "answered")
    expect(image).to_be_visible()
    asked(page, "second", 2)
    asked(page, "third", 3)

    before = len(model.bodies)
    turn(page, 3).get_by_role("button", name="Ask again").click()
    eventually(lambda: len(model.bodies) == before + 1)
    expect(turn(page, 3)).to_have_attribute("data-state", "answered")
    turn(page, 1).get_by_role("button", name="Edit").click()
    field = page.get_by_label("The question", exact=True)
    assert field.input_value() == "What is it? \u202e"
    field.press("Escape")
    turn(page, 1).get_by_role("button", name="Edit").click()
    field.fill("What is that?")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("article")).to_have_count(1)
    expect(turn(page, 1)).to_have_attribute("data-state", "answered")
    expect(turn(page, 1).locator(".user")).to_have_text("What is that?")
    expect(image).to_be_visible()
    page.reload()
    expect(page.locator("article")).to_have_count(1)
    expect(image).to_be_visible()


def test_a_turn_is_stopped_and_its_question_is_there_again(page: Page, model: ModelServer) -> None:
    asked(page, "warm")
    model.steps += [Step("late", delay=60)]
    ask(page, "stop me")
    expect(turn(page, 2)).to_have_attribute("data-state", "running")
    page.get_by_role("button", name="Stop").click()
    expect(turn(page, 2)).to_have_attribute("data-state", "failed")
    expect(turn(page, 2)).to_contain_text("Stopped.")
    expect(page.get_by_label("Your question")).to_have_value("stop me")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    model.steps.clear()
    page.get_by_label("Your question").press("Enter")
    expect(turn(page, 2)).to_have_attribute("data-state", "answered")
    expect(page.locator("article")).to_have_count(2)


def test_who_comes_back_in_the_middle_goes_on_and_a_lost_connection_is_said(page: Page, model: ModelServer) -> None:
    asked(page, "warm")
    model.steps += [Step("\n\n".join(f"part {number}" for number in range(12)), chunk_delay=0.3)]
    ask(page, "slowly")
    expect(turn(page, 2).locator(".parts")).to_contain_text("part 0")
    page.reload()
    expect(turn(page, 2).locator(".parts")).to_contain_text("part 0")
    expect(turn(page, 2).locator(".user")).to_have_text("slowly")
    expect(turn(page, 2)).to_have_attribute("data-state", "answered")
    assert turn(page, 2).locator(".parts > p").count() == 12

    lost = True
    page.route("**/events", lambda route: route.abort() if lost else route.continue_())
    ask(page, "and now?")
    expect(page.get_by_role("status")).to_contain_text("The connection is lost. Trying again in")
    lost = False
    expect(turn(page, 3)).to_have_attribute("data-state", "answered")
    expect(page.get_by_role("status")).to_have_text("")


def test_a_conversation_is_named_found_and_deleted_and_is_nobody_elses(
    page: Page, chromium: Browser, served: Served, embedded: Program
) -> None:
    new = token_of(embedded, "somebody-new")  # who has none in other tests either
    asked(page, "About zebras")
    press_in("Rename", page)
    page.get_by_label("Title").fill("Stripes <b>")
    page.get_by_label("Title").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Stripes <b>")
    search = page.get_by_role("searchbox", name="Search in conversations")
    search.fill("zebras")
    listed = page.locator("#list a")
    expect(listed).to_have_count(1)
    expect(listed).to_contain_text("Stripes <b>")
    search.fill("no such words")
    expect(page.locator("#list")).to_have_text("Nothing was found.")
    search.fill("stripes")
    with page.expect_download() as download:
        page.get_by_label("More about this conversation").click()
        page.get_by_role("link", name="Export as Markdown").click()
    assert "About zebras" in download.value.path().read_text()
    with opened(chromium, served.url, new) as other:
        expect(other.locator("#list")).to_contain_text("No conversations yet.")
        other.goto(page.url)
        expect(other.locator(".problem")).to_contain_text("There is no session")
    press_in("Delete", page)
    page.get_by_role("button", name="Cancel").click()
    press_in("Delete", page)
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page).to_have_url(f"{served.url}/")
    search.fill("stripes")
    expect(page.locator("#list")).to_have_text("Nothing was found.")


def test_memory_is_seen_searched_and_forgotten(chromium: Browser, own: Program, model: ModelServer) -> None:
    with (
        serving(own.having(FLAME_AGENT_USER="owner")) as server,
        opened(chromium, server.url, server.token, width=390) as page,
    ):
        model.steps += [Step(calls=(Call("remember", '{"key": "tea", "value": "green <i>"}'),)), Step("I will.")]
        asked(page, "Remember my tea")
        fact = page.locator(".facts li")
        eventually(lambda: page.goto("/memory") and fact.count())
        expect(fact).to_contain_text("tea green <i>")
        page.get_by_role("searchbox", name="Search in what was said").fill("tea")
        page.get_by_role("button", name="Search").click()
        expect(page.locator(".found li")).to_contain_text("Remember my tea")
        named_and_narrow(page)
        page.get_by_role("button", name="Forget tea").click()
        expect(fact).to_have_count(0)
        expect(page.locator("#no-facts")).to_be_visible()
        page.get_by_role("button", name="Forget everything").click()
        page.get_by_role("dialog").get_by_role("button", name="Forget everything").click()
        expect(page.get_by_placeholder("Search in 0 turns")).to_be_visible()


def test_what_others_wrote_is_shown_and_does_nothing(page: Page, model: ModelServer) -> None:
    hostile = '<img src=x onerror="hacked=1"><script>hacked=1</script> [a](javascript:hacked=1) \u202eevil'
    call = Call("forget", '{"key": "</pre><script>hacked=1</script>\u202e"}', "c1")
    model.steps += [Step(hostile, calls=(call,))]
    first = asked(page, hostile, state="waiting")
    expect(first.locator(".parts")).to_contain_text("<script>hacked=1</script>")
    expect(first.locator(".user")).to_contain_text("\\u202eevil")
    expect(first.locator("pre")).to_contain_text("</pre><script>")
    model.steps += [Step(f"```\n{hostile}\n```\n\n> {hostile}\n\n{_TABLE}")]
    first.get_by_role("button", name="Approve").click()
    expect(first).to_have_attribute("data-state", "answered")
    for _ in range(2):
        assert page.evaluate("typeof hacked") == "undefined"
        assert first.locator("img, script, a[href^=javascript]").count() == 0
        assert "\u202e" not in page.inner_text("body")
        page.reload()


def test_all_of_it_is_done_by_keyboard(page: Page, model: ModelServer) -> None:
    expect(page.get_by_label("Your question")).to_be_focused()
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    model.steps += [Step(calls=(Call("forget", '{"key": "tea"}', "c1"),))]
    page.keyboard.press("Enter")
    expect(turn(page, 1)).to_have_attribute("data-state", "waiting")
    assert turn(page, 1).locator(".user").inner_text() == "first line\nsecond line"
    expect(page.get_by_label("Waits for your decision")).to_be_focused()

    def to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.evaluate("(document.activeElement.ariaLabel || document.activeElement.textContent).trim()")
            if focused == name:
                return
        raise AssertionError(f"Tab does not lead to {name}")

    to("Approve forget")
    page.keyboard.press("Enter")
    expect(turn(page, 1)).to_have_attribute("data-state", "answered")
    expect(page.get_by_label("Your question")).to_be_focused()
    page.reload()
    page.get_by_role("link", name="To the conversation").focus()
    page.keyboard.press("Enter")
    to("More about this conversation")
    page.keyboard.press("Enter")
    to("Rename")
    page.keyboard.press("Space")
    page.keyboard.type("By keys")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("By keys")
    to("Edit this question")
    page.keyboard.press("Enter")
    expect(page.get_by_label("The question", exact=True)).to_be_focused()
    page.keyboard.press("Control+End")
    page.keyboard.type("!")
    page.keyboard.press("Control+Enter")
    expect(turn(page, 1).locator(".user")).to_have_text("first line second line!")
    expect(turn(page, 1)).to_have_attribute("data-state", "answered")


def named_and_narrow(page: Page) -> None:
    """Nothing is wider than the window, and whatever takes a focus says what it is."""
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "link", "textbox", "searchbox", "checkbox", "combobox", "DisclosureTriangle"}
    found = [each for each in tree if not each["ignored"] and each["role"]["value"] in controls]
    assert found and all(each["name"].get("value", "").strip() for each in found), found


def test_on_a_telephone_nothing_is_too_wide(chromium: Browser, served: Served, ada: str, model: ModelServer) -> None:
    with opened(chromium, served.url, ada, width=390) as page:
        named_and_narrow(page)
        model.steps += [Step(_WIDE), Step("wide", calls=(Call("forget", '{"key": "' + "k" * 300 + '"}', "c1"),))]
        asked(page, "wide " * 40)
        named_and_narrow(page)
        asked(page, "w" * 200, 2, "waiting")
        named_and_narrow(page)
        search = page.get_by_role("searchbox", name="Search in conversations")
        expect(search).to_be_hidden()
        page.get_by_role("button", name="Conversations", exact=True).click()
        expect(search).to_be_focused()
        named_and_narrow(page)
        page.keyboard.press("Escape")
        expect(search).to_be_hidden()
        expect(page.get_by_role("button", name="Conversations", exact=True)).to_be_focused()
