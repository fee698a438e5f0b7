//! Where results go: aligned text for people, JSON for programs. Color only on a terminal, and never with `NO_COLOR`.

use super::driver;
use serde::Serialize;
use std::fmt;
use std::io::{self, BufRead, Write};

/// The standard streams of a command.
pub struct Screen {
    out: Box<dyn Write>,
    /// `--json`.
    pub is_json: bool,
    has_color: bool,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("is_json", &self.is_json).finish_non_exhaustive()
    }
}

impl Screen {
    /// The process' own streams.
    pub fn standard(is_json: bool) -> Self {
        let has_color = driver::has_color(&io::stdout());
        Self { out: Box::new(io::stdout()), is_json, has_color }
    }

    /// One line for people.
    pub fn line(&mut self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }

    /// The whole result for programs.
    pub fn json(&mut self, result: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(result)?;
        text.push(b'\n');
        self.bytes(&text)
    }

    /// Names and values, the colons under each other.
    pub fn fields(&mut self, fields: &[(&str, String)]) -> io::Result<()> {
        let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in fields {
            let line = format!("{name:width$} : {value}");
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Columns under their heads; the last one is not padded.
    pub fn table(&mut self, heads: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain(heads.get(column).map(|head| head.chars().count())).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..heads.len()).map(width).collect();
        let aligned = |cells: &mut dyn Iterator<Item = &str>| {
            let padded: Vec<_> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        let head = aligned(&mut heads.iter().copied());
        let mut lines = vec![self.bold(&head)];
        lines.extend(rows.iter().map(|row| aligned(&mut row.iter().map(String::as_str))));
        // In one piece: a line at a time would be a system call at a time.
        self.line(lines.join("\n"))
    }

    /// A heading.
    pub fn bold(&self, text: &str) -> String {
        if self.has_color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Something that wants attention.
    pub fn warning(&self, text: &str) -> String {
        if self.has_color { format!("\x1b[33m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A remark beside the result, on the other stream.
    pub fn remark(&mut self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(io::stderr(), "{text}")
    }

    /// Asks a question that is answered by yes or no; `None` where nobody answers.
    pub fn ask(&mut self, question: &str) -> io::Result<Option<bool>> {
        let mut stderr = io::stderr();
        write!(stderr, "{question} [y/N] ")?;
        stderr.flush()?;
        let mut answer = String::new();
        if io::stdin().lock().read_line(&mut answer)? == 0 {
            writeln!(stderr)?;
            return Ok(None);
        }
        Ok(Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")))
    }
}
