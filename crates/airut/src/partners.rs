//! Partners' definitions from files: the source of the registry.

use std::{fs, path::Path};

use airut_domain::partner::Partner;

/// Reads every `*.toml` of the directory, in the order of their names.
///
/// # Errors
/// Every fault at once, each with its file.
pub(crate) fn read(dir: &Path) -> Result<Vec<Partner>, Vec<String>> {
    let entries = fs::read_dir(dir).map_err(|cause| vec![format!("{}: {cause}", dir.display())])?;
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let (mut partners, mut faults) = (Vec::<Partner>::new(), Vec::new());
    for path in paths {
        let name = path.display();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) => {
                faults.push(format!("{name}: {cause}"));
                continue;
            }
        };
        match toml::from_str::<Partner>(&text) {
            Ok(partner) => {
                faults.extend(partner.faults().into_iter().map(|fault| format!("{name}: {fault}")));
                if partners.iter().any(|other| other.id == partner.id) {
                    faults.push(format!("{name}: {} is defined in another file too", partner.id));
                }
                partners.push(partner);
            }
            Err(cause) => faults.push(format!("{name}: {}", cause.to_string().trim_end())),
        }
    }
    if faults.is_empty() { Ok(partners) } else { Err(faults) }
}
