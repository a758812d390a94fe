//! What a document's content shows of its media type: whether it begins, or for a text is all through, as that type does.
//!
//! It tells one type from another, so that a program or a zip does not pass for a PDF. It does not say that a file is whole, nor that it is harmless:
//! that is for the content scan.

/// The types of which content can be told. A document may be of no other.
const KNOWN: [&str; 7] = [PDF, PNG, JPEG, TIFF, OPEN_DOCUMENT_TEXT, WORD, TEXT];

const PDF: &str = "application/pdf";
const PNG: &str = "image/png";
const JPEG: &str = "image/jpeg";
const TIFF: &str = "image/tiff";
const TEXT: &str = "text/plain";
const OPEN_DOCUMENT_TEXT: &str = "application/vnd.oasis.opendocument.text";
const WORD: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";

/// What an entry of a zip begins with.
const ZIP_ENTRY: &[u8] = b"PK\x03\x04";

/// From its beginning to its name, an entry of a zip has so many bytes.
const ZIP_HEADER: usize = 30;

/// As many entries of a zip are looked at.
const MOST_ENTRIES: usize = 4096;

/// Whether content can be told to be of this type.
pub fn is_known(media_type: &str) -> bool {
    KNOWN.contains(&media_type)
}

/// The type that content shows by its beginning, which must be all of it or at least 64 KiB. What is no other is a text, if it is one.
pub fn of(content: &[u8]) -> Option<&'static str> {
    KNOWN.into_iter().find(|known| Look::new(known).is_some_and(|mut look| look.fits(content)))
}

/// Looks at a document's content as it comes.
#[derive(Clone, Debug)]
pub struct Look {
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    /// The beginning says it.
    Begins(fn(&[u8]) -> bool),
    /// All of it must be text. What is kept is the beginning of a character that goes on in the next part.
    Text { begun: Vec<u8> },
    /// There is nothing more to look at.
    Done,
}

impl Look {
    /// For content that is said to be of this type; none when it is not a type of which that can be told.
    pub fn new(media_type: &str) -> Option<Self> {
        let how = match media_type {
            PDF => How::Begins(|content| content.starts_with(b"%PDF-")),
            PNG => How::Begins(|content| content.starts_with(b"\x89PNG\r\n\x1a\n")),
            JPEG => How::Begins(|content| content.starts_with(&[0xff, 0xd8, 0xff])),
            TIFF => How::Begins(|content| {
                [&b"II*\0"[..], b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| content.starts_with(magic))
            }),
            OPEN_DOCUMENT_TEXT => How::Begins(is_open_document_text),
            WORD => How::Begins(is_word),
            TEXT => How::Text { begun: Vec::new() },
            _ => return None,
        };
        Some(Self { how })
    }

    /// Whether the next part fits. The first part must be all of the content, or at least its first 64 KiB.
    pub fn fits(&mut self, part: &[u8]) -> bool {
        match &mut self.how {
            How::Begins(begins) => {
                let fits = begins(part);
                self.how = How::Done;
                fits
            }
            How::Text { begun } => text_goes_on(begun, part),
            How::Done => true,
        }
    }

    /// Whether the content may end here.
    pub fn may_end(&self) -> bool {
        match &self.how {
            How::Begins(_) | How::Done => true,
            How::Text { begun } => begun.is_empty(),
        }
    }
}

/// UTF-8 without NUL. A character may lie across two parts.
fn text_goes_on(begun: &mut Vec<u8>, mut part: &[u8]) -> bool {
    if part.contains(&0) {
        return false;
    }
    while !begun.is_empty() {
        let Some((first, rest)) = part.split_first() else { return true };
        begun.push(*first);
        part = rest;
        match std::str::from_utf8(begun) {
            Ok(_) => begun.clear(),
            Err(cause) if cause.error_len().is_some() => return false,
            Err(_) => {}
        }
    }
    match std::str::from_utf8(part) {
        Ok(_) => true,
        Err(cause) if cause.error_len().is_some() => false,
        Err(cause) => {
            begun.extend_from_slice(&part[cause.valid_up_to()..]);
            true
        }
    }
}

/// The first entry of an OpenDocument file says its type, uncompressed (OpenDocument 1.3, part 2, 3.3).
fn is_open_document_text(content: &[u8]) -> bool {
    content.starts_with(ZIP_ENTRY)
        && content.get(ZIP_HEADER..).is_some_and(|rest| {
            let rest = rest.strip_prefix(b"mimetype").unwrap_or_default();
            // A spreadsheet's type begins otherwise; a template's goes on after it.
            rest.strip_prefix(OPEN_DOCUMENT_TEXT.as_bytes()).is_some_and(|after| after.starts_with(b"PK"))
        })
}

/// An Office Open XML file is a zip that says what is in it, and Word's parts lie in a directory of their own.
fn is_word(content: &[u8]) -> bool {
    let (mut lists_its_parts, mut has_words) = (false, false);
    for name in zip_names(content).take(MOST_ENTRIES) {
        lists_its_parts |= name == b"[Content_Types].xml";
        has_words |= name.starts_with(b"word/");
        if lists_its_parts && has_words {
            return true;
        }
    }
    false
}

/// The names of a zip's entries. They are found by what an entry begins with: how long one is may be told only after it.
fn zip_names(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = if content.starts_with(ZIP_ENTRY) { content } else { &[] };
    std::iter::from_fn(move || {
        loop {
            let at = rest.windows(ZIP_ENTRY.len()).position(|window| window == ZIP_ENTRY)?;
            let entry = &rest[at..];
            rest = &entry[ZIP_ENTRY.len()..];
            let length = entry.get(26..28).map_or(0, |length| usize::from(u16::from_le_bytes([length[0], length[1]])));
            if let Some(name) = entry.get(ZIP_HEADER..ZIP_HEADER + length) {
                return Some(name);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(media_type: &str, content: &[u8]) -> bool {
        let mut look = Look::new(media_type).expect("a known type");
        look.fits(content) && look.may_end()
    }

    fn zip(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut zip = Vec::new();
        for (name, content) in entries {
            zip.extend_from_slice(ZIP_ENTRY);
            zip.extend_from_slice(&[0; 22]);
            zip.extend_from_slice(&u16::try_from(name.len()).expect("short").to_le_bytes());
            zip.extend_from_slice(&[0; 2]);
            zip.extend_from_slice(name.as_bytes());
            zip.extend_from_slice(content.as_bytes());
        }
        zip.extend_from_slice(b"PK\x01\x02");
        zip
    }

    #[test]
    fn content_is_told_by_how_it_begins() {
        let odt = zip(&[("mimetype", OPEN_DOCUMENT_TEXT), ("content.xml", "<x/>")]);
        let ods = zip(&[("mimetype", "application/vnd.oasis.opendocument.spreadsheet")]);
        let template = zip(&[("mimetype", &format!("{OPEN_DOCUMENT_TEXT}-template"))]);
        let docx = zip(&[("[Content_Types].xml", "<x/>"), ("_rels/.rels", ""), ("word/document.xml", "<x/>")]);
        let xlsx = zip(&[("[Content_Types].xml", "<x/>"), ("xl/workbook.xml", "<x/>")]);
        let program = [&b"MZ\x90\0"[..], &[0; 100]].concat();
        let samples: [(&str, &[u8]); 12] = [
            (PDF, b"%PDF-1.7\n"),
            (PNG, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
            (JPEG, &[0xff, 0xd8, 0xff, 0xe0]),
            (TIFF, b"II*\0\x08\0\0\0"),
            (TIFF, b"MM\0*\0\0\0\x08"),
            (TEXT, "Hyvää päivää\n".as_bytes()),
            (OPEN_DOCUMENT_TEXT, &odt),
            (WORD, &docx),
            ("", &ods),
            ("", &template),
            ("", &xlsx),
            ("", &program),
        ];
        for (is, content) in samples {
            for said in KNOWN {
                // A PDF's first line is text, too.
                let also_text = said == TEXT && is == PDF;
                assert_eq!(fits(said, content), said == is || also_text, "{is} as {said}");
            }
            assert_eq!(of(content), Some(is).filter(|is| !is.is_empty()));
        }
    }

    #[test]
    fn nothing_is_known_of_other_types() {
        assert!(!is_known("application/zip") && Look::new("application/zip").is_none());
        assert!(KNOWN.iter().all(|known| is_known(known) && Look::new(known).is_some()));
    }

    proptest! {
        #[test]
        fn a_text_is_a_text_however_it_is_cut(text in "\\PC{0,200}", cuts in prop::collection::vec(0.0..1.0f64, 0..5)) {
            let bytes = text.as_bytes();
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| (cut * bytes.len() as f64) as usize).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut look = Look::new(TEXT).expect("known");
            prop_assert!(cuts.windows(2).all(|cut| look.fits(&bytes[cut[0]..cut[1]])));
            prop_assert!(look.may_end());
        }

        #[test]
        fn what_is_no_text_is_none_however_it_is_cut(bytes in prop::collection::vec(any::<u8>(), 1..60), cut in 0usize..60) {
            let cut = cut.min(bytes.len());
            let mut look = Look::new(TEXT).expect("known");
            let fits = look.fits(&bytes[..cut]) && look.fits(&bytes[cut..]) && look.may_end();
            prop_assert_eq!(fits, std::str::from_utf8(&bytes).is_ok() && !bytes.contains(&0));
        }
    }
}
