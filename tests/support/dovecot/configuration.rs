//! `dovecot.conf` in the words of 2.3 and of 2.4.

use super::{DoveadmApi, Format, Options};
use crate::generation::Generation;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// All that a configuration is made of.
pub(super) struct Configuration<'a> {
    pub(super) folder: &'a Path,
    pub(super) owner: &'a Owner,
    pub(super) imap: SocketAddr,
    pub(super) lmtp: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) options: &'a Options,
}

impl Configuration<'_> {
    pub(super) fn text(&self) -> String {
        let is_newer = self.options.generation == Generation::Debian13;
        let mut text = if is_newer { self.first_lines_2_4() } else { self.first_lines_2_3() };
        text += &self.common();
        text += &self.owner.configuration;
        text.extend(self.options.dict.as_deref().map(if is_newer { plugin_2_4 } else { plugin_2_3 }));
        text.extend(self.options.doveadm.map(|api| self.doveadm(api)));
        text + &self.options.extra
    }

    fn first_lines_2_3(&self) -> String {
        let folder = self.folder.display();
        let (uid, gid) = (self.owner.uid, self.owner.gid);
        let location = match self.options.format {
            Format::Maildir => "maildir:~/Maildir",
            Format::Sdbox => "sdbox:~/sdbox",
        };
        format!(
            "\
protocols = imap lmtp
disable_plaintext_auth = no
mail_location = {location}
passdb {{
  driver = passwd-file
  args = {folder}/masters
  master = yes
  result_success = continue
}}
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%u
}}
service imap-login {{
  service_count = 0
}}
"
        )
    }

    fn first_lines_2_4(&self) -> String {
        let folder = self.folder.display();
        let (uid, gid) = (self.owner.uid, self.owner.gid);
        let location = match self.options.format {
            Format::Maildir => "mail_driver = maildir\nmail_path = ~/Maildir",
            Format::Sdbox => "mail_driver = sdbox\nmail_path = ~/sdbox",
        };
        format!(
            "\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
protocols {{
  imap = yes
  lmtp = yes
}}
auth_allow_cleartext = yes
{location}
passdb masters {{
  driver = passwd-file
  passwd_file_path = {folder}/masters
  master = yes
  result_success = continue
}}
passdb users {{
  driver = passwd-file
  passwd_file_path = {folder}/users
}}
userdb users {{
  driver = static
  fields {{
    uid = {uid}
    gid = {gid}
    home = {folder}/mail/%{{user}}
  }}
}}
service imap-login {{
  restart_request_count = unlimited
}}
"
        )
    }

    fn common(&self) -> String {
        let folder = self.folder.display();
        let (imap, lmtp) = (self.imap.port(), self.lmtp.port());
        let prefix = self.options.prefix;
        let separator = if prefix.is_empty() { "" } else { "  separator = .\n" };
        format!(
            "\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
listen = 127.0.0.1
ssl = no
auth_master_user_separator = *
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 1000
service imap-login {{
  chroot =
  client_limit = 4000
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service imap {{
  process_limit = 4000
}}
service lmtp {{
  inet_listener lmtp {{
    {} = 127.0.0.1
    port = {lmtp}
  }}
}}
service anvil {{
  chroot =
}}
namespace inbox {{
  inbox = yes
  prefix = {prefix}
{separator}  mailbox Trash {{
    auto = create
    special_use = \\Trash
  }}
}}
",
            self.address_key()
        )
    }

    /// How a listener names its address.
    fn address_key(&self) -> &'static str {
        match self.options.generation {
            Generation::Debian12 => "address",
            Generation::Debian13 => "listen",
        }
    }

    /// Who is looked up is found in the static userdb before; the other one can also be listed.
    fn doveadm(&self, api: DoveadmApi) -> String {
        let folder = self.folder.display();
        let listing = match self.options.generation {
            Generation::Debian12 => {
                format!("userdb {{\n  driver = passwd-file\n  args = {folder}/listed\n}}\n")
            }
            Generation::Debian13 => {
                format!(
                    "userdb listed {{\n  driver = passwd-file\n  passwd_file_path = {folder}/listed\n}}\n"
                )
            }
        };
        format!(
            "\
doveadm_api_key = {}
service doveadm {{
  inet_listener http {{
    {} = 127.0.0.1
    port = {}
  }}
}}
{}",
            api.key,
            self.address_key(),
            self.http.port(),
            if api.lists_users { &listing } else { "" }
        )
    }
}

/// The plugin's part, 2.3.
fn plugin_2_3(dict: &str) -> String {
    format!(
        "\
mail_plugins = $mail_plugins notify notify_status
plugin {{
  notify_status_dict = {dict}
  notify_status_mailbox = INBOX
  notify_status_value = {{\"messages\":%%{{messages}},\"unseen\":%%{{unseen}},\"uidnext\":%%{{uidnext}},\
\"uidvalidity\":%%{{uidvalidity}},\"modseq\":%%{{highest_modseq}}}}
}}
"
    )
}

/// The same for 2.4, of the same `proxy:[idle_msecs=<n>:]<path>:<name>`.
fn plugin_2_4(dict: &str) -> String {
    let address = dict.trim_start_matches("proxy:").trim_end_matches(":unseen");
    let (idle, path) = match address.strip_prefix("idle_msecs=").and_then(|rest| rest.split_once(':')) {
        Some((milliseconds, path)) => (format!("dict_proxy_idle_timeout = {milliseconds}ms\n"), path),
        None => (String::new(), address),
    };
    format!(
        "\
mail_plugins {{
  notify = yes
  notify_status = yes
}}
notify_status {{
  dict proxy {{
    name = unseen
    socket_path = {path}
  }}
}}
{idle}mailbox_notify_status = yes
notify_status_value = '{{\"messages\":%{{messages}},\"unseen\":%{{unseen}},\"uidnext\":%{{uidnext}},\
\"uidvalidity\":%{{uidvalidity}},\"modseq\":%{{highest_modseq}}}}'
"
    )
}

/// Whose processes and whose mail.
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    configuration: String,
}

impl Owner {
    /// Dovecot never serves root's mail; everybody else serves their own.
    pub(super) fn find(generation: Generation, folder: &Path) -> io::Result<Self> {
        let made = fs::metadata(folder)?;
        if made.uid() == 0 {
            let nobody = generation.account("nobody")?;
            return Ok(Self { uid: nobody.uid, gid: nobody.gid, configuration: String::new() });
        }
        let own = generation.account_of(made.uid())?;
        let (name, group, gid) = (&own.name, generation.group_name(made.gid())?, made.gid());
        let configuration = format!(
            "default_internal_user = {name}\ndefault_login_user = {name}\ndefault_internal_group = {group}\n"
        );
        Ok(Self { uid: own.uid, gid, configuration })
    }
}
