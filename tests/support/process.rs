//! Processes that end with the test that started them, and waiting for a condition with a limit.

use mailbadge::time::driver::Clock;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(2);

/// How long a process gets after TERM before it is killed.
const PATIENCE: Duration = Duration::from_secs(12);

/// How much of a log is shown when a test fails.
const TAIL: usize = 8 * 1024;

/// Waits until `condition` gives something; panics, naming `what`, after `limit`.
pub fn wait_until<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    try_until(limit, condition).unwrap_or_else(|| panic!("waited {limit:?} in vain: {what}"))
}

/// Waits until `condition` gives something, for `limit` at most.
pub fn try_until<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let clock = Clock::start();
    let start = clock.now().moment;
    loop {
        if let Some(found) = condition() {
            return Some(found);
        }
        if clock.now().moment.since(start) > limit {
            return None;
        }
        thread::sleep(GLANCE);
    }
}

/// Sends a signal, by name without `SIG`, to one process.
pub fn signal(pid: u32, name: &str) -> io::Result<()> {
    // The shell's own kill: no unsafe code, no crate, and no dependence on where the program lies.
    let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid.to_string()]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("cannot send {name} to {pid}"))) }
}

/// Stops a process (STOP) and waits until all its threads have stopped. The signal alone returns before that: on a busy
/// machine a thread may still take something up, which is lost when the process is killed.
pub fn freeze(pid: u32) -> io::Result<()> {
    signal(pid, "STOP")?;
    wait_until("every thread to be stopped", PATIENCE, || has_stopped(pid).then_some(()));
    Ok(())
}

/// Whether each thread is in the state `T` of proc_pid_stat(5), which follows the program's name.
fn has_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

/// A process of ours. When dropped it is asked to end, and killed where it does not.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    has_ended: bool,
}

impl Running {
    /// Starts `command` with its output appended to `log`.
    pub fn start(name: &str, command: Command, log: &Path) -> io::Result<Self> {
        Self::start_with(name, command, Stdio::null(), log)
    }

    /// The same with this standard input.
    pub fn start_with(
        name: &str,
        mut command: Command,
        input: impl Into<Stdio>,
        log: &Path,
    ) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(input)
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), has_ended: false })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        self.has_ended |= status.is_some();
        status
    }

    /// Kills it without warning (KILL) and waits for its end.
    pub fn kill(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.has_ended = true;
        self.child.wait()
    }

    /// Asks it to end (TERM) and waits for it, `limit` at most; then kills it. `None` when it had to be killed.
    pub fn stop(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.ended() {
            return Ok(Some(status));
        }
        signal(self.pid(), "TERM")?;
        let status = try_until(limit, || self.ended());
        if status.is_none() {
            self.kill()?;
        }
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            let _ = self.stop(PATIENCE);
        }
        if thread::panicking() {
            show_tail(&self.name, &self.log());
        }
    }
}

/// Shows the end of a log beside a failure.
pub(crate) fn show_tail(name: &str, log: &str) {
    if log.is_empty() {
        return;
    }
    let mut start = log.len().saturating_sub(TAIL);
    while !log.is_char_boundary(start) {
        start += 1;
    }
    let _ = writeln!(io::stderr().lock(), "--- {name} wrote:\n{}\n---", log.get(start..).unwrap_or_default());
}

/// The program that is agent, simulator and demo in one, as cargo built it for the tests.
///
/// Its first argument chooses: `agent …` or `simulator …`.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let name = if cfg!(windows) { "demo.exe" } else { "demo" };
    let found = test.ancestors().map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("no `{name}` beside {}: build it with cargo", test.display()))
}

/// Starts the agent with these arguments and further variables in its environment, under these limits (arguments of
/// prlimit(1)), its output in `folder/agent.log`.
pub fn spawn_agent(
    arguments: &[&str],
    folder: &Path,
    environment: &[(&str, PathBuf)],
    limits: &[String],
) -> io::Result<Running> {
    let mut command = Command::new("prlimit");
    command.args(limits).arg(program());
    spawn(
        if limits.is_empty() { Command::new(program()) } else { command },
        "agent",
        arguments,
        folder,
        environment,
    )
}

/// Starts the simulator with these arguments, its output in `folder/simulator.log`.
pub fn spawn_simulator(arguments: &[&str], folder: &Path) -> io::Result<Running> {
    spawn(Command::new(program()), "simulator", arguments, folder, &[])
}

fn spawn(
    mut command: Command,
    role: &str,
    arguments: &[&str],
    folder: &Path,
    environment: &[(&str, PathBuf)],
) -> io::Result<Running> {
    command.arg(role).args(arguments).current_dir(folder);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Running::start(role, command, &folder.join(format!("{role}.log")))
}

/// An address that nobody listens on at this moment.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    listener.local_addr().expect("a bound socket has an address")
}

/// Whether somebody greets there.
pub(crate) fn greets(address: SocketAddr) -> bool {
    let greeting = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.read_exact(&mut [0])
    };
    greeting().is_ok()
}
