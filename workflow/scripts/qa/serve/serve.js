// The page of `qa serve`. Texts and answers enter the page as textContent, never as markup.
"use strict";
(() => {
  const SHOWN = 8; // outcomes in a list
  const FINEST = 0.01; // step of the slider, in logits
  const [form, texts, question, files, trouble, status, panels] =
    ["ask", "texts", "question", "files", "trouble", "status", "answers"].map((id) => document.getElementById(id));
  let models = []; // what `models` tells of each, its null threshold `limit` on this page, its panel, texts and answers
  let loaded; // the promise of `models`
  let asking = false;

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  const percent = (value) => `${value > 0 && value < 0.0005 ? "<0.1" : (100 * value).toFixed(value < 0.9995 ? 1 : 0)} %`;
  const logit = (value) => (Number.isFinite(value) ? value.toFixed(2).replace("-", "−") : "none");
  const quoted = (text) => (text ? make("bdi", { class: "quoted" }, text) : make("i", {}, "no answer"));

  function complain(message) {
    trouble.textContent = message;
    trouble.hidden = !message;
  }

  async function call(path, body) {
    const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
    const response = await fetch(path, options).catch(() => { throw new Error("`qa serve` does not respond. Start it again."); });
    const content = await response.json();
    if (!response.ok) throw new Error(content.error);
    return content;
  }

  // ---- the texts

  const areas = () => [...texts.querySelectorAll("textarea")];
  const nameOf = (field) => field.labels[0].textContent;

  function addText(name = "", content = "") {
    const area = make("textarea", { rows: "7", spellcheck: "false", dir: "auto" });
    const remove = make("button", { type: "button" }, "Remove");
    const block = make("div", { class: "text", "data-name": name }, make("label"), remove, area);
    area.value = content;
    remove.addEventListener("click", () => { block.remove(); nameTexts(); areas().at(-1).focus(); });
    texts.append(block);
    nameTexts();
    return area;
  }

  function nameTexts() {
    [...texts.children].forEach((block, place, all) => {
      const [label, remove, area] = block.children;
      label.textContent = block.dataset.name || (all.length > 1 ? `Text ${place + 1}` : "Text");
      label.htmlFor = area.id = `text-${place}`;
      remove.hidden = all.length === 1;
      remove.setAttribute("aria-label", `Remove ${label.textContent}`);
    });
  }

  async function addFiles(list) {
    complain("");
    for (const file of list) {
      try {
        const content = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
        const [first, ...others] = areas();
        if (!others.length && !first.value.trim()) first.parentElement.remove();
        addText(file.name, content);
      } catch {
        complain(`${file.name} is not UTF-8 text.`);
      }
    }
  }

  // ---- asking

  async function ask() {
    const empty = [...areas(), question].find((field) => !field.value.trim());
    complain(empty ? `${nameOf(empty)}: it is empty.` : "");
    if (empty) return empty.focus();
    const asked = areas().map((area) => ({ name: nameOf(area), text: area.value }));
    asking = true;
    status.textContent = "Reading …";
    await loaded;
    await Promise.all(models.map(async (model, number) => {
      try {
        const body = { model: number, question: question.value, texts: asked.map(({ text }) => text) };
        const { answers } = await call("answer", body);
        Object.assign(model, { asked, answers, chosen: null });
        panels.hidden = model.panel.root.hidden = false;
        setSlider(model);
        draw(model);
      } catch (error) {
        model.panel.root.hidden = true;
        complain(`${model.name}: ${error.message}`);
      }
    }));
    if (!panels.hidden && panels.getBoundingClientRect().top > innerHeight / 2) panels.scrollIntoView();
  }

  /** What a model answers about a text at its panel's threshold, as qa.decoding.answers.decide: most probable first. */
  function decide(model, answer) {
    const moved = model.temperature !== null && Number.isFinite(model.limit);
    const shift = moved ? ((model.null_threshold ?? 0) - model.limit) / model.temperature : 0;
    const none = answer.null_probability * Math.exp(Math.max(-700, Math.min(700, shift)));
    const total = answer.candidates.reduce((sum, candidate) => sum + candidate.probability, none);
    const answered = answer.null_score <= model.limit && Boolean(answer.candidates[0]?.answer);
    const outcomes = answer.candidates.filter((candidate) => candidate.answer).map((candidate, rank) =>
      ({ ...candidate, probability: candidate.probability / total, given: answered && rank === 0 }));
    outcomes.push({ answer: "", probability: none / total, given: !answered });
    outcomes.sort((a, b) => b.probability - a.probability);
    return { answered, outcomes, given: outcomes.find((outcome) => outcome.given), none: none / total };
  }

  // ---- a model's panel

  function addPanel(model, number) {
    const part = (tag, name, attributes = {}) => make(tag, { class: name, ...attributes });
    const slider = make("input", { type: "range", step: FINEST, id: `limit-${number}` });
    const own = make("button", { type: "button" }, `Reset to ${logit(model.null_threshold ?? Infinity)}`);
    const panel = {
      slider, verdict: part("div", "verdict", { "aria-live": "polite", "aria-atomic": "true" }), limit: make("output", { for: slider.id }),
      scores: part("div", "scores", { "aria-hidden": "true" }), rule: part("p", "note"), texts: part("fieldset", "choices"),
      context: part("div", "context quoted", { tabindex: "0", role: "region", dir: "auto" }), outcomes: part("fieldset", "choices"),
    };
    const threshold = make("div", { class: "threshold" },
      make("p", { class: "between" }, make("label", { for: slider.id }, "Null threshold ", panel.limit), own),
      panel.scores, slider,
      make("p", { class: "between note", "aria-hidden": "true" }, make("span", {}, "more “no answer”"), make("span", {}, "more answers")),
      panel.rule);
    panel.root = make("article", { class: "model", "aria-label": model.name, hidden: "" },
      make("div", {}, panel.verdict, panel.texts, panel.context), make("div", {}, threshold, panel.outcomes));
    Object.assign(model, { panel, number, limit: model.null_threshold ?? Infinity });
    slider.addEventListener("input", () => {
      model.limit = model.null_threshold === null && slider.value === slider.max ? Infinity : Number(slider.value);
      draw(model);
    });
    own.addEventListener("click", () => {
      model.limit = model.null_threshold ?? Infinity;
      setSlider(model);
      draw(model);
    });
    panels.append(panel.root);
  }

  /** Let the slider reach both decisions about every text. */
  function setSlider(model) {
    const scores = model.answers.filter((answer) => answer.candidates.length).map((answer) => answer.null_score);
    const all = [...scores, model.limit, model.null_threshold ?? 0].filter(Number.isFinite);
    const { slider, scores: marks } = model.panel;
    slider.min = Math.floor(Math.min(...all)) - 1;
    slider.max = Math.ceil(Math.max(...all)) + 1;
    slider.value = Math.min(model.limit, slider.max);
    marks.replaceChildren(...scores.map((score) => {
      const mark = make("span");
      mark.style.setProperty("--at", (score - slider.min) / (slider.max - slider.min));
      return mark;
    }));
  }

  function draw(model) {
    const { panel, asked } = model;
    const found = model.answers.map((answer) => decide(model, answer));
    const worth = found.map(({ answered, given, none }) => (answered ? 1 + given.probability : -none));
    const best = worth.indexOf(Math.max(...worth));
    const { answered, given, none } = found[best];
    panel.limit.textContent = logit(model.limit);
    const where = asked.length === 1 ? "" : answered ? `In ${asked[best].name}. ` : `In none of the ${asked.length} texts. `;
    const rest = answered ? `, no answer ${percent(none)}` : "";
    const verdict = [
      make("h2", {}, model.name, make("small", { class: "note" }, `${model.decoding} · `, make("bdi", {}, model.folder))),
      make("p", { class: "answer" }, quoted(given.answer)),
      make("p", { class: "note" }, where, `Probability ${percent(given.probability)}${rest}`),
    ];
    // a screen reader reads the verdict again only where it has changed
    if (panel.verdict.textContent !== verdict.map((part) => part.textContent).join("")) panel.verdict.replaceChildren(...verdict);
    const show = (place) => {
      [...panel.scores.children].forEach((mark, number) => mark.classList.toggle("current", number === place));
      drawOutcomes(model, asked[place], model.answers[place], found[place]);
    };
    panel.texts.hidden = asked.length === 1;
    const row = (text, place) => [quoted(found[place].given.answer), found[place].given.probability, answered && place === best ? "best" : "", text.name];
    fill(panel.texts, "Texts", `text-of-${model.number}`, asked.map(row), model.chosen ?? best, (place) => { show(model.chosen = place); });
    show(model.chosen ?? best);
  }

  function drawOutcomes(model, { name, text }, answer, { answered, outcomes }) {
    const { panel } = model;
    const given = outcomes.findIndex((outcome) => outcome.given);
    const shown = outcomes.filter((outcome, rank) => rank < SHOWN || outcome.given || !outcome.answer);
    const rows = shown.map((outcome) => [quoted(outcome.answer), outcome.probability, outcome.given ? "✓ answer" : "", ""]);
    panel.context.setAttribute("aria-label", `${name}, with the answer marked`);
    panel.rule.textContent = !answer.candidates.length ? "The model found no candidate in this text."
      : model.limit === Infinity ? `Null score ${logit(answer.null_score)}. Without a threshold, the model always answers.`
      : `Null score ${logit(answer.null_score)}: ${answered ? "not above" : "above"} the threshold, so the model ${answered ? "answers" : "gives no answer"}.`;
    fill(panel.outcomes, "Candidates", `outcome-of-${model.number}`, rows, shown.indexOf(outcomes[given]), (place) => mark(panel.context, text, shown[place]));
    mark(panel.context, text, outcomes[given]);
  }

  /** Fill a group of radio buttons: rows of words, their probability, a word of its own, and the name before them. */
  function fill(fieldset, legend, name, rows, checked, choose) {
    fieldset.replaceChildren(make("legend", {}, legend), ...rows.map(([words, probability, note, before], place) => {
      const radio = make("input", { type: "radio", name });
      const bar = make("span", { class: "bar", "aria-hidden": "true" });
      radio.checked = place === checked;
      radio.addEventListener("change", () => choose(place));
      bar.style.width = percent(probability).replace("<", "").replace(" ", "");
      return make("label", {}, radio, make("span", { class: "words" }, before ? make("bdi", { class: "name" }, before) : null, words),
        make("span", { class: "good" }, note), make("span", { class: "n" }, percent(probability)), bar);
    }));
  }

  /** Show a text with a span marked, or without a mark. Offsets count code points, as Python does; strings count UTF-16. */
  function mark(box, text, { answer, start, end }) {
    if (!answer) return box.replaceChildren(text);
    const place = (index, points) => {
      for (; points > 0; points--) index += text.codePointAt(index) > 0xffff ? 2 : 1;
      return index;
    };
    const first = place(0, start), last = place(first, end - start);
    const marked = make("mark", {}, text.slice(first, last));
    box.replaceChildren(text.slice(0, first), marked, text.slice(last));
    box.scrollTop = marked.offsetTop - box.clientHeight / 3;
  }

  // ---- the page

  function begin() {
    addText();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (asking) return;
      ask().catch((error) => complain(error.message)).finally(() => { asking = false; status.textContent = ""; });
    });
    document.getElementById("add").addEventListener("click", () => addText().focus());
    document.getElementById("open").addEventListener("click", () => files.click());
    files.addEventListener("change", async () => { await addFiles(files.files); files.value = ""; });
    const dragged = (event) => event.dataTransfer?.types.includes("Files") && !event.preventDefault();
    addEventListener("dragover", dragged);
    addEventListener("drop", (event) => { if (dragged(event)) addFiles(event.dataTransfer.files); });
    loaded = call("models").then((found) => { models = found; models.forEach(addPanel); });
    loaded.catch((error) => complain(error.message));
  }

  begin();
})();
