//! The checkpoints that a command has left on the disk.
//!
//! Frameworks name them in many ways, so an entry's step is read from its name: `500`, `007`, `checkpoint-500`,
//! `epoch=1.ckpt`, `epoch=3-step=900.ckpt`, `ckpt-5.index` beside `ckpt-5.data-00000-of-00001`. Entries of one step are
//! one checkpoint. Small files without a number, such as `latest` or `trainer_state.json`, belong to each of them. If
//! no entry has a number, all entries together are one checkpoint.

use mlop_artifact::directory::{Contents, Found, Skipped};
use std::collections::BTreeMap;

/// Largest file without a number that belongs to every checkpoint, in bytes.
const COMMON_BYTES_MAX: u64 = 1 << 20;
/// Words before the number that counts, the most telling first.
const WORDS: [&str; 6] = ["step", "iter", "checkpoint", "ckpt", "epoch", "round"];

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
            Some(step) => steps.entry(step).or_default().push(file),
            None => common.push(file),
        }
    }
    if steps.is_empty() {
        let snapshots = if common.is_empty() { Vec::new() } else { vec![snapshot(None, common, &[])] };
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
    entry.starts_with('.')
        || entry.ends_with('~')
        || parts.into_iter().any(|part| matches!(part, "tmp" | "temp" | "partial" | "incomplete" | "part"))
}

/// The step in an entry's name.
fn step_of(entry: &str) -> Option<u64> {
    let stem = stem(entry);
    let lower = stem.to_lowercase();
    let after_word = WORDS.iter().find_map(|word| {
        let (_, rest) = lower.rsplit_once(word)?;
        // "steps_100", "global_step=100", "checkpoint-100".
        let rest = rest.strip_prefix('s').unwrap_or(rest);
        number(rest.trim_start_matches(['-', '_', '=', ':', ' ']))
    });
    after_word.or_else(|| {
        let digits: String = stem.chars().filter(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
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
            ("last.ckpt", None),
            ("latest", None),
            ("99999999999999999999999", None),
        ];
        for (name, step) in rows {
            assert_eq!(step_of(name), step, "{name}");
        }
    }

    #[test]
    fn entries_of_one_step_are_one_checkpoint() {
        let files = [
            ("ckpt-5.index", 1),
            ("ckpt-5.data-00000-of-00001", 1),
            ("ckpt-10.index", 1),
            ("ckpt-10.data-00000-of-00001", 1),
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
    fn unfinished_names_are_ignored_and_told() {
        let look = looked(&[(".new/x", 1), ("tmp-checkpoint-5/x", 1), ("6.partial/x", 1), ("4/x", 1)]);
        assert_eq!(look.snapshots.iter().map(|s| s.step).collect::<Vec<_>>(), [Some(4)]);
        assert_eq!(look.ignored.len(), 3);
    }
}
