//! Bits flipped in the files themselves, wherever a row lies.

use std::{fs, path::Path};

use airut_domain::partition::{Partition, Position, Topic};
use airut_ledger::{Finding, Outside, verify};
use airut_log::Log;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use rusqlite::{Connection, types::Value};

use crate::tampering::{Original, names, query, report};

/// A cell of a table's leaf page: where its bytes lie in the file, and its row.
struct Cell {
    bytes: std::ops::Range<usize>,
    row: i64,
}

/// The cells of a table, found as SQLite finds them (sqlite.org/fileformat2.html).
fn cells(file: &[u8], table: &str, path: &Path) -> Vec<Cell> {
    let root: u32 = Connection::open(path)
        .unwrap()
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = ?", [table], |row| row.get(0))
        .unwrap();
    let mut cells = Vec::new();
    let mut pages = vec![root as usize];
    while let Some(number) = pages.pop() {
        let start = (number - 1) * 4096;
        let page = &file[start..start + 4096];
        let count = usize::from(u16::from_be_bytes([page[3], page[4]]));
        let (is_leaf, pointers) = (page[0] == 0x0d, if page[0] == 0x0d { 8 } else { 12 });
        if !is_leaf {
            pages.push(u32::from_be_bytes(page[8..12].try_into().unwrap()) as usize);
        }
        for cell in 0..count {
            let pointer = pointers + 2 * cell;
            let at = usize::from(u16::from_be_bytes([page[pointer], page[pointer + 1]]));
            if is_leaf {
                let (length, after_length) = varint(&page[at..]);
                let (row, after_row) = varint(&page[at + after_length..]);
                let header = after_length + after_row;
                let end = (at + header + usize::try_from(length).unwrap()).min(4096);
                cells.push(Cell { bytes: start + at..start + end, row });
            } else {
                pages.push(u32::from_be_bytes(page[at..at + 4].try_into().unwrap()) as usize);
            }
        }
    }
    cells
}

fn varint(bytes: &[u8]) -> (i64, usize) {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate() {
        value = (value << 7) | i64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return (value, at + 1);
        }
    }
    unreachable!("a varint ends")
}

/// Everything that a table holds, or nothing when it can't be read.
fn content(path: &Path, table: &str) -> Option<Vec<Vec<Value>>> {
    let file = Connection::open(path).ok()?;
    let mut select = file.prepare(&format!("SELECT * FROM \"{table}\"")).ok()?;
    let columns = select.column_count();
    let rows = select.query_map([], |row| (0..columns).map(|column| row.get::<_, Value>(column)).collect()).ok()?;
    rows.collect::<Result<_, _>>().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_flipped_anywhere_in_a_row_on_disk_names_its_entry() {
    let original = Original::make().await;
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let ledger = original.bench.ledger_dir().join("ledger.sqlite");
    let log = original.bench.dir.path().join("log.sqlite");
    let mut targets = vec![(ledger, "entries".to_owned(), None)];
    for number in [0, 5, 11] {
        targets.push((log.clone(), query(number, 0).partition.to_string(), Some(query(number, 0).partition)));
    }
    let mut flipped = 0;
    for (path, table, partition) in targets {
        let sound = fs::read(&path).unwrap();
        let (cells, before) = (cells(&sound, &table, &path), content(&path, &table));
        assert!(cells.len() >= 30, "{table} has {} cells", cells.len());
        for _ in 0..40 {
            let cell = &cells[(rng.next_u64() % cells.len() as u64) as usize];
            // One time in three in the few bytes before the values.
            let span = if rng.next_u64() % 3 == 0 { 9 } else { cell.bytes.len() as u64 };
            let at = cell.bytes.start + (rng.next_u64() % span) as usize;
            let bit = 1 << (rng.next_u64() % 8);
            let copy = original.copy();
            let damaged = copy.dir.path().join(path.strip_prefix(original.bench.dir.path()).unwrap());
            let mut bytes = sound.clone();
            bytes[at] ^= bit;
            fs::write(&damaged, bytes).unwrap();
            if content(&damaged, &table) == before {
                continue;
            }
            let row = u64::try_from(cell.row).unwrap();
            let entry = match partition {
                Some(partition) => original.entry_of(Position { partition, offset: row }).unwrap(),
                None => row,
            };
            let Ok(log) = Log::embedded_read_only(copy.log_path()) else {
                // The log reads the last page of each partition when it is opened, and says itself that it is damaged.
                let last = cells.iter().max_by_key(|cell| cell.row).unwrap();
                let page = |cell: &Cell| cell.bytes.start / 4096;
                assert!(partition.is_some() && page(cell) == page(last), "row {row} of {table} keeps the log closed");
                continue;
            };
            let report = verify(&log, &copy.dir.path().join("ledger"), Outside::default()).await.unwrap();
            assert!(names(&report, entry), "bit {bit:#x} at {at} of {table}, entry {entry}: {:#?}", report.findings);
            flipped += 1;
        }
    }
    assert!(flipped > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_page_of_rubbish_does_not_hide_the_rest() {
    let original = Original::make().await;
    let ledger = original.bench.ledger_dir().join("ledger.sqlite");
    let sound = fs::read(&ledger).unwrap();
    let cell = cells(&sound, "entries", &ledger).into_iter().find(|cell| cell.row == 300).unwrap();
    let copy = original.copy();
    let page = cell.bytes.start / 4096 * 4096;
    let mut bytes = sound.clone();
    bytes[page..page + 4096].fill(0xa5);
    fs::write(copy.ledger_path(), bytes).unwrap();
    // And, far from it, one leaf changed.
    let elsewhere = cells(&sound, "entries", &ledger).into_iter().find(|cell| cell.row == 20).unwrap();
    let mut bytes = fs::read(copy.ledger_path()).unwrap();
    bytes[elsewhere.bytes.end - 1] ^= 1;
    fs::write(copy.ledger_path(), bytes).unwrap();
    let report = report(copy.dir.path()).await;
    assert!(names(&report, 300) && names(&report, 20) && !names(&report, 200), "{:#?}", report.findings);
    assert_eq!(report.entries, 540);
    assert!(report.findings.contains(&Finding::LeafChanged { entry: 20, position: position_of(&original, 20) }));
}

fn position_of(original: &Original, entry: u64) -> Position {
    let file = Connection::open(original.bench.ledger_dir().join("ledger.sqlite")).unwrap();
    let sql = "SELECT topic, number, position FROM entries JOIN partitions ON partitions.id = entries.partition \
               WHERE idx = ?";
    file.query_row(sql, [i64::try_from(entry).unwrap()], |row| {
        let topic = Topic::from_name(&row.get::<_, String>(0)?).unwrap();
        Ok(Position {
            partition: Partition { topic, number: row.get(1)? },
            offset: u64::try_from(row.get::<_, i64>(2)?).unwrap(),
        })
    })
    .unwrap()
}
