//! What a document's sender calls it: kept as it is, and safe to save under.

use std::fmt;

/// The longest name, in characters. File systems take 255 bytes; these are at most that many in Finnish and Swedish.
const LONGEST: usize = 200;

/// The longest name, in bytes.
const LONGEST_BYTES: usize = 255;

/// Names that Windows keeps for devices, whatever follows a dot.
const DEVICES: [&str; 22] = [
    "CON", "PRN", "AUX", "NUL", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8", "COM9", "LPT1", "LPT2",
    "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9",
];

/// A file's name without any directory. Personal data: it may name the client.
#[derive(Clone, PartialEq, Eq)]
pub struct FileName(String);

/// Why a text is no file's name. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFileName {
    /// Too long.
    #[error("must have at most 200 characters, and 255 bytes in UTF-8")]
    TooLong,
    /// A character that leads elsewhere, or that some system does not take.
    #[error("must not contain any of / \\ : * ? \" < > |")]
    Path,
    /// A character that can not be seen, or turns the text around.
    #[error("must not contain control characters or marks of direction")]
    Control,
    /// Not what a file can be called.
    #[error("must not begin or end with a space, nor end with a dot, nor be kept for a device")]
    Form,
}

impl FileName {
    /// Checks length and characters.
    ///
    /// # Errors
    /// [`InvalidFileName`]
    pub fn new(text: &str) -> Result<Self, InvalidFileName> {
        if text.chars().count() > LONGEST || text.len() > LONGEST_BYTES {
            return Err(InvalidFileName::TooLong);
        }
        if text.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|']) {
            return Err(InvalidFileName::Path);
        }
        if text.chars().any(is_unseen) {
            return Err(InvalidFileName::Control);
        }
        let stem = text.split('.').next().unwrap_or_default().trim_end();
        let device = DEVICES.iter().any(|device| device.eq_ignore_ascii_case(stem));
        if text.trim() != text || text.is_empty() || text.ends_with('.') || device {
            return Err(InvalidFileName::Form);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileName(hidden)")
    }
}

/// Control characters, and those that have no shape: marks of direction, joiners, separators of lines, the byte order mark.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_people_give_them_are_kept() {
        for name in ["tiliote.pdf", "Vuokrasopimus (allekirjoitettu) 2026-11.pdf", "päätös ä ö å.PDF", ".profile", "a"]
        {
            assert_eq!(FileName::new(name).expect(name).as_str(), name);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_or_hide_something_are_refused() {
        use InvalidFileName::{Control, Form, Path, TooLong};
        let long = "x".repeat(10_000);
        let wide = "ä".repeat(150);
        for (name, why) in [
            ("", Form),
            (".", Form),
            ("..", Form),
            ("../../etc/passwd", Path),
            ("..\\boot.ini", Path),
            ("C:boot.ini", Path),
            ("a/b.pdf", Path),
            ("what?.pdf", Path),
            ("a\0.pdf", Control),
            ("a\n.pdf", Control),
            ("laskufdp.\u{202e}exe", Control),
            ("a\u{200b}.pdf", Control),
            (" a.pdf", Form),
            ("a.pdf ", Form),
            ("a.pdf.", Form),
            ("nul.pdf", Form),
            ("COM1", Form),
            (&long, TooLong),
            (&wide, TooLong),
        ] {
            assert_eq!(FileName::new(name), Err(why), "{name:.20?}");
        }
    }
}
