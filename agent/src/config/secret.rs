//! Keys that name a file whose first line is a secret: only its owner may read it.

use super::sheet::Section;
use crate::store::owner_only;
use secrecy::SecretString;
use std::fs;
use std::path::Path;
use zeroize::Zeroizing;

/// A file with a secret holds one line.
const SIZE_MAX: u64 = 4096;

/// The first line of the file that `key` names; `what` it is, for faults. It must be there.
pub(super) fn first_line_of(section: &mut Section, key: &'static str, what: &str) -> Option<SecretString> {
    if section.table(key).is_none() {
        section.refuse(key, format!("is missing; expected a file with the {what}, mode 0600"));
    }
    let path = section.path(key)?;
    match owner_only(&path) {
        Err(error) if error.is_forbidden() => section.forbid(key, error.to_string()),
        Err(error) => section.refuse(key, error.to_string()),
        Ok(()) => match first_line(&path, what) {
            Ok(secret) => return Some(secret),
            Err(fault) => section.refuse(key, fault),
        },
    }
    None
}

fn first_line(path: &Path, what: &str) -> Result<SecretString, String> {
    let shown = path.display();
    let size = fs::metadata(path).map_err(|cause| format!("{shown}: {cause}"))?.len();
    if size > SIZE_MAX {
        return Err(format!("{shown}: has {size} bytes; expected one line with the {what}"));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(|cause| format!("{shown}: {cause}"))?);
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(SecretString::from(line)),
        _ => Err(format!("{shown}: is empty; expected one line with the {what}")),
    }
}
