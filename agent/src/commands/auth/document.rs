//! Metadata documents for commands: fetched, read, refused with the reason (protocol.md §5.4).

use crate::commands::{Context, Exit, Failure, relay};
use crate::config::Config;
use crate::https::driver::Client;
use crate::https::url::Url;
use crate::identity::metadata::{Document, MetadataError};
use crate::token::driver::{FetchError, fetch_document};

/// A document with the bytes that it was read from.
pub(super) struct Fetched {
    pub(super) bytes: Vec<u8>,
    pub(super) document: Document,
}

/// Fetches the document at `url` and reads it as that of a token service, or of anybody.
pub(super) fn fetch(url: &str, is_token_service: bool, config: &Config) -> Result<Fetched, Failure> {
    let place = Url::parse(url).map_err(|error| unfetched(error.into()))?;
    let client = client(config, &place)?;
    let bytes = relay::runtime()?.block_on(fetch_document(&client, url)).map_err(unfetched)?;
    let read = Document::read(&bytes).and_then(|document| {
        if is_token_service {
            document.token_service()?;
        }
        Ok(document)
    });
    let unreadable = |error: MetadataError| {
        Failure::new(Exit::Unavailable, format!("{url}: {error}; nothing was changed"))
    };
    read.map(|document| Fetched { bytes, document }).map_err(unreadable)
}

/// The client towards token services and tenants' directories, ready for this address.
pub(super) fn client(config: &Config, url: &Url) -> Result<Client, Failure> {
    let unusable = |error: crate::https::Error| Failure { exit: Exit::Config, error: Some(error.into()) };
    let client = Client::new(&config.token_client_settings()).map_err(unusable)?;
    client.prepare(url).map_err(unusable)?;
    Ok(client)
}

/// Refuses an address that nothing is fetched from.
pub(super) fn sound_url(url: &str) -> Result<(), Failure> {
    let wrong = |error| Failure::new(Exit::Usage, format!("--auth-metadata-url {error}"));
    Url::parse(url).map(|_| ()).map_err(wrong)
}

fn unfetched(error: FetchError) -> Failure {
    let exit = if matches!(error, FetchError::Url(_)) { Exit::Usage } else { Exit::Unavailable };
    Failure { exit, error: Some(error.into()) }
}

/// A list of auth servers or partners as it is told where it is empty.
pub(super) fn tell_none(what: &str, context: &mut Context) -> Result<(), Failure> {
    Ok(context.screen.remark(format!("There is no {what}."))?)
}
