//! The upload of a training's output and the download of a model, beside boto3 with ten threads.

use super::lab::{BUCKETS, Cost, Lab, measure};
use anyhow::{Context as _, Result};
use mlop_api::{
    Digest, MEDIA_TREE,
    task::{Input, Work},
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::Command,
};

const BOTO3: &str = include_str!("../../bench/trees.py");
/// Bytes that are written at a time.
const CHUNK: usize = 1 << 20;

/// A tree to measure.
struct Shape {
    name: &'static str,
    files: usize,
    bytes: usize,
}

/// Measures one file of `megabytes`, and `files` of 10 kB each. Returns the figures.
///
/// # Errors
/// A program is missing or fails.
pub async fn run(programs: &Path, megabytes: usize, files: usize) -> Result<Value> {
    let shapes = [
        Shape { name: "large", files: 1, bytes: megabytes * 1_000_000 },
        Shape { name: "small", files, bytes: 10_000 },
    ];
    let mut figures = Vec::new();
    println!("{:<28} {:<10} {:<8} {:>33} {:>8}", "tree", "direction", "program", "cost", "MB/s");
    for shape in &shapes {
        // A server each, so that the bucket of boto3 has nothing else in it.
        let lab = Lab::start(programs).await?;
        figures.push(measure_shape(&lab, shape).await?);
    }
    Ok(json!({"suite": "trees", "figures": figures}))
}

async fn measure_shape(lab: &Lab, shape: &Shape) -> Result<Value> {
    let tree = format!("{} files of {} bytes", shape.files, shape.bytes);
    let show = |direction: &str, program: &str, cost: Cost| {
        let rate = (shape.files * shape.bytes) as f64 / 1e6 / cost.seconds;
        println!("{tree:<28} {direction:<10} {program:<8} {cost} {rate:>8.1}");
        cost.to_json()
    };
    let output = lab.directory(shape.name)?.join("output");
    let (uploaded, digest) = upload(lab, shape, &output).await?;
    let ours = show("upload", "mlop", uploaded);
    let theirs = show("upload", "boto3", measure(boto3(lab, "upload", &output)?).await?);

    let directory = lab.directory("served")?;
    let model = Input {
        name: "model".to_owned(),
        digest,
        media_type: MEDIA_TREE.to_owned(),
        store: lab.store(BUCKETS[1]),
    };
    let work = Work::Serve { model, directory: directory.display().to_string(), path: None };
    let mut fetch = lab.worker("mlop-launcher", "fetch", "ModelDeployment", work)?;
    fetch.arg("fetch");
    let our_download = show("download", "mlop", measure(fetch).await?);
    let their_directory = lab.directory("boto3")?;
    let their_download = show("download", "boto3", measure(boto3(lab, "download", &their_directory)?).await?);
    Ok(json!({
        "files": shape.files, "bytes": shape.bytes,
        "upload": {"mlop": ours, "boto3": theirs},
        "download": {"mlop": our_download, "boto3": their_download},
    }))
}

fn boto3(lab: &Lab, direction: &str, directory: &Path) -> Result<Command> {
    let mut command = lab.python(BOTO3)?;
    command.args([direction, BUCKETS[0]]).arg(directory);
    Ok(command)
}

/// Lets a training's agent upload an output that is there when the command ends. Returns what the agent used, and the
/// digest of the tree.
async fn upload(lab: &Lab, shape: &Shape, output: &Path) -> Result<(Cost, Digest)> {
    let role = |role: &[&str]| lab.training(shape.name, role);
    measure(role(&["fetch"])?).await?;
    write_files(shape, output)?;
    let (agent, launcher) = tokio::join!(measure(role(&["agent"])?), measure(role(&["run", "--", "true"])?));
    launcher.context("the launcher")?;
    let agent = agent?;
    Ok((agent, lab.result(shape.name)?.digest.context("the agent reports no digest")?))
}

fn write_files(shape: &Shape, output: &Path) -> Result<()> {
    fs::create_dir_all(output)?;
    // Xorshift: bytes that no server compresses.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut chunk = Vec::with_capacity(CHUNK);
    for index in 0..shape.files {
        let mut file = File::create(output.join(format!("{index:06}.bin")))?;
        let mut left = shape.bytes;
        while left > 0 {
            chunk.clear();
            while chunk.len() < CHUNK.min(left) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                chunk.extend_from_slice(&state.to_le_bytes());
            }
            chunk.truncate(left);
            file.write_all(&chunk)?;
            left -= chunk.len();
        }
    }
    Ok(())
}
