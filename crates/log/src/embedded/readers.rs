//! Connections that read the file beside the writer. WAL mode lets them: neither waits for the other.

use std::{
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use airut_domain::{partition::Partition, record::Stored};
use rusqlite::Connection;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::file;
use crate::{Bounds, Cause, ReadError};

/// How many reads run at once; more wait.
const READERS: usize = 4;

pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    room: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: PathBuf, idle: Vec<Connection>) -> Self {
        Self { path, idle: Mutex::new(idle), room: Arc::new(Semaphore::new(READERS)) }
    }

    /// Reads records that are known to be there, on a thread that may block.
    pub(super) async fn read(
        self: &Arc<Self>,
        partition: Partition,
        offsets: Range<u64>,
        bounds: Bounds,
    ) -> Result<Vec<Arc<Stored>>, ReadError> {
        let permit = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        let readers = Arc::clone(self);
        let read = spawn_blocking(move || {
            let batch = readers.read_now(partition, offsets, bounds);
            drop(permit);
            batch
        });
        read.await.unwrap_or_else(|error| Err(ReadError::Unavailable(Cause::new(error))))
    }

    fn read_now(
        &self,
        partition: Partition,
        offsets: Range<u64>,
        bounds: Bounds,
    ) -> Result<Vec<Arc<Stored>>, ReadError> {
        let idle = self.idle.lock().expect("nobody panics while holding it").pop();
        let connection = match idle {
            Some(connection) => connection,
            None => file::reader(&self.path).map_err(|error| ReadError::Unavailable(error.into()))?,
        };
        let batch = file::read(&connection, partition, offsets, bounds)?;
        // Only a connection that worked is used again.
        self.idle.lock().expect("nobody panics while holding it").push(connection);
        Ok(batch)
    }
}
