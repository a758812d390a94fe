//! Which keys a table may hold, kept in memory: nearly every id that is looked up is new, and needs no search of the file.
//!
//! What must never happen: that a key is taken to be absent which is there. The other mistake costs one search.

use fastbloom::BloomFilter;

/// So many keys share one filter, then another is begun: memory follows the number of keys, about 15 bits each.
const SHARE: usize = 1 << 18;

/// How often a filter takes an absent key to be there.
const MISTAKEN: f64 = 0.001;

/// The keys of one table.
#[derive(Debug, Default)]
pub(super) struct Fingerprints {
    filters: Vec<BloomFilter>,
    in_last: usize,
}

impl Fingerprints {
    /// Takes in a key that is, or soon will be, in the table.
    pub(super) fn insert(&mut self, key: &[u8]) {
        if self.filters.is_empty() || self.in_last == SHARE {
            self.filters.push(BloomFilter::with_false_pos(MISTAKEN).expected_items(SHARE));
            self.in_last = 0;
        }
        self.in_last += 1;
        self.filters.last_mut().expect("one has been begun").insert(key);
    }

    /// Whether the table has to be searched for the key.
    pub(super) fn may_hold(&self, key: &[u8]) -> bool {
        self.filters.iter().any(|filter| filter.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_hardly_any_other() {
        let mut seen = Fingerprints::default();
        let keys = SHARE + SHARE / 2;
        for number in 0..keys {
            seen.insert(&number.to_be_bytes());
        }
        assert_eq!(seen.filters.len(), 2);
        assert!((0..keys).all(|number| seen.may_hold(&number.to_be_bytes())));
        let mistaken = (keys..2 * keys).filter(|number| seen.may_hold(&number.to_be_bytes())).count();
        assert!(mistaken < keys / 200, "{mistaken} of {keys} absent keys are searched for");
    }
}
