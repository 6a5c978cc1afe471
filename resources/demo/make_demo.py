"""Write train.json and validation.json of a dataset in the style of SQuAD 2.0 from its hand-written world/*.toml.

    python resources/demo/make_demo.py [FOLDER]    (without FOLDER: the demo, resources/demo)

Each file of FOLDER/world/ describes one kind of entity: its sentences, its attributes and how to ask for them.
A passage states some attributes of an entity and leaves others out; an attribute that is left out while another span of
its type is present makes a hard unanswerable question. Answers are placed while a passage is put together, never
searched for.

An attribute is [spec, question, ...]. A spec is one of
    "person" | "place" | ...            drawn from a list of world/names.toml
    "year LO HI" | "date LO HI"         years after the beginning of the entity
    "day LO HI"                         a day in the months LO to HI: "4 June"
    "time LO HI"                        in the hours LO to HI: "06:40"
    "code PREFIX"                       "WO-0417"
    "number LO HI STEP UNIT"            "340 metres"
    "money LO HI STEP"                  "€4,500"
    "TYPE: a | b | c"                   one of the listed
"""

import json
import random
import re
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEED = 10
MIN_FACTS, MIN_WORDS, MAX_WORDS = 6, 62, 98
QUESTIONS_PER_PASSAGE = 12
UNANSWERABLE_PER_PASSAGE = (4, 5, 3, 4, 5, 4)
# Types whose spans could be taken for one another; a type that is not named stands for itself.
SAME_TYPE = {"date": "year", "day": "year", "money": "number", "river": "place", "port": "place"} | dict.fromkeys(
    ["material", "food", "job", "device"], "object"
)
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
LEADS = ("in ", "on ", "at ", "about ", "near ", "the ")


@dataclass(frozen=True)
class Kind:
    """One file of world/: sentences with {attribute} slots, and for each attribute a spec and its questions.

    Entities begin in a year of `era` (first, last). `subject` stands for "It" where "It" would be ambiguous.
    `passages` is the number of passages by split.
    """

    name: str
    era: list[int]
    subject: str
    passages: dict[str, int]
    entities: dict[str, list[str]]
    intro: list[str]
    body: list[str]
    other: list[str]
    attributes: dict[str, list[str]]

    def type_of(self, attribute: str) -> str:
        word = re.match(r"\w+", self.attributes[attribute][0]).group()
        return SAME_TYPE.get(word, word)


@dataclass
class Entity:
    name: str
    kind: Kind
    facts: dict[str, str]
    used: set[str] = field(default_factory=set)


@dataclass
class Passage:
    """A context and where it states what: spans[(entity name, attribute)] = (start, answer text)."""

    entity: Entity
    other: Entity | None
    context: str = ""
    spans: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    qas: list[dict] = field(default_factory=list)


class Decks:
    """Draws from lists without repeating an item before the list is used up."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.decks: dict[tuple[str, ...], list[str]] = {}
        self.sentence_uses: Counter = Counter()

    def draw(self, items: list[str]) -> str:
        deck = self.decks.setdefault(tuple(items), [])
        if not deck:
            deck.extend(self.rng.sample(items, len(items)))
        return deck.pop()


def load_kind(path: Path) -> Kind:
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    entities = {split: raw.pop(split) for split in ("train", "validation")}
    return Kind(name=path.stem, entities=entities, **raw)


def slots(template: str) -> set[str]:
    """The attributes a sentence states."""
    return set(re.findall(r"{(\w+)}", template)) - {"name", "last", "other"}


def make_value(spec: str, start_year: int, names: dict[str, list[str]], decks: Decks) -> str:
    """A value for one attribute of an entity that began in `start_year`; the specs are in the module docstring."""
    rng = decks.rng
    if ":" in spec:
        return decks.draw([choice.strip() for choice in spec.split(":", 1)[1].split("|")])
    what, *rest = spec.split()
    if what == "person":
        return f"{decks.draw(names['first'])} {decks.draw(names['last'])}"
    if what in names:
        return decks.draw(names[what])
    if what == "code":
        return f"{rest[0]}-{rng.randint(1, 9999):04}"
    low, high = int(rest[0]), int(rest[1])
    if what == "number":
        return f"{rng.randrange(low, high, int(rest[2])):,} {rest[3]}"
    if what == "money":
        return f"€{rng.randrange(low, high, int(rest[2])):,}"
    if what == "day":
        return f"{rng.randint(1, 28)} {MONTHS[rng.randint(low, high) - 1]}"
    if what == "time":
        return f"{rng.randint(low, high):02}:{rng.randrange(0, 60, 5):02}"
    year = str(start_year + rng.randint(low, high))
    return f"{rng.randint(1, 28)} {rng.choice(MONTHS)} {year}" if what == "date" else year


def make_entities(kind: Kind, split: str, names: dict[str, list[str]], decks: Decks) -> list[Entity]:
    entities = []
    for name in kind.entities[split]:
        start_year = decks.rng.randint(*kind.era)
        facts = {key: make_value(spec[0], start_year, names, decks) for key, spec in kind.attributes.items()}
        entities.append(Entity(name, kind, facts))
    return entities


def choose_sentences(entity: Entity, other: Entity | None, decks: Decks) -> list[str]:
    """An introduction and enough sentences, none stating what another states, in the order of the world file."""
    rng, kind = decks.rng, entity.kind
    intro = decks.draw(kind.intro)
    while intro in entity.used:
        intro = decks.draw(kind.intro)
    stated, chosen, words = slots(intro), [], len(intro.split())
    aside = decks.draw(kind.other) if other else ""
    words += len(aside.split())
    wanted_words = rng.randint(MIN_WORDS, MAX_WORDS - 12)
    # What this entity's other passage says comes last, what other passages say late: every attribute has its turn.
    shuffled = rng.sample(kind.body, len(kind.body))
    for sentence in sorted(shuffled, key=lambda s: (s in entity.used, decks.sentence_uses[s])):
        if len(stated) >= MIN_FACTS and words >= wanted_words:
            break
        fits = words + len(sentence.split()) <= MAX_WORDS
        if fits and not stated & slots(sentence):
            chosen.append(sentence)
            stated |= slots(sentence)
            words += len(sentence.split())
    entity.used.update(chosen, [intro])
    decks.sentence_uses.update(chosen)
    chosen.sort(key=kind.body.index)
    if other:
        clear = [i for i, sentence in enumerate(chosen) if sentence.startswith(("It ", "{last}"))]
        place = rng.choice([*clear, len(chosen)])
        # After the other entity is named, the passage must say whom it goes on about.
        chosen[place : place + 1] = [aside, *(re.sub("^It ", f"{kind.subject} ", s) for s in chosen[place : place + 1])]
    return [intro, *chosen]


def make_passage(entity: Entity, other: Entity | None, decks: Decks) -> Passage:
    """Put a passage together piece by piece, noting where each fact begins."""
    passage = Passage(entity, other)
    context = ""
    for sentence in choose_sentences(entity, other, decks):
        owner = other if other and "{other}" in sentence else entity
        context += " " if context else ""
        for piece in re.split(r"({\w+})", sentence):
            slot = piece.strip("{}")
            if slot == piece:
                context += piece
            elif slot in owner.facts:
                passage.spans[owner.name, slot] = (len(context), owner.facts[slot])
                context += owner.facts[slot]
            else:
                context += {"name": entity.name, "last": entity.name.split()[-1], "other": owner.name}[slot]
    passage.context = context
    return passage


def gold_answers(passage: Passage, attribute: str, start: int, text: str, *, several: bool) -> list[dict]:
    """The answer as SQuAD writes it; with `several`, also the longer or shorter span another annotator might mark."""
    spans = [(start, text)]
    before = passage.context[:start]
    lead = next((word for word in LEADS if before.endswith(" " + word)), "")
    if several and lead:
        spans.append((start - len(lead), lead + text))
    spec = passage.entity.kind.attributes[attribute][0]
    if several and spec.startswith(("number ", "date ")):
        short = text.split()[0] if spec.startswith("number ") else text.split(" ", 1)[1]
        spans.append((passage.context.index(short, start), short))
    elif several and spec == "person":
        surname = text.split()[-1]
        spans.append((start + len(text) - len(surname), surname))
    elif several and text.startswith(("a ", "the ")):
        bare = text.split(" ", 1)[1]
        spans.append((start + len(text) - len(bare), bare))
    return [{"text": text, "answer_start": start} for start, text in spans]


def ask(passage: Passage, owner: Entity, template: str, answers: list[dict]) -> None:
    question = template.format(name=owner.name)
    passage.qas.append({"question": question, "answers": answers, "is_impossible": not answers})


def ask_answerable(passage: Passage, count: int, asked: Counter, rng: random.Random, *, several: bool) -> None:
    """Ask once for every stated fact, then again in other words, until `count` questions are asked."""
    owners = {entity.name: entity for entity in (passage.entity, passage.other) if entity}
    facts = rng.sample(sorted(passage.spans), len(passage.spans))
    facts.sort(key=lambda fact: fact[0] == passage.entity.name)
    for fact in (facts * 2)[:count]:
        owner, (start, text) = owners[fact[0]], passage.spans[fact]
        earlier = {qa["question"] for qa in passage.qas}
        templates = [t for t in owner.kind.attributes[fact[1]][1:] if t.format(name=owner.name) not in earlier]
        template = min(rng.sample(templates, len(templates)), key=lambda t: asked[t, True])
        asked[template, True] += 1
        alternatives = several and rng.random() < 0.6
        ask(passage, owner, template, gold_answers(passage, fact[1], start, text, several=alternatives))


def ask_unanswerable(passage: Passage, count: int, asked: Counter, rng: random.Random) -> None:
    """Ask for facts left out while a span of their type is present, preferring what is asked answerably elsewhere."""
    kind = passage.entity.kind
    present = {kind.type_of(attribute) for _, attribute in passage.spans}

    def turn(key: str) -> float:
        """Low for an attribute that has been unanswerable less often than it has been answerable."""
        templates = kind.attributes[key][1:]
        return (sum(asked[t, False] for t in templates) + 0.5) / (sum(asked[t, True] for t in templates) + 0.5)

    def candidates(owner: Entity) -> list[tuple[Entity, str]]:
        keys = [key for key in kind.attributes if (owner.name, key) not in passage.spans]
        hard = sorted((key for key in rng.sample(keys, len(keys)) if kind.type_of(key) in present), key=turn)
        # Of the wordings the one answerable more often elsewhere, and none that never is: no wording gives itself away.
        best = [max(kind.attributes[key][1:], key=lambda t: asked[t, True] - 2 * asked[t, False]) for key in hard]
        return [(owner, template) for template in best if asked[template, True]]

    swapped = candidates(passage.other) if passage.other else []
    chosen = swapped[: rng.choice([0, 1, 1])]
    chosen += candidates(passage.entity)[: count - len(chosen)]
    for owner, template in chosen:
        asked[template, False] += 1
        ask(passage, owner, template, [])


def passages_of(kind: Kind, split: str, names: dict[str, list[str]], decks: Decks) -> list[Passage]:
    """The passages on the entities of a kind in turn; most of them mention another entity of that kind."""
    entities = make_entities(kind, split, names, decks)
    passages = []
    for number in range(kind.passages[split]):
        entity = entities[number % len(entities)]
        other = decks.rng.choice([e for e in entities if e is not entity]) if decks.rng.random() < 0.75 else None
        passages.append(make_passage(entity, other, decks))
    return passages


def make_split(folder: Path, split: str, asked: Counter) -> dict:
    """One split in the official SQuAD 2.0 layout; `asked` counts (question template, answerable) over all splits."""
    rng = random.Random(f"{SEED} {split}")
    decks = Decks(rng)
    names = tomllib.loads((folder / "world" / "names.toml").read_text(encoding="utf-8"))[split]
    kinds = [load_kind(path) for path in sorted((folder / "world").glob("*.toml")) if path.stem != "names"]
    passages = [passage for kind in kinds for passage in passages_of(kind, split, names, decks)]
    unanswerable = [UNANSWERABLE_PER_PASSAGE[n % len(UNANSWERABLE_PER_PASSAGE)] for n in range(len(passages))]
    for passage, count in zip(passages, unanswerable, strict=True):
        ask_answerable(passage, QUESTIONS_PER_PASSAGE - count, asked, rng, several=split == "validation")
    for passage, count in zip(passages, unanswerable, strict=True):
        ask_unanswerable(passage, count, asked, rng)
    articles: dict[str, list[dict]] = {}
    number = 0
    for passage in passages:
        qas = []
        for qa in rng.sample(passage.qas, len(passage.qas)):
            number += 1
            qas.append({"id": f"{folder.name}-{split}-{number:04d}", **qa})
        title = passage.entity.name[0].upper() + passage.entity.name[1:]
        articles.setdefault(title, []).append({"context": passage.context, "qas": qas})
    return {"version": "v2.0", "data": [{"title": title, "paragraphs": ps} for title, ps in articles.items()]}


def to_json(dataset: dict) -> str:
    """The dataset as JSON with one article a line, so that differences stay readable."""
    lines = ",\n".join(json.dumps(article, ensure_ascii=False) for article in dataset["data"])
    return f'{{"version": {json.dumps(dataset["version"])}, "data": [\n{lines}\n]}}\n'


def make_files(folder: Path) -> dict[str, str]:
    """The text of every file of the dataset, by file name."""
    asked: Counter = Counter()
    return {f"{split}.json": to_json(make_split(folder, split, asked)) for split in ("train", "validation")}


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve() if sys.argv[1:] else HERE
    for file_name, text in make_files(target).items():
        (target / file_name).write_text(text, encoding="utf-8", newline="\n")
