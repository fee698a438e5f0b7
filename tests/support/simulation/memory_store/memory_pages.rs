//! Pages of notes in memory: written without waiting for the disk, and torn where a write is refused.

use super::{Caller, Disk, Outcome, refused};
use mailbadge::store::StoreError;
use mailbadge::store::pages::Pages;

/// The pages as one process of the agent has them open.
pub struct MemoryPages {
    disk: Disk,
    present: u64,
}

impl MemoryPages {
    pub(super) fn new(disk: Disk) -> Self {
        Self { disk, present: 0 }
    }
}

impl Pages for MemoryPages {
    fn list(&self) -> Result<Vec<u64>, StoreError> {
        self.disk.read(Caller::Agent, |inner| inner.pages.keys().copied().collect())
    }

    fn read(&self, page: u64) -> Result<Vec<u8>, StoreError> {
        self.disk.read(Caller::Agent, |inner| inner.pages.get(&page).cloned().unwrap_or_default())
    }

    fn begin(&mut self, page: u64) -> Result<(), StoreError> {
        self.disk.write(Caller::Agent, |inner| {
            inner.pages.entry(page).or_default();
        })?;
        self.present = page;
        Ok(())
    }

    /// Of a write that is refused or killed, any part may be on the page.
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut inner = self.disk.0.lock();
        if inner.faults.is_killed {
            return Err(refused());
        }
        let outcome = inner.faults.outcome(Caller::Agent, true);
        let written = match outcome {
            Outcome::Done | Outcome::DoneAndKilled => bytes.len(),
            Outcome::Refused => inner.faults.rng.usize(0..=bytes.len()),
        };
        inner.pages.entry(self.present).or_default().extend(bytes.iter().take(written));
        if outcome == Outcome::Done { Ok(()) } else { Err(refused()) }
    }

    fn remove(&mut self, page: u64) -> Result<(), StoreError> {
        self.disk.write_where(Caller::Agent, |_| false, |inner| drop(inner.pages.remove(&page)))
    }

    fn marker(&self) -> Result<Option<String>, StoreError> {
        self.disk.read(Caller::Agent, |inner| inner.marker.clone())
    }

    fn mark(&mut self, boot: &str) -> Result<(), StoreError> {
        self.disk.write(Caller::Agent, |inner| {
            inner.marker = Some(boot.to_owned());
            inner.synced_marker = Some(boot.to_owned());
        })
    }

    /// Nothing but the end of the process prevents it.
    fn empty_marker(&mut self) -> Result<(), StoreError> {
        let mut inner = self.disk.0.lock();
        if inner.faults.is_killed {
            return Err(refused());
        }
        inner.marker = Some(String::new());
        Ok(())
    }

    fn remove_marker(&mut self) -> Result<(), StoreError> {
        self.disk.write_where(Caller::Agent, |_| false, |inner| inner.marker = None)
    }
}
