//! `--load FILE`: a thread reads and unpacks, the loop applies.
//!
//! The thread waits for the disk and, when the loop is behind, in the bounded
//! channel; the loop waits for neither. The file is opened before the daemon
//! says that it is ready, so that a missing one stops the start; what is wrong
//! inside is logged and shown by `status`, and the daemon runs on.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Instant;

use ipc::event::Event;
use rtm_files::{At, ErrorKind, FileError, Item, Options, Reader};
use rtm_tables::Applied;
use serde_json::{Value, json};

use crate::core::{Core, Requester};
use crate::feeds::fpm::Links;
use crate::inventory::Row;
use crate::requests::place;
use crate::turn::TurnStats;
use crate::wakeup::Wakeup;

/// Changes handed over at once.
const BATCH: usize = 512;
/// Batches that may wait: what bounds the memory.
const BATCHES: usize = 8;
/// Refused changes that are logged one by one.
const LOGGED_MAX: u64 = 10;

enum Message {
    Items(Vec<Item>),
    End { duplicates: u64, error: Option<FileError> },
}

/// The file that is being loaded.
pub(crate) struct Loader {
    name: String,
    receiver: Receiver<Message>,
    event: Arc<Event>,
    batch: std::vec::IntoIter<Item>,
    applied: u64,
    unchanged: u64,
    refused: u64,
    started: Instant,
    over: bool,
}

impl Loader {
    /// What wakes the loop for it, for `status -d`.
    pub(crate) fn row(&self, turns: &TurnStats) -> Row {
        Row::new("event", &*self.event, format!("load {}", self.name))
            .woken(turns.wakeups_by(Wakeup::Loader))
    }

    /// Opens the file and starts to read it.
    ///
    /// # Errors
    /// It can't be opened: one line.
    pub(crate) fn start(path: &Path) -> Result<Loader, String> {
        let name = path.display().to_string();
        let wrong = |error| format!("load: {name}: {}", crate::runtime_dir::errno_text(&error));
        // A named pipe waits for its writer: in the thread.
        let file = match std::fs::metadata(path).map_err(wrong)? {
            metadata if metadata.is_dir() => {
                return Err(format!("load: {name}: a directory; a file of routes would be right"));
            }
            metadata if metadata.is_file() => Some(File::open(path).map_err(wrong)?),
            _ => None,
        };
        let path = path.to_owned();
        let event = Event::new().map_err(|error| format!("load: {name}: {error}"))?;
        let event = Arc::new(event);
        let (sender, receiver) = sync_channel(BATCHES);
        let told = Arc::clone(&event);
        std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || read(file, &path, &sender, &told))
            .map_err(|error| format!("load: {name}: {error}"))?;
        Ok(Loader {
            name,
            receiver,
            event,
            batch: Vec::new().into_iter(),
            applied: 0,
            unchanged: 0,
            refused: 0,
            started: Instant::now(),
            over: false,
        })
    }

    /// What tells that there is more.
    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    /// Has everything been read and applied?
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// For `status`.
    pub(crate) fn facts(&self) -> Value {
        json!({
            "file": self.name,
            "state": if self.over { "done" } else { "loading" },
            "applied": self.applied,
            "unchanged": self.unchanged,
            "refused": self.refused,
        })
    }

    /// Applies what is there, until `until`. True: time is up and there is
    /// more.
    pub(crate) fn apply_some(&mut self, core: &mut Core, until: Instant) -> bool {
        let _ = self.event.take();
        loop {
            if !core.may_change(Requester::Loader) {
                // The release brings us back.
                return false;
            }
            for item in self.batch.by_ref().take(64) {
                match core.apply(core.admin, &item.change) {
                    Ok(Applied::Changed(_)) => self.applied += 1,
                    Ok(Applied::Unchanged) => self.unchanged += 1,
                    Err(error) => {
                        self.refused += 1;
                        if self.refused <= LOGGED_MAX {
                            let place = place(&item.change);
                            tracing::warn!("load: {}: {}: {place}: {error}", self.name, item.at);
                        }
                    }
                }
            }
            if Instant::now() >= until {
                return true;
            }
            if self.batch.len() > 0 {
                continue;
            }
            match self.receiver.try_recv() {
                Ok(Message::Items(items)) => self.batch = items.into_iter(),
                Ok(Message::End { duplicates, error }) => {
                    self.end(duplicates, error.as_ref());
                    return false;
                }
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => {
                    self.over = true;
                    return false;
                }
            }
        }
    }

    fn end(&mut self, duplicates: u64, error: Option<&FileError>) {
        self.over = true;
        let seconds = self.started.elapsed().as_secs_f64();
        let (applied, unchanged, refused) = (self.applied, self.unchanged, self.refused);
        match error {
            None => tracing::info!(
                "load: {}: {} entries in {seconds:.2} s: {applied} applied, {unchanged} unchanged, {refused} refused, {duplicates} twice",
                self.name,
                applied + unchanged + refused
            ),
            Some(error) => tracing::error!(
                "load: {}: {error}; {applied} routes before it were applied",
                self.name
            ),
        }
    }
}

/// The thread.
fn read(file: Option<File>, path: &Path, sender: &SyncSender<Message>, event: &Event) {
    let opened = match file {
        Some(file) => Ok(file),
        None => File::open(path)
            .map_err(|error| FileError { at: At::Byte(0), kind: ErrorKind::Read(error) }),
    };
    let (duplicates, error) = match opened.and_then(|file| Reader::new(file, Options::default())) {
        Ok(mut reader) => {
            let mut links = Links::default();
            reader.name_links(move |index| links.name(index));
            let error = read_items(&mut reader, sender, event);
            (reader.duplicates(), error)
        }
        Err(error) => (0, Some(error)),
    };
    // Nobody listens any more when the daemon ends.
    let _ = sender.send(Message::End { duplicates, error });
    let _ = event.notify();
}

fn read_items(
    reader: &mut Reader<File>,
    sender: &SyncSender<Message>,
    event: &Event,
) -> Option<FileError> {
    let mut items = Vec::with_capacity(BATCH);
    loop {
        let (end, error) = match reader.next_item() {
            Ok(Some(item)) => {
                items.push(item);
                (false, None)
            }
            Ok(None) => (true, None),
            Err(error) => (true, Some(error)),
        };
        if items.len() == BATCH || end && !items.is_empty() {
            let full = std::mem::replace(&mut items, Vec::with_capacity(BATCH));
            if sender.send(Message::Items(full)).is_err() {
                return None;
            }
            let _ = event.notify();
        }
        if end {
            return error;
        }
    }
}
