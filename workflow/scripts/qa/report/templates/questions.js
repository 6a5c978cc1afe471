// The error browser: a list of questions, which draws only its visible rows, and the open question.
// Text of the data enters the page as textContent, never as markup.
"use strict";
(() => {
  const { fitting, pieces } = questionData;
  const NEAR = 400; // characters of a context that are shown beside a mark
  const FAR = 1500; // characters of a context that are worth a button
  const SPARE = 4; // rows drawn above and below the visible rows
  const SYMBOLS = ["✓", "∅", "!", "≈", "✗"]; // of the outcomes, in the order of index.kinds
  const find = (name) => document.getElementById(`questions-${name}`);
  if (!find("browser")) return;
  const parts = Object.fromEntries(["trouble", "browser", "filters", "text", "contexts", "split", "a", "b", "kind", "compared",
    "slice", "value", "order", "count", "list", "rows", "detail"].map((name) => [name, find(name)]));
  const wide = matchMedia("(min-width: 56rem)");
  let index, split, columns; // all splits; the split that is shown; its questions
  let sets = []; // answers A, and answers B if chosen: {name, threshold, answers}
  let shown = []; // numbers of the questions in the list
  let active = -1; // place in the list that has the keyboard
  let opened = -1; // number of the open question
  let turn = 0; // number of the latest load; results of earlier loads are dropped

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  const count = (number) => number.toLocaleString("en");
  const percent = (thousandths) => thousandths === null ? "–" : `${thousandths ? (thousandths / 10).toFixed(thousandths < 1000 ? 1 : 0) : "<0.1"} %`;
  const logit = (value) => value.toFixed(2).replace("-", "−");
  const isB = () => sets.length > 1;
  const letter = (set) => make("b", { class: "questions-letter", "data-set": "ab"[set] }, "AB"[set]);
  const text = (value) => make("bdi", { class: "questions-text" }, value);
  const answerElement = (answer) => (answer ? text(answer.text) : make("i", {}, "no answer"));

  function outcome(kind) {
    const symbol = make("span", { "aria-hidden": "true" }, SYMBOLS[kind]);
    return make("span", { class: kind ? "bad" : "good" }, symbol, ` ${index.kinds[kind]}`);
  }

  // ---- the controls

  function fill(select, options, chosen) {
    select.replaceChildren(...options.map(([value, label]) => make("option", { value }, label)));
    if (chosen !== undefined && options.some(([value]) => String(value) === String(chosen))) select.value = chosen;
  }

  function fillAnswers(a, b) {
    const names = split.answers.map((entry, number) => [number, entry.name]);
    fill(parts.a, names, a);
    fill(parts.b, [[-1, "nothing"], ...names.filter(([number]) => number !== Number(parts.a.value))], b);
  }

  function fillKinds() {
    const counts = split.answers[parts.a.value].counts;
    const wrong = counts.slice(1).reduce((sum, size) => sum + size, 0);
    const kinds = index.kinds.map((kind, number) => [number, `${kind} (${count(counts[number])})`]);
    fill(parts.kind, [["all", `all (${count(split.questions)})`], ["wrong", `not correct (${count(wrong)})`], ...kinds], parts.kind.value);
  }

  function fillValues(chosen) {
    const slicing = columns.slices[parts.slice.value];
    const sizes = new Array(slicing ? slicing.names.length : 0).fill(0);
    for (const place of slicing?.place ?? []) if (place >= 0) sizes[place]++;
    const names = (slicing?.names ?? []).map((name, number) => [number, `${name} (${count(sizes[number])})`]);
    fill(parts.value, [[-1, "any"], ...names.filter(([number]) => sizes[number])], chosen);
    parts.value.disabled = !slicing;
  }

  const filters = () => ({
    text: parts.text.value, contexts: parts.contexts.checked, kind: parts.kind.value, compared: parts.compared.value,
    slice: Number(parts.slice.value), value: Number(parts.value.value), order: parts.order.value,
  });

  function listen() {
    let waiting;
    const filter = () => showList(true);
    parts.text.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 80); });
    for (const part of [parts.contexts, parts.kind, parts.compared, parts.value, parts.order]) part.addEventListener("change", filter);
    parts.slice.addEventListener("change", () => { fillValues(); filter(); });
    parts.split.addEventListener("change", () => load(Number(parts.split.value)));
    parts.a.addEventListener("change", () => { fillAnswers(parts.a.value, parts.b.value); chooseAnswers(); });
    parts.b.addEventListener("change", chooseAnswers);
    parts.filters.addEventListener("submit", (event) => event.preventDefault());
    parts.filters.addEventListener("reset", (event) => { event.preventDefault(); clearFilters(); filter(); });
    parts.list.addEventListener("keydown", onKey);
    parts.list.addEventListener("scroll", () => requestAnimationFrame(drawRows), { passive: true });
    parts.rows.addEventListener("click", onClick);
    parts.detail.addEventListener("keydown", (event) => { if (event.key === "Escape") parts.list.focus(); });
    addEventListener("resize", () => requestAnimationFrame(drawAnew));
    addEventListener("hashchange", () => follow(location.hash));
  }

  function clearFilters() {
    parts.text.value = "";
    parts.contexts.checked = false;
    for (const part of [parts.kind, parts.compared, parts.slice, parts.order]) part.selectedIndex = 0;
    fillValues();
  }

  // ---- loading

  /** Show a split, with set of answers number `a` as A and the first set of a different run as B. */
  async function load(number, a = 0) {
    split = index.splits[number];
    parts.split.value = number;
    columns = await questionData.questionsOf(split);
    const b = split.answers.findIndex((entry) => entry.run !== split.answers[a].run);
    fillAnswers(a, b >= 0 || split.answers.length < 2 ? b : Number(a === 0));
    const chosen = parts.slice.value;
    fill(parts.slice, [[-1, "none"], ...columns.slices.map((slicing, place) => [place, slicing.kind])], chosen);
    fillValues();
    opened = -1;
    parts.detail.replaceChildren(make("p", { class: "note" }, "Choose a question to see its context and all answers here."));
    await chooseAnswers();
  }

  async function chooseAnswers() {
    const started = ++turn, entries = split.answers;
    const chosen = [parts.a.value, parts.b.value].filter((value) => value !== "-1").map((value) => entries[value]);
    const read = await Promise.all(chosen.map((entry) => questionData.answersOf(entry, columns)));
    if (started !== turn) return;
    sets = chosen.map((entry, place) => ({ ...entry, answers: read[place] }));
    parts.compared.disabled = !isB();
    if (!isB()) parts.compared.value = "any";
    fillKinds();
    showList(false);
    if (opened >= 0) open(opened);
  }

  // ---- the list

  const rowHeight = () => parseFloat(getComputedStyle(parts.rows).getPropertyValue("--row"))
    * parseFloat(getComputedStyle(document.documentElement).fontSize);

  /** Apply the filters. The list scrolls to its top, or keeps its place and its active question. */
  function showList(toTop) {
    const current = shown[active];
    shown = fitting(columns, sets.map((set) => set.answers), filters());
    active = shown.indexOf(current);
    parts.count.textContent = shown.length === split.questions ? `${count(shown.length)} questions`
      : shown.length ? `${count(shown.length)} of ${count(split.questions)} questions` : "No question passes these filters.";
    if (toTop) parts.list.scrollTop = 0;
    drawAnew();
  }

  function drawAnew() {
    parts.rows.classList.toggle("two", isB());
    parts.rows.style.height = `${shown.length * rowHeight()}px`;
    for (const row of parts.rows.children) row.dataset.place = "";
    drawRows();
  }

  /** Draw the visible rows. Place p uses element p modulo their number, so scrolling redraws only few elements. */
  function drawRows() {
    const height = rowHeight();
    const first = Math.max(0, Math.floor(parts.list.scrollTop / height) - SPARE);
    const needed = Math.ceil(parts.list.clientHeight / height) + 2 * SPARE;
    while (parts.rows.children.length < needed) {
      const id = `questions-row-${parts.rows.children.length}`;
      parts.rows.append(make("div", { role: "option", class: "questions-row", id, "data-place": "" }));
    }
    const size = parts.rows.children.length;
    const free = new Set(parts.rows.children);
    for (let place = first; place < Math.min(first + size, shown.length); place++) {
      const row = parts.rows.children[place % size];
      free.delete(row);
      row.hidden = false;
      if (row.dataset.place !== String(place)) drawRow(row, place, height);
      mark(row, place);
    }
    for (const row of free) {
      row.hidden = true;
      row.dataset.place = "";
    }
    const row = parts.rows.children[active % size];
    if (active >= 0 && row?.dataset.place === String(active)) parts.list.setAttribute("aria-activedescendant", row.id);
    else parts.list.removeAttribute("aria-activedescendant");
  }

  function mark(row, place) {
    row.classList.toggle("active", place === active);
    row.setAttribute("aria-selected", String(shown[place] === opened));
  }

  function drawRow(row, place, height) {
    const number = shown[place];
    row.dataset.place = place;
    row.style.transform = `translateY(${place * height}px)`;
    row.setAttribute("aria-setsize", shown.length);
    row.setAttribute("aria-posinset", place + 1);
    const lines = sets.map((set, place) => make("span", { class: "questions-line" },
      isB() ? letter(place) : null, " ", outcome(set.answers.kind[number]), " · ", answerElement(questionData.answerOf(columns, set.answers, number))));
    row.replaceChildren(make("span", { class: "questions-question", dir: "auto" }, columns.questions[number]), ...lines);
  }

  function moveTo(place) {
    if (!shown.length) return;
    active = Math.max(0, Math.min(shown.length - 1, place));
    const height = rowHeight(), top = active * height, list = parts.list;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + height > list.scrollTop + list.clientHeight) list.scrollTop = top + height - list.clientHeight;
    drawRows();
  }

  let following;
  function onKey(event) {
    const page = Math.max(1, Math.floor(parts.list.clientHeight / rowHeight()) - 1);
    const moves = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: shown.length - 1 };
    clearTimeout(following);
    if (Object.hasOwn(moves, event.key)) {
      event.preventDefault();
      moveTo(moves[event.key]);
      // in wide windows the open question follows the keys; the delay is there because browsers limit address changes
      if (wide.matches && shown.length) following = setTimeout(() => open(shown[active]), 200);
    } else if (event.key === "Enter" && active >= 0) {
      event.preventDefault();
      open(shown[active], true);
    }
  }

  function onClick(event) {
    const row = event.target.closest("[role=option]");
    if (!row) return;
    active = Number(row.dataset.place);
    open(shown[active], !wide.matches);
  }

  // ---- the open question

  function open(number, focus = false) {
    opened = number;
    drawRows();
    const link = linkOf(number);
    try { history.replaceState(null, "", link); } catch { /* not allowed in an embedded page; the page shows the link */ }
    showQuestion(number, link);
    if (focus) {
      parts.detail.focus({ preventScroll: wide.matches });
      if (!wide.matches) parts.detail.scrollIntoView({ block: "start" });
    }
  }

  /** The link to a question: its id alone, or with the split if the id is ambiguous or also that of an element. */
  function linkOf(number) {
    const id = columns.ids[number], [first] = index.splits;
    const plain = split === first && document.getElementById(id) === null;
    return questionData.fragment(id, {
      split: plain ? null : split.name,
      answers: Number(parts.a.value) === 0 ? null : split.answers[parts.a.value].name,
    });
  }

  function showQuestion(number, link) {
    const title = columns.titles[columns.title[number]];
    const slices = columns.slices.filter((slicing) => slicing.kind !== "article" && slicing.place[number] >= 0);
    parts.detail.replaceChildren(
      make("h3", { dir: "auto", class: "questions-text" }, columns.questions[number]),
      make("p", { class: "note" }, title ? text(title) : null, title ? " · " : null,
        make("a", { href: link, title: "Link to this question" }, text(columns.ids[number]))),
      contextOf(number),
      allAnswers(number),
      ...sets.map((set, place) => nBestList(set, place, number)),
      make("details", {}, make("summary", {}, "Slices of this question"),
        make("dl", { class: "questions-slices" }, ...slices.flatMap((slicing) =>
          [make("dt", {}, slicing.kind), make("dd", {}, text(slicing.names[slicing.place[number]]))]))),
      make("p", { class: "questions-back" }, back()),
    );
    parts.detail.scrollTop = 0;
  }

  function back() {
    const button = make("button", { type: "button" }, "Back to the list");
    button.addEventListener("click", () => { parts.list.focus({ preventScroll: true }); parts.filters.scrollIntoView(); });
    return button;
  }

  function contextOf(number) {
    const golds = questionData.goldSpans(columns, number).map((span) => ({ ...span, kind: "gold" }));
    const answers = sets.map((set, place) => ({ ...questionData.answerOf(columns, set.answers, number), kind: "ab"[place] }));
    const spans = [...golds, ...answers.filter((span) => span.text)];
    const names = { gold: "gold", a: isB() ? "A" : "answer", b: "B" };
    const cut = pieces(questionData.contextOf(columns, number), spans);
    const marked = cut.flatMap((piece, place) => {
      if (!piece.kinds.length) return folded(piece.text, place > 0 || cut.length === 1, place < cut.length - 1);
      const label = piece.begins.length ? make("span", { class: "questions-label" }, piece.begins.map((kind) => names[kind]).join(" ")) : null;
      return make("mark", { class: piece.kinds.join(" ") }, label, piece.text);
    });
    const key = (kind, name, words) => make("span", {}, make("mark", { class: kind }, name), words);
    const legend = [key("gold", "gold answer", golds.length ? "" : " (none: unanswerable)"),
      ...sets.map((set, place) => key("ab"[place], ` ${names["ab"[place]]} `, ` ${set.name}${answers[place].text ? "" : " (no answer)"}`))];
    return make("div", {}, make("p", { class: "questions-legend note" }, ...legend),
      make("p", { class: "questions-context questions-text", dir: "auto" }, ...marked));
  }

  /** An unmarked part of a context. Of a long part, only the characters near the mark before and the mark after it are shown. */
  function folded(text, before, after) {
    const characters = [...text]; // a surrogate pair stays whole
    const atSpace = (place) => { const space = characters.slice(0, place + 50).indexOf(" ", place); return space < 0 ? place : space; };
    const [start, stop] = [before ? atSpace(NEAR) : 0, after ? atSpace(characters.length - NEAR) : characters.length];
    if (stop - start < FAR) return text;
    const part = (from, to) => characters.slice(from, to).join("");
    const hidden = make("span", { hidden: "" }, part(start, stop));
    const button = make("button", { type: "button", "aria-expanded": "false" }, `… ${count(stop - start)} characters …`);
    button.addEventListener("click", () => button.setAttribute("aria-expanded", String(!(hidden.hidden = !hidden.hidden))));
    return [part(0, start), button, hidden, part(stop)];
  }

  const head = (...names) => make("thead", {}, make("tr", {}, ...names.map(([name, kind]) => make("th", { scope: "col", class: kind ?? "" }, name))));
  const scrolling = (label, table) => make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, table);

  /** A table with the answer of every set on this page. Sets that are still being read are filled in later. */
  function allAnswers(number) {
    const body = make("tbody");
    const table = make("table", {}, make("caption", {}, "All answers"),
      head(["answers of"], ["answer"], ["probability", "n"], ["EM", "n"], ["F1", "n"], ["outcome"]), body);
    const rows = split.answers.map((entry) => make("tr", {}, make("th", { scope: "row" }, entry.name)));
    body.append(...rows);
    split.answers.forEach(async (entry, place) => {
      const answers = await questionData.answersOf(entry, columns);
      const chosen = sets.findIndex((set) => set.block === entry.block);
      const kind = answers.kind[number];
      if (chosen >= 0) rows[place].firstChild.prepend(letter(chosen), " ");
      rows[place].classList.toggle("best", chosen >= 0);
      rows[place].append(
        make("td", {}, answerElement(questionData.answerOf(columns, answers, number))),
        make("td", { class: "n" }, percent(questionData.confidence(answers, number))),
        make("td", { class: "n" }, kind ? "0" : "100"),
        make("td", { class: "n" }, (answers.f1[number] / 10).toFixed(1)),
        make("td", {}, outcome(kind)),
      );
    });
    return scrolling("All answers", table);
  }

  /** The n-best list of a set of answers, with no answer in its place among the candidates. */
  function nBestList(set, place, number) {
    const answers = set.answers, abstained = !answers.answered[number];
    const candidates = questionData.candidates(columns, answers, number)
      .map((candidate, rank) => ({ ...candidate, chosen: !abstained && rank === 0 }));
    const all = [...candidates, { text: null, probability: answers.no_answer[number], chosen: abstained }]
      .sort((a, b) => b.probability - a.probability);
    const rows = all.map((candidate) => {
      const bar = make("span", { class: "questions-bar", "aria-hidden": "true" });
      bar.style.width = `${candidate.probability / 10}%`;
      return make("tr", candidate.chosen ? { class: "best" } : {},
        make("td", {}, candidate.chosen ? "✓ answer" : ""),
        make("td", {}, answerElement(candidate.text === null ? null : candidate)),
        make("td", { class: "n" }, percent(candidate.probability)),
        make("td", { class: "questions-bars" }, bar));
    });
    const known = answers.null[number] !== null;
    const limit = set.threshold === null ? "" : `, null threshold ${logit(set.threshold)}`;
    const rule = known ? `Null score ${logit(answers.null[number])}${limit}.` : "";
    const name = `Best candidates of ${set.name}`;
    const caption = make("caption", {}, isB() ? letter(place) : null, ` ${name}. ${rule}`);
    const columnsOfTable = head(["given"], ["candidate"], ["probability", "n"], ["as a bar"]);
    return scrolling(name, make("table", { class: "questions-nbest" }, caption, columnsOfTable, make("tbody", {}, ...rows)));
  }

  // ---- links to questions

  /** Open the question that a link names. */
  async function follow(hash) {
    const target = hash.length > 1 ? questionData.linked(hash) : null;
    if (!target || (target.split === null && document.getElementById(target.id))) return;
    for (const [number, candidate] of index.splits.entries()) {
      if (target.split !== null && target.split !== candidate.name) continue;
      const place = (await questionData.questionsOf(candidate)).numbers.get(target.id);
      if (place === undefined) continue;
      const named = candidate.answers.findIndex((entry) => entry.name === target.answers);
      const a = named >= 0 ? named : 0;
      if (split !== candidate || Number(parts.a.value) !== a) await load(number, a);
      if (!shown.includes(place)) { clearFilters(); showList(true); }
      moveTo(shown.indexOf(place));
      open(place);
      parts.panes.scrollIntoView({ behavior: "instant", block: "nearest" });
      parts.detail.focus({ preventScroll: true });
      return;
    }
    parts.count.textContent = `No question on this page has the id ${target.id}`;
  }

  async function begin() {
    index = await questionData.read("questions-data");
    fill(parts.split, index.splits.map((entry, number) => [number, `${entry.name} (${count(entry.questions)})`]));
    parts.browser.hidden = false;
    listen();
    await load(0);
    await follow(location.hash);
  }

  parts.panes = parts.list.parentElement;
  begin().catch((error) => {
    parts.trouble.hidden = false;
    parts.trouble.textContent = `The page cannot show the questions (${error}). Use a browser of 2023 or later.`;
  });
})();
