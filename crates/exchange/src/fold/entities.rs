//! Things of which there are many, each with a state of its own and some lists that it stands in: documents, information requests.
//!
//! A thing is a row under its key, and stands in lists by entries: bytes that sort as the list does. What entries it has follows from its
//! state alone. In the fold's file the rows lie in one table and the entries in another; what has changed since the file was written lies over them in
//! memory. To look at the first fifty of a list costs what fifty cost, however long it is.
//!
//! It must never show a row and its entries at different states.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use airut_domain::{
    partition::{Partition, Position, Topic},
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    state::{Cursor, encode},
    store::{StoreError, decode, earliest_day},
};

/// The tables, in a new file.
pub(super) const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS entity (key BLOB PRIMARY KEY, forget_day INTEGER, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS entity_forget ON entity (forget_day) WHERE forget_day IS NOT NULL;
    CREATE TABLE IF NOT EXISTS entry (entry BLOB PRIMARY KEY, key BLOB NOT NULL) WITHOUT ROWID;";

/// As many rows that may be forgotten are dropped with one writing.
const FORGOTTEN_AT_ONCE: usize = 10_000;

/// A kind of thing.
pub(crate) trait Entity: Clone + Serialize + DeserializeOwned {
    /// Its key.
    type Key: Clone + Ord + Serialize + DeserializeOwned;
    /// The topic that it lies in: keys of different topics do not meet.
    const TOPIC: Topic;

    /// The record that it began with.
    fn origin(&self) -> Position;

    /// When it may be forgotten; none while it has not ended.
    fn forget_at(&self) -> Option<Timestamp>;

    /// Where it stands in the lists, by the names of the lists.
    fn entries(&self, key: &Self::Key) -> Vec<Entry>;
}

/// A place in a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry(Vec<u8>);

impl Entry {
    /// The beginning of a list.
    pub(crate) fn list(topic: Topic, name: u8) -> Self {
        Self(vec![topic_byte(topic), name])
    }

    /// What sorts before all that follows it, and is no part of another one: a text without control characters.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        self
    }

    /// Bytes of a fixed number.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A number that sorts as such.
    pub(crate) fn number(self, number: u64) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// A moment that sorts as such.
    pub(crate) fn moment(self, moment: Timestamp) -> Self {
        self.number(u64::try_from(moment.as_millis()).unwrap_or(0))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Where the list ends that has this beginning.
    fn end(&self) -> Vec<u8> {
        let mut end = self.0.clone();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        end
    }
}

/// The name of the list of origins: what began where.
const ORIGINS: u8 = b'o';

/// An entry, and the key of the row that stands there.
type Standing = (Vec<u8>, Vec<u8>);

/// Rows that have changed, and the entries that came and went with that.
#[derive(Clone, Debug, Default)]
pub(super) struct Overlay {
    rows: BTreeMap<Vec<u8>, Row>,
    added: BTreeMap<Vec<u8>, Vec<u8>>,
    dropped: BTreeSet<Vec<u8>>,
}

#[derive(Clone, Debug)]
struct Row {
    forget_day: Option<i64>,
    value: Vec<u8>,
}

impl Overlay {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Sets a row in the place of the one before.
    pub(super) fn put<T: Entity>(&mut self, key: &T::Key, prior: Option<&T>, next: &T) {
        let row_key = row_key::<T>(key);
        let (gone, here) = (prior.map(|prior| all_entries(prior, key)).unwrap_or_default(), all_entries(next, key));
        for entry in gone.difference(&here) {
            self.added.remove(entry);
            self.dropped.insert(entry.clone());
        }
        for entry in &here {
            self.dropped.remove(entry);
            self.added.insert(entry.clone(), row_key.clone());
        }
        let forget_day = next.forget_at().map(|at| at.day() + 1);
        self.rows.insert(row_key, Row { forget_day, value: encode(&(key, next)) });
    }

    /// Takes back what could not be written, beneath what has changed since.
    pub(super) fn put_beneath(&mut self, older: Self) {
        for (key, row) in older.rows {
            self.rows.entry(key).or_insert(row);
        }
        for (entry, key) in older.added {
            if !self.dropped.contains(&entry) {
                self.added.entry(entry).or_insert(key);
            }
        }
        for entry in older.dropped {
            if !self.added.contains_key(&entry) {
                self.dropped.insert(entry);
            }
        }
    }
}

/// What lies over what, the newest first: what has changed, what is being written, and the file where there is one.
pub(super) struct Layers<'a> {
    pub(super) changed: &'a Overlay,
    pub(super) writing: Option<&'a Overlay>,
    pub(super) file: Option<&'a Connection>,
}

impl Layers<'_> {
    /// A row as it stands.
    pub(super) fn get<T: Entity>(&self, key: &T::Key) -> Result<Option<T>, StoreError> {
        let found = self.row(&row_key::<T>(key))?;
        found.map(|value| decode::<(T::Key, T)>(&value).map(|(_, row)| row)).transpose()
    }

    fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let writing = || self.writing.and_then(|writing| writing.rows.get(key));
        if let Some(row) = self.changed.rows.get(key).or_else(writing) {
            return Ok(Some(row.value.clone()));
        }
        let Some(file) = self.file else { return Ok(None) };
        let mut select = file.prepare_cached("SELECT value FROM entity WHERE key = ?1")?;
        Ok(select.query_row([key], |row| row.get(0)).optional()?)
    }

    /// The first of a list, at most so many, with what stands there; beyond `after`, if that is given.
    pub(super) fn list<T: Entity>(
        &self,
        list: &Entry,
        after: Option<&Entry>,
        limit: usize,
    ) -> Result<Vec<(Entry, T::Key, T)>, StoreError> {
        self.resolved(self.entries(list, after, limit)?)
    }

    /// The first of several lists together, in the order of what follows the lists' names: at most so many, each with what stands there; beyond
    /// `after`, which follows the names, if that is given.
    pub(super) fn merged<T: Entity>(
        &self,
        lists: &[Entry],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Entry, T::Key, T)>, StoreError> {
        let mut found = Vec::new();
        for list in lists {
            let after = after.map(|after| list.clone().bytes(after));
            let entries = self.entries(list, after.as_ref(), limit)?;
            found.extend(entries.into_iter().map(|(entry, key)| (entry[list.0.len()..].to_vec(), key)));
        }
        found.sort();
        found.truncate(limit);
        self.resolved(found)
    }

    fn resolved<T: Entity>(&self, entries: Vec<Standing>) -> Result<Vec<(Entry, T::Key, T)>, StoreError> {
        let mut found = Vec::with_capacity(entries.len());
        for (entry, key) in entries {
            // Whatever stands in a list has its row.
            let value = self.row(&key)?.ok_or(StoreError::Row)?;
            let (key, row) = decode::<(T::Key, T)>(&value)?;
            found.push((Entry(entry), key, row));
        }
        Ok(found)
    }

    fn entries(&self, list: &Entry, after: Option<&Entry>, limit: usize) -> Result<Vec<Standing>, StoreError> {
        let (end, start) = (list.end(), after.map_or(Bound::Included(&list.0), |after| Bound::Excluded(&after.0)));
        let range = || (start, Bound::Excluded(&end));
        let mut found: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let copied = |(entry, key): (&Vec<u8>, &Vec<u8>)| (entry.clone(), key.clone());
        found.extend(self.changed.added.range::<Vec<u8>, _>(range()).take(limit).map(copied));
        if let Some(writing) = self.writing {
            let still = |(entry, _): &(&Vec<u8>, &Vec<u8>)| !self.changed.dropped.contains(*entry);
            found.extend(writing.added.range::<Vec<u8>, _>(range()).filter(still).take(limit).map(copied));
        }
        if let Some(file) = self.file {
            let gone = |entry: &Vec<u8>| {
                let written_over = || {
                    self.writing.is_some_and(|writing| {
                        writing.dropped.contains(entry) && !self.changed.added.contains_key(entry)
                    })
                };
                self.changed.dropped.contains(entry) || written_over()
            };
            let mut select =
                file.prepare_cached("SELECT entry, key FROM entry WHERE entry >= ?1 AND entry < ?2 ORDER BY entry")?;
            // The least that sorts after it has a zero more.
            let from = after.map_or_else(|| list.0.clone(), |after| [&after.0[..], &[0]].concat());
            let mut rows = select.query(params![from, end])?;
            let mut taken = 0;
            while let (true, Some(row)) = (taken < limit, rows.next()?) {
                let entry: Vec<u8> = row.get(0)?;
                if !gone(&entry) {
                    found.insert(entry, row.get(1)?);
                    taken += 1;
                }
            }
        }
        Ok(found.into_iter().take(limit).collect())
    }

    /// The offset of the earliest record of the partition that something began with which is not forgotten.
    pub(super) fn earliest(&self, partition: Partition) -> Result<Option<u64>, StoreError> {
        let list = origins(partition);
        let first = self.entries(&list, None, 1)?.into_iter().next();
        Ok(first.and_then(|(entry, _)| entry.get(list.0.len()..)?.try_into().ok().map(u64::from_be_bytes)))
    }

    /// What began with this record, if it is not forgotten.
    pub(super) fn begun_by<T: Entity>(&self, origin: Position) -> Result<Option<(T::Key, T)>, StoreError> {
        let own = origins(origin.partition).number(origin.offset);
        Ok(self.list::<T>(&own, None, 1)?.pop().map(|(_, key, row)| (key, row)))
    }

    /// Every row of a kind.
    pub(super) fn for_each<T: Entity>(&self, mut each: impl FnMut(&T::Key, &T)) -> Result<(), StoreError> {
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let (first, beyond) = (vec![topic_byte(T::TOPIC)], vec![topic_byte(T::TOPIC) + 1]);
        if let Some(file) = self.file {
            let mut select = file.prepare("SELECT key, value FROM entity WHERE key >= ?1 AND key < ?2")?;
            let mut found = select.query(params![first, beyond])?;
            while let Some(row) = found.next()? {
                rows.insert(row.get(0)?, row.get(1)?);
            }
        }
        for overlay in self.writing.into_iter().chain([self.changed]) {
            rows.extend(
                overlay.rows.range(first.clone()..beyond.clone()).map(|(key, row)| (key.clone(), row.value.clone())),
            );
        }
        for value in rows.values() {
            let (key, row) = decode::<(T::Key, T)>(value)?;
            each(&key, &row);
        }
        Ok(())
    }
}

/// Writes what has changed, and drops what may be forgotten.
pub(super) fn write(file: &Connection, overlay: &Overlay, cursor: &Cursor) -> Result<(), StoreError> {
    let mut drop_entry = file.prepare_cached("DELETE FROM entry WHERE entry = ?1")?;
    for entry in &overlay.dropped {
        drop_entry.execute([entry])?;
    }
    let mut insert_entry = file.prepare_cached("INSERT OR REPLACE INTO entry (entry, key) VALUES (?1, ?2)")?;
    for (entry, key) in &overlay.added {
        insert_entry.execute(params![entry, key])?;
    }
    let mut insert =
        file.prepare_cached("INSERT OR REPLACE INTO entity (key, forget_day, value) VALUES (?1, ?2, ?3)")?;
    for (key, row) in &overlay.rows {
        insert.execute(params![key, row.forget_day, row.value])?;
    }
    forget::<airut_domain::document::Document>(file, cursor)?;
    forget::<airut_domain::request::Request>(file, cursor)
}

fn forget<T: Entity>(file: &Connection, cursor: &Cursor) -> Result<(), StoreError> {
    let Some(day) = earliest_day(cursor, T::TOPIC) else { return Ok(()) };
    let mut select = file
        .prepare_cached("SELECT key, value FROM entity WHERE forget_day <= ?1 AND key >= ?2 AND key < ?3 LIMIT ?4")?;
    let topic = topic_byte(T::TOPIC);
    let limit = i64::try_from(FORGOTTEN_AT_ONCE).unwrap_or(i64::MAX);
    let rows =
        select.query_map(params![day, vec![topic], vec![topic + 1], limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows: Vec<(Vec<u8>, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
    let mut drop_row = file.prepare_cached("DELETE FROM entity WHERE key = ?1")?;
    let mut drop_entry = file.prepare_cached("DELETE FROM entry WHERE entry = ?1")?;
    for (row_key, value) in rows {
        let (key, row) = decode::<(T::Key, T)>(&value)?;
        for entry in all_entries(&row, &key) {
            drop_entry.execute([entry])?;
        }
        drop_row.execute([row_key])?;
    }
    Ok(())
}

fn all_entries<T: Entity>(row: &T, key: &T::Key) -> BTreeSet<Vec<u8>> {
    let origin = row.origin();
    let own = origins(origin.partition).number(origin.offset);
    row.entries(key).into_iter().chain([own]).map(|entry| entry.0).collect()
}

fn origins(partition: Partition) -> Entry {
    Entry::list(partition.topic, ORIGINS).bytes(&partition.number.to_be_bytes())
}

fn row_key<T: Entity>(key: &T::Key) -> Vec<u8> {
    let mut bytes = vec![topic_byte(T::TOPIC)];
    bytes.extend(encode(key));
    bytes
}

const fn topic_byte(topic: Topic) -> u8 {
    match topic {
        Topic::Documents => b'd',
        Topic::Requests => b'r',
        Topic::Messages => b'm',
        Topic::Queries => b'q',
        Topic::Refusals => b'f',
        Topic::Partners => b'p',
        Topic::Members => b'g',
        Topic::Order => b'l',
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    /// Something that stands in one list, at some place of it.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Thing {
        began: u64,
        list: u8,
        place: u8,
    }

    impl Entity for Thing {
        type Key = u8;
        const TOPIC: Topic = Topic::Requests;

        fn origin(&self) -> Position {
            Position { partition: PARTITION, offset: self.began }
        }

        fn forget_at(&self) -> Option<Timestamp> {
            None
        }

        fn entries(&self, key: &u8) -> Vec<Entry> {
            vec![list(self.list).bytes(&[self.place, *key])]
        }
    }

    const PARTITION: Partition = Partition { topic: Topic::Requests, number: 3 };

    fn list(number: u8) -> Entry {
        Entry::list(Topic::Requests, b'0' + number)
    }

    /// What happens to the rows and their file.
    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u8, u8),
        /// The writing of what has changed begins.
        Begin,
        /// It ends well, or fails.
        End(bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..8_u8, 0..3_u8, 0..6_u8).prop_map(|(key, list, place)| Step::Put(key, list, place)),
            1 => Just(Step::Begin),
            1 => any::<bool>().prop_map(Step::End),
        ];
        prop::collection::vec(step, 0..60)
    }

    fn file() -> Connection {
        let file = Connection::open_in_memory().unwrap();
        file.execute_batch(TABLES).unwrap();
        file
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn a_list_is_the_same_wherever_its_entries_lie(steps in steps(), limit in 1..5_usize) {
            let file = file();
            let (mut changed, mut writing) = (Overlay::default(), None::<Overlay>);
            let mut model: BTreeMap<u8, Thing> = BTreeMap::new();
            for (began, step) in (0..).zip(steps) {
                match step {
                    Step::Put(key, list, place) => {
                        let prior = model.get(&key).cloned();
                        let began = prior.as_ref().map_or(began, |prior| prior.began);
                        let next = Thing { began, list, place };
                        changed.put(&key, prior.as_ref(), &next);
                        model.insert(key, next);
                    }
                    Step::Begin if writing.is_none() => writing = Some(std::mem::take(&mut changed)),
                    Step::Begin => {}
                    Step::End(well) => match writing.take() {
                        Some(written) if well => write(&file, &written, &Cursor::default()).unwrap(),
                        Some(failed) => changed.put_beneath(failed),
                        None => {}
                    },
                }
                let layers = Layers { changed: &changed, writing: writing.as_ref(), file: Some(&file) };
                for number in 0..3 {
                    let mut expected: Vec<(u8, u8)> = model
                        .iter()
                        .filter(|(_, thing)| thing.list == number)
                        .map(|(key, thing)| (thing.place, *key))
                        .collect();
                    expected.sort_unstable();
                    let mut found: Vec<(u8, u8)> = Vec::new();
                    let mut after = None;
                    // Page by page.
                    loop {
                        let page = layers.list::<Thing>(&list(number), after.as_ref(), limit).unwrap();
                        prop_assert!(page.len() <= limit);
                        let Some((last, ..)) = page.last() else { break };
                        after = Some(last.clone());
                        for (_, key, thing) in &page {
                            prop_assert_eq!(Some(thing), model.get(key));
                        }
                        found.extend(page.into_iter().map(|(_, key, thing)| (thing.place, key)));
                    }
                    prop_assert_eq!(found, expected);
                }
                let both = layers.merged::<Thing>(&[list(0), list(1)], None, 3).unwrap();
                let mut expected: Vec<(u8, u8)> = model
                    .iter()
                    .filter(|(_, thing)| thing.list < 2)
                    .map(|(key, thing)| (thing.place, *key))
                    .collect();
                expected.sort_unstable();
                expected.truncate(3);
                let both: Vec<(u8, u8)> = both.into_iter().map(|(_, key, thing)| (thing.place, key)).collect();
                prop_assert_eq!(both, expected);
                prop_assert_eq!(layers.earliest(PARTITION).unwrap(), model.values().map(|thing| thing.began).min());
                for (key, thing) in &model {
                    let found = layers.get::<Thing>(key).unwrap();
                    prop_assert_eq!(found.as_ref(), Some(thing));
                }
            }
        }
    }

    #[test]
    fn a_list_ends_where_the_next_name_begins() {
        let last = Entry(vec![b'r', 0xff]);
        assert_eq!(last.end(), vec![b'r' + 1]);
        assert_eq!(
            list(1).text("kela").end(),
            list(1).text("kela").0[..6].iter().copied().chain([1]).collect::<Vec<_>>()
        );
    }
}
