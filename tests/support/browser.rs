//! A headless Chromium, driven as a person would drive it: what is on the page is read, what is clicked is clicked
//! (W3C WebDriver, by ChromeDriver). One browser, one page, gone with its test.

use crate::process::{Running, try_until, wait_until};
use mailbadge_sim::client::{Call, call};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Longest wait for the browser, and for something to appear on a page.
const PATIENCE: Duration = Duration::from_mins(1);

/// A page in a browser.
#[derive(Debug)]
pub struct Browser {
    authority: String,
    session: String,
    runtime: Runtime,
    _driver: Running,
    _folder: TempDir,
}

impl Browser {
    /// Opens the page.
    pub fn open(url: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).current_dir(folder.path());
        let driver = Running::start("chromedriver", command, &folder.path().join("chromedriver.log"));
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut browser = Self {
            authority: format!("127.0.0.1:{port}"),
            session: String::new(),
            runtime,
            _driver: driver.expect("the test asked whether it is installed"),
            _folder: folder,
        };
        // Root has no sandbox in Chromium; the page is our own.
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1300,1100"];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let opened = try_until(PATIENCE, || browser.ask(&Call::post("/session", &wanted)).ok());
        let opened = opened.expect("ChromeDriver starts Chromium");
        text(&opened, "sessionId").clone_into(&mut browser.session);
        browser.tell("url", &json!({"url": url}));
        browser
    }

    /// The value of a JavaScript expression on the page.
    pub fn value(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        self.tell("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until the expression is true; panics, naming `what`, where it never is.
    pub fn wait(&self, what: &str, expression: &str) {
        wait_until(&format!("{what}: {expression}"), PATIENCE, || {
            (self.value(expression) == Value::Bool(true)).then_some(())
        });
    }

    /// Clicks the first element of this CSS selector, once it is there.
    pub fn click(&self, selector: &str) {
        let wanted = Call::post(&self.path("element"), &json!({"using": "css selector", "value": selector}));
        let found = wait_until(selector, PATIENCE, || self.ask(&wanted).ok());
        let id = found.as_object().and_then(|found| found.values().next()?.as_str());
        let id = id.unwrap_or_else(|| panic!("{selector}: no element in {found}"));
        self.tell(&format!("element/{id}/click"), &json!({}));
    }

    /// What the browser complained of so far: script errors, what did not load.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.tell("se/log", &json!({"type": "browser"}));
        let entries = log.as_array().expect("a list").iter();
        let severe = entries.filter(|entry| matches!(text(entry, "level"), "SEVERE" | "WARNING"));
        severe.map(|entry| text(entry, "message").to_owned()).collect()
    }

    /// What the page looks like: a PNG in base64.
    pub fn picture(&self) -> String {
        let picture = self.ask(&Call::get(&self.path("screenshot"))).expect("a picture");
        picture.as_str().expect("base64").to_owned()
    }

    fn path(&self, command: &str) -> String {
        format!("/session/{}/{command}", self.session)
    }

    fn tell(&self, command: &str, body: &Value) -> Value {
        let answer = self.ask(&Call::post(&self.path(command), body));
        answer.unwrap_or_else(|error| panic!("{command} {body}: {error}"))
    }

    fn ask(&self, question: &Call) -> anyhow::Result<Value> {
        let (status, answer) = self.runtime.block_on(call(&self.authority, question.clone()))?;
        let value = answer.get("value").cloned().unwrap_or_default();
        anyhow::ensure!(status == 200, "{status}: {}", text(&value, "message"));
        Ok(value)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // ChromeDriver ends the browser that it started; it ends itself when its process is dropped.
        if self.ask(&Call::delete(&format!("/session/{}", self.session))).is_err() {
            crate::process::show_tail("chromedriver", "the browser could not be closed");
        }
    }
}

/// The text under this name; empty where there is none.
fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A port that is free now: ChromeDriver cannot tell which one it took.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}
