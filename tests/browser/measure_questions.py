"""Measure the error browser with 12,000 questions: `python tests/browser/measure_questions.py [SQUAD_FILE]`.

Without a file, it uses made-up questions. Times are in milliseconds, from a headless browser without a GPU.
"""

import os
import statistics
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / "workflow" / "scripts"), str(HERE.parent / "helpers"), str(HERE)]

import headless  # noqa: E402
import report_fixture  # noqa: E402
from qa.report import page, questions  # noqa: E402
from qa.report.results import Results  # noqa: E402

WATCH = """
window.firstShown = null;
new MutationObserver(() => {
  if (window.firstShown === null && document.querySelector("[role=option] .good, [role=option] .bad")) {
    requestAnimationFrame(() => setTimeout(() => { window.firstShown ??= performance.now(); }));
  }
}).observe(document, { childList: true, subtree: true });
"""
SEARCH = """
const done = arguments[arguments.length - 1];
(async () => {
  const [split] = (await questionData.read("questions-data")).splits;
  const columns = await questionData.questionsOf(split);
  const sets = await Promise.all(split.answers.slice(0, 2).map((entry) => questionData.answersOf(entry, columns)));
  const filters = { kind: "all", compared: "any", slice: -1, value: -1, order: "data" };
  const took = [];
  for (const contexts of [false, true]) {
    const times = ["w", "wh", "when", "when was", "when was the", "the university", "zzz"].map((text) => {
      const start = performance.now();
      questionData.fitting(columns, sets, { ...filters, text, contexts });
      return performance.now() - start;
    });
    took.push(times);
  }
  done(took);
})();
"""
SCROLL = """
const done = arguments[arguments.length - 1];
const list = document.getElementById("questions-list"), frames = [];
let last = performance.now();
requestAnimationFrame(function step(now) {
  frames.push(now - last);
  last = now;
  list.scrollTop += 300;
  if (frames.length < 240) requestAnimationFrame(step); else done(frames.slice(2));
});
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
        source = (Path(os.environ["PWD"]) / sys.argv[1]).resolve() if len(sys.argv) > 1 else None
        config = report_fixture.make_results(".", 12_000, {"base": [1, 2], "large": [1]}, source=source)
        target = Path("report.html")
        page.write(target, "Questions", "measured", [questions.section(Results(config), None)])
        print(f"page of 12,000 questions and 6 sets of answers: {target.stat().st_size / 1e6:.1f} MB")
        with headless.browser() as driver:
            driver.set_script_timeout(60)
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
            shown = []
            for _ in range(5):
                driver.get(headless.address(target))
                while driver.execute_script("return window.firstShown") is None:
                    pass
                shown.append(driver.execute_script("return window.firstShown"))
            print(f"from navigation to the first list: {_summary(shown)}")
            for name, times in zip(
                ("search", "search in contexts too"), driver.execute_async_script(SEARCH), strict=True
            ):
                print(f"{name}: {_summary(times)}")
            print(f"frames while scrolling: {_summary(driver.execute_async_script(SCROLL))}")


def _summary(times: list[float]) -> str:
    ordered = sorted(times)
    late = ordered[int(0.95 * (len(ordered) - 1))]
    return f"median {statistics.median(times):.1f} ms, 95 % below {late:.1f} ms, longest {ordered[-1]:.1f} ms"


if __name__ == "__main__":
    main()
