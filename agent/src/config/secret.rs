//! Keys that name a file whose first line is a secret: only its owner may read it. The line's end, of whatever kind, and a
//! mark of byte order before it are not the secret's; every other character is.

use super::config_file::Section;
use crate::files::driver::Trust;
use secrecy::SecretString;
use std::path::Path;

/// A file with a secret holds one line.
pub(super) const SECRET_SIZE_MAX: u64 = 4096;

/// The first line of the file that `key` names; `what` it is, for faults. It must be there.
pub(super) fn first_line_of(section: &mut Section, key: &'static str, what: &str) -> Option<SecretString> {
    if section.table(key).is_none() {
        section.refuse(key, format!("is missing; expected a file with the {what}, mode 0600"));
    }
    let path = section.path(key)?;
    let bytes = section.read_file(key, &path, SECRET_SIZE_MAX, Trust::Secret)?;
    first_line(&path, &bytes, what).map_err(|fault| section.refuse(key, fault)).ok()
}

fn first_line(path: &Path, bytes: &[u8], what: &str) -> Result<SecretString, String> {
    let shown = path.display();
    let text = std::str::from_utf8(bytes)
        .map_err(|_| format!("{shown}: is no text in UTF-8; expected the {what}"))?;
    match secret_of(text) {
        Some(line) => Ok(SecretString::from(line)),
        None => Err(format!("{shown}: is empty; expected one line with the {what}")),
    }
}

/// The first line of a text; `None` where that is empty.
fn secret_of(text: &str) -> Option<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line = text.split(['\r', '\n']).next().unwrap_or_default();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_secret_is_the_first_line_without_its_end() {
        let cases = [
            ("secret", Some("secret")),
            ("secret\n", Some("secret")),
            ("secret\r\n\r\n", Some("secret")),
            ("secret\r", Some("secret")),
            ("\u{feff}secret\n", Some("secret")),
            (" sec\tret \nmore", Some(" sec\tret ")),
            ("s\u{feff}é", Some("s\u{feff}é")),
            ("", None),
            ("\nsecret", None),
            ("\u{feff}\r\n", None),
        ];
        for (text, expected) in cases {
            assert_eq!(secret_of(text), expected, "{text:?}");
        }
    }

    proptest! {
        /// The grammar of such a file: `[BOM] secret [line-end *any]`.
        #[test]
        fn a_secret_comes_back_from_every_file_of_the_grammar(
            mark in "\u{feff}?",
            secret in "[^\r\n\u{feff}]{1,40}",
            end in "|\r|\n|\r\n|\n\n\n",
            more in "\\PC{0,20}",
        ) {
            let rest = if end.is_empty() { String::new() } else { format!("{end}{more}") };
            let text = format!("{mark}{secret}{rest}");
            prop_assert_eq!(secret_of(&text), Some(secret.as_str()));
        }
    }
}
