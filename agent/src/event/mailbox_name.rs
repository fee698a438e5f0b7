//! When two names are one mailbox. A domain has no letter case (RFC 5321 §2.4); a local part has, unless a source says that
//! its server's names have none.

use std::borrow::Cow;

/// The name with its domain, what stands behind the last `@`, in lower case. Letters are ASCII's: a domain name on the wire
/// has no others.
pub fn canonical(name: &str) -> Cow<'_, str> {
    let (_, domain) = parts(name);
    let is_lower = domain.is_none_or(|domain| !has_capitals(domain));
    if is_lower {
        return Cow::Borrowed(name);
    }
    let at = name.len() - domain.map_or(0, str::len);
    let (local_part, domain) = name.split_at(at);
    Cow::Owned(format!("{local_part}{}", domain.to_ascii_lowercase()))
}

/// The whole name in lower case, where letter case tells no mailboxes apart.
pub fn folded(name: &str) -> Cow<'_, str> {
    if has_capitals(name) { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) }
}

/// Whether the local part has capitals.
pub fn has_capital_local_part(name: &str) -> bool {
    has_capitals(parts(name).0)
}

/// Local part and domain.
pub fn parts(name: &str) -> (&str, Option<&str>) {
    name.rsplit_once('@').map_or((name, None), |(local_part, domain)| (local_part, Some(domain)))
}

fn has_capitals(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_domain_has_no_case_and_a_local_part_has() {
        let rows = [
            ("kim@fabrikam.com", "kim@fabrikam.com", "kim@fabrikam.com"),
            ("Kim@Fabrikam.COM", "Kim@fabrikam.com", "kim@fabrikam.com"),
            ("Kim", "Kim", "kim"),
            ("\"A@B\"@C.D", "\"A@B\"@c.d", "\"a@b\"@c.d"),
            ("Kim@", "Kim@", "kim@"),
            ("@Fabrikam", "@fabrikam", "@fabrikam"),
            ("Ärger@BÜRO.de", "Ärger@bÜro.de", "Ärger@bÜro.de"),
            ("", "", ""),
        ];
        for (name, expected, lowered) in rows {
            assert_eq!((&*canonical(name), &*folded(name)), (expected, lowered), "{name}");
        }
        assert!(has_capital_local_part("Kim@x") && has_capital_local_part("K"));
        assert!(!has_capital_local_part("kim@X"));
    }

    proptest! {
        #[test]
        fn a_canonical_name_stays_as_it_is(name in ".{0,30}") {
            let once = canonical(&name);
            prop_assert_eq!(canonical(&once), once.as_ref());
            prop_assert_eq!(folded(&once), folded(&name));
        }
    }
}
