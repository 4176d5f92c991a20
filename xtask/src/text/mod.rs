//! The words of the repository: spelling, banned phrases, and documents that name files.
mod documents;
mod phrases;
mod spelling;
mod tree;

use anyhow::{Result, bail};

pub use documents::{normal, prose};
pub use tree::Tree;

/// Checks that could be made, one for spelling, phrases and documents each.
pub const CHECKS: usize = 3;

/// # Errors
/// Every finding with its place, one a line.
pub fn check() -> Result<()> {
    let tree = Tree::of_checkout()?;
    let mut findings = spelling::findings()?;
    findings.extend(phrases::findings(&tree)?);
    findings.extend(documents::findings(&tree)?);
    if !findings.is_empty() {
        bail!("{}\nThe rules: docs/development/style.md", findings.join("\n"));
    }
    Ok(())
}
