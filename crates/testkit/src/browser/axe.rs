//! What axe-core finds in a page.

use std::{fmt, fs, path::Path};

use fantoccini::{Client, error::CmdError};
use serde_json::{Value, json};

/// The rules that a public body's pages must keep: WCAG 2.1, A and AA.
const TAGS: [&str; 4] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"];

/// A rule that a page breaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The rule's id, such as `color-contrast`.
    pub rule: String,
    /// How bad it is: `minor`, `moderate`, `serious` or `critical`.
    pub impact: String,
    /// The selectors of the elements that break it.
    pub targets: Vec<String>,
    /// What the rule asks for.
    pub help: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}: {}", self.rule, self.impact, self.help, self.targets.join(", "))
    }
}

/// Runs the script in the page and gives what it complains of.
pub(super) async fn violations(client: &Client, script: &Path) -> Result<Vec<Violation>, CmdError> {
    let axe = fs::read_to_string(script).expect("the script can be read");
    // Handed over by the driver, which the page's Content-Security-Policy does not bind: a script tag would be refused.
    client.execute(&axe, Vec::new()).await?;
    let run = "const [tags] = arguments;
        const found = await axe.run(document, { runOnly: { type: 'tag', values: tags }, resultTypes: ['violations'] });
        return found.violations;";
    let run = format!("return (async function () {{ {run} }}).apply(null, arguments);");
    let found = client.execute(&run, vec![json!(TAGS)]).await?;
    let found = found.as_array().expect("violations are a list");
    Ok(found.iter().map(Violation::from).collect())
}

impl From<&Value> for Violation {
    fn from(found: &Value) -> Self {
        let word = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        let nodes = found["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        // A target is a list of selectors, one per frame and the element's last.
        let targets = nodes.iter().filter_map(|node| node["target"].as_array()?.last()?.as_str().map(str::to_owned));
        Self { rule: word("id"), impact: word("impact"), targets: targets.collect(), help: word("help") }
    }
}
