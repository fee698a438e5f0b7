//! From `setup` to a probe that succeeds, the certificate registered over the relay's tenant API; and what is said where
//! the relay does not take it.

use std::net::TcpListener;
use support::cloud::{Cloud, ORGANIZATION};
use support::command_line::Host;

#[test]
fn a_registered_credential_is_trusted_and_the_probe_succeeds() {
    let cloud = Cloud::start();
    let host = Host::with(&format!("[relay]\nca-file = \"{}\"\n", cloud.ca_file().display()));
    assert_eq!(host.run("setup").code, 0);
    assert_eq!(
        host.run(&format!("proxy enable --organization {ORGANIZATION} --uri {}", cloud.url())).code,
        0
    );
    assert_eq!(host.run("probe").code, 69, "nobody knows the certificate yet");
    let url = cloud.credentials_url();
    let told = host.json(&format!("auth credential --register {url}"));
    assert_eq!(told.pointer("/Registered/thumbprint"), told.get("Thumbprint"), "{told}");
    assert_eq!(told.pointer("/Registered/isNew"), Some(&true.into()));
    let again = host.run(&format!("auth credential --register {url}"));
    assert!(again.code == 0 && again.err.starts_with("Registered "), "{}", again.err);
    let probe = host.run("probe");
    assert!(probe.code == 0 && probe.out.contains("Succeeded"), "{}{}", probe.out, probe.err);
}

#[test]
fn a_credential_that_is_not_taken_is_told_with_the_remedy() {
    let cloud = Cloud::start();
    let host = Host::new();
    assert_eq!(host.run("setup").code, 0);
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let relay = cloud.url().replace("/PushNotifications", "/tenants");
    let rows = [
        (format!("http://{unused}/x"), 69, "no connection", "is the relay up"),
        (
            cloud.credentials_url().replace(ORGANIZATION, "contoso.com"),
            69,
            "refused with 404",
            "the tenant in the URL",
        ),
        (format!("{}control/tenants", cloud.page_url()), 69, "refused with ", "certificate"),
        (relay, 69, "TLS handshake failed", "relay.ca-file"),
        ("http://relay.example/x".to_owned(), 64, "--register", "use https"),
    ];
    for (url, code, what, remedy) in rows {
        host.run(&format!("auth credential --register {url}")).refused(code, &[what, remedy]);
    }
}
