//! `auth config`, `auth server`, `auth partner` and `auth credential` as people and programs meet them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use mailbadge::identity::auth_config::AuthConfig;
use mailbadge::identity::certificate::Certificate;
use mailbadge::identity::certificate::StoredCertificate;
use mailbadge::store::{SqliteStore, Store};
use mailbadge::time::UnixMs;
use mailbadge::time::driver::Clock;
use parking_lot::Mutex;
use secrecy::SecretString;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use support::command_line::Host;

const HOUR: Duration = Duration::from_hours(1);
const GOOD: &str = include_str!("../../fixtures/metadata/good.json");

/// A host with a current certificate and a spare one.
fn with_two() -> (Host, String, String) {
    let host = Host::new();
    let [current, spare] = ["setup", "certificate new"].map(|line| thumbprint(&host.json(line)));
    (host, current, spare)
}

fn thumbprint(shown: &Value) -> String {
    shown.get("Thumbprint").and_then(Value::as_str).unwrap().to_owned()
}

/// Current, previous and next.
fn roles(host: &Host) -> [Value; 3] {
    let shown = host.json("auth config show");
    ["Current", "Previous", "Next"]
        .map(|role| shown.get(format!("{role}CertificateThumbprint")).unwrap().clone())
}

fn from_now(wait: Duration) -> UnixMs {
    Clock::start().now().unix.after(wait)
}

#[test]
fn the_auth_config_is_shown_as_the_cmdlet_does() {
    let host = Host::new().begun();
    let empty = host.json("auth config show");
    assert_eq!((&empty["CurrentCertificateThumbprint"], &empty["IsValid"]), (&().into(), &false.into()));
    let current = host.json("setup")["Thumbprint"].as_str().unwrap().to_owned();
    let shown = host.run("auth config show").out;
    let names: Vec<_> = shown.lines().map(|line| line.split(':').next().unwrap().trim()).collect();
    let expected = [
        "ServiceName",
        "Realm",
        "CurrentCertificateThumbprint",
        "PreviousCertificateThumbprint",
        "NextCertificateThumbprint",
        "NextCertificateEffectiveDate",
        "Name",
        "IsValid",
    ];
    assert_eq!(names, expected);
    for line in [
        "ServiceName                   : 00000002-0000-0ff1-ce00-000000000000",
        "Realm                         : fabrikam.com",
        &format!("CurrentCertificateThumbprint  : {current}"),
        "IsValid                       : True",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line} is not in {shown}");
    }
}

#[test]
fn a_certificate_that_is_set_signs_at_once_and_the_former_one_is_the_previous() {
    let (host, first, second) = with_two();
    let told = host.json(&format!("auth config set --certificate {second} --what-if"));
    assert_eq!(told["WhatIf"].as_array().unwrap().len(), 2, "{told}");
    assert_eq!(roles(&host), [first.as_str().into(), Value::Null, Value::Null], "nothing was written");
    let set = host.run(&format!("auth config set --certificate {}", second.to_lowercase()));
    assert_eq!(set.code, 0, "{}", set.err);
    assert_eq!(roles(&host), [second.as_str().into(), first.as_str().into(), Value::Null]);
    assert_eq!(host.run("auth config clear-previous").code, 0);
    assert_eq!(roles(&host), [second.as_str().into(), Value::Null, Value::Null]);
    host.run("auth config set --certificate nonsense").refused(64, &["40 hex digits"]);
    host.run(&format!("auth config set --certificate {}", "A".repeat(40))).refused(64, &["no certificate"]);
    host.run("auth config set").refused(64, &["--certificate", "--next"]);
}

#[test]
fn a_next_certificate_waits_for_its_date_and_is_published_before_when_asked() {
    let (host, first, second) = with_two();
    let set = |date: UnixMs, force: &str| {
        host.run(&format!("auth config set --next {second} --effective {date} {force}"))
    };
    set(from_now(HOUR * 47), "").refused(64, &["less than 48 hours", "--force"]);
    set(UnixMs(from_now(HOUR).0 - 2 * 3_600_000), "--force").refused(64, &["is over"]);
    set(from_now(HOUR * 24 * 365 * 6), "").refused(64, &["is valid from", "choose a date within"]);
    host.run(&format!("auth config set --next {second}")).refused(64, &["--effective"]);
    host.run(&format!("auth config set --next {second} --effective soon")).refused(64, &["2026-12-01"]);
    host.run(&format!("auth config set --next {first} --effective {}", from_now(HOUR * 50)))
        .refused(64, &["is the current one already"]);
    host.run("auth config publish").refused(64, &["no next certificate", "--next"]);
    assert_eq!(roles(&host), [first.as_str().into(), Value::Null, Value::Null], "nothing was written");

    let date = from_now(HOUR * 49);
    assert_eq!(set(date, "").code, 0);
    let shown = host.json("auth config show");
    assert_eq!(shown["NextCertificateEffectiveDate"], date.to_string());
    assert_eq!(host.json("certificate list")[1]["Role"], "next");
    assert_eq!(host.json("auth config publish --what-if")["WhatIf"].as_array().unwrap().len(), 4);
    assert_eq!(host.run("auth config publish").code, 0);
    assert_eq!(roles(&host), [second.as_str().into(), first.as_str().into(), Value::Null]);
    let back = host.run(&format!("auth config set --next {first} --effective {} --force", from_now(HOUR)));
    assert_eq!(back.code, 0, "{}", back.err);
    assert_eq!(host.run("auth config clear-next").code, 0);
    assert_eq!(roles(&host), [second.as_str().into(), first.as_str().into(), Value::Null]);
}

#[test]
fn a_certificate_without_a_key_of_its_own_is_told_and_refused() {
    let (host, first, second) = with_two();
    let key = host.path("state/certificates").join(format!("{second}.key"));
    let set = format!("auth config set --certificate {second}");
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    host.run(&set).refused(77, &["mode 0640", "chmod 600"]);
    fs::remove_file(&key).unwrap();
    host.run(&set).refused(74, &["No such file"]);
    let told = host.json("certificate list");
    let of = |member: &str| told.as_array().unwrap().iter().map(|it| it[member].clone()).collect::<Vec<_>>();
    assert_eq!(of("HasPrivateKey"), [true, false]);
    assert_eq!(of("Status")[0], "Valid");
    assert!(host.run(&format!("certificate show {second}")).out.contains("HasPrivateKey        : False\n"));
    assert_eq!(roles(&host), [first.as_str().into(), Value::Null, Value::Null]);
}

#[test]
fn an_expired_certificate_signs_nothing_and_setup_makes_another() {
    let host = Host::new();
    let pem = |name: &str| fs::read_to_string(format!("fixtures/certificates/expired.{name}.pem")).unwrap();
    let expired = Certificate::from_pem(&pem("cert"), "Exchange S2S OAuth").unwrap();
    let stored = StoredCertificate {
        thumbprint: expired.thumbprint().to_string(),
        friendly_name: expired.friendly_name().to_owned(),
        der: expired.der().to_vec(),
    };
    // No command would take it: it was current when it expired.
    let store = SqliteStore::open_or_create(&host.path("state"), UnixMs(0)).unwrap();
    store.add_certificate(&stored, &SecretString::from(pem("key"))).unwrap();
    let config = AuthConfig { current: Some(stored.thumbprint.clone()), ..AuthConfig::default() };
    assert!(store.replace_auth_config(&AuthConfig::default(), &config).unwrap());
    drop(store);
    let text = format!("certificate {} has expired on", stored.thumbprint);
    assert_eq!(host.json("auth config show")["IsValid"], false);
    assert!(host.json("certificate show")["Status"].as_str().unwrap().starts_with(&text));
    assert_eq!(host.run("proxy enable --organization fabrikam.com --uri https://relay.example").code, 0);
    host.run("token").refused(78, &[&text, "mailbadge setup"]);
    let probe = host.run("probe");
    assert!(probe.code == 69 && probe.out.contains(&text), "{}{}", probe.out, probe.err);
    let again = host.json("setup");
    assert_eq!(again["Certificate"], "Created");
    assert_eq!(roles(&host)[..2], [again["Thumbprint"].clone(), stored.thumbprint.as_str().into()]);
}

#[test]
fn the_own_name_in_tokens_is_the_configurations_until_it_is_set() {
    let host = Host::with("[auth]\nrealm = \"contoso.com\"\n").begun();
    assert_eq!(host.json("auth config show")["Realm"], "contoso.com");
    let set = "auth config set --realm Fabrikam.com --service-name 00000003-0000-0FF1-CE00-000000000000";
    let told = host.json(set);
    assert_eq!(told["Realm"], "fabrikam.com");
    assert_eq!(told["ServiceName"], "00000003-0000-0ff1-ce00-000000000000");
    let mut command = host.command("auth config set");
    let cleared = command.args(["--realm", "", "--service-name", ""]).output().unwrap();
    assert!(cleared.status.success());
    assert_eq!(host.json("auth config show")["Realm"], "contoso.com");
    host.run("auth config set --realm not_a_domain").refused(64, &["--realm", "DNS domain"]);
    host.run("auth config set --service-name me").refused(64, &["application id", "GUID"]);
}

/// Answers each request with what stands in the cell, until the test ends.
fn answering(body: &str) -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(Mutex::new(body.to_owned()));
    let shared = Arc::clone(&answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut asked = [0; 4096];
            let read = stream.read(&mut asked).unwrap_or(0);
            let is_gone = asked.get(..read).is_some_and(|asked| asked.starts_with(b"GET /gone"));
            let status = if is_gone { "404 Not Found" } else { "200 OK" };
            let body = shared.lock().clone();
            let head =
                format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            // The other side may be gone already.
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    (address, answer)
}

#[test]
fn an_auth_server_is_added_shown_refreshed_and_removed() {
    let host = Host::new().begun();
    let (address, answer) = answering(GOOD);
    let url = format!("http://{address}/metadata/json/1?realm=fabrikam.com");
    let added = host.json(&format!("auth server add Sts --auth-metadata-url {url}"));
    assert_eq!(added["Realm"], "11111111-2222-3333-4444-555555555555");
    assert!(added["IssuerIdentifier"].as_str().unwrap().starts_with("00000001-0000-0000-c000-000000000000@"));
    assert!(added["TokenIssuingEndpoint"].as_str().unwrap().ends_with("/tokens/OAuth/2"));
    assert_eq!(added["CertificateThumbprints"].as_array().unwrap().len(), 1);
    let listed = host.run("auth server list").out;
    assert!(listed.contains("Name                  : Sts\n"), "{listed}");
    host.run(&format!("auth server add sts --auth-metadata-url {url}")).refused(64, &["is there already"]);
    let other = format!("http://{address}/other");
    let told = host.json(&format!("auth server set STS --auth-metadata-url {other} --what-if"));
    assert_eq!(
        (told["WhatIf"].as_array().unwrap().len(), &told["AuthMetadataUrl"]),
        (1, &url.clone().into())
    );
    assert_eq!(
        host.json(&format!("auth server set STS --auth-metadata-url {other}"))["AuthMetadataUrl"],
        other
    );
    let before = host.json("auth server list");
    answer.lock().replace_range(.., "{}");
    host.run("auth server set Sts --refresh").refused(69, &["serviceName is missing", "nothing was changed"]);
    host.run("auth server list --refresh").refused(69, &[&other, "nothing was changed"]);
    assert_eq!(host.json("auth server list"), before);
    answer.lock().replace_range(.., GOOD);
    assert_eq!(host.json("auth server list --refresh")[0]["Name"], "Sts");
    assert!(host.run("auth server remove sts --what-if").out.contains("would be removed"));
    assert_eq!(host.json("auth server remove sts")["Removed"], "Sts");
    assert_eq!(host.json("auth server list"), Value::Array(Vec::new()));
    host.run("auth server remove sts").refused(64, &["no auth server", "auth server list"]);
    host.run("auth server set sts --refresh").refused(64, &["no auth server"]);
}

#[test]
fn an_auth_server_whose_document_is_none_is_not_added() {
    let host = Host::new().begun();
    let (address, answer) = answering(GOOD);
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rows = [
        (GOOD, format!("http://{unused}/"), 69, "no connection"),
        (GOOD, format!("http://{address}/gone"), 69, "the answer is 404"),
        ("<html>", format!("http://{address}/"), 69, "no JSON object"),
        (include_str!("../../fixtures/metadata/bad-no-key.json"), format!("http://{address}/"), 69, "keys"),
        (
            include_str!("../../fixtures/metadata/bad-no-issuance.json"),
            format!("http://{address}/"),
            69,
            "issuance",
        ),
        (GOOD, "http://sts.example/".to_owned(), 64, "loopback only"),
        (GOOD, "sts".to_owned(), 64, "--auth-metadata-url"),
    ];
    for (body, url, code, word) in rows {
        answer.lock().replace_range(.., body);
        host.run(&format!("auth server add Sts --auth-metadata-url {url}")).refused(code, &[word]);
    }
    host.run("auth server add").refused(64, &["Usage"]);
    assert_eq!(host.json("auth server list"), Value::Array(Vec::new()));
}

#[test]
fn a_partner_application_is_added_listed_and_removed() {
    let host = Host::new().begun();
    let add = "auth partner add --application-id 00000002-0000-0FF1-CE00-000000000000 --realm Contoso.com";
    let added = host.json(add);
    assert_eq!(added["Name"], "00000002-0000-0ff1-ce00-000000000000@contoso.com");
    assert_eq!((&added["Realm"], &added["AuthMetadataUrl"]), (&"contoso.com".into(), &().into()));
    host.run(add).refused(64, &["is there already"]);
    host.run(&format!("{add} --name another")).refused(64, &["is there already"]);
    let (address, _answer) = answering(GOOD);
    let by_url = host.json(&format!("auth partner add --name Sts --auth-metadata-url http://{address}/"));
    assert_eq!(by_url["ApplicationIdentifier"], "00000001-0000-0000-c000-000000000000");
    let table = host.run("auth partner list").out;
    assert!(table.starts_with("NAME ") && table.contains("\nSts "), "{table}");
    assert!(host.run("auth partner remove sts --what-if").out.contains("would be removed"));
    assert_eq!(host.run("auth partner remove sts").out, "Removed partner application Sts.\n");
    host.run("auth partner remove sts").refused(64, &["no partner application", "auth partner list"]);
    assert_eq!(host.json("auth partner list").as_array().unwrap().len(), 1);
    for (options, word) in [
        ("", "--application-id"),
        ("--application-id me --realm a.b", "GUID"),
        ("--application-id 00000002-0000-0ff1-ce00-000000000000 --realm nowhere", "--realm"),
        ("--application-id 00000002-0000-0ff1-ce00-000000000000", "--realm"),
    ] {
        host.run(&format!("auth partner add {options}")).refused(64, &[word]);
    }
}

#[test]
fn a_key_credential_is_the_certificate_with_its_own_dates() {
    let host = Host::new();
    host.run("auth credential").refused(78, &["mailbadge setup"]);
    assert_eq!(host.run("setup").code, 0);
    let shown = host.json("certificate show");
    let credential = host.json("auth credential");
    assert_eq!((&credential["Type"], &credential["Usage"]), (&"Asymmetric".into(), &"Verify".into()));
    for (member, of_certificate) in
        [("StartDate", "NotBefore"), ("EndDate", "NotAfter"), ("Thumbprint", "Thumbprint")]
    {
        assert_eq!(credential[member], shown[of_certificate], "{member}");
    }
    let key_id = credential["KeyId"].as_str().unwrap().replace('-', "");
    assert_eq!(shown["SubjectKeyIdentifier"], key_id);
    let pem = host.run("certificate export --format pem").out;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(credential["Value"], body);
    let spare = host.json("certificate new")["Thumbprint"].as_str().unwrap().to_owned();
    assert_eq!(host.json(&format!("auth credential --certificate {spare}"))["Thumbprint"], spare);
}
