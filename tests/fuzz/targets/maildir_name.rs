//! Names around a Maildir (sources.md §5): of its entries, and of users, which lead to one folder of their own and nowhere
//! else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailbadge::source::maildir::message::{Separator, is_message, is_unseen, unique};
use mailbadge::source::maildir::template::Template;
use std::path::Component;

fuzz_target!(|bytes: &[u8]| {
    for separator in Separator::ALL {
        assert!(is_message(bytes) || !is_unseen(bytes, separator), "what is no message is not unseen");
        assert!(bytes.starts_with(unique(bytes, separator)));
    }
    let Ok(user) = std::str::from_utf8(bytes) else { return };
    for template in ["/mail/{user}/Maildir", "/mail/{domain}/{local-part}"] {
        let template = Template::parse(template).expect("a good template");
        let Ok(path) = template.path(user) else { continue };
        assert!(path.starts_with("/mail") && path.components().count() == 4, "{path:?}");
        assert!(path.components().all(|part| part != Component::ParentDir), "{path:?}");
    }
});
