//! Accounts of this machine, or of a tree, as `etc/passwd` and `etc/group` tell them.

use std::fs;
use std::io;
use std::path::Path;

/// A line of `/etc/passwd`.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// The account of this name below `root`.
    pub(crate) fn named(root: &Path, name: &str) -> io::Result<Self> {
        Self::find(root, |account| account.name == name, name)
    }

    /// The account of this user id below `root`.
    pub(crate) fn of(root: &Path, uid: u32) -> io::Result<Self> {
        Self::find(root, |account| account.uid == uid, &uid.to_string())
    }

    fn find(root: &Path, is_it: impl Fn(&Self) -> bool, sought: &str) -> io::Result<Self> {
        let accounts = fs::read_to_string(root.join("etc/passwd"))?;
        let parse = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let number = |at: usize| fields.get(at)?.parse().ok();
            Some(Self { name: fields.first()?.to_string(), uid: number(2)?, gid: number(3)? })
        };
        let found = accounts.lines().filter_map(parse).find(is_it);
        found.ok_or_else(|| io::Error::other(format!("{sought} is not in /etc/passwd")))
    }
}

/// The name of the group with this id below `root`.
pub(crate) fn group_name(root: &Path, gid: u32) -> io::Result<String> {
    let groups = fs::read_to_string(root.join("etc/group"))?;
    let found = groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|fields| {
        let is_it = fields.get(2)?.parse() == Ok(gid);
        is_it.then(|| fields.first().map(ToString::to_string))?
    });
    found.ok_or_else(|| io::Error::other(format!("group {gid} is not in /etc/group")))
}
