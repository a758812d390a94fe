//! Takes the partners' definitions, the message types and a sample of each of deploy/exchange into the binary, for `airut dev` to
//! begin with.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    for name in ["partners", "message-types", "samples", "magic/partners", "magic/message-types"] {
        let dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../deploy/exchange").join(name);
        println!("cargo::rerun-if-changed={}", dir.display());
        let mut paths: Vec<PathBuf> =
            fs::read_dir(&dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
        let known = ["toml", "json", "xml"];
        paths.retain(|path| path.extension().is_some_and(|extension| known.iter().any(|known| extension == *known)));
        paths.sort();
        let entries: Vec<String> = paths
            .iter()
            .map(|path| {
                let path = path.canonicalize()?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok(format!("({name:?}, include_str!({path:?}))"))
            })
            .collect::<Result<_, std::io::Error>>()?;
        let file = format!("{}.rs", name.replace('/', "-"));
        fs::write(PathBuf::from(env::var("OUT_DIR")?).join(file), format!("[{}]", entries.join(", ")))?;
    }
    Ok(())
}
