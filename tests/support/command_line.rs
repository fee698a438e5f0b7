//! A host with a configuration and a state directory of its own, and the agent's commands run on it.

use crate::process::program;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A folder that holds `mailbadge.toml` and everything the agent keeps; gone when dropped.
#[derive(Debug)]
pub struct Host {
    dir: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code.
    pub code: i32,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// A host with the shortest configuration: organization `fabrikam.com`, state under `state`.
    pub fn new() -> Self {
        Self::with("")
    }

    /// The same with `more` behind it.
    pub fn with(more: &str) -> Self {
        let host = Self { dir: tempfile::tempdir().expect("a temporary folder") };
        host.configure(&format!("organization = \"fabrikam.com\"\nstate-dir = \"state\"\n{more}"));
        host
    }

    /// The same once its state was begun without a certificate: by a subscription, which is removed again.
    #[must_use]
    pub fn begun(self) -> Self {
        let device = "--mailbox nobody --device-id none --app-id com.microsoft.exchange.mowa --type GCM";
        for line in [&format!("subscription add {device}"), "subscription remove --mailbox nobody"] {
            let ended = self.run(line);
            assert_eq!(ended.code, 0, "{line}: {}", ended.err);
        }
        self
    }

    /// A path in the host's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces the configuration.
    pub fn configure(&self, text: &str) {
        fs::write(self.path("mailbadge.toml"), text).expect("our own folder can be written");
    }

    /// The agent with these arguments, split at spaces, and this host's configuration.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(program());
        command.arg("agent").args(line.split_whitespace()).arg("--config").arg(self.path("mailbadge.toml"));
        command.current_dir(self.dir.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, line: &str) -> Ended {
        Ended::of(&self.command(line).output().expect("the program starts"))
    }

    /// Runs a command to its end with `input` as standard input.
    pub fn run_with_input(&self, line: &str, input: &str) -> Ended {
        let mut command = self.command(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("it was piped");
        stdin.write_all(input.as_bytes()).expect("the program reads");
        drop(stdin);
        Ended::of(&child.wait_with_output().expect("the program ends"))
    }

    /// Runs a command with `--json`, expects success.
    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        let ended = self.run(&format!("{line} --json"));
        assert_eq!(ended.code, 0, "{line}: {}", ended.err);
        ended.json()
    }
}

impl Ended {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let code = output.status.code().expect("ended by itself");
        Self { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Its output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// Expects this exit code, all of `parts` in the error, and nothing on standard output.
    #[track_caller]
    pub fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in {:?}", self.err);
        }
        assert_eq!(self.out, "", "nothing on standard output");
    }
}
