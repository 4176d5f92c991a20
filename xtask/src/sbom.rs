//! `cargo xtask sbom`: an SBOM (CycloneDX) of the crates in each image.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{cache, images, paths, process};

/// The platform of published images.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const LOCK: &str = "Cargo.lock";

/// A crate that is linked into a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    licence: String,
}

pub fn run() -> Result<()> {
    let lock = fs::read_to_string(paths::repository().join(LOCK)).context("cannot read Cargo.lock")?;
    let checksums = checksums(&lock);
    let provenance = provenance()?;
    let directory = paths::repository().join("target/sbom");
    cache::remove(&directory)?;
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for program in images::programs() {
        let crates = crates(&tree(program)?);
        ensure!(crates.len() > 1, "cargo tree names no dependency of {program}");
        let document = document(program, &crates, &checksums, &provenance)?;
        let file = directory.join(format!("{program}.cdx.json"));
        fs::write(&file, serde_json::to_string_pretty(&document)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}: {} crates", file.display(), crates.len());
    }
    Ok(())
}

/// One crate a line: name, version and licence. A word marks those that were listed before.
fn tree(program: &str) -> Result<String> {
    let mut command = process::cargo();
    command.current_dir(paths::repository()).args(["tree", "--locked", "--package", program]);
    // Macros and what they need run in the compiler.
    command.args([
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--target",
        TARGET,
        "--format",
        "{p}|{l}",
    ]);
    process::output(&mut command)
}

fn crates(tree: &str) -> BTreeSet<Crate> {
    let of_line = |line: &str| {
        let (package, licence) = line.split_once('|')?;
        let mut words = package.split_whitespace();
        Some(Crate {
            name: words.next()?.to_owned(),
            version: words.next()?.trim_start_matches('v').to_owned(),
            // The slash is an older way to write it.
            licence: licence.trim_end_matches("(*)").trim().replace('/', " OR "),
        })
    };
    tree.lines().filter_map(of_line).collect()
}

/// SHA-256 by name and version of the crates of registries.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let packages = lock.split("[[package]]").filter_map(|package| {
        let field = |key: &str| {
            let prefix = format!("{key} = \"");
            package.lines().find_map(|line| line.strip_prefix(prefix.as_str())?.strip_suffix('"'))
        };
        Some(((field("name")?.to_owned(), field("version")?.to_owned()), field("checksum")?.to_owned()))
    });
    packages.collect()
}

/// Where the programs come from.
fn provenance() -> Result<Value> {
    let git =
        |args: &[&str]| process::output(Command::new("git").args(args).current_dir(paths::repository()));
    let lock = fs::read(paths::repository().join(LOCK)).context("cannot read Cargo.lock")?;
    let changed = !git(&["status", "--porcelain"])?.is_empty();
    let mut rustc = Command::new("rustc");
    let rustc = process::output(rustc.arg("--version").current_dir(paths::repository()))?;
    let property = |name: &str, value: String| json!({"name": format!("mlop:{name}"), "value": value});
    Ok(json!([
        property("commit", git(&["rev-parse", "HEAD"])?),
        property("checkout-has-changes", changed.to_string()),
        property("compiler", rustc),
        property("target", TARGET.to_owned()),
        property("cargo-lock-sha256", hex::encode(Sha256::digest(lock))),
    ]))
}

fn document(
    program: &str,
    crates: &BTreeSet<Crate>,
    checksums: &BTreeMap<(String, String), String>,
    provenance: &Value,
) -> Result<Value> {
    let own = crates.iter().find(|it| it.name == program).context("cargo tree does not name the program")?;
    let component = |it: &Crate| {
        let checksum = checksums.get(&(it.name.clone(), it.version.clone()));
        let mut component = json!({
            "type": "library", "name": it.name, "version": it.version, "bom-ref": reference(it),
            "purl": reference(it), "licenses": [{"expression": it.licence}],
        });
        if let (Some(checksum), Some(fields)) = (checksum, component.as_object_mut()) {
            fields.insert("hashes".to_owned(), json!([{"alg": "SHA-256", "content": checksum}]));
        }
        component
    };
    let components: Vec<Value> = crates.iter().filter(|it| it.name != program).map(component).collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container", "name": program, "version": own.version, "bom-ref": reference(own),
                "licenses": [{"expression": own.licence}],
            },
            "properties": provenance,
        },
        "components": components,
    }))
}

fn reference(it: &Crate) -> String {
    format!("pkg:cargo/{}@{}", it.name, it.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_has_the_linked_crates_with_their_checksums() {
        let tree = "mlop-x v0.1.0 (/repository/x)|Apache-2.0\nserde v1.0.1|MIT/Apache-2.0\n\
                    serde v1.0.1|MIT/Apache-2.0 (*)\n";
        let lock = "[[package]]\nname = \"mlop-x\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"serde\"\n\
                    version = \"1.0.1\"\nsource = \"registry\"\nchecksum = \"abc\"\n";
        let crates = crates(tree);
        let document = document("mlop-x", &crates, &checksums(lock), &json!([])).unwrap();
        let wanted = json!([{
            "type": "library", "name": "serde", "version": "1.0.1", "bom-ref": "pkg:cargo/serde@1.0.1",
            "purl": "pkg:cargo/serde@1.0.1", "licenses": [{"expression": "MIT OR Apache-2.0"}],
            "hashes": [{"alg": "SHA-256", "content": "abc"}],
        }]);
        assert_eq!(document.pointer("/components"), Some(&wanted));
        assert_eq!(document.pointer("/metadata/component/version"), Some(&json!("0.1.0")));
    }
}
