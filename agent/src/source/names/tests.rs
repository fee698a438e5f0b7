//! Each rule both ways, and its way back.

use super::*;
use proptest::prelude::*;

fn names(spelling: Spelling, is_lowered: bool) -> Names {
    Names { spelling, domain: "fabrikam.com".into(), is_lowered }
}

#[test]
fn each_rule_works_both_ways() {
    use Spelling::{LocalPart, Same, WithDomain};
    // Rule, what the server says, the mailbox.
    let cases = [
        (Same, "u1", "u1"),
        (Same, "u1@fabrikam.com", "u1@fabrikam.com"),
        (LocalPart, "u1", "u1@fabrikam.com"),
        (LocalPart, "u1@other.org", "u1@other.org"),
        (WithDomain, "u1@fabrikam.com", "u1"),
        (WithDomain, "u1@other.org", "u1@other.org"),
    ];
    for (spelling, server, mailbox) in cases {
        assert_eq!(names(spelling, false).mailbox(server), mailbox, "{spelling:?} {server}");
        assert_eq!(names(spelling, false).server(mailbox), server, "{spelling:?} {mailbox}");
    }
    assert_eq!(names(WithDomain, false).mailbox("U1@Fabrikam.COM"), "U1");
    assert_eq!(names(WithDomain, true).mailbox("U1@Fabrikam.COM"), "u1");
    assert_eq!(names(Same, true).server("Kim"), "kim");
    assert_eq!(names(WithDomain, false).mailbox("@fabrikam.com"), "@fabrikam.com");
}

proptest! {
    #[test]
    fn what_goes_out_comes_back(local in "[a-z.]{1,8}", other in any::<bool>()) {
        let domain = if other { "other.org" } else { "fabrikam.com" };
        let full = format!("{local}@{domain}");
        let short = if other { full.clone() } else { local };
        for (spelling, mailbox) in
            [(Spelling::Same, &full), (Spelling::LocalPart, &full), (Spelling::WithDomain, &short)]
        {
            let rule = names(spelling, false);
            let server = rule.server(mailbox).into_owned();
            prop_assert_eq!(rule.mailbox(&server), mailbox.as_str());
        }
    }
}
