//! Instructions of the hot paths, counted by valgrind's callgrind: unlike times they are the same on a busy machine.
//!
//! `cargo bench -p proof --bench instructions` compares with `benches/instructions.txt` and fails where a path needs
//! more than 3 % more. `MAILBADGE_BLESS=1` before it records anew. With another toolchain, valgrind or libc than the
//! recorded ones it prints and judges nothing.
//!
//! Each path runs in a process of its own, once some thousand times and once twice as often. The difference, divided by
//! the number, is what one operation costs: what comes before the path counts in neither.

#![expect(clippy::print_stdout, reason = "a program that prints")]

#[path = "instructions/paths.rs"]
mod paths;
#[path = "instructions/record.rs"]
mod record;

use paths::{PATHS, Path};
use record::Record;
use std::process::{Command, ExitCode, Stdio};

/// How many more instructions than recorded a path may need, in percent.
const MORE_PERCENT_MAX: f64 = 3.0;
/// First argument of the process that callgrind looks at; a path's name and a number follow.
const RUN: &str = "run";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [run, name, times] if run == RUN => {
            let path = PATHS.iter().find(|path| path.name == name).ok_or("no path has that name")?;
            (path.run)(times.parse()?);
            Ok(ExitCode::SUCCESS)
        }
        // The options of the other benches mean nothing here.
        _ if support::required("valgrind") => compare(),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn compare() -> Outcome<ExitCode> {
    let now = Record { toolchain: toolchain()?, counts: counts()? };
    if std::env::var_os("MAILBADGE_BLESS").is_some() {
        now.write()?;
    }
    let before = Record::read()?;
    let is_same = now.toolchain == before.toolchain;
    if !is_same {
        println!("Recorded with {}; this is {}. Nothing is judged.", before.toolchain, now.toolchain);
    }
    let mut is_good = true;
    println!("{:<28} {:>10} {:>10}", "Instructions", "recorded", "now");
    for (name, count) in &now.counts {
        let recorded = before.of(name);
        let more = (count / recorded - 1.0) * 100.0;
        let is_more = is_same && (more > MORE_PERCENT_MAX || more.is_nan());
        is_good &= !is_more;
        println!(
            "{name:<28} {recorded:>10.1} {count:>10.1} {more:>+7.1} %{}",
            if is_more { "  too many" } else { "" }
        );
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Instructions of one operation of each path.
fn counts() -> Outcome<Vec<(String, f64)>> {
    let count = |path: &Path| {
        let (once, twice) = (start(path, path.times)?, start(path, path.times * 2)?);
        let added = collected(twice)?.saturating_sub(collected(once)?);
        let operations = path.times * path.operations;
        Ok((path.name.to_owned(), added as f64 / operations as f64))
    };
    PATHS.iter().map(count).collect()
}

fn start(path: &Path, times: u64) -> Outcome<std::process::Child> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(std::env::current_exe()?).args([RUN, path.name, &times.to_string()]);
    Ok(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?)
}

/// The number behind `Collected :` in what callgrind prints at its end.
fn collected(child: std::process::Child) -> Outcome<u64> {
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    count.ok_or_else(|| format!("callgrind counted nothing:\n{text}").into())
}

/// What the counts depend on beside the code.
fn toolchain() -> Outcome<String> {
    let first_line = |program: &str, argument: &str| -> Outcome<String> {
        let output = Command::new(program).arg(argument).output()?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    let (rustc, valgrind) = (first_line("rustc", "--version")?, first_line("valgrind", "--version")?);
    let libc = first_line("getconf", "GNU_LIBC_VERSION")?;
    Ok(format!("{rustc}, {valgrind}, {libc}, {}", std::env::consts::ARCH))
}
