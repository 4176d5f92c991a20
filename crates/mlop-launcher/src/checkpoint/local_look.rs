//! The checkpoints that a command has left on the disk.
//!
//! Frameworks name them in many ways, so an entry's step is read from its name: `500`, `007`, `checkpoint-500`,
//! `epoch=1.ckpt`, `epoch=3-step=900.ckpt`, `ckpt-5.index` beside `ckpt-5.data-00000-of-00001`. Entries of one step are
//! one checkpoint. Small files without a number, such as `latest` or `trainer_state.json`, belong to each of them. If
//! no entry has a number, all entries together are one checkpoint. So they are if a file without a number outweighs those
//! that have one: then the numbers count processes, as in `random_states_0.pkl` beside `model.safetensors`.

use mlop_artifact::directory::{Contents, Found, Skipped};
use std::collections::BTreeMap;

/// How many times larger a file without a number is than the largest step, if the numbers are no steps.
const OUTWEIGHS: u64 = 2;

/// Largest file without a number that belongs to every checkpoint, in bytes.
const COMMON_BYTES_MAX: u64 = 1 << 20;
/// Words before the number that counts, the most telling first.
const WORDS: [&str; 6] = ["step", "iter", "checkpoint", "ckpt", "epoch", "round"];

/// Words before a number that counts something else.
const NO_STEPS: [&str; 4] = ["rank", "shard", "rng_state", "random_states"];
/// Characters between a word and its number.
const SEPARATORS: [char; 5] = ['-', '_', '=', ':', ' '];

/// One checkpoint on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its step; none when no entry has a number.
    pub step: Option<u64>,
    /// For people: the name of its first entry.
    pub name: String,
    pub contents: Contents,
    /// Changes whenever one of its own files does.
    pub fingerprint: Vec<Found>,
}

/// The checkpoints that a look at the directory has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Entries that belong to no checkpoint, and why.
    pub ignored: Vec<Skipped>,
}

/// Sorts the directory's entries into checkpoints.
pub fn look(contents: Contents) -> Look {
    let (mut steps, mut common): (BTreeMap<u64, Vec<Found>>, Vec<Found>) = Default::default();
    let mut ignored = contents.skipped;
    for file in contents.files {
        let entry = entry_of(&file.path);
        match step_of(entry) {
            _ if is_unfinished(entry) => ignore(&mut ignored, entry, "has the name of an unfinished file"),
            _ if is_log(&file.path) && !file.path.contains('/') => ignore(&mut ignored, entry, "is a log"),
            Some(step) => steps.entry(step).or_default().push(file),
            None if is_log(&file.path) => ignore(&mut ignored, entry, "has a log"),
            None => common.push(file),
        }
    }
    if steps.is_empty() || has_no_steps(&steps, &common) {
        let mut all: Vec<Found> = steps.into_values().flatten().chain(common).collect();
        all.sort_by(|a, b| a.path.cmp(&b.path));
        let snapshots = if all.is_empty() { Vec::new() } else { vec![snapshot(None, all, &[])] };
        return Look { snapshots, ignored };
    }
    let (common, large): (Vec<Found>, Vec<Found>) =
        common.into_iter().partition(|file| !file.path.contains('/') && file.bytes <= COMMON_BYTES_MAX);
    for file in large {
        ignore(&mut ignored, entry_of(&file.path), "has no number in its name, while others have");
    }
    let snapshots = steps.into_iter().map(|(step, files)| snapshot(Some(step), files, &common)).collect();
    Look { snapshots, ignored }
}

/// Whether the numbers in names are no steps: the bulk of the checkpoint is in a large file that has none.
fn has_no_steps(steps: &BTreeMap<u64, Vec<Found>>, common: &[Found]) -> bool {
    let bytes = |files: &Vec<Found>| files.iter().map(|file| file.bytes).sum::<u64>();
    let largest = steps.values().map(bytes).max().unwrap_or_default();
    let is_bulk = |file: &Found| file.bytes > COMMON_BYTES_MAX && file.bytes / OUTWEIGHS > largest;
    common.iter().any(is_bulk)
}

fn snapshot(step: Option<u64>, own: Vec<Found>, common: &[Found]) -> Snapshot {
    let name = own.first().map(|file| entry_of(&file.path).to_owned()).unwrap_or_default();
    let mut files: Vec<Found> = own.iter().chain(common).cloned().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Snapshot { step, name, contents: Contents { files, ..Contents::default() }, fingerprint: own }
}

fn ignore(ignored: &mut Vec<Skipped>, entry: &str, reason: &str) {
    if ignored.iter().all(|skipped| skipped.path != entry) {
        ignored.push(Skipped { path: entry.to_owned(), reason: reason.to_owned() });
    }
}

/// The entry of the directory that `path` belongs to.
pub fn entry_of(path: &str) -> &str {
    path.split_once('/').map_or(path, |(entry, _)| entry)
}

/// Whether frameworks give such names to unfinished files.
fn is_unfinished(entry: &str) -> bool {
    let entry = entry.to_lowercase();
    let parts = entry.split(|c: char| !c.is_ascii_alphanumeric());
    // PyTorch's distributed checkpoints have their index in ".metadata".
    entry.starts_with('.') && entry != ".metadata"
        || entry.ends_with('~')
        // Python's temporary names go on with random characters: "tmpx8f2k1_3".
        || parts.into_iter().any(|part| {
            part.contains("tmp") || matches!(part, "temp" | "temporary" | "partial" | "incomplete" | "part")
        })
}

/// The step in an entry's name.
fn step_of(entry: &str) -> Option<u64> {
    // The parts of one distributed checkpoint of PyTorch, by process.
    if entry.ends_with(".distcp") {
        return None;
    }
    let lower = stem(entry).to_lowercase();
    let after_word = WORDS.iter().find_map(|word| {
        let (_, rest) = lower.rsplit_once(word)?;
        // "steps_100", "global_step=100", "checkpoint-100".
        let rest = rest.strip_prefix('s').unwrap_or(rest);
        number(rest.trim_start_matches(SEPARATORS))
    });
    after_word.or_else(|| digits_of(&lower).parse().ok())
}

/// Whether a file is a log: it changes all the time, and its name has a time instead of a step.
fn is_log(path: &str) -> bool {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.contains("tfevents") || name.ends_with(".log")
}

/// The digits of a name that may be a step: without the numbers of processes and parts (`rank_0`, `00001-of-00002`) and
/// those with a fraction, as a loss has.
fn digits_of(name: &str) -> String {
    let (mut digits, mut rest) = (String::new(), name);
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, at) = rest.split_at(start);
        let (number, after) =
            at.split_at(at.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(at.len()));
        let word = before.trim_matches(SEPARATORS);
        let is_part = word == "of"
            || NO_STEPS.iter().any(|no_step| word.ends_with(no_step))
            || after
                .trim_start_matches(SEPARATORS)
                .strip_prefix("of")
                .is_some_and(|of| of.starts_with(SEPARATORS));
        let number = number.trim_end_matches('.');
        if !is_part && number.matches('.').count() != 1 {
            digits.extend(number.chars().filter(char::is_ascii_digit));
        }
        rest = after;
    }
    digits
}

fn number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

/// `name` without what follows its numbered part: `epoch=3-loss=0.25` of `epoch=3-loss=0.25.ckpt`, `ckpt-5` of
/// `ckpt-5.data-00000-of-00001`.
fn stem(name: &str) -> &str {
    let mut end = 0;
    let mut is_numbered = false;
    for part in name.split('.') {
        if is_numbered && !part.starts_with(|c: char| c.is_ascii_digit()) {
            break;
        }
        is_numbered |= part.contains(|c: char| c.is_ascii_digit());
        end += part.len() + usize::from(end > 0);
    }
    name.get(..end).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlop_artifact::directory::Directory;

    fn looked(files: &[(&str, usize)]) -> Look {
        let dir = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![0; *bytes]).unwrap();
        }
        look(Directory::open(dir.path()).unwrap().contents().unwrap())
    }

    fn paths(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.contents.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn steps_are_read_from_names() {
        let rows = [
            ("500", Some(500)),
            ("007", Some(7)),
            ("checkpoint-500", Some(500)),
            ("epoch=1.ckpt", Some(1)),
            ("epoch=3-step=900.ckpt", Some(900)),
            ("step=000120-epoch=2.ckpt", Some(120)),
            ("epoch=3-val_loss=0.25.ckpt", Some(3)),
            ("global_step1000", Some(1000)),
            ("ckpt-5.index", Some(5)),
            ("ckpt-5.data-00000-of-00001", Some(5)),
            ("model.ckpt-1000.meta", Some(1000)),
            ("rank1-step-100.pt", Some(100)),
            ("iter_0000100", Some(100)),
            ("model_20.pt", Some(20)),
            ("cp-0005.weights.h5", Some(5)),
            ("weights.05-0.32.keras", Some(5)),
            ("weights-improvement-10-10.50.hdf5", Some(10)),
            ("xgboost-checkpoint.20", Some(20)),
            ("snapshot_iter_10000.solverstate", Some(10_000)),
            ("model.v1.2-300.pt", Some(300)),
            ("state-2026-11-28.pt", Some(20_261_128)),
            ("state.2026.11.28.pt", Some(20_261_128)),
            ("megatron--val_loss=2.50-step=1000-last.ckpt", Some(1000)),
            ("epoch=1-step=2-v1.ckpt", Some(2)),
            ("model-00001-of-00002.safetensors", None),
            ("step-7-00001-of-00002.safetensors", Some(7)),
            ("mp_rank_00_model_states.pt", None),
            ("rng_state_1.pth", None),
            ("random_states_0.pkl", None),
            ("__1_0.distcp", None),
            ("checkpoint_epoch_3.pth", Some(3)),
            ("net_epoch_3_id_G.pth", Some(3)),
            ("checkpoint_000010", Some(10)),
            ("llama-7b-step100", Some(100)),
            ("gpt2-medium-checkpoint-300", Some(300)),
            ("model-epoch05-val0.12.h5", Some(5)),
            ("xgb_model_0010.json", Some(10)),
            ("20260301-101500.pt", Some(20_260_301_101_500)),
            ("0", Some(0)),
            ("model_final.pth", None),
            ("last.ckpt", None),
            ("latest", None),
            ("99999999999999999999999", None),
        ];
        for (name, step) in rows {
            assert_eq!(step_of(name), step, "{name}");
        }
    }

    #[test]
    fn parts_of_one_checkpoint_stay_together() {
        let large = 2 << 20;
        let rows: [(&str, &[(&str, usize)]); 4] = [
            (
                "safetensors in shards",
                &[
                    ("model-00001-of-00002.safetensors", large),
                    ("model-00002-of-00002.safetensors", large),
                    ("model.safetensors.index.json", 1),
                ],
            ),
            (
                "accelerate",
                &[("custom_checkpoint_0.pkl", 1), ("model.safetensors", large), ("random_states_0.pkl", 1)],
            ),
            ("distributed", &[(".metadata", 1), ("__0_0.distcp", large), ("__1_0.distcp", large)]),
            ("deepspeed", &[("mp_rank_00/x", large), ("mp_rank_01/x", large)]),
        ];
        for (name, files) in rows {
            let look = looked(files);
            assert_eq!((look.snapshots.len(), look.ignored.len()), (1, 0), "{name}");
            let expected: Vec<_> = files.iter().map(|(path, _)| *path).collect();
            assert_eq!(paths(&look.snapshots[0]), expected, "{name}");
        }
    }

    #[test]
    fn last_of_a_framework_does_not_end_its_steps() {
        let look = looked(&[("epoch=1-step=2.ckpt", 2 << 20), ("last.ckpt", 3 << 20)]);
        assert_eq!(look.snapshots.iter().map(|snapshot| snapshot.step).collect::<Vec<_>>(), [Some(2)]);
        assert_eq!(look.ignored[0].path, "last.ckpt");
    }

    #[test]
    fn logs_are_no_checkpoints() {
        let logs = [
            ("events.out.tfevents.1700000000.host.1.0", 1),
            ("runs/events.out.tfevents.17", 1),
            ("train-20261128.log", 1),
        ];
        for (own, step) in [("checkpoint-5/x", Some(5)), ("model.pt", None)] {
            let look = looked(&[&logs[..], &[(own, 1)]].concat());
            assert_eq!(look.snapshots.len(), 1, "{own}");
            assert_eq!((look.snapshots[0].step, paths(&look.snapshots[0])), (step, vec![own]));
            assert_eq!(look.ignored.len(), 3);
        }
    }

    #[test]
    fn entries_of_one_step_are_one_checkpoint() {
        let files = [
            ("ckpt-5.index", 1),
            ("ckpt-5.data-00000-of-00001", 2 << 20),
            ("ckpt-10.index", 1),
            ("ckpt-10.data-00000-of-00001", 2 << 20),
            ("checkpoint", 1),
            ("runs/events", 1),
            ("optimizer.bin", 2 << 20),
        ];
        let look = looked(&files);
        let steps: Vec<_> = look.snapshots.iter().map(|snapshot| snapshot.step).collect();
        assert_eq!(steps, [Some(5), Some(10)]);
        assert_eq!(paths(&look.snapshots[1]), ["checkpoint", "ckpt-10.data-00000-of-00001", "ckpt-10.index"]);
        let ignored: Vec<_> = look.ignored.iter().map(|skipped| skipped.path.as_str()).collect();
        assert_eq!(ignored, ["optimizer.bin", "runs"]);
    }

    #[test]
    fn entries_without_numbers_are_one_checkpoint() {
        let look = looked(&[("model.pt", 3), ("state/optimizer.pt", 1)]);
        assert_eq!(look.snapshots.len(), 1);
        assert_eq!(paths(&look.snapshots[0]), ["model.pt", "state/optimizer.pt"]);
        assert_eq!(look.ignored, []);
        assert_eq!(looked(&[]), Look::default());
    }

    #[test]
    fn unfinished_names_are_ignored_and_reported() {
        let unfinished = [
            ".new/x",
            "tmp-checkpoint-5/x",
            "6.partial/x",
            "tmpx8f2k1_3/x",
            "7.pt.tmp1a2b",
            "8.orbax-checkpoint-tmp-17/x",
            "_temporary/0/x",
            "9.ckpt.part",
            "10~",
            "11.incomplete",
        ];
        let files = unfinished.map(|path| (path, 1));
        let look = looked(&[&files[..], &[("4/x", 1)]].concat());
        assert_eq!(look.snapshots.iter().map(|s| s.step).collect::<Vec<_>>(), [Some(4)]);
        assert_eq!(paths(&look.snapshots[0]), ["4/x"]);
        assert_eq!(look.ignored.len(), unfinished.len(), "{:?}", look.ignored);
    }
}
