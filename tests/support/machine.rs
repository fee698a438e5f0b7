//! Whose turn it is on the machine. Tests of one binary run side by side on threads of one process. One that measures,
//! or that takes what others need (processor, descriptors, memory), asks for the machine alone; the others of its
//! binary share it. A lock within the process is enough, since cargo runs one test binary after the other.

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// Waits until no other test of this binary has the machine, and keeps it until the guard is dropped.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write()
}

/// Waits until no test of this binary has the machine alone, and keeps those waiting that want it.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read()
}
