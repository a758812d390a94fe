//! What documents need besides the log: where their content lies, who may send and fetch how much at once, and the content scan.

mod scan;
mod slots;
mod sweep;
mod vault;

pub use self::scan::Scan;
pub(crate) use self::{
    scan::Scanned,
    slots::{Passing, Slots},
    vault::{Put, Segment, Shelf, Vault, VaultError},
};
