//! A stand-in for systemd: holds a socket, hands it to the agent (sd_listen_fds(3)), hears what the agent says
//! (sd_notify(3)), kills it where its watchdog is not told in time, and starts it again whenever it ended.

use crate::process::{Running, program, wait_until};
use mailbadge::time::Moment;
use mailbadge::time::driver::Clock;
use parking_lot::Mutex;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// As packaging/systemd/mailbadge.service says it.
const WATCHDOG: Duration = Duration::from_secs(3);
/// The same.
const RESTART_AFTER: Duration = Duration::from_millis(50);
/// How often it looks for an end and for silence.
const GLANCE: Duration = Duration::from_millis(5);
/// Longest wait for the agent to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// Puts the socket, which came as standard input, where it is looked for, and tells the process its own id.
const HAND_OVER: &str = "exec 3<&0 </dev/null; export LISTEN_PID=$$ WATCHDOG_PID=$$; exec \"$0\" \"$@\"";

/// A supervised agent; ended when dropped, its socket with it.
pub struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    is_over: AtomicBool,
    state: Mutex<State>,
}

/// What is known of the agent.
#[derive(Clone, Copy, Default)]
struct State {
    pid: u32,
    /// READY=1 so many times.
    starts: u32,
    /// Ended by the watchdog so many times.
    frozen: u32,
}

impl Supervisor {
    /// The same as [`Supervisor::begin`], and waits until the agent is ready.
    pub fn start(folder: &Path, socket: &Path, name: &str) -> Self {
        let supervisor = Self::begin(folder, socket, name);
        supervisor.wait_starts(1);
        supervisor
    }

    /// Listens at `socket` for the source `name` and runs the agent that is configured in `folder`, again and again.
    pub fn begin(folder: &Path, socket: &Path, name: &str) -> Self {
        let listener = UnixListener::bind(socket).expect("a path of our own");
        // Mail processes run as somebody else when the test runs as root.
        fs::set_permissions(socket, Permissions::from_mode(0o666)).expect("own file");
        let notices = UnixDatagram::bind(folder.join("notify.sock")).expect("a path of our own");
        notices.set_read_timeout(Some(GLANCE)).expect("a socket of our own");
        let shared = Arc::new(Shared { is_over: AtomicBool::new(false), state: Mutex::default() });
        let unit = Unit {
            folder: folder.to_owned(),
            name: name.to_owned(),
            listener: listener.into(),
            notices,
            clock: Clock::start(),
            shared: Arc::clone(&shared),
        };
        let thread = thread::spawn(move || unit.run());
        Self { shared, thread: Some(thread) }
    }

    /// The agent's process.
    pub fn pid(&self) -> u32 {
        self.shared.state.lock().pid
    }

    /// Waits until the agent was ready that many times.
    pub fn wait_starts(&self, starts: u32) {
        let what = format!("start {starts} of the agent");
        wait_until(&what, PATIENCE, || (self.shared.state.lock().starts >= starts).then_some(()));
    }

    /// How often the watchdog ended it.
    pub fn frozen(&self) -> u32 {
        self.shared.state.lock().frozen
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported.
            let _ = thread.join();
        }
    }
}

/// What the thread works with.
struct Unit {
    folder: PathBuf,
    name: String,
    listener: OwnedFd,
    notices: UnixDatagram,
    clock: Clock,
    shared: Arc<Shared>,
}

impl Unit {
    fn run(self) {
        while !self.is_over() {
            let mut running = self.spawn().expect("cargo built it");
            self.shared.state.lock().pid = running.pid();
            self.attend(&mut running);
            if !self.is_over() {
                thread::sleep(RESTART_AFTER);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire)
    }

    fn spawn(&self) -> io::Result<Running> {
        let mut command = Command::new("sh");
        command.args(["-c", HAND_OVER]).arg(program()).args(["agent", "run", "--config", "mailbadge.toml"]);
        command.current_dir(&self.folder);
        command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", &self.name);
        command.env("NOTIFY_SOCKET", self.folder.join("notify.sock"));
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        Running::start_with("agent", command, self.listener.try_clone()?, &self.folder.join("agent.log"))
    }

    /// Until the agent has ended, by itself or by the watchdog.
    fn attend(&self, running: &mut Running) {
        let mut told_at: Option<Moment> = None;
        let mut datagram = [0; 4096];
        while running.ended().is_none() && !self.is_over() {
            let length = self.notices.recv(&mut datagram).unwrap_or(0);
            let text = String::from_utf8_lossy(datagram.get(..length).unwrap_or_default());
            let now = self.clock.now().moment;
            if text.lines().any(|line| line == "READY=1") {
                self.shared.state.lock().starts += 1;
                told_at = Some(now);
            }
            if text.lines().any(|line| line == "WATCHDOG=1") {
                told_at = Some(now);
            }
            if told_at.is_some_and(|told| now.since(told) > WATCHDOG) {
                running.kill().expect("its pid is ours");
                self.shared.state.lock().frozen += 1;
            }
        }
    }
}
