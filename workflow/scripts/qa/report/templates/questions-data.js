// The data of the questions: reads blocks on demand, searches, filters, and cuts texts into marked pieces. It draws nothing.
"use strict";
const questionData = (() => {
  const blocks = new Map();

  /** The JSON of a block of the page. It is decompressed once. */
  function read(id) {
    if (!blocks.has(id)) blocks.set(id, decompressed(document.getElementById(id)));
    return blocks.get(id);
  }

  async function decompressed(element) {
    const text = atob(element.textContent);
    const bytes = new Uint8Array(text.length);
    for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
    element.textContent = ""; // the decompressed data replace it
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  }

  /** The questions of a split, with an index of their ids and the words that a search looks at. */
  async function questionsOf(split) {
    const columns = await read(split.block);
    if (!columns.numbers) {
      columns.numbers = new Map(columns.ids.map((id, number) => [id, number]));
      columns.words = columns.ids.map((id, number) => [
        columns.questions[number], columns.titles[columns.title[number]], id, ...goldSpans(columns, number).map((span) => span.text),
      ].join("\n").toLowerCase());
    }
    return columns;
  }

  /** A set of answers, with the first candidate of each question and the words that a search looks at. */
  async function answersOf(entry, columns) {
    const answers = await read(entry.block);
    if (!answers.first) {
      let place = 0;
      answers.first = answers.count.map((count) => (place += count) - count);
      answers.words = answers.count.map((_, number) => answerText(columns, answers, number).toLowerCase());
    }
    return answers;
  }

  const contextOf = (columns, number) => columns.contexts[columns.context[number]];

  function goldSpans(columns, number) {
    const context = contextOf(columns, number), places = columns.gold[number], spans = [];
    for (let at = 0; at < places.length; at += 2) {
      const [start, stop] = [places[at], places[at] + places[at + 1]];
      spans.push({ start, stop, text: context.slice(start, stop) });
    }
    return spans;
  }

  /**
   * The n-best list of a question, best first: places and text of each candidate, and its probability in thousandths,
   * null if it is unknown. A text that the context does not have is at 0 to 0.
   */
  function candidates(columns, answers, number) {
    const context = contextOf(columns, number);
    return Array.from({ length: answers.count[number] }, (_, rank) => {
      const at = answers.first[number] + rank, start = answers.start[at], stop = start + answers.length[at];
      return { start, stop, text: answers.texts?.[at] ?? context.slice(start, stop), probability: answers.probability[at] };
    });
  }

  /** The answer to a question: its first candidate, or null for no answer. */
  const answerOf = (columns, answers, number) => (answers.answered[number] ? candidates(columns, answers, number)[0] : null);
  const answerText = (columns, answers, number) => answerOf(columns, answers, number)?.text ?? "";

  /** Probability of the answer, or of no answer, in thousandths. */
  const confidence = (answers, number) =>
    answers.answered[number] ? answers.probability[answers.first[number]] : answers.no_answer[number];

  /** The terms of a search: words, and phrases in "quotes". All terms must occur. */
  const terms = (text) => (text.toLowerCase().match(/"[^"]+"|[^\s"]+/g) || []).map((term) => term.replaceAll('"', ""));

  /** For each distinct context, which of the terms it contains. */
  function termsOfContexts(columns, searched) {
    columns.lowered ||= columns.contexts.map((text) => text.toLowerCase());
    return columns.lowered.map((text) => searched.map((term) => text.includes(term)));
  }

  const COMPARED = {
    any: () => true,
    gained: (a, b) => a !== 0 && b === 0,
    lost: (a, b) => a === 0 && b !== 0,
    both: (a, b) => a !== 0 && b !== 0,
    differ: (a, b) => (a === 0) !== (b === 0),
  };

  const ORDERS = {
    data: null,
    confident: (columns, [answers]) => (number) => -confidence(answers, number),
    unconfident: (columns, [answers]) => (number) => confidence(answers, number),
    f1: (columns, [answers]) => (number) => answers.f1[number],
  };

  /**
   * The numbers of the questions that pass the filters: text, contexts, kind ("all", "wrong" or a number), compared,
   * slice and value (numbers, -1 for any), and order. `sets` are one or two sets of answers.
   */
  function fitting(columns, sets, filters) {
    const [a, b] = sets, found = [];
    const searched = terms(filters.text);
    const inContexts = filters.contexts && searched.length ? termsOfContexts(columns, searched) : null;
    const slices = filters.slice >= 0 && filters.value >= 0 ? columns.slices[filters.slice].place : null;
    const compared = COMPARED[b ? filters.compared : "any"];
    for (let number = 0; number < columns.ids.length; number++) {
      const kind = a.kind[number];
      if (filters.kind === "wrong" ? kind === 0 : filters.kind !== "all" && kind !== Number(filters.kind)) continue;
      if (slices && slices[number] !== filters.value) continue;
      if (b && !compared(kind, b.kind[number])) continue;
      const fits = searched.every((term, place) => columns.words[number].includes(term)
        || sets.some((answers) => answers.words[number].includes(term))
        || inContexts?.[columns.context[number]][place]);
      if (fits) found.push(number);
    }
    const key = ORDERS[filters.order]?.(columns, sets);
    return key ? found.sort((first, second) => key(first) - key(second) || first - second) : found;
  }

  /**
   * A text, cut where spans {start, stop, kind} begin or end. A piece has its text, the kinds of the spans that cover
   * it, and those of them that begin with it. Overlapping spans of one kind count as one span.
   */
  function pieces(text, spans) {
    const ends = [...new Set([0, text.length, ...spans.flatMap((span) => [span.start, span.stop])])].sort((a, b) => a - b);
    let before = [];
    return ends.slice(0, -1).map((start, place) => {
      const covering = spans.filter((span) => span.start <= start && start < span.stop);
      const kinds = [...new Set(covering.map((span) => span.kind))];
      const begins = kinds.filter((kind) => !before.includes(kind));
      before = kinds;
      return { text: text.slice(start, ends[place + 1]), kinds, begins };
    });
  }

  /** The link to a question: `#id`, or `#id&split=...&answers=...` if the id alone is ambiguous. */
  function fragment(id, names) {
    const options = Object.entries(names).filter(([, value]) => value !== null);
    return ["#" + encoded(id), ...options.map(([key, value]) => `${key}=${encoded(value)}`)].join("&");
  }

  /** The question that a link names, or null for a link that is not of this page. */
  function linked(hash) {
    try {
      const [id, ...rest] = hash.replace(/^#/, "").split("&");
      const names = new Map(rest.map((part) => part.split("=", 2).map(decodeURIComponent)));
      return { id: decodeURIComponent(id), split: names.get("split") ?? null, answers: names.get("answers") ?? null };
    } catch {
      return null; // not percent-encoded
    }
  }

  const encoded = (text) => encodeURIComponent(text.toWellFormed?.() ?? text);

  return { read, questionsOf, answersOf, contextOf, goldSpans, candidates, answerOf, confidence, fitting, pieces, fragment, linked };
})();
