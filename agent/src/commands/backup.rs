//! `mailbadge backup FILE`: the whole state in one file, private keys included, also while the daemon runs.

use super::{Context, Exit, Failure, driver};
use crate::files::driver::{owner, place};
use crate::store::{self, Contents};
use serde::Serialize;
use std::path::PathBuf;

/// A backup holds private keys.
const MODE: u32 = 0o600;

/// Writes the whole state to one file, private keys included; the daemon may run meanwhile.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file, which must not be there. Keep it as you keep keys.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Takes the place of a file that is there.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    backup: PathBuf,
    bytes: u64,
    sha256: String,
    #[serde(flatten)]
    counts: Counts,
}

/// What a backup holds, as it is printed.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Counts {
    subscriptions: i64,
    certificates: i64,
    private_keys: i64,
    auth_servers: i64,
    partner_applications: i64,
}

impl From<Contents> for Counts {
    fn from(of: Contents) -> Self {
        Self {
            subscriptions: of.subscriptions,
            certificates: of.certificates,
            private_keys: of.private_keys,
            auth_servers: of.auth_servers,
            partner_applications: of.partners,
        }
    }
}

impl Counts {
    /// For people.
    pub(super) fn text(&self) -> String {
        let Self { subscriptions, certificates, private_keys, auth_servers, partner_applications } = self;
        format!(
            "subscriptions {subscriptions}, certificates {certificates} (private keys {private_keys}), auth servers \
             {auth_servers}, partner applications {partner_applications}"
        )
    }
}

/// Runs the command.
pub fn run(args: &Args, context: &mut Context) -> Result<(), Failure> {
    let config = context.load_config()?;
    let store = context.open_store(&config)?;
    let path = &args.file;
    if path.exists() && !args.force {
        let text =
            format!("{}: is there already; give another name, or --force to replace it", path.display());
        return Err(Failure::new(Exit::Usage, text));
    }
    let mut contents = None;
    // The state's owner can read the keys in any case.
    let owner = owner(&config.state_dir)?;
    place(path, MODE, args.force, owner, |neighbor| {
        contents = Some(store.back_up(neighbor)?);
        // A folder of root's is none of the state's owner.
        let is_ours = std::path::absolute(path).is_ok_and(|path| path.starts_with(&config.state_dir));
        if is_ours { store::belong_to_owner_of(&config.state_dir, neighbor) } else { Ok(()) }
    })?;
    let (bytes, sha256) = driver::fingerprint(path)?;
    let Some(counts) = contents.map(Counts::from) else { return Ok(()) };
    if context.screen.is_json {
        let outcome = Outcome { backup: path.clone(), bytes, sha256, counts };
        return Ok(context.screen.json(&outcome)?);
    }
    context.screen.line(format!("Backup {}, {bytes} bytes, SHA-256 {sha256}", path.display()))?;
    context.screen.line(format!("It holds {}. Keep it as you keep keys.", counts.text()))?;
    Ok(())
}
