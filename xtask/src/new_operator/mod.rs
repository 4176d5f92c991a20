//! `cargo xtask new-operator`: a further stage, made from the training operator.
//!
//! The training operator is the shortest complete one, and it always compiles. A copy of it with other names is a better
//! start than a template that nobody compiles.
mod names;
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{paths, process};
use names::Names;

/// The test of the new stage in a chain, with the names of [`Names::fill`].
const CHAIN: &str = include_str!("chain.rs.template");
/// Directories and files of the operator from which others are made.
const COPIED: [&str; 3] = ["operators/training", "charts/mlop-training", "docs/kinds/trainingjob.md"];
const API: &str = "crates/mlop-api/src";

#[derive(clap::Args)]
#[command(
    after_help = "It writes the kind and its run into crates/mlop-api, the operator with its tests into operators, \
                  a chart, and a page of documentation. Then it generates definitions, RBAC and reference, and \
                  tests the operator. The work is that of a TrainingJob until you change it: \
                  docs/guides/add-a-stage.md"
)]
pub struct Args {
    /// Name of the operator in lower case with dashes, as in `drift-monitor`. Its kinds are DriftMonitor and
    /// DriftMonitorRun.
    name: String,
    /// Write the files without generating and testing.
    #[arg(long)]
    no_test: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let names = Names::new(&args.name)?;
    let root = paths::repository();
    let directory = root.join(format!("operators/{}", names.dashed));
    ensure!(!directory.exists(), "{} exists already: choose another name", directory.display());
    let files = files(root, &names)?;
    for (path, text) in &files {
        let path = root.join(path);
        let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
        parent
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("wrote {} files for {}", files.len(), names.package());
    if args.no_test {
        return Ok(());
    }
    // xtask is built again, because it generates from the kinds that are linked into it.
    let package = names.package();
    let steps: [&[&str]; 3] = [&["fmt", "--all"], &["xtask", "generate"], &["test", "--package", &package]];
    for step in steps {
        eprintln!("cargo {}", step.join(" "));
        // The copied golden files have digests of a TrainingJob.
        process::show(process::cargo().args(step).env("UPDATE_EXPECT", "1").current_dir(root))?;
    }
    println!("next: say what determines the output, in {API}/{}.rs: {}Content", names.snake, names.kind);
    Ok(())
}

/// New and changed files with their texts, all made before the first is written.
fn files(root: &Path, names: &Names) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for from in COPIED {
        for path in tracked(root, from)? {
            let text = read(root, &path)?;
            files.push((names.path(&path), names.rename(&text)));
        }
    }
    let training = read(root, Path::new(API).join("training.rs"))?;
    files.push((Path::new(API).join(format!("{}.rs", names.snake)), source::kind(&training, names)?));
    let accepted = Path::new("crates/mlop-api/tests/accepted");
    for file in ["trainingjob.yaml", "trainingrun.yaml"] {
        let text = read(root, accepted.join(file))?;
        files.push((names.path(&accepted.join(file)), names.rename(&text)));
    }
    let test = Path::new("operators").join(&names.dashed).join("tests/chain.rs");
    files.push((test, names.fill(CHAIN)));
    for (path, text) in &mut files {
        if path.ends_with("Cargo.toml") {
            text.push_str(source::TEST_DEPENDENCIES);
        } else if path.starts_with("operators") && path.extension().is_some_and(|extension| extension == "rs")
        {
            *text = source::operator(text, names);
        }
    }
    if !files.iter().any(|(_, text)| text.contains(source::CONVERTED)) {
        bail!("no file of operators/training has `{}`: adapt xtask/src/new_operator", source::CONTENT);
    }
    for (path, edit) in source::EDITS {
        let text = read(root, path)?;
        let edited = edit(&text, names).with_context(|| format!("{path}: adapt xtask/src/new_operator"))?;
        files.push((PathBuf::from(path), edited));
    }
    Ok(files)
}

/// Tracked files below `directory`, without those that are generated.
fn tracked(root: &Path, directory: &str) -> Result<Vec<PathBuf>> {
    let list = process::output(Command::new("git").args(["ls-files", directory]).current_dir(root))?;
    let generated = |path: &&str| path.contains("/files/");
    Ok(list.lines().filter(|path| !generated(path)).map(PathBuf::from).collect())
}

fn read(root: &Path, path: impl AsRef<Path>) -> Result<String> {
    let path = root.join(path);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operator_is_made_from_the_present_sources() {
        let names = Names::new("demo-stage").unwrap();
        let files = files(paths::repository(), &names).unwrap();
        let text = |path: &str| {
            let file = files.iter().find(|(found, _)| found == Path::new(path));
            file.map(|(_, text)| text.as_str()).unwrap_or_else(|| panic!("{path} is not written"))
        };
        assert!(text("crates/mlop-api/src/demo_stage.rs").contains("kind = \"DemoStageRun\""));
        assert!(text("operators/demo-stage/src/lib.rs").contains("operators::DEMO_STAGE.name"));
        assert!(text("charts/mlop-demo-stage/Chart.yaml").contains("name: mlop-demo-stage"));
        assert!(
            text("docs/kinds/demostage.md").contains("Short\nname `dstage`; the runs are `DemoStageRun`s")
        );
        assert!(text("docs/README.md").contains("[DemoStage](kinds/demostage.md) | `dstage` |"));
        assert!(text("crates/mlop-faults/src/cluster/processes.rs").contains("mlop_demo_stage::install"));
        assert!(text("charts/mlop/Chart.yaml").contains("file://../mlop-demo-stage"));
        for (path, text) in &files {
            let own = path.to_string_lossy().contains("demo");
            assert!(!own || !text.contains("TrainingRun"), "{} names a kind of training", path.display());
        }
    }
}
