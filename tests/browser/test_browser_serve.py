"""The page to ask models in a real browser, with readers that need no model."""

import threading

import pytest

import headless
from qa.reader import Question
from qa.serve import server
from stub_reader import StubReader

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
HOSTILE = "<img src=x onerror=\"document.title='hacked'\">"
TEXT = f"🏭 Ada 🌍 built {HOSTILE} in 1412.\n" + "Nothing happens here. " * 400 + "Bo mended it in 1790."
SCORES = {"Ada": 4.0, "1412": 3.0, HOSTILE: 2.5, "Bo": 2.0}
FIRST = StubReader(SCORES, null_score=3.0, null_threshold=-0.5, temperature=1.7)
SECOND = StubReader({"Bo": 1.0, "1412": 0.5}, null_score=4.0, run="second")

HERE = """
const all = (within, selector) => [...within.querySelectorAll(selector)];
const text = (within, selector) => all(within, selector).map((part) => part.textContent)[0] ?? null;
const row = (label) => [...[".words", ".good", ".n"].map((name) => text(label, name)), label.firstChild.checked];
return {
  trouble: text(document, "#trouble"),
  panels: all(document, ".model:not([hidden])").map((panel) => ({
    name: text(panel, "h2").split("n_best")[0], answer: text(panel, ".answer"), note: text(panel, ".verdict > .note"),
    context: text(panel, ".context"), mark: text(panel, "mark"), threshold: text(panel, "output"),
    rule: text(panel, ".threshold > .note:last-child"),
    rows: all(panel, ".choices:not([hidden]) label").map(row),
  })),
};
"""


@pytest.fixture(scope="module")
def address(_there):
    with server.Server("127.0.0.1", 0, {"first": FIRST, "second": SECOND}) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running.address
        running.shutdown()
        thread.join()


@pytest.fixture
def is_own(address):
    return lambda url: url.startswith(address)


def until(driver, holds):
    """Wait until `holds` accepts what the panels show; return that."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 300, poll_frequency=0.05).until(
        lambda _: (now := driver.execute_script(HERE)) and holds(now) and now, driver.find_element("id", "trouble").text
    )


def ask(driver, address, *texts, question="Who built it?"):
    """Fill in texts, ask with Enter, and return what each model's panel shows."""
    driver.get(address)
    for number, text in enumerate(texts):
        if number:
            driver.find_element("id", "add").click()
        script = "document.querySelectorAll('textarea')[arguments[0]].value = arguments[1]"
        driver.execute_script(script, number, text)
    driver.find_element("id", "question").send_keys(question, Keys.ENTER)
    return until(driver, lambda now: len(now["panels"]) == 2)["panels"]


def percent(value):
    return f"{100 * value:.1f} %"


def rows_of(reader, text):
    """The rows of a list of candidates, from the library's own decision."""
    answer = reader.answer(Question("?", text))
    rows = [(span.text, percent(span.probability), number) for number, span in enumerate(answer.candidates)]
    rows.append(("no answer", percent(answer.null_probability), -1))
    given = 0 if answer else -1
    ordered = sorted(rows, key=lambda row: -float(row[1].split()[0]))
    return [[text, "✓ answer" if n == given else "", sure, n == given] for text, sure, n in ordered]


def test_each_model_marks_its_answer_and_lists_what_else_it_considered(driver, address):
    first, second = ask(driver, address, TEXT)
    assert (first["name"], first["answer"], first["mark"]) == ("stub / seed-1", "Ada", "Ada")
    assert (second["name"], second["answer"], second["mark"]) == ("second / seed-1", "no answer", None)
    assert [first["rows"], second["rows"]] == [rows_of(FIRST, TEXT), rows_of(SECOND, TEXT)]
    assert first["context"] == second["context"] == TEXT
    left, right = driver.find_elements("css selector", ".model")
    assert left.location["y"] == right.location["y"]


def test_the_slider_decides_as_the_library_does_without_asking_the_server(driver, address):
    ask(driver, address, TEXT)
    headless.requested(driver)
    slider = driver.find_element("css selector", "input[type=range]")
    slider.send_keys(Keys.HOME)
    least = float(slider.get_attribute("min"))
    refused = until(driver, lambda now: now["panels"][0]["answer"] == "no answer")["panels"][0]
    stricter = StubReader(SCORES, FIRST.null_score, null_threshold=least, temperature=FIRST.temperature)
    assert refused["mark"] is None and refused["rows"] == rows_of(stricter, TEXT)
    assert "Null score −1.00: above the threshold" in refused["rule"]
    slider.send_keys(Keys.END)
    until(driver, lambda now: now["panels"][0]["answer"] == "Ada")
    driver.find_element("css selector", ".threshold button").click()
    now = until(driver, lambda now: now["panels"][0]["threshold"] == "−0.50")["panels"][0]
    assert now["rows"] == rows_of(FIRST, TEXT) and headless.requested(driver) == set()


def test_arrow_keys_mark_the_next_candidate_after_characters_beyond_utf_16_and_scroll_to_it(driver, address):
    ask(driver, address, TEXT)
    chosen = driver.find_element("css selector", ".model .choices:last-child input:checked")
    for word in (None, "1412", HOSTILE, "Bo"):  # None: no answer is the second most probable
        chosen.send_keys(Keys.ARROW_DOWN)
        chosen = driver.switch_to.active_element
        until(driver, lambda now, word=word: now["panels"][0]["mark"] == word)
    inside = """
        const box = document.querySelector(".context").getBoundingClientRect();
        const mark = document.querySelector(".context mark").getBoundingClientRect();
        return mark.top >= box.top && mark.bottom <= box.bottom;
    """
    assert driver.execute_script(inside) and driver.execute_script(HERE)["panels"][0]["answer"] == "Ada"


def test_of_several_texts_the_best_is_shown_and_each_can_be_looked_at(driver, address, tmp_path):
    (tmp_path / "dropped.txt").write_bytes("\ufeffAda and 1412.".encode())
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    driver.get(address)
    files = driver.find_element("id", "files")
    files.send_keys(f"{tmp_path / 'dropped.txt'}\n{tmp_path / 'bytes.txt'}")
    until(driver, lambda now: now["trouble"] == "bytes.txt is not UTF-8 text.")
    driver.find_element("id", "add").click()
    driver.switch_to.active_element.send_keys("Bo.")
    driver.find_element("id", "question").send_keys("Who?", Keys.ENTER)
    first, second = until(driver, lambda now: len(now["panels"]) == 2)["panels"]
    assert "In dropped.txt. " in first["note"] and "In none of the 2 texts. " in second["note"]
    assert [row[0] for row in first["rows"][:2]] == ["dropped.txtAda", "Text 2no answer"]
    assert (first["rows"][0][1], first["context"]) == ("best", "Ada and 1412.")
    driver.find_element("css selector", ".choices input:checked").send_keys(Keys.ARROW_DOWN)
    assert until(driver, lambda now: now["panels"][0]["context"] == "Bo.")["panels"][0]["answer"] == "Ada"


def test_hostile_text_is_text(driver, address):
    first, _ = ask(driver, address, f"{HOSTILE} Ada", f"{HOSTILE}", question=HOSTILE)
    assert HOSTILE in first["context"] and driver.title == "Ask a model"
    assert driver.find_elements("css selector", "main img") == []


def test_a_fault_is_a_sentence_on_the_page(driver, address, monkeypatch):
    ask(driver, address, TEXT)
    monkeypatch.setattr(FIRST, "answer", lambda question: 1 / 0)
    driver.find_element("id", "question").send_keys(Keys.ENTER)
    until(driver, lambda now: len(now["panels"]) == 1)
    trouble = driver.find_element("id", "trouble")
    assert trouble.text.startswith("stub / seed-1: The model failed: ZeroDivisionError")
    assert "500" in headless.complaints(driver)[0]
    driver.find_element("tag name", "textarea").clear()
    driver.find_element("id", "question").send_keys(Keys.ENTER)
    assert trouble.text == "Text: it is empty." and driver.switch_to.active_element.tag_name == "textarea"


def test_a_phone_has_all_without_scrolling_sideways_and_shows_the_answer(phone, address):
    ask(phone, address, TEXT, "x" * 300 + " Ada")
    assert phone.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    top = "return document.querySelector('.answer').getBoundingClientRect().top"
    until(phone, lambda now: 0 <= phone.execute_script(top) < 740)
    above, below = phone.find_elements("css selector", ".model")
    assert above.location["y"] + above.size["height"] <= below.location["y"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_people_out(driver, address, theme):
    axe = pytest.importorskip("axe_core_python.base")
    media = [{"name": "prefers-color-scheme", "value": theme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    ask(driver, address, TEXT, "Ada")
    driver.execute_script(axe.AXE_SCRIPT)
    found = driver.execute_async_script("axe.run().then(arguments[0])")
    assert len(found["passes"]) > 20
    assert [(rule["id"], rule["nodes"][0]["target"]) for rule in found["violations"]] == []
