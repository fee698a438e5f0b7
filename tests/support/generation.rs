//! Which Debian's mail servers a test starts: those of this machine (12), or those of a small tree of Debian 13, which
//! `.ci/trixie` makes and which are started inside it by `chroot`.
//!
//! A file has one name on both sides: the tree holds a link from its own path outside to its root. So an agent outside
//! and a server inside share a socket that lies in [`Generation::folder`].

use crate::account::{Account, group_name};
use crate::requirement;
use std::env;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Where the tree is, unless `MAILBADGE_TRIXIE` names another place.
const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/trixie");

/// Folders of programs inside the tree.
const PROGRAMS: [&str; 4] = ["usr/sbin", "usr/bin", "usr/lib/cyrus/bin", "usr/lib/dovecot"];

/// A Debian release with its Dovecot and its Cyrus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// Dovecot 2.3 and Cyrus 3.6, installed on this machine.
    #[default]
    Debian12,
    /// Dovecot 2.4 and Cyrus 3.10, in the tree.
    Debian13,
}

impl Generation {
    /// Whether its Dovecot is there, so that the test can run; see [`required`](crate::required).
    pub fn has_dovecot(self) -> bool {
        match self {
            Self::Debian12 => requirement::required("dovecot"),
            Self::Debian13 => {
                let is_there = self.is_usable() && self.find("dovecot").is_some();
                requirement::required_if("dovecot24", "Dovecot 2.4 (.ci/trixie as root)", is_there)
            }
        }
    }

    /// Whether its Cyrus is there, so that the test can run.
    pub fn has_cyrus(self) -> bool {
        let (name, program) = match self {
            Self::Debian12 => ("cyrus", "cyrus-imapd"),
            Self::Debian13 => ("cyrus310", "Cyrus 3.10 (.ci/trixie as root)"),
        };
        let programs = ["imapd", "idled", "lmtpd", "master", "ctl_cyrusdb", "saslpasswd2"];
        let is_there = self.is_usable() && programs.iter().all(|program| self.find(program).is_some());
        requirement::required_if(name, program, is_there)
    }

    /// A new folder that the servers and an agent outside reach by the same path.
    ///
    /// Short, since Unix sockets allow 107 bytes.
    pub fn folder(self) -> TempDir {
        let parent = self.root().join("tmp");
        let folder = tempfile::Builder::new().prefix("mb").tempdir_in(parent).expect("a temporary folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("own folder");
        folder
    }

    /// How a server's program is started.
    pub(crate) fn command(self, program: &str) -> io::Result<Command> {
        let missing = || io::Error::new(ErrorKind::NotFound, format!("{program} is not installed"));
        let file = self.find(program).ok_or_else(missing)?;
        if self == Self::Debian12 {
            return Ok(Command::new(file));
        }
        let mut command = Command::new(requirement::find("chroot").ok_or(ErrorKind::NotFound)?);
        command.arg(self.root()).arg(self.named_inside(&file));
        Ok(command)
    }

    /// A program's path, as the server's own configuration names it.
    pub(crate) fn program(self, name: &str) -> io::Result<PathBuf> {
        let file = self.find(name).ok_or_else(|| io::Error::new(ErrorKind::NotFound, name.to_owned()))?;
        Ok(self.named_inside(&file))
    }

    /// The account of this name, as the servers know it.
    pub(crate) fn account(self, name: &str) -> io::Result<Account> {
        Account::named(&self.root(), name)
    }

    /// The account of this user id, as the servers know it.
    pub(crate) fn account_of(self, uid: u32) -> io::Result<Account> {
        Account::of(&self.root(), uid)
    }

    /// The name of the group with this id, as the servers know it.
    pub(crate) fn group_name(self, gid: u32) -> io::Result<String> {
        group_name(&self.root(), gid)
    }

    /// The path of a file of this generation as its servers see it.
    fn named_inside(self, file: &Path) -> PathBuf {
        if self == Self::Debian12 {
            return file.to_owned();
        }
        file.strip_prefix(self.root()).map_or_else(|_| file.to_owned(), |path| Path::new("/").join(path))
    }

    /// Only root starts servers in a tree.
    fn is_usable(self) -> bool {
        let is_root = || fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        self == Self::Debian12 || (self.root().join(".complete").is_file() && is_root())
    }

    fn root(self) -> PathBuf {
        if self == Self::Debian12 {
            return PathBuf::from("/");
        }
        let tree = env::var_os("MAILBADGE_TRIXIE").map_or_else(|| PathBuf::from(TREE), PathBuf::from);
        // The link inside is called as the tree is called without links.
        fs::canonicalize(&tree).unwrap_or(tree)
    }

    fn find(self, program: &str) -> Option<PathBuf> {
        if self == Self::Debian12 {
            return crate::cyrus::find_unpacked(program).or_else(|| requirement::find(program));
        }
        let root = self.root();
        PROGRAMS.iter().map(|folder| root.join(folder).join(program)).find(|file| file.is_file())
    }
}

/// Each function is a test for each generation whose Dovecot is there; it is given the generation.
#[macro_export]
macro_rules! each_dovecot {
    ($($test:ident),+ $(,)?) => {
        mod dovecot_2_3 {
            $crate::one_generation!(Debian12, has_dovecot, $($test),+);
        }
        mod dovecot_2_4 {
            $crate::one_generation!(Debian13, has_dovecot, $($test),+);
        }
    };
}

/// The same for Cyrus.
#[macro_export]
macro_rules! each_cyrus {
    ($($test:ident),+ $(,)?) => {
        mod cyrus_3_6 {
            $crate::one_generation!(Debian12, has_cyrus, $($test),+);
        }
        mod cyrus_3_10 {
            $crate::one_generation!(Debian13, has_cyrus, $($test),+);
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! one_generation {
    ($generation:ident, $is_there:ident, $($test:ident),+) => {
        $(
            #[test]
            fn $test() {
                let generation = $crate::generation::Generation::$generation;
                if generation.$is_there() {
                    super::$test(generation);
                }
            }
        )+
    };
}
