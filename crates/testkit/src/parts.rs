//! Parts that a machine may lack: a suite that needs one is left out, and says so, unless it is required.

use std::{env, ffi::OsStr, path::PathBuf};

/// The parts that must be there, separated by commas.
const REQUIRED: &str = "AIRUT_TEST_REQUIRE";

/// Whether the program of this name is on the `PATH`. If not, says in plain words that the suite is left out.
///
/// # Panics
/// It is missing, and `AIRUT_TEST_REQUIRE` names it.
pub fn available(name: &str) -> bool {
    require(name, program(name)).is_some()
}

/// Passes on what was found of a part that is more than one program. If nothing was, says in plain words that the
/// suite is left out: `let Some(kafka) = testkit::require("kafka", Kafka::find()) else { return };`
///
/// # Panics
/// It is missing, and `AIRUT_TEST_REQUIRE` names it.
pub fn require<T>(part: &str, found: Option<T>) -> Option<T> {
    if found.is_none() {
        leave_out(part, &env::var(REQUIRED).unwrap_or_default());
    }
    found
}

#[expect(clippy::print_stderr, reason = "a test's output is where its reader looks")]
fn leave_out(part: &str, required: &str) {
    let is_required = required.split(',').any(|name| name.trim() == part);
    assert!(!is_required, "{part} is missing, and {REQUIRED} says that it must be here");
    eprintln!("left out: this suite needs {part}, which was not found here");
}

/// The program of this name on the `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    on_path(name, env::var_os("PATH").as_deref())
}

fn on_path(program: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    env::split_paths(path?).map(|dir| dir.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_parts_are_left_out() {
        leave_out("kafka", "");
        leave_out("kafka", "chromium, kafkacat");
    }

    #[test]
    #[should_panic(expected = "kafka is missing")]
    fn required_parts_must_be_there() {
        leave_out("kafka", "chromium, kafka");
    }

    #[test]
    fn programs_are_found_on_the_path() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("grpcurl"), "").expect("a file");
        assert_eq!(on_path("grpcurl", Some(dir.path().as_os_str())), Some(dir.path().join("grpcurl")));
        assert_eq!(on_path("buf", Some(dir.path().as_os_str())), None);
    }
}
