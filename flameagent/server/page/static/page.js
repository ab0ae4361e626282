// The page's script: asks through the server's own routes, and puts what the server answers where it belongs.
// HTML is made by the server alone, of which all text of others is escaped; here text stays text.

const { root, agent } = document.body.dataset;
let session = document.body.dataset.session ?? "";
const $ = (what, within = document) => within.querySelector(what);
const all = (what, within = document) => [...within.querySelectorAll(what)];
const turns = $("#turns"), question = $("#question"), stop = $("[data-do=stop]");
const followed = new Set(); // the turns that are watched
const sent = new Map(); // what was asked, by turn, until it is answered
let chosen = []; // the files for the next question
const part = encodeURIComponent;

// Requests

class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `The server answers ${status}.`);
    this.status = status;
  }
}

const pause = (seconds) => new Promise((go) => {
  setTimeout(go, seconds * 1000);
  addEventListener("online", go, { once: true });
});

async function lost(wait) {
  say(`The connection is lost. Trying again in ${wait} s…`, true);
  await pause(wait);
}

const key = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

// What gets lost on its way is sent again under the same key, and so is done once.
async function send(method, path, body) {
  const headers = { "content-type": "application/json", "idempotency-key": key() };
  for (let wait = 1; ; wait *= 2) {
    const response = await fetch(root + path, { method, headers, body: body && JSON.stringify(body) }).catch(() => null);
    if (response?.ok) return response;
    if (response?.status === 401) location.reload();
    const error = await response?.json().then((told) => told.error, () => null);
    if (response && response.headers.get("x-should-retry") !== "true") throw new Refused(response.status, error);
    if (wait > 16) throw new Refused(response?.status, error ?? { message: "The server does not answer." });
    await lost(wait);
    say("");
  }
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      const told = (rest + value).split("\n\n");
      rest = told.pop();
      for (const each of told) if (each.startsWith("data: ")) yield JSON.parse(each.slice(6));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// The ID of the turn that a request begins, whose events are then read by `follow`, as they are after a reload.
async function begun(path, body) {
  const response = await send("POST", `/v1/sessions/${part(session)}/${path}`, { ...body, stream: true });
  for await (const event of events(response)) return event.turn_id;
  throw new Refused(0, { message: "The server went away." });
}

// What is said

function say(text, isProblem = false) {
  const status = $("#status");
  if (!status || status.textContent === text) return;
  status.textContent = text;
  status.classList.toggle("problem", isProblem);
}

const tell = (error) => say(error.message, true);

function announce(text) {
  const line = document.createElement("p");
  line.textContent = text;
  $("#said").append(line);
  while ($("#said").children.length > 20) $("#said").firstElementChild.remove();
}

// A screen reader gets each paragraph when it is whole.
function speak(article, isWhole) {
  const parts = [...$(".parts", article).children];
  const until = isWhole ? parts.length : parts.length - 1;
  for (let at = article.spoken ?? 0; at < until; at += 1) {
    announce(($("summary", parts[at]) ?? parts[at]).textContent);
    article.spoken = at + 1;
  }
}

function show_times() {
  for (const time of all("time[data-at]:empty")) {
    const at = new Date(Number(time.dataset.at));
    if (Number.isNaN(at.getTime())) continue;
    time.dateTime = at.toISOString();
    time.textContent = at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }
}

const is_at_end = () => innerHeight + scrollY > document.documentElement.scrollHeight - 120;
const to_end = () => scrollTo(0, document.documentElement.scrollHeight);

// A turn

const article_of = (turn) => all("article", turns).find((each) => each.dataset.turn === turn);

function set_busy() {
  document.body.classList.toggle("busy", followed.size > 0);
  if (stop) stop.hidden = followed.size === 0;
}

async function follow(turn) {
  if (followed.has(turn)) return;
  followed.add(turn);
  set_busy();
  let next = "";
  for (let wait = 1; ; wait = Math.min(wait * 2, 15)) {
    const response = await fetch(`${root}/chat/${part(session)}/turns/${part(turn)}/events`).catch(() => null);
    if (response?.status === 401) location.reload();
    if (response && !response.ok && response.status < 500) {
      tell(new Refused(response.status, (await response.json().catch(() => null))?.error));
      break;
    }
    let end = null;
    try {
      if (response?.ok) {
        for await (const event of events(response)) {
          wait = 1;
          show(turn, event);
          if (event.type === "end") end = event;
        }
      }
    } catch { /* the connection broke, which ends no turn */ }
    if (end) {
      next = end.next;
      break;
    }
    await lost(wait);
  }
  followed.delete(turn);
  set_busy();
  list();
  if (next) follow(next);
}

function show(turn, event) {
  const was_at_end = is_at_end();
  let article = article_of(turn);
  if (event.type === "turn") {
    say("");
    if (!article) {
      turns.insertAdjacentHTML("beforeend", event.html);
      article = article_of(turn);
      article.scrollIntoView({ block: "end" });
    }
  } else if (event.type === "doing") say(`${event.text}…`);
  else if (!article) return;
  else if (event.type === "parts") replace_parts(article, event.from, event.html);
  else end_turn(turn, article, event);
  if (was_at_end) to_end();
}

function replace_parts(article, from, html) {
  const parts = $(".parts", article);
  const before = [...parts.children].slice(from);
  const opened = before.map((each) => each.open);
  const focused = before.findIndex((each) => each.contains(document.activeElement));
  for (const each of before) each.remove();
  parts.insertAdjacentHTML("beforeend", html.join(""));
  const after = [...parts.children].slice(from);
  opened.forEach((is_open, at) => { if (is_open && after[at]) after[at].open = true; });
  if (focused >= 0) $("summary, pre", after[focused] ?? parts)?.focus();
  speak(article, false);
}

function end_turn(turn, article, end) {
  say("");
  speak(article, true);
  if (end.state === "gone") return article.remove(); // a message that another turn has taken in
  article.dataset.state = end.state;
  const foot = $(".foot", article);
  const calls = (within) => all("[data-call]", within).map((each) => each.dataset.call).join();
  const shown = document.createElement("template");
  shown.innerHTML = end.foot;
  // What somebody has begun to fill in stays, where the same calls wait.
  if (!calls(foot) || calls(foot) !== calls(shown.content)) foot.replaceChildren(shown.content);
  if (end.attached !== undefined) $(".files", article).innerHTML = end.attached;
  if (end.number) {
    article.dataset.number = end.number;
    article.setAttribute("aria-label", `Turn ${end.number}`);
  }
  show_times();
  if (end.state === "waiting") {
    $(".approval", foot).scrollIntoView({ block: "nearest" });
    announce(`Waits for your decision: ${$("form b", foot)?.textContent ?? ""}`);
    if (!question.value && [question, document.body].includes(document.activeElement)) $(".approval", foot).focus();
  } else if (end.state === "failed") {
    announce(foot.textContent);
    const asked = sent.get(turn);
    if (asked && question && !question.value && !chosen.length) put_back(asked);
  }
  if (end.state !== "waiting") sent.delete(turn);
}

// Asking

function put_back({ text, files }) {
  question.value = text;
  chosen = files;
  show_chosen();
  question.focus();
}

async function ask(text, files) {
  if (!text.trim()) return question.focus();
  question.value = "";
  chosen = [];
  show_chosen();
  const asked = { text, files };
  try {
    say("sending…");
    const is_new = !session;
    if (is_new) {
      const body = { agent: $("#agent")?.value ?? "", prompt: $("#prompt")?.value ?? "" };
      session = (await (await send("POST", "/v1/sessions", body)).json()).session_id;
      history.replaceState(null, "", `${root}/chat/${part(session)}`);
    }
    const attachments = await Promise.all(files.map(as_attachment));
    const steers = followed.size > 0 && !files.length;
    const turn = await begun("turns", { question: text, attachments, running: steers ? "steer" : "wait" });
    if (is_new || !turns || $(".welcome")) return location.replace(`${root}/chat/${part(session)}`);
    sent.set(turn, asked);
    for (const each of all(".again, article[data-state=failed]", turns)) each.remove();
    if (steers) say("The message goes in before the agent's next step.");
    else follow(turn);
  } catch (error) {
    tell(error);
    if (!question.value) put_back(asked);
  }
}

const as_attachment = (file) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done({ name: file.name, data: reader.result.slice(reader.result.indexOf(",") + 1) });
  reader.onerror = () => failed(new Refused(0, { message: `${file.name} cannot be read.` }));
  reader.readAsDataURL(file);
});

function choose(files) {
  chosen = [...chosen, ...files];
  show_chosen();
}

function show_chosen() {
  $("#chosen").replaceChildren(...chosen.map((file) => {
    const line = document.createElement("li"), remove = document.createElement("button");
    line.textContent = file.name;
    remove.type = "button";
    remove.textContent = "✕";
    remove.setAttribute("aria-label", `Do not attach ${file.name}`);
    remove.onclick = () => {
      chosen = chosen.filter((each) => each !== file);
      show_chosen();
      question.focus();
    };
    line.append(remove);
    return line;
  }));
  fit();
}

function fit() { // for browsers without `field-sizing`
  if (!question || CSS.supports("field-sizing", "content")) return;
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight + 2}px`;
}

// What a button does. Each gets the turn that it is in, and itself.

const number_of = (article) => Number(article.dataset.number)
  || 1 + Math.max(0, ...all("article", turns).map((each) => Number(each.dataset.number)));

async function told_of(article) {
  const path = `/v1/sessions/${part(session)}/history`;
  if (article.dataset.state === "waiting") return (await (await send("GET", path)).json()).waiting;
  return (await (await send("GET", `${path}?turn=${number_of(article)}`)).json()).turns[0];
}

const actions = {
  async edit(article) {
    if (article.dataset.state === "failed") {
      return put_back({ text: $(".user", article).textContent, files: [] });
    }
    const text = (await told_of(article)).question;
    const form = $("#edit").content.firstElementChild.cloneNode(true), field = $("textarea", form);
    field.value = text;
    article.classList.add("edited");
    $(".asked", article).append(form);
    field.focus();
    const close = () => {
      form.remove();
      article.classList.remove("edited");
      $("[data-do=edit]", article).focus();
    };
    form.onkeydown = (event) => {
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    };
    $("[type=button]", form).onclick = close;
    form.onsubmit = async (event) => {
      event.preventDefault();
      if (!field.value.trim()) return;
      try {
        const files = await Promise.all(all("[data-asked]", article).map(async (link) => {
          const response = await fetch(link.href);
          if (!response.ok) throw new Refused(0, { message: `${link.dataset.name} is gone.` });
          return new File([await response.blob()], link.dataset.name);
        }));
        await send("POST", `/v1/sessions/${part(session)}/rewind`, { turns: number_of(article) - 1 });
        while (article.nextElementSibling) article.nextElementSibling.remove();
        article.remove();
        question.focus();
        await ask(field.value, files);
      } catch (error) {
        tell(error);
      }
    };
  },
  async retry(article) {
    const turn = await begun("retry", {});
    article?.remove();
    $(".again")?.remove();
    question.focus();
    follow(turn);
  },
  async copy(article, button) {
    await navigator.clipboard.writeText((await told_of(article)).answer);
    button.textContent = "Copied";
    announce("Copied");
  },
  async stop() {
    for (const turn of followed) await send("POST", `/v1/sessions/${part(session)}/turns/${part(turn)}/cancel`, {});
    question.focus();
  },
  rename() {
    close_menus();
    $("#rename").hidden = false;
    $("#title").hidden = true;
    $("#new-title").value = $("#title").textContent;
    $("#new-title").select();
  },
  "keep-title"() {
    $("#rename").hidden = true;
    $("#title").hidden = false;
    $(".menu summary").focus();
  },
  async delete() {
    close_menus();
    if (!await is_sure("Delete this conversation for good?", "Delete")) return;
    await send("DELETE", `/v1/sessions/${part(session)}`);
    location.replace(`${root}/`);
  },
  async forget(_, button) {
    const line = button.closest("li"), near = (line.nextElementSibling ?? line.previousElementSibling);
    await send("DELETE", `/v1/memory/facts/${part(line.dataset.key)}?agent=${part(agent)}`);
    announce(`Forgot ${line.dataset.key}`);
    line.remove();
    $("#no-facts").hidden = Boolean($(".facts li"));
    ($("button", near ?? document.createElement("p")) ?? $("#main")).focus();
  },
  async erase() {
    const what = `Forget everything that ${agent} remembers of you? The conversations stay.`;
    if (!await is_sure(what, "Forget everything")) return;
    await send("DELETE", `/v1/memory?agent=${part(agent)}`);
    location.reload();
  },
  "open-side"() {
    set_side(true);
    $("#searched").focus();
  },
  "close-side"() {
    set_side(false);
    $("[data-do=open-side]").focus();
  },
};

function is_sure(what, verb) {
  const dialog = $("#sure");
  $("#sure-what").textContent = what;
  $("[value=yes]", dialog).textContent = verb;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((answer) => dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true }));
}

function set_side(is_open) {
  document.body.classList.toggle("side", is_open);
  $("[data-do=open-side]").setAttribute("aria-expanded", is_open);
}

function close_menus() {
  for (const each of all("details.menu[open]")) each.open = false;
}

document.addEventListener("click", async (event) => {
  if (!event.target.closest("details.menu") || event.target.closest("a")) close_menus();
  const button = event.target.closest("[data-do]");
  if (!button || button.disabled) return;
  button.disabled = true;
  try {
    await actions[button.dataset.do](button.closest("article"), button);
  } catch (error) {
    tell(error);
  } finally {
    button.disabled = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = $("details.menu[open]");
  close_menus();
  if (menu) $("summary", menu).focus();
  else if (document.body.classList.contains("side")) actions["close-side"]();
});

document.addEventListener("submit", async (event) => {
  const form = event.target, call = form.dataset.call;
  if (form.id === "search") event.preventDefault();
  if (form.id === "ask") {
    event.preventDefault();
    ask(question.value, chosen);
  } else if (form.id === "rename") {
    event.preventDefault();
    try {
      const title = $("#new-title").value.trim();
      const told = await (await send("PATCH", `/v1/sessions/${part(session)}`, { title })).json();
      if (told.title) document.title = $("#title").textContent = told.title;
      actions["keep-title"]();
      list();
    } catch (error) {
      tell(error);
    }
  } else if (call) {
    event.preventDefault();
    const verb = event.submitter.value, article = form.closest("article");
    const body = { [verb]: [call], reason: verb === "reject" ? form.elements.reason.value : "" };
    if (verb === "approve") body.always = form.elements.always.checked;
    for (const each of all(".foot button", article)) each.disabled = true;
    try {
      const turn = await begun("decisions", body);
      article.dataset.state = "running";
      $(".foot", article).replaceChildren();
      question.focus();
      follow(turn);
    } catch (error) {
      tell(error);
      for (const each of all(".foot button", article)) each.disabled = false;
    }
  }
});

// The list of conversations

let listing = 0;

async function list(limit = "") {
  const mine = listing += 1, search = $("#searched")?.value ?? "";
  if (!$("#list")) return;
  const query = new URLSearchParams({ search, limit, current: session });
  const response = await fetch(`${root}/page/list?${query}`).catch(() => null);
  if (!response?.ok || mine !== listing) return;
  $("#list").innerHTML = await response.text();
  $("#list").setAttribute("aria-busy", "false");
}

let typed = 0;
$("#searched")?.addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(list, 250);
});
$("#list")?.addEventListener("click", (event) => {
  if (event.target.dataset.more) list(event.target.dataset.more);
});

// The beginning, and coming back to the page: turns may have been asked and decided on elsewhere.

function follow_all() {
  for (const each of all("article[data-state=running], article[data-state=waiting]", turns)) follow(each.dataset.turn);
}

async function look_again() {
  if (document.hidden || !session || !turns || followed.size || $(".edited, .welcome")) return;
  const response = await fetch(location.href).catch(() => null);
  if (!response?.ok) return;
  const now = $("#turns", new DOMParser().parseFromString(await response.text(), "text/html"));
  const mark = (within) => all("article", within).map((each) => `${each.dataset.turn} ${each.dataset.state}`).join();
  if (!now || followed.size || mark(now) === mark(turns)) return;
  turns.replaceChildren(...now.childNodes);
  show_times();
  follow_all();
}

document.addEventListener("visibilitychange", look_again);
if (question) {
  const has_keys = matchMedia("(pointer: fine)").matches;
  question.addEventListener("input", fit);
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || !has_keys) return;
    event.preventDefault();
    question.form.requestSubmit();
  });
  $("#files").addEventListener("change", (event) => {
    choose(event.target.files);
    event.target.value = "";
    question.focus();
  });
  question.addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    choose(event.clipboardData.files);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    choose(event.dataTransfer.files);
  });
}
document.body.classList.toggle("copies", Boolean(navigator.clipboard));
$("#controls").disabled = false;
if (document.activeElement === document.body) $("[autofocus]")?.focus();
show_times();
list();
if (turns && session) {
  to_end();
  follow_all();
}
