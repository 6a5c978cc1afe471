// The questions' data: read from their blocks when needed, searched, filtered and cut into marked pieces. No page here.
"use strict";
const questionData = (() => {
  const blocks = new Map();

  /** The JSON of a block of the page, decompressed once. */
  function read(id) {
    if (!blocks.has(id)) blocks.set(id, decompressed(document.getElementById(id)));
    return blocks.get(id);
  }

  async function decompressed(element) {
    const text = atob(element.textContent);
    const bytes = new Uint8Array(text.length);
    for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
    element.textContent = ""; // kept once
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  }

  /** A split's questions, with what finding them by id, slice or words needs. */
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

  /** A set of answers, with where each question's candidates begin and the answers' words. */
  async function answersOf(given, columns) {
    const answers = await read(given.block);
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

  /** The n-best list of a question: where each candidate stands and its probability in thousandths, best first. */
  function candidates(columns, answers, number) {
    const context = contextOf(columns, number);
    return Array.from({ length: answers.count[number] }, (_, rank) => {
      const at = answers.first[number] + rank, start = answers.start[at], stop = start + answers.length[at];
      return { start, stop, text: context.slice(start, stop), probability: answers.probability[at] };
    });
  }

  /** What was answered: a candidate, or null for silence. */
  const answerOf = (columns, answers, number) => (answers.answered[number] ? candidates(columns, answers, number)[0] : null);
  const answerText = (columns, answers, number) => answerOf(columns, answers, number)?.text ?? "";

  /** Probability in thousandths of what was answered, be it silence. */
  const certainty = (answers, number) =>
    answers.answered[number] ? answers.probability[answers.first[number]] : answers.silence[number];

  /** The words of a search, all of which must occur; what stands in "quotes" stays together. */
  const terms = (text) => (text.toLowerCase().match(/"[^"]+"|[^\s"]+/g) || []).map((term) => term.replaceAll('"', ""));

  /** For each distinct context which of the terms (a bit each) it holds. */
  function termsOfContexts(columns, wanted) {
    columns.lowered ||= columns.contexts.map((text) => text.toLowerCase());
    return columns.lowered.map((text) => wanted.map((term) => text.includes(term)));
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
    sure: (columns, [answers]) => (number) => -certainty(answers, number),
    unsure: (columns, [answers]) => (number) => certainty(answers, number),
    f1: (columns, [answers]) => (number) => answers.f1[number],
  };

  /**
   * Numbers of the questions that fit: filters has text, contexts, kind ("all", "wrong" or a number), compared, slice
   * and value (numbers, -1 for any) and order; sets are one or two sets of answers.
   */
  function fitting(columns, sets, filters) {
    const [a, b] = sets, found = [];
    const wanted = terms(filters.text);
    const inContexts = filters.contexts && wanted.length ? termsOfContexts(columns, wanted) : null;
    const place = filters.slice >= 0 && filters.value >= 0 ? columns.slices[filters.slice].place : null;
    const compared = COMPARED[b ? filters.compared : "any"];
    for (let number = 0; number < columns.ids.length; number++) {
      const kind = a.kind[number];
      if (filters.kind === "wrong" ? kind === 0 : filters.kind !== "all" && kind !== Number(filters.kind)) continue;
      if (place && place[number] !== filters.value) continue;
      if (b && !compared(kind, b.kind[number])) continue;
      const fits = wanted.every((term, which) => columns.words[number].includes(term)
        || sets.some((answers) => answers.words[number].includes(term))
        || inContexts?.[columns.context[number]][which]);
      if (fits) found.push(number);
    }
    const key = ORDERS[filters.order]?.(columns, sets);
    return key ? found.sort((one, other) => key(one) - key(other) || one - other) : found;
  }

  /**
   * A text cut where spans begin or end. spans: {start, stop, kind}; a piece has its text, the kinds of the spans that
   * cover it, and which of these begin with it, where spans of one kind that overlap count as one.
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

  /** `#id`, or `#id&split=...&answers=...` where the id alone would say something else. */
  function fragment(id, names) {
    const more = Object.entries(names).filter(([, value]) => value !== null);
    return ["#" + encoded(id), ...more.map(([key, value]) => `${key}=${encoded(value)}`)].join("&");
  }

  function asked(hash) {
    try {
      const [id, ...rest] = hash.replace(/^#/, "").split("&");
      const names = new Map(rest.map((part) => part.split("=", 2).map(decodeURIComponent)));
      return { id: decodeURIComponent(id), split: names.get("split") ?? null, answers: names.get("answers") ?? null };
    } catch {
      return null; // no percent-encoding: not a link of this page
    }
  }

  const encoded = (text) => encodeURIComponent(text.toWellFormed?.() ?? text);

  return { read, questionsOf, answersOf, contextOf, goldSpans, candidates, answerOf, certainty, fitting, pieces, fragment, asked };
})();
