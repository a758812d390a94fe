//! The parts of a leaf. `domain::record::leaf_bytes` puts them together; this takes them apart again, so that an entry
//! can be shown, and compared with its record, from the leaf alone.

use airut_domain::{
    partition::{Partition, Position, Topic},
    time::Timestamp,
};

/// What a leaf says, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf<'a> {
    /// The record's place in the log.
    pub(crate) position: Position,
    /// When the log took it.
    pub(crate) stamp: Timestamp,
    /// The record's header as stored.
    pub(crate) header: &'a [u8],
}

/// Takes a leaf apart; `None` when the bytes are not one that this build can have made.
pub(crate) fn parse(bytes: &[u8]) -> Option<Leaf<'_>> {
    let ([1, name_len], rest) = bytes.split_first_chunk()? else { return None };
    let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
    let (number, rest) = rest.split_first_chunk()?;
    let (offset, rest) = rest.split_first_chunk()?;
    let (stamp, header) = rest.split_first_chunk()?;
    let topic = Topic::from_name(std::str::from_utf8(name).ok()?)?;
    let partition = Partition { topic, number: u32::from_be_bytes(*number) };
    let position = Position { partition, offset: u64::from_be_bytes(*offset) };
    Some(Leaf { position, stamp: Timestamp::from_millis(i64::from_be_bytes(*stamp)), header })
}

#[cfg(test)]
mod tests {
    use airut_domain::record::leaf_bytes;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_leaf_comes_apart_as_it_was_put_together(
            at in 0..18_usize, offset in any::<u64>(), millis in any::<i64>(),
            header in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let partition = Partition::all().nth(at).expect("there are more than 18");
            let (position, stamp) = (Position { partition, offset }, Timestamp::from_millis(millis));
            let bytes = leaf_bytes(position, stamp, &header);
            prop_assert_eq!(parse(&bytes), Some(Leaf { position, stamp, header: &header }));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&bytes);
        }
    }
}
