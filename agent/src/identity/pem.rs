//! PEM as programs and people put it together (RFC 7468): blocks behind each other without a line end, text before and
//! between them, any line ends, spaces. Which block is wanted is decided by who reads.

use base64::Engine;
use base64::engine::general_purpose::GeneralPurposeConfig;
use base64::engine::{DecodePaddingMode, GeneralPurpose};
use zeroize::Zeroizing;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Base64 with or without its padding.
pub(super) const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What stands between `-----BEGIN LABEL-----` and the next `-----END`, still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block<'t> {
    /// `CERTIFICATE` and the like.
    pub(super) label: &'t str,
    body: &'t str,
}

/// The blocks of a text, in their order. One without an end is none.
pub(super) fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = rest.split_once(BEGIN)?;
            let Some((label, after)) = after.split_once(DASHES).filter(|(label, _)| !label.contains('\n'))
            else {
                rest = after;
                continue;
            };
            let (body, behind) = after.split_once(END)?;
            if body.contains(BEGIN) {
                // The end of this one is missing.
                rest = after;
                continue;
            }
            // The dashes at its end, and those that begin the next block, may touch.
            rest = behind.split_once(DASHES).map_or("", |(_, behind)| behind);
            return Some(Block { label: label.trim(), body });
        }
    })
}

impl Block<'_> {
    /// How PEM says that a key is encrypted (RFC 7468 §11, RFC 1421 §4.6.1.1).
    pub(super) fn is_encrypted(&self) -> bool {
        self.label.starts_with("ENCRYPTED") || self.body.contains("Proc-Type: 4,ENCRYPTED")
    }

    /// The bytes; headers of old encrypted keys (RFC 1421 §4.6) are passed over.
    pub(super) fn der(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        // Of its size from the start: growing would leave copies of a key behind.
        let mut base64 = Zeroizing::new(String::with_capacity(self.body.len()));
        let lines = self.body.lines().filter(|line| !line.contains(':'));
        base64.extend(lines.flat_map(str::chars).filter(|char| !char.is_whitespace()));
        let mut bytes = Zeroizing::new(vec![0; base64.len() / 4 * 3 + 3]);
        let written = FORGIVING.decode_slice(base64.as_bytes(), &mut bytes);
        bytes.truncate(written.map_err(|error| format!("no base64: {error}"))?);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(&str, Option<Vec<u8>>)> {
        blocks(text).map(|block| (block.label, block.der().ok().map(|der| der.to_vec()))).collect()
    }

    #[test]
    fn blocks_are_found_however_they_are_put_together() {
        let (a, b) = (Some(vec![0, 1, 2]), Some(vec![3, 4]));
        let both = vec![("A", a.clone()), ("B B", b)];
        let cases = [
            "-----BEGIN A-----\nAAEC\n-----END A-----\n-----BEGIN B B-----\nAwQ=\n-----END B B-----\n",
            "-----BEGIN A-----\nAAEC\n-----END A----------BEGIN B B-----\nAwQ=\n-----END B B-----",
            "\u{feff}-----BEGIN A-----\r\nAA\r\nEC \r\n-----END A-----\r\n\r\n-----BEGIN B B-----\r\n\tAwQ\r\n-----END B B-----\r\n",
            "Bag Attributes: -----\n -----BEGIN A-----\nProc-Type: 4\n\nAAEC-----END A-----\nsubject=/CN=x\n-----BEGIN B B----- AwQ= -----END B B----- text",
            "-----BEGIN X-----\nAAEC\n-----BEGIN A-----\nAAEC\n-----END A-----\n-----BEGIN B B-----\nAwQ=\n-----END B B-----\n-----BEGIN C-----\nAAEC\n",
        ];
        for text in cases {
            assert_eq!(read(text), both, "{text}");
        }
        assert_eq!(read("-----BEGIN A-----\nA!EC\n-----END A-----\n"), [("A", None)]);
        for text in ["", "-----BEGIN A", "-----BEGIN A-----", "-----BEGIN A\n-----\n-----END A-----"] {
            assert_eq!(read(text), [], "{text}");
        }
    }
}
