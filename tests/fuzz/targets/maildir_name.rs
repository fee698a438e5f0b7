//! Names around a Maildir (sources.md §5): of its entries, and of users, which lead to one folder of their own and nowhere
//! else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge::source::maildir::message::{Folder, is_unseen};
use mailbadge::source::maildir::template::Template;
use std::path::Component;

fuzz_target!(|bytes: &[u8]| {
    assert!(is_unseen(Folder::New, bytes) || !is_unseen(Folder::Cur, bytes), "seen in new is seen in cur");
    let Ok(user) = std::str::from_utf8(bytes) else { return };
    for template in ["/mail/{user}/Maildir", "/mail/{domain}/{local-part}"] {
        let template = Template::parse(template).expect("a good template");
        let Ok(path) = template.path(user) else { continue };
        assert!(path.starts_with("/mail") && path.components().count() == 4, "{path:?}");
        assert!(path.components().all(|part| part != Component::ParentDir), "{path:?}");
    }
});
