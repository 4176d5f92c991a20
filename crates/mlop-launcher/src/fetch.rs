//! Everything that a container needs, from the stores onto its disk, verified.

use crate::{Layout, checkpoint::Checkpoints, local, preflight};
use mlop_api::{
    MEDIA_TABLE, MEDIA_TREE, Reason,
    result::{Failure, ResultDocument},
    task::{Input, Store, Subject, TrainWork},
};
use mlop_artifact::{manifest, path, store::ObjectStoreHandle, table, tree};
use std::path::Path;
use tokio::fs;

/// Opens an ObjectStore; tests open others.
pub type Open<'a> = &'a dyn Fn(&Store) -> Result<ObjectStoreHandle, Failure>;

/// Prepares the disk for a training. When its result is recorded already, only the marker for that is left.
///
/// # Errors
/// [`Reason::PreflightFailed`] when the pod is not fit for the work; [`Reason::InputCorrupt`] when an input is not what its
/// digest says; otherwise as stores and disk say.
pub async fn training(
    layout: &Layout,
    subject: &Subject,
    work: &TrainWork,
    open: Open<'_>,
) -> Result<ResultDocument, Failure> {
    directory(&layout.private()).await?;
    let is_first = !layout.started().exists();
    if is_first {
        file(&layout.started(), b"").await?;
    }
    let store = open(&work.output)?;
    let (key, asked) = (format!("results/{}.json", subject.uid), preflight::impatient(&store));
    if preflight::answered(&store, asked.size(&key)).await?.is_some() {
        file(&layout.finished(), b"").await?;
        return Ok(summary("an earlier attempt has finished".to_owned()));
    }
    for made in [layout.inputs(), layout.output(), layout.checkpoint()] {
        directory(&made).await?;
    }
    let bytes = input_bytes(&work.inputs, open).await?;
    // The disk has what an init container that runs twice has written.
    if is_first {
        preflight::disk(&layout.private(), work.needs, bytes)?;
    }
    for input in &work.inputs {
        path::safe(&input.name)?;
        download(&open(&input.store)?, input, &layout.inputs().join(&input.name)).await?;
    }
    if !work.content.code.is_empty() {
        directory(&layout.work()).await?;
    }
    for (name, content) in &work.content.code {
        path::safe(name)?;
        file(&layout.work().join(name), content.as_bytes()).await?;
    }
    let hyperparameters = serde_json::json!(work.content.hyperparameters).to_string();
    file(&layout.hyperparameters(), hyperparameters.as_bytes()).await?;
    let checkpoints = Checkpoints::new(&store, subject, layout.checkpoint());
    let restored = checkpoints.restore(&layout.restoring()).await?;
    let checkpoint = restored.map_or(String::new(), |name| format!(", checkpoint {name}"));
    Ok(summary(format!("{} inputs{checkpoint}", work.inputs.len())))
}

/// Puts a tree, or only the part at `part`, into a directory for a server to load.
///
/// # Errors
/// As [`training`], and [`Reason::InvalidSpec`] when the tree has no such part.
pub async fn serving(
    model: &Input,
    into: &Path,
    part: Option<&str>,
    open: Open<'_>,
) -> Result<ResultDocument, Failure> {
    let fetched = tree::download_part(&open(&model.store)?, &model.digest, into, part).await?;
    Ok(summary(format!("{} files", fetched.files.len())))
}

/// Bytes of all inputs. Each store is asked for a manifest.
async fn input_bytes(inputs: &[Input], open: Open<'_>) -> Result<u64, Failure> {
    let mut all = 0_u64;
    for input in inputs {
        let store = open(&input.store)?;
        let asked = preflight::impatient(&store);
        let bytes = async {
            match input.media_type.as_str() {
                MEDIA_TABLE => manifest::table_bytes(&asked, &input.digest).await,
                MEDIA_TREE => manifest::tree_bytes(&asked, &input.digest).await,
                other => Err(unknown(input, other)),
            }
        };
        all = all.saturating_add(preflight::answered(&store, bytes).await?);
    }
    Ok(all)
}

fn unknown(input: &Input, media_type: &str) -> Failure {
    let message = format!("input {}: media type {media_type:?} is neither a table nor a tree", input.name);
    Failure::terminal(Reason::InvalidSpec, message)
}

async fn download(store: &ObjectStoreHandle, input: &Input, into: &Path) -> Result<(), Failure> {
    match input.media_type.as_str() {
        MEDIA_TABLE => table::download(store, &input.digest, into).await.map(drop),
        MEDIA_TREE => tree::download(store, &input.digest, into).await.map(drop),
        other => Err(unknown(input, other)),
    }
}

async fn directory(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).await.map_err(|error| local("creating", path, &error))
}

async fn file(path: &Path, content: &[u8]) -> Result<(), Failure> {
    fs::write(path, content).await.map_err(|error| local("writing", path, &error))
}

fn summary(text: String) -> ResultDocument {
    ResultDocument { summary: Some(text), ..ResultDocument::default() }
}
