//! The simulator's page in a real browser: phones, clicks, batches, faults, live. `MAILBADGE_PICTURES=FOLDER` keeps what
//! it looked like.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailbadge_sim::peers::mail_store::MailStore;
use std::path::Path;
use support::browser::Browser;
use support::cloud::{Cloud, ORGANIZATION};
use support::host::{APPS, Host, device_id};
use support::required_as;

const MAILBOXES: usize = 3;

fn keep_picture(browser: &Browser, name: &str) {
    let Some(folder) = std::env::var_os("MAILBADGE_PICTURES") else { return };
    let picture = STANDARD.decode(browser.picture()).expect("base64");
    std::fs::write(Path::new(&folder).join(name), picture).expect("the folder is there");
}

/// That all phones show this number, or no badge where it is 0, and say that it is true.
fn all_show(browser: &Browser, count: u32) {
    let badges = if count == 0 { 0 } else { MAILBOXES * APPS.len() };
    let each =
        format!("[...document.querySelectorAll('.badge')].every(badge => badge.textContent === '{count}')");
    let number = format!("document.querySelectorAll('.badge').length === {badges}");
    let truth = format!("document.querySelectorAll('.state.agrees').length === {}", MAILBOXES * APPS.len());
    browser.wait(&format!("every phone shows {count}"), &format!("{each} && {number} && {truth}"));
}

#[test]
fn the_page_shows_what_icons_show_and_does_what_is_clicked() {
    if !required_as("chromium", "chromedriver") {
        return;
    }
    let cloud = Cloud::start_with(Some(MailStore::new(MAILBOXES, ORGANIZATION)));
    let (store, imap) = cloud.mail_store().expect("it was given one");
    let names: Vec<String> = store.lock().names().map(|(_, name)| name.to_string()).collect();
    let mut host = Host::new();
    host.configure_with(&cloud, "max-hold = \"10ms\"", &host.imap_source_at(imap, "notify"));
    host.subscribe(&names);
    for name in &names {
        for app in APPS {
            cloud.name_device(app, &device_id(name), name);
        }
    }
    host.start();

    let browser = Browser::open(cloud.page_url());
    browser.wait("the relay is up", "document.getElementById('relay').textContent === 'relay is up'");
    browser.click("#deliver-all");
    all_show(&browser, 1);
    browser.click("#deliver-all");
    all_show(&browser, 2);
    browser.wait("batches are listed", "document.querySelectorAll('#batches li').length > 0");
    browser.click("#batches summary");
    browser.wait(
        "the token is decoded",
        "document.querySelector('#batches pre')?.textContent.includes('trustedfordelegation')",
    );
    keep_picture(&browser, "page.png");

    browser.click("#fault-form [type=submit]");
    browser.wait("a fault is on", "document.querySelectorAll('#faults li').length === 1");
    browser.click("#faults button");
    browser.wait("it is off", "document.querySelectorAll('#faults li').length === 0");
    browser.click("#read-all");
    all_show(&browser, 0);
    for (button, keys) in [("#rotate", "signs next"), ("#rotate", "before signs"), ("#forget", "signs")] {
        browser.click(button);
        let labels = "[...document.querySelectorAll('#keys dt')].map((label) => label.textContent)";
        let listed = format!("{labels}.join(' ') === '{keys}'");
        browser.wait("the token service's key takes a step", &listed);
    }
    browser.click("#relay-switch");
    browser.wait("the relay is down", "document.getElementById('relay').textContent === 'relay is down'");
    keep_picture(&browser, "page-down.png");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    host.stop();
}
