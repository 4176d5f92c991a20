//! Images of mlop's programs: one static binary each, and nothing else.
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use mlop_api::operators;
use serde_json::Value;

use crate::archive::{Archive, Entry, Image, reference};
use crate::build;
use crate::cache::Inputs;

/// Packages, programs and images: the operators and then the workers.
pub fn programs() -> Vec<&'static str> {
    let mut programs: Vec<&str> = operators::ALL.iter().map(|operator| operator.name).collect();
    for worker in operators::ALL.iter().filter_map(|operator| operator.worker) {
        if !programs.contains(&worker) {
            programs.push(worker);
        }
    }
    programs
}

/// The profile of published images. Others compile faster and are larger.
const RELEASED: &str = "release";
/// Largest size of an operator's image in bytes.
const OPERATOR_LIMIT: u64 = 15 << 20;

/// Builds the images of those `crates` that compile, and names the others.
pub fn build(crates: &[&'static str], profile: &str) -> Result<(Vec<Archive>, Vec<&'static str>)> {
    let compiled = compile(profile)?;
    let mut archives = Vec::new();
    let mut broken = Vec::new();
    for name in crates {
        match compiled.iter().find(|(built, _)| built == name) {
            Some((_, program)) => {
                let archive = image(name, program.clone())?;
                if profile == RELEASED && operators::ALL.iter().any(|operator| operator.name == *name) {
                    check_size(&archive)?;
                }
                archives.push(archive);
            }
            None => broken.push(*name),
        }
    }
    Ok((archives, broken))
}

/// All programs that compile. The call does not depend on the images that are wanted: another choice of packages would
/// give their dependencies other features, and compile them again.
fn compile(profile: &str) -> Result<Vec<(String, PathBuf)>> {
    build::check_images_can_be_built()?;
    let mut command = if profile == build::PROFILE {
        let mut command = build::cargo("build")?;
        command.args(programs().into_iter().flat_map(|name| ["--bin", name]));
        command
    } else {
        let mut command = build::shared("build")?;
        command
            .args(["--profile", profile])
            .args(programs().into_iter().flat_map(|name| ["--package", name]));
        command
    };
    command.args(["--keep-going", "--message-format=json-render-diagnostics"]);
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(program).collect())
}

/// Name and path of the program that one of cargo's messages reports.
fn program(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let path = message.get("executable")?.as_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some((name.to_owned(), path.into()))
}

fn check_size(archive: &Archive) -> Result<()> {
    let size = fs::metadata(&archive.path)?.len();
    ensure!(
        size <= OPERATOR_LIMIT,
        "the image {} has {size} bytes; an operator's may have {OPERATOR_LIMIT}: `cargo bloat` shows the largest parts",
        archive.name
    );
    Ok(())
}

fn image(name: &str, program: PathBuf) -> Result<Archive> {
    let mut inputs = Inputs::new("program");
    inputs.file(&program)?;
    let path = format!("/{name}");
    let image = Image {
        names: vec![reference(name)],
        entries: vec![
            Entry::File { source: program, path: path.clone() },
            Entry::Scratch { path: "/tmp".to_owned() },
        ],
        entrypoint: path,
        user: "65532:65532",
    };
    Archive::provide(name, inputs, &image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_of_operator_images_is_limited() {
        let path = std::env::temp_dir().join(format!("xtask-size-{}", std::process::id()));
        let archive = Archive { name: "mlop-x".into(), key: String::new(), path: path.clone() };
        let file = fs::File::create(&path).unwrap();
        file.set_len(OPERATOR_LIMIT).unwrap();
        assert!(check_size(&archive).is_ok());
        file.set_len(OPERATOR_LIMIT + 1).unwrap();
        assert!(check_size(&archive).unwrap_err().to_string().contains("mlop-x"));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn programs_are_read_from_messages_of_cargo() {
        let built = r#"{"reason":"compiler-artifact","target":{"name":"mlop-x"},"executable":"/t/mlop-x","fresh":true}"#;
        assert_eq!(program(built), Some(("mlop-x".into(), "/t/mlop-x".into())));
        let library = r#"{"reason":"compiler-artifact","target":{"name":"mlop_x"},"executable":null}"#;
        assert_eq!(program(library), None);
        assert_eq!(program("warning: not JSON"), None);
    }
}
