//! What a process takes of the machine: memory and processor time, from /proc.

use serde::Serialize;
use std::fs;
use std::io;
use std::time::Duration;

/// Ticks per second of the times in `/proc/<pid>/stat`: USER_HZ, 100 on every Linux that Rust supports.
const TICKS_PER_SECOND: u64 = 100;

/// A process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    /// Resident memory.
    pub(super) rss_bytes: u64,
    /// Processor time since its start, user and system.
    pub(super) cpu: Duration,
}

impl Usage {
    /// Reads what the process has taken so far.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let unreadable = || io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid} is unreadable"));
        Ok(Self { rss_bytes: rss(&status).ok_or_else(unreadable)?, cpu: cpu(&stat).ok_or_else(unreadable)? })
    }

    /// Part of one core that was busy since `earlier`, in percent.
    pub(super) fn cpu_percent_since(&self, earlier: Self, elapsed: Duration) -> f64 {
        let busy = self.cpu.saturating_sub(earlier.cpu).as_secs_f64();
        if elapsed.is_zero() { 0.0 } else { busy / elapsed.as_secs_f64() * 100.0 }
    }
}

/// The line `VmRSS:` of proc(5), in kB.
fn rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Fields 14 and 15 of proc(5); the name before them stands in parentheses and may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    let ticks = times.next()??.checked_add(times.next()??)?;
    Some(Duration::from_millis(ticks.checked_mul(1000)? / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        assert_eq!(rss("Name:\tx\nVmRSS:\t  1024 kB\nThreads: 1\n"), Some(1_048_576));
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 1 1 1";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
        for bad in ["", "7 (a", "7 (a) S 1"] {
            assert_eq!(cpu(bad), None, "{bad}");
        }
        assert!(Usage::of(std::process::id()).unwrap().rss_bytes > 0);
    }

    #[test]
    fn one_core_half_busy_is_fifty_percent() {
        let at = |cpu| Usage { rss_bytes: 0, cpu: Duration::from_secs(cpu) };
        let percent = at(7).cpu_percent_since(at(2), Duration::from_secs(10));
        assert!((49.9..50.1).contains(&percent), "{percent}");
    }
}
