//! What the agent logs while a story is told: stamped with virtual time, kept for the checker to look for secrets.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Write};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;

/// Lines kept until the checker took them, at most.
const LINES_MAX: usize = 10_000;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static IS_TOLD: Cell<bool> = const { Cell::new(false) };
}

/// Runs a story on this thread with its log captured; where it `is_told`, it goes to standard error as well.
pub fn captured<T>(is_told: bool, story: impl FnOnce() -> T) -> T {
    LINES.take();
    IS_TOLD.set(is_told);
    let lines = tracing_subscriber::fmt::layer()
        .with_timer(Virtual)
        .with_ansi(false)
        .with_writer(|| Line(Vec::new()));
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), story)
}

/// Virtual time moved on.
pub fn set_now(micros: u64) {
    NOW.set(micros);
}

/// Tells a line of the story itself, where it is told at all.
pub fn tell(what: impl FnOnce() -> String) {
    if IS_TOLD.get() {
        write_out(&format!("{} ---- {}\n", stamp(), what()));
    }
}

/// Lines logged since this was last asked.
pub fn lines() -> Vec<String> {
    LINES.take()
}

fn stamp() -> String {
    let micros = NOW.get();
    format!("{:>6}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

fn write_out(line: &str) {
    // A story is told all the same where nobody listens.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

struct Virtual;

impl FormatTime for Virtual {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        writer.write_str(&stamp())
    }
}

/// One line that is being written.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let line = String::from_utf8_lossy(&self.0).into_owned();
        if IS_TOLD.get() {
            write_out(&line);
        }
        LINES.with_borrow_mut(|lines| {
            if lines.len() < LINES_MAX {
                lines.push(line);
            }
        });
    }
}
