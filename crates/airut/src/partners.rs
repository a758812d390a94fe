//! Partners' definitions from files: the source of the registry.

use std::{fs, path::Path};

use airut_domain::{message_type::MessageTypes, partner::Partner};

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
        let partner = match read_one(&path) {
            Ok(partner) => partner,
            Err(found) => {
                faults.extend(found);
                continue;
            }
        };
        let name = path.display();
        if partners.iter().any(|other| other.id == partner.id) {
            faults.push(format!("{name}: {} is defined in another file too", partner.id));
        }
        let clashes = partner.faults_beside(partners.iter());
        faults.extend(clashes.into_iter().map(|fault| format!("{name}: {fault}")));
        partners.push(partner);
    }
    if faults.is_empty() { Ok(partners) } else { Err(faults) }
}

/// Reads one definition.
///
/// # Errors
/// Every fault at once, each with the file.
pub(crate) fn read_one(path: &Path) -> Result<Partner, Vec<String>> {
    let fault = |fault: String| format!("{}: {fault}", path.display());
    let text = fs::read_to_string(path).map_err(|cause| vec![fault(cause.to_string())])?;
    let partner: Partner =
        toml::from_str(&text).map_err(|cause| vec![fault(cause.to_string().trim_end().to_owned())])?;
    let faults: Vec<String> = partner.faults().iter().map(|found| fault(found.to_string())).collect();
    if faults.is_empty() { Ok(partner) } else { Err(faults) }
}

/// What contracts name that is not there. Nothing is wrong with a contract that is ahead of a partner or a type, so this stops
/// nothing; but what is misspelt grants nothing, and whoever wrote it wants to know.
pub(crate) fn dangling(partners: &[Partner], types: &MessageTypes) -> Vec<String> {
    let mut faults = Vec::new();
    for partner in partners {
        for (d, right) in partner.deliveries.iter().enumerate() {
            let at = format!("partners: {}: delivery[{d}]", partner.id);
            let unknown = right.message_types.iter().filter(|name| types.find(name).is_none());
            faults.extend(unknown.map(|name| format!("{at}.message-types: there is no message type {name}")));
            let nobody = right.with.iter().filter(|party| !partners.iter().any(|partner| party.means(partner)));
            faults.extend(nobody.map(|party| format!("{at}.with: there is no partner {party}")));
        }
    }
    faults
}
