//! From `setup` to a probe that succeeds: the certificate registered over the relay's tenant API, or learned from the
//! host's own metadata document; and what is said where the relay does not take it.

use mailbadge_sim::client::Call;
use serde_json::{Value, json};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use support::cloud::{Cloud, ORGANIZATION};
use support::command_line::Host;
use support::process::Running;
use support::wait_until;

/// Longest wait for a thing to happen on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

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

#[test]
fn a_relay_that_is_told_the_hosts_document_trusts_it_and_its_next_certificate() {
    let cloud = Cloud::start();
    let host = Host::new();
    let listen =
        TcpListener::bind("127.0.0.1:0").and_then(|unused| unused.local_addr()).expect("a free port");
    host.configure(&format!(
        "organization = \"{ORGANIZATION}\"\nstate-dir = \"state\"\n[relay]\nca-file = \"{}\"\n[subscriptions]\n\
         listen = \"{listen}\"\n[admin]\nlisten = \"off\"\n",
        cloud.ca_file().display()
    ));
    assert_eq!(host.run("setup").code, 0);
    let enable = format!("proxy enable --organization {ORGANIZATION} --uri {}", cloud.url());
    assert_eq!(host.run(&enable).code, 0);
    assert_eq!(host.run("probe").code, 69, "nobody knows the certificate yet");

    let command = host.command("run");
    let mut daemon = Running::start("agent", command, &host.path("agent.log")).expect("cargo built it");
    wait_until("the endpoint answers", LIMIT, || TcpStream::connect(listen).ok());
    let url = format!("http://{listen}/autodiscover/metadata/json/1");
    let told = json!({ "url": url, "kind": "partner" });
    wait_until("the relay has read the document", LIMIT, || {
        cloud.control(Call::post(&format!("/control/tenants/{ORGANIZATION}/documents"), &told));
        (host.run("probe").code == 0).then_some(())
    });

    let made = host.json("certificate new");
    let thumbprint = made.pointer("/Thumbprint").and_then(Value::as_str).expect("it has one");
    host.json(&format!("auth config set --certificate {thumbprint}"));
    wait_until("the relay has learned of the other certificate by itself", LIMIT, || {
        (host.run("probe").code == 0).then_some(())
    });
    assert!(
        daemon.stop(LIMIT).expect("its pid is ours").is_some_and(|status| status.success()),
        "{}",
        daemon.log()
    );
}
