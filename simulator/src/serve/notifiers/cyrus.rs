//! Cyrus's processes in small: a thread that sends the datagrams of each change to a notify socket, whoever has bound
//! that at the moment.

use super::{Figures, QuirkyChange};
use crate::peers::cyrus_client::{CyrusClient, Settings};
use crate::peers::mail_store::Quirk;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Weak;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;

/// The longest wait for room in the socket's queue; then the datagram is lost. A real Cyrus would wait for good.
const SEND_MAX: Duration = Duration::from_secs(1);

/// Starts the thread. It ends when `figures` is dropped or there are no more changes.
pub(super) fn start(
    path: PathBuf,
    mut changes: mpsc::Receiver<QuirkyChange>,
    figures: Weak<Figures>,
    seed: u64,
) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_MAX))?;
    let mut client = CyrusClient::new(Settings::default(), seed);
    thread::Builder::new().name("cyrus".to_owned()).spawn(move || {
        while let Some((change, quirks)) = changes.blocking_recv() {
            let Some(figures) = Weak::upgrade(&figures) else { return };
            client.set_lossy(quirks.has(Quirk::CyrusLostDatagrams));
            client.changed(&change.name, change.status);
            let mut outcome = Ok(());
            while let Some(datagram) = client.poll_output() {
                outcome = outcome.and(socket.send_to(&datagram, &path).map(drop));
            }
            match outcome {
                Ok(()) => figures.went_well(),
                Err(error) => figures.failed(1, &error),
            }
        }
    })?;
    Ok(())
}
