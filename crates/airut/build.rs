//! Takes the partners' definitions and the message types of deploy/exchange into the binary, for `airut dev` to begin with.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    for name in ["partners", "message-types"] {
        let dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../deploy/exchange").join(name);
        println!("cargo::rerun-if-changed={}", dir.display());
        let mut paths: Vec<PathBuf> =
            fs::read_dir(&dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml" || extension == "json"));
        paths.sort();
        let entries: Vec<String> = paths
            .iter()
            .map(|path| {
                let path = path.canonicalize()?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok(format!("({name:?}, include_str!({path:?}))"))
            })
            .collect::<Result<_, std::io::Error>>()?;
        fs::write(PathBuf::from(env::var("OUT_DIR")?).join(format!("{name}.rs")), format!("[{}]", entries.join(", ")))?;
    }
    Ok(())
}
