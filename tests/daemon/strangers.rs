//! What a stranger on the host could put in the way of the agent, or read of it: files, links, pipes, names, memory.

use crate::state::scene;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;
use support::host::Host;

fn mode(host: &Host, file: &str, mode: u32) {
    fs::set_permissions(host.folder().join(file), Permissions::from_mode(mode)).expect("own file");
}

#[test]
fn a_configuration_that_others_can_write_is_refused_with_the_remedy() {
    let (_cloud, host) = scene();
    for command in [&["check"][..], &["subscription", "list"]] {
        mode(&host, "mailbadge.toml", 0o666);
        let refused = host.command(command).expect_err("anybody could have written it").to_string();
        assert!(refused.contains("exit status: 77") && refused.contains("chmod"), "{refused}");
        mode(&host, "mailbadge.toml", 0o644);
        host.command(&["subscription", "list"]).expect("it is its owner's alone");
    }
    mode(&host, "", 0o777);
    let refused = host.command(&["subscription", "list"]).expect_err("anybody could exchange it").to_string();
    assert!(refused.contains("exit status: 77"), "{refused}");
}

#[test]
fn setup_writes_through_no_link_that_waits_for_it() {
    let (_cloud, host) = scene();
    let (export, victim) = (host.folder().join("export"), host.folder().join("victim"));
    fs::create_dir(&export).expect("own folder");
    fs::write(&victim, "precious").expect("own folder");
    symlink(&victim, export.join("OAuthCert.cer")).expect("own folder");
    let arguments = ["setup", "--export-dir", "export"];
    let said = host.command(&arguments).unwrap_or_else(|error| error.to_string());
    assert_eq!(fs::read_to_string(&victim).expect("it is there"), "precious", "{said}");
    fs::remove_file(export.join("OAuthCert.cer")).expect("own folder");
    let said = host.command(&arguments).expect("nothing is in the way");
    assert!(said.contains("SHA-256"), "{said}");
    assert!(fs::symlink_metadata(export.join("OAuthCert.cer")).expect("it was written").is_file());
}

#[test]
fn a_pipe_in_place_of_a_password_file_is_refused_and_not_waited_for() {
    let (_cloud, host) = scene();
    let password =
        fs::read_dir(host.folder()).expect("own folder").filter_map(Result::ok).map(|entry| entry.path());
    let password = password.into_iter().find(|path| path.extension().is_some_and(|end| end == "password"));
    let password = password.expect("the source has one");
    fs::remove_file(&password).expect("own folder");
    let made = Command::new("mkfifo").args(["-m", "600"]).arg(&password).status().expect("coreutils");
    assert!(made.success());
    let refused = host.command(&["check"]).expect_err("it is no file").to_string();
    assert!(refused.contains("regular file"), "{refused}");
}

#[test]
fn a_name_that_leads_here_by_somebody_elses_word_reads_nothing() {
    let (_cloud, mut host) = scene();
    host.start();
    let ask = |name: &str| {
        let mut stream = UnixStream::connect(host.folder().join("admin.sock")).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a socket of ours");
        write!(stream, "GET /status HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")
            .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    assert!(ask("localhost").starts_with("HTTP/1.1 200 "));
    let refused = ask("rebound.example");
    assert!(refused.starts_with("HTTP/1.1 4") && !refused.contains("mailboxes"), "{refused}");
    host.stop();
}

#[test]
fn a_crash_writes_no_key_to_the_disk() {
    let (_cloud, mut host) = scene();
    host.start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", host.pid())).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the system has it");
    let words: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(words.get(4..6), Some(&["0", "0"][..]), "{core}");
    host.stop();
}
