//! Certificates and tokens as openssl sees them, a program with libraries of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use support::cloud::{Cloud, ORGANIZATION};
use support::command_line::Host;
use support::required;

/// Runs openssl in the host's folder, its arguments split at spaces.
fn try_openssl(host: &Host, line: &str) -> Output {
    Command::new("openssl").args(line.split(' ')).current_dir(host.path("")).output().unwrap()
}

/// The same where it must succeed; its output.
fn openssl(host: &Host, line: &str) -> Vec<u8> {
    let output = try_openssl(host, line);
    assert!(output.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn openssl_text(host: &Host, line: &str) -> String {
    String::from_utf8(openssl(host, line)).unwrap()
}

fn member(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap().to_owned()
}

#[test]
fn openssl_reads_the_exported_certificate_and_names_it_as_we_do() {
    if !required("openssl") {
        return;
    }
    let host = Host::new();
    assert_eq!(host.run("setup").code, 0);
    let shown = host.json("certificate show");
    let read = |what: &str| openssl_text(&host, &format!("x509 -inform der -in OAuthCert.cer -noout {what}"));
    let fingerprint = read("-fingerprint -sha1");
    let thumbprint = fingerprint.trim().rsplit('=').next().unwrap().replace(':', "");
    assert_eq!(thumbprint, member(&shown, "Thumbprint"));
    let digest = openssl(&host, "dgst -sha1 -binary OAuthCert.cer");
    assert_eq!(URL_SAFE_NO_PAD.encode(digest), member(&shown, "X5t"));
    assert_eq!(read("-subject").replace(' ', "").trim(), "subject=CN=fabrikam.com");
    let identifier = read("-ext subjectKeyIdentifier").lines().last().unwrap().trim().replace(':', "");
    assert_eq!(identifier.to_lowercase(), member(&shown, "SubjectKeyIdentifier"));
    let text = read("-text");
    assert!(text.contains("Public-Key: (2048 bit)") && text.contains("sha256WithRSAEncryption"), "{text}");
    assert_eq!(host.run("certificate export --format pem --out agent.pem").code, 0);
    assert_eq!(
        openssl(&host, "x509 -in agent.pem -outform der"),
        fs::read(host.path("OAuthCert.cer")).unwrap()
    );
    assert!(openssl_text(&host, "verify -CAfile agent.pem agent.pem").contains("agent.pem: OK"));
}

#[test]
fn openssl_verifies_a_token_with_the_exported_certificate() {
    if !required("openssl") {
        return;
    }
    let cloud = Cloud::start();
    let ca_file = cloud.ca_file().display();
    let host = Host::with(&format!("[relay]\nca-file = \"{ca_file}\"\n"));
    assert_eq!(host.run("setup").code, 0);
    assert_eq!(
        host.run(&format!("proxy enable --organization {ORGANIZATION} --uri {}", cloud.url())).code,
        0
    );
    let token = member(&host.json("token --show"), "Token");
    let (message, signature) = token.rsplit_once('.').unwrap();
    fs::write(host.path("message"), message).unwrap();
    fs::write(host.path("signature"), URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    fs::write(host.path("public.pem"), openssl(&host, "x509 -inform der -in OAuthCert.cer -noout -pubkey"))
        .unwrap();
    let verify = "dgst -sha256 -verify public.pem -signature signature message";
    assert_eq!(openssl_text(&host, verify).trim(), "Verified OK");
    fs::write(host.path("message"), format!("{message}x")).unwrap();
    assert!(!try_openssl(&host, verify).status.success(), "another message");
}

#[test]
fn what_openssl_made_is_imported_as_long_as_its_key_is_not_encrypted() {
    if !required("openssl") {
        return;
    }
    let host = Host::new().begun();
    let make =
        "req -x509 -newkey rsa:3072 -nodes -keyout new.key -out new.pem -subj /CN=fabrikam.com -days 90";
    openssl(&host, make);
    openssl(&host, "rsa -in new.key -traditional -out pkcs1.key");
    openssl(&host, "pkey -in new.key -aes256 -passout pass:secret -out encrypted.key");
    openssl(&host, "rsa -in new.key -traditional -aes256 -passout pass:secret -out encrypted1.key");
    for name in ["new.key", "pkcs1.key", "encrypted.key", "encrypted1.key"] {
        fs::set_permissions(host.path(name), Permissions::from_mode(0o600)).unwrap();
    }
    for key in ["new.key", "pkcs1.key"] {
        let told = host.json(&format!("certificate import new.pem --key {key}"));
        assert_eq!(told.get("KeyBits"), Some(&3072.into()), "{key}");
    }
    for key in ["encrypted.key", "encrypted1.key"] {
        host.run(&format!("certificate import new.pem --key {key}"))
            .refused(64, &[key, "encrypted", "openssl pkey"]);
    }
    // The remedy is one.
    openssl(&host, "pkey -in encrypted.key -passin pass:secret -out plain.key");
    fs::set_permissions(host.path("plain.key"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(host.run("certificate import new.pem --key plain.key").code, 0);
}
