//! Whose Maildirs there are: a walk along the template, that lists only folders in which names tell users apart.

use crate::source::maildir::template::Template;
use std::fs;
use std::path::{Path, PathBuf};

/// Users with a Maildir by this template, each handed to `found`. What cannot be listed is passed over: it is told of when
/// somebody subscribes to a mailbox in it.
pub(super) fn users(template: &Template, mut found: impl FnMut(String)) {
    let folders: Vec<Option<&str>> = template.folders().collect();
    walk(Path::new("/"), &folders, &mut |maildir| {
        if let Some(user) = template.user(maildir).filter(|_| maildir.join("cur").is_dir()) {
            found(user);
        }
    });
}

fn walk(folder: &Path, below: &[Option<&str>], found: &mut impl FnMut(&Path)) {
    match below.split_first() {
        None => found(folder),
        Some((Some(name), rest)) => walk(&folder.join(name), rest, found),
        Some((None, rest)) => folders_in(folder).for_each(|entry| walk(&entry, rest, found)),
    }
}

fn folders_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_with_a_maildir_is_found_and_nobody_else() {
        let folder = tempfile::tempdir().expect("a folder");
        for maildir in
            ["a.b/kim/Maildir/cur", "a.b/pat/Maildir", "c.d/kim/Maildir/cur", ".x/kim/Maildir/cur", "e.f"]
        {
            fs::create_dir_all(folder.path().join(maildir)).expect("own folder");
        }
        fs::write(folder.path().join("a.b/file"), "").expect("own folder");
        let text = format!("{}/{{domain}}/{{local-part}}/Maildir", folder.path().display());
        let mut found = Vec::new();
        users(&Template::parse(&text).expect("a template"), |user| found.push(user));
        found.sort();
        assert_eq!(found, ["kim@a.b", "kim@c.d"]);
        users(&Template::parse("/nowhere/{user}").expect("a template"), |user| panic!("{user}"));
    }
}
