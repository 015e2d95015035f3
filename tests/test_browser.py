"""The pages as a person uses them: fill in the run form, press Submit, see the run end, find the model.

Screenshots go to the folder that MODELMILL_SCREENSHOTS names, else to the test's own.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's own, of sqlalchemy and others
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
]

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1400,1400"
)


class Browser:
    """Chromium, with the few things that a person does in it."""

    def __init__(self, profile: Path, screenshots: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
            options.add_argument(flag)
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.screenshots = screenshots
        screenshots.mkdir(parents=True, exist_ok=True)

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
        """The condition's value once it is true; else fails with what was waited for, and a picture."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if value := condition():
                    return value
            except WebDriverException:
                pass  # the page is being drawn anew
            if time.monotonic() > deadline:
                self.picture("failure")
                raise AssertionError(f"no {what} on {self.driver.current_url}:\n{self.text()[:2000]}")
            time.sleep(0.2)

    def open(self, url: str, expect: str) -> None:
        self.driver.get(url)
        self.wait(lambda: expect in self.text(), expect)

    def text(self) -> str:
        return str(self.driver.find_element(By.TAG_NAME, "body").text)

    def click(self, css: str, text: str) -> None:
        """Click the first visible element with this text."""

        def find() -> Any:
            found = self.driver.find_elements(By.CSS_SELECTOR, css)
            return next((e for e in found if e.text.strip() == text and e.is_displayed()), None)

        element = self.wait(find, f"{css} {text!r}")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        time.sleep(0.3)  # the page scrolls
        element.click()

    def field(self, label: str) -> Any:
        """The field under a label."""
        path = f"//label[starts-with(normalize-space(), '{label}')]"
        path += "/following::*[self::input or self::textarea][1]"
        return self.wait(lambda: self.driver.find_element(By.XPATH, path), f"field {label}")

    def fill(self, label: str, value: str) -> None:
        """Type into a field, instead of what is there."""
        self.field(label).send_keys(Keys.CONTROL, "a")
        self.field(label).send_keys(value)
        self.wait(lambda: self.field(label).get_property("value") == value, f"{value!r} in the field {label}")

    def picture(self, name: str) -> None:
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not on this machine (apt-get install chromium chromium-driver)")
    folder = tmp_path_factory.mktemp("browser")
    made = Browser(
        folder / "profile", Path(os.environ.get("MODELMILL_SCREENSHOTS") or folder / "screenshots")
    )
    yield made
    made.driver.quit()


def runs(stack: Any) -> list[dict[str, Any]]:
    answer = httpx.post(
        f"{stack.api}/flow_runs/filter",
        json={"sort": "EXPECTED_START_TIME_DESC", "deployments": {"name": {"any_": ["on-demand"]}}},
        trust_env=False,
    )
    return list(answer.raise_for_status().json())


def state(stack: Any, run: str) -> str:
    return str(httpx.get(f"{stack.api}/flow_runs/{run}", trust_env=False).json()["state_name"])


def test_the_form_is_filled_in_and_the_run_completes(running_stack: Any, browser: Browser) -> None:
    pages = running_stack.api.removesuffix("/api")
    browser.open(f"{pages}/v2/deployments", "on-demand")
    browser.picture("1-deployments")
    browser.click("a", "on-demand")
    browser.click("button", "Run")
    browser.click("[role=menuitem]", "Custom run")
    browser.wait(lambda: "Which optimizer it names." in browser.text(), "descriptions in the form")
    browser.picture("2-form")
    before = {run["id"] for run in runs(running_stack)}

    browser.fill("Seconds", "-5")
    browser.click("button", "Submit")
    assert "greater than or equal to 0" in browser.field("Seconds").get_property("validationMessage")
    browser.picture("3-refused")
    assert {run["id"] for run in runs(running_stack)} == before

    browser.fill("Seconds", "1")
    browser.fill("Model name", "from-the-browser")
    browser.click("button", "Submit")
    (fresh,) = browser.wait(lambda: [r for r in runs(running_stack) if r["id"] not in before], "new run")
    assert fresh["parameters"]["config"]["name"] == "from-the-browser"
    assert fresh["parameters"]["config"]["train"] == {"seconds": 1, "kind": "muon"}
    browser.driver.get("about:blank")  # a run's page redraws its timeline all the while
    browser.wait(lambda: state(running_stack, fresh["id"]) == "Completed", "completed run", 90)
    browser.open(f"{pages}/v2/runs/flow-run/{fresh['id']}", "Completed")
    browser.picture("4-run")


def test_the_champion_is_found_in_the_pages_of_mlflow(
    running_stack: Any, browser: Browser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = f"http://127.0.0.1:{running_stack.mlflow_port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    from mlflow import MlflowClient

    client = MlflowClient(address)
    run = client.create_run(client.create_experiment("browser"))
    (tmp_path / "config.json").write_text("{}")
    client.log_artifact(run.info.run_id, str(tmp_path / "config.json"), "hf")
    client.create_registered_model("seen-in-a-browser")
    version = client.create_model_version("seen-in-a-browser", f"{run.info.artifact_uri}/hf", run.info.run_id)
    client.set_registered_model_alias("seen-in-a-browser", "champion", version.version)
    browser.open(f"{address}/#/models/seen-in-a-browser", "seen-in-a-browser")
    browser.wait(lambda: "@ champion" in browser.text() or "champion" in browser.text(), "the alias")
    assert "Version 1" in browser.text()
    browser.picture("5-model")
