"""The error browser in a real browser, opened as a file as readers open it."""

import json
from urllib.parse import quote

import pyarrow.parquet as parquet
import pytest

import headless
import report_fixture

HERE = """
const all = (within, selector) => [...within.querySelectorAll(selector)];
const rows = all(document, "[role=option]").filter((row) => !row.hidden);
rows.sort((a, b) => a.getAttribute("aria-posinset") - b.getAttribute("aria-posinset"));
const [list, detail] = ["list", "detail"].map((name) => document.getElementById(`questions-${name}`));
return {
  count: document.getElementById("questions-count").textContent,
  shown: rows.map((row) => row.firstChild.textContent),
  active: document.getElementById(list.getAttribute("aria-activedescendant"))?.firstChild.textContent ?? null,
  heading: detail.querySelector("h3")?.textContent ?? null,
  link: detail.querySelector("a")?.getAttribute("href") ?? null,
  marks: all(detail, ".questions-context mark").map((mark) => [mark.className, mark.lastChild.textContent]),
  labels: all(detail, ".questions-context .questions-label").map((label) => label.textContent),
  tables: all(detail, "table").map((table) => all(table.tBodies[0], "tr").map(
    (row) => all(row, "th, td").map((cell) => cell.textContent))),
  focus: document.activeElement.id, hacked: window.hacked ?? null, title: document.title,
};
"""
COLOURS = """
const of = (name) => getComputedStyle(document.querySelector(name));
const names = ["#questions-detail h3", "mark.a", ".questions-letter[data-set=b]", ".questions-row .good",
  ".questions-context"];
return names.map((name) => [of(name).color, of(name).backgroundColor, of("body").backgroundColor]);
"""


def here(driver):
    """What the page shows."""
    return driver.execute_script(HERE)


def until(driver, holds):
    """Wait until `holds` accepts what the page shows; return what it shows."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 300, poll_frequency=0.05).until(lambda _: (now := here(driver)) and holds(now) and now)


def opened(driver, page, fragment=""):
    """Open a page and wait for its list, and for the question of the fragment."""
    driver.get("about:blank")
    driver.get(headless.address(page, fragment))
    return until(driver, lambda now: now["shown"] and (now["heading"] is not None or not fragment))


def choose(driver, name, label):
    """Choose the option of a control that begins with a label."""
    from selenium.webdriver.support.ui import Select

    select = Select(driver.find_element("id", f"questions-{name}"))
    select.select_by_visible_text(next(o.text for o in select.options if o.text.startswith(label)))


def keys(driver, name, *pressed):
    driver.find_element("id", f"questions-{name}").send_keys(*pressed)


def rows_of(page, file, run="base/seed-1", decoding="n_best"):
    return parquet.read_table(page.parent / f"results/{run}/made/validation/{decoding}/{file}.parquet").to_pylist()


def records(page):
    return parquet.read_table(page.parent / "results/questions/made/validation.parquet").to_pylist()


def test_all_questions_are_listed_and_only_those_in_sight_drawn(driver, plain):
    now = opened(driver, plain)
    assert now["count"] == "300 questions"
    asked = [row["question"] for row in records(plain)]
    assert now["shown"] == asked[: len(now["shown"])] and 5 < len(now["shown"]) < 40
    driver.execute_script("document.getElementById('questions-list').scrollTop = 1e9")
    end = until(driver, lambda now: now["shown"][-1] == asked[-1])
    assert len(end["shown"]) < 40
    row = driver.find_element("css selector", "[aria-posinset='300']")
    assert row.get_attribute("aria-setsize") == "300"


def test_a_search_finds_questions_answers_titles_and_ids_whatever_the_case(driver, plain):
    opened(driver, plain)
    asked = records(plain)
    for words, holds in (
        ("WAS 27", lambda row: "27" in row["question"] or "27" in row["id"]),
        ("q00123", lambda row: row["id"] == "q00123"),
        ('"article 3"', lambda row: row["title"] == "Article 3"),
    ):
        driver.find_element("id", "questions-text").clear()
        keys(driver, "text", words)
        wanted = [row["question"] for row in asked if holds(row)]
        now = until(driver, lambda now, wanted=wanted: now["count"] == f"{len(wanted)} of 300 questions")
        assert now["shown"] == wanted[: len(now["shown"])]
    keys(driver, "text", " nowhere")
    assert until(driver, lambda now: now["count"].startswith("No question"))["shown"] == []


def test_a_search_looks_into_contexts_when_asked(driver, plain):
    opened(driver, plain)
    keys(driver, "text", "søren")
    until(driver, lambda now: now["count"].startswith("No question"))
    driver.find_element("id", "questions-contexts").click()
    count = sum("Søren" in row["context"] for row in records(plain))
    assert count == 8
    until(driver, lambda now: now["count"] == "8 of 300 questions")


def test_filters_by_outcome_and_slice_agree_with_the_results(driver, plain):
    opened(driver, plain)
    errors = rows_of(plain, "errors")
    for kind in ("missed answer", "answered the unanswerable", "boundary", "wrong span"):
        wanted = [row["question"] for row in errors if row["kind"] == kind]
        assert wanted
        choose(driver, "kind", kind)
        now = until(driver, lambda now, wanted=wanted: now["count"] == f"{len(wanted)} of 300 questions")
        assert now["shown"] == wanted[: len(now["shown"])]
    choose(driver, "kind", "not correct")
    until(driver, lambda now: now["count"] == f"{len(errors)} of 300 questions")
    choose(driver, "slice", "answerability")
    choose(driver, "value", "unanswerable")
    unanswerable = sum(row["kind"] == "answered the unanswerable" for row in errors)
    until(driver, lambda now: now["count"] == f"{unanswerable} of 300 questions")
    driver.find_element("id", "questions-reset").click()
    until(driver, lambda now: now["count"] == "300 questions")


def test_two_runs_are_compared_question_by_question(driver, plain):
    opened(driver, plain)
    choose(driver, "a", "base / seed-2 / n_best")
    choose(driver, "b", "large / seed-1 / threshold_0")
    choose(driver, "compared", "A wrong, B right")
    wrong = {row["question"] for row in rows_of(plain, "errors", "base/seed-2")}
    worse = {row["question"] for row in rows_of(plain, "errors", "large/seed-1", "threshold_0")}
    gained = [row["question"] for row in records(plain) if row["question"] in wrong - worse]
    now = until(driver, lambda now: now["count"] == f"{len(gained)} of 300 questions")
    assert now["shown"] == gained[: len(now["shown"])]
    choose(driver, "b", "nothing")
    assert until(driver, lambda now: now["count"] == "300 questions")
    assert not driver.find_element("id", "questions-compared").is_enabled()


def test_the_most_confident_answers_come_first_on_request(driver, plain):
    opened(driver, plain)
    choose(driver, "kind", "wrong span")
    choose(driver, "order", "most confident of A first")
    errors = [row for row in rows_of(plain, "errors") if row["kind"] == "wrong span"]
    best = max(errors, key=lambda row: row["probability"])
    assert until(driver, lambda now: now["shown"][0] == best["question"])


def test_the_keyboard_moves_through_the_list_and_opens(driver, plain):
    from selenium.webdriver.common.keys import Keys

    opened(driver, plain)
    asked = [row["question"] for row in records(plain)]
    keys(driver, "list", Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP)
    assert here(driver)["active"] == asked[1]
    until(driver, lambda now: now["heading"] == asked[1])  # the open question follows the keys
    keys(driver, "list", Keys.PAGE_DOWN)
    assert asked.index(here(driver)["active"]) > 3
    keys(driver, "list", Keys.END)
    assert here(driver)["active"] == asked[-1]
    keys(driver, "list", Keys.HOME)
    assert here(driver)["active"] == asked[0]
    keys(driver, "list", Keys.ARROW_DOWN, Keys.ENTER)
    now = until(driver, lambda now: now["heading"] == asked[1])
    assert now["focus"] == "questions-detail"
    keys(driver, "detail", Keys.ESCAPE)
    assert here(driver)["focus"] == "questions-list"


def test_marks_stand_at_the_right_characters_beyond_emoji(driver, plain):
    now = opened(driver, plain, "#q00000")
    (first, *_) = records(plain)
    assert "🦀" in first["context"] and first["answers"]["text"] == ["1412"]
    assert "".join(text for kinds, text in now["marks"] if "gold" in kinds.split()) == "1412"
    for letter, run in (("a", "base/seed-1"), ("b", "large/seed-1")):
        answer = json.loads((plain.parent / f"results/{run}/made/validation/n_best/answers.json").read_text())["q00000"]
        assert "".join(text for kinds, text in now["marks"] if letter in kinds.split()) == answer
    assert " ".join(now["labels"]).count("gold") == 1


def test_a_gold_answer_and_an_answer_that_overlap_are_both_marked(driver, plain):
    row = next(row for row in rows_of(plain, "errors") if row["kind"] == "boundary")
    now = opened(driver, plain, f"#{row['id']}")
    starts, stops = zip(*((gold["start"], gold["start"] + len(gold["text"])) for gold in row["gold"]), strict=True)
    marked = {kind: "".join(text for kinds, text in now["marks"] if kind in kinds.split()) for kind in ("gold", "a")}
    assert marked == {"gold": row["context"][min(starts) : max(stops)], "a": row["answer"]}
    assert any({"gold", "a"} <= set(kinds.split()) for kinds, _ in now["marks"])


def test_a_long_context_shows_the_text_around_its_marks_and_the_rest_on_request(driver, long_contexts):
    row = next(row for row in records(long_contexts) if row["answers"]["text"])
    now = opened(driver, long_contexts, f"#{row['id']}")
    assert any("gold" in kinds for kinds, _ in now["marks"])
    shown = "return document.querySelector('.questions-context').innerText"
    above = "const top = (name) => document.querySelector(name).getBoundingClientRect().top;"
    distance = driver.execute_script(f"{above} return top('mark.gold') - top('#questions-detail')")
    assert 0 < distance < 500 and len(driver.execute_script(shown)) < 4000 < 15_000 < len(row["context"])
    for button in driver.find_elements("css selector", ".questions-context button"):
        button.click()
    assert len(driver.execute_script(shown)) >= len(row["context"])


def test_the_answers_of_all_runs_and_the_candidates_are_shown(driver, plain):
    now = opened(driver, plain, "#q00001")
    now = until(driver, lambda now: all(len(row) == 6 for row in now["tables"][0]))
    answers, listed, _ = now["tables"]
    names = {
        f"{run} / {decoding}"
        for run in ("base / seed-1", "base / seed-2", "large / seed-1")
        for decoding in ("n_best", "threshold_0")
    }
    assert {row[0].removeprefix("A ").removeprefix("B ") for row in answers} == names
    row = next(row for row in rows_of(plain, "nbest") if row["id"] == "q00001")
    expected = [(candidate["text"], candidate["probability"]) for candidate in row["candidates"][:5]]
    expected = sorted([*expected, ("no answer", row["null_probability"])], key=lambda pair: -pair[1])
    assert [cells[1] for cells in listed] == [text for text, _ in expected]
    shown = [float(cells[2].removesuffix(" %").removeprefix("<")) for cells in listed]
    assert shown == pytest.approx([100 * chance for _, chance in expected], abs=0.051)
    assert sum(cells[0] == "✓ answer" for cells in listed) == 1


def test_an_answer_that_the_context_does_not_have_is_shown_without_a_mark_or_a_probability(driver, of_others):
    now = opened(driver, of_others, "#q00001")
    now = until(driver, lambda now: all(len(row) == 6 for row in now["tables"][0]))
    rows = {cells[0].removeprefix("B "): cells[1:3] for cells in now["tables"][0] if "as_given" in cells[0]}
    assert rows == {
        "sure / external / as_given": ["It is 1412!", "75.0 %"],
        "plain / external / as_given": ["It is 1412!", "–"],
    }
    choose(driver, "a", "plain")
    now = until(driver, lambda now: len(now["tables"]) > 1 and len(now["tables"][1]) == 2)
    assert {kind for kind, _ in now["marks"]} == {"gold"}
    assert ["✓ answer", "It is 1412!", "–", ""] in now["tables"][1]


def test_each_question_has_a_link_that_opens_it(driver, plain):
    now = opened(driver, plain, "#q00250")
    assert (
        now["heading"] == "When was 250 built?" and now["link"] == "#q00250" and "When was 250 built?" in now["shown"]
    )
    driver.execute_script("location.hash = '#q00007'")
    until(driver, lambda now: now["heading"] == "When was 7 built?")
    choose(driver, "a", "large / seed-1 / n_best")
    link = until(driver, lambda now: "large" in (now["link"] or ""))["link"]
    assert link == "#q00007&answers=large%20%2F%20seed-1%20%2F%20n_best"
    assert opened(driver, plain, link)["heading"] == "When was 7 built?"
    assert driver.execute_script("return document.getElementById('questions-a').selectedOptions[0].text").startswith(
        "large"
    )


def test_a_link_opens_its_question_though_filters_hide_it(driver, plain):
    opened(driver, plain)
    keys(driver, "text", "nowhere")
    until(driver, lambda now: not now["shown"])
    driver.execute_script("location.hash = '#q00007'")
    now = until(driver, lambda now: now["heading"] == "When was 7 built?")
    assert now["count"] == "300 questions"


def test_a_link_names_the_split_where_an_id_is_in_several(driver, two_splits):
    assert opened(driver, two_splits, "#q00004")["link"] == "#q00004"
    choose(driver, "split", "made/test")
    until(driver, lambda now: now["heading"] is None)
    driver.find_element("css selector", "[aria-posinset='3']").click()
    link = until(driver, lambda now: now["heading"] == "When was 2 built?")["link"]
    assert link == "#q00002&split=made%2Ftest"
    opened(driver, two_splits, link)
    assert driver.execute_script("return document.getElementById('questions-split').selectedOptions[0].text") == (
        "made/test (30)"
    )


def test_a_link_to_no_question_says_so(driver, plain):
    driver.get("about:blank")
    driver.get(headless.address(plain, "#never-asked"))
    assert until(driver, lambda now: now["count"].endswith("has the id never-asked"))


def test_hostile_texts_run_nothing_and_are_shown_as_they_are(driver, hostile):
    title = opened(driver, hostile)["title"]
    for row in records(hostile)[: len(report_fixture.HOSTILE)]:
        link = f"#{quote(row['id'], safe='')}&split={quote('made/validation', safe='')}"
        now = opened(driver, hostile, link)
        assert now["heading"] == row["question"]
        assert row["id"] in [
            a.get_property("textContent") for a in driver.find_elements("css selector", "#questions-detail a")
        ]
        drawn = driver.execute_script(
            "const copy = document.querySelector('.questions-context').cloneNode(true);"
            "copy.querySelectorAll('.questions-label').forEach((label) => label.remove()); return copy.textContent"
        )
        assert drawn == row["context"]
        assert (now["hacked"], now["title"]) == (None, title)
        assert driver.find_elements("css selector", "main img, main svg, main iframe, #questions-detail script") == []


def test_links_to_hostile_ids_lead_back_to_them(driver, hostile):
    for number, row in enumerate(records(hostile)[: len(report_fixture.HOSTILE)]):
        opened(driver, hostile)
        # the list is redrawn at most two frames after it scrolls
        driver.execute_async_script(
            "document.getElementById('questions-list').scrollTop = arguments[0] * 60;"
            "requestAnimationFrame(() => requestAnimationFrame(arguments[1]))",
            number,
        )
        driver.execute_script("document.querySelector(`[aria-posinset='${arguments[0]}']`).click()", number + 1)
        now = until(driver, lambda now: now["link"])
        assert now["heading"] == row["question"]
        assert opened(driver, hostile, now["link"])["heading"] == row["question"]


def test_a_phone_has_all_without_scrolling_sideways(phone, plain):
    opened(phone, plain)
    row = phone.find_element("css selector", "[aria-posinset='2']")
    phone.execute_script("arguments[0].scrollIntoView({ behavior: 'instant', block: 'center' })", row)
    row.click()
    now = until(phone, lambda now: now["heading"] == "When was 1 built?")
    assert now["focus"] == "questions-detail"
    assert phone.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert (
        0
        <= phone.execute_script("return document.querySelector('#questions-detail h3').getBoundingClientRect().top")
        < 740
    )
    phone.execute_script("document.querySelector('.questions-back button').click()")
    assert here(phone)["focus"] == "questions-list"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_can_be_read_in_both_themes(driver, plain, theme):
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    opened(driver, plain, "#q00000")
    for ink, paper, page in driver.execute_script(COLOURS):
        assert contrast(ink, page if paper.endswith(", 0)") else paper) >= 4.5


def contrast(first, second):
    """Contrast of two CSS colours, 1 to 21 (WCAG 2.1)."""
    lights = sorted((light(first), light(second)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def light(colour):
    parts = [float(part) / 255 for part in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_control_has_a_name_and_the_list_is_known_to_screen_readers(driver, plain):
    opened(driver, plain, "#q00002")
    tree = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    seen = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")]
    for role in ("combobox", "searchbox", "checkbox", "button", "listbox", "table", "link"):
        names = [name for kind, name in seen if kind == role]
        assert names and all(name.strip() for name in names), role
    options = [name for kind, name in seen if kind == "option" and name.startswith("When was")]
    assert any("correct" in name for name in options)
