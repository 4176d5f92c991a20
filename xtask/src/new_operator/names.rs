//! The names of a new operator, and how they replace those of the training operator.
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use regex::Regex;

/// Longest name: `mlop-<name>-<suffix>` names pods and labels.
const LENGTH_MAX: usize = 24;

/// Stand for the names of the queue while others are replaced.
const QUEUE: (&str, &str) = ("\u{1}Queue", "\u{1}queue");

pub struct Names {
    /// `demo-stage`
    pub dashed: String,
    /// `demo_stage`
    pub snake: String,
    /// `DemoStage`
    pub kind: String,
    /// `DEMO_STAGE`
    pub constant: String,
    /// `dstage`, the short name in kubectl.
    short: String,
    /// `dsrun`, the short name of its run.
    short_run: String,
}

impl Names {
    /// # Errors
    /// When `name` is not lower-case words with dashes, or the name of a kind that exists.
    pub fn new(name: &str) -> Result<Self> {
        let is_name = Regex::new("^[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*$")?.is_match(name);
        ensure!(
            is_name && name.len() <= LENGTH_MAX,
            "{name} is not a name: want at most {LENGTH_MAX} of a-z, 0-9 and '-', as in drift-monitor"
        );
        let words: Vec<&str> = name.split('-').collect();
        let kind: String = words.iter().map(|word| capitalized(word)).collect();
        let taken = mlop_api::kinds::all();
        let taken = |kind: &str| taken.iter().any(|crd| crd.spec.names.kind == kind);
        ensure!(!taken(&kind) && !taken(&format!("{kind}Run")), "there is a kind {kind} already");
        let initials: String = words.iter().filter_map(|word| word.chars().next()).collect();
        let (last, before) = (words.last().copied().unwrap_or_default(), initials.len().saturating_sub(1));
        let before = initials.get(..before).unwrap_or_default();
        Ok(Self {
            dashed: name.to_owned(),
            snake: name.replace('-', "_"),
            constant: name.replace('-', "_").to_uppercase(),
            // A short name must differ from the singular.
            short: if before.is_empty() { without_vowels(last) } else { format!("{before}{last}") },
            short_run: format!("{initials}run"),
            kind,
        })
    }

    /// Name of package, program, image and chart.
    pub fn package(&self) -> String {
        format!("mlop-{}", self.dashed)
    }

    /// A text of the training operator with the new names.
    pub fn rename(&self, text: &str) -> String {
        let kind = &self.kind;
        let pairs = [
            // The queue stays that of trainings.
            ("TrainingQueue", QUEUE.0.to_owned()),
            ("trainingqueue", QUEUE.1.to_owned()),
            // Both are types of what training works with; their names go first, because the others are parts of them.
            ("TrainingJobs", format!("{kind}s")),
            ("TrainingJob", kind.clone()),
            ("TrainingRun", format!("{kind}Run")),
            ("Training", kind.clone()),
            ("training_job", self.snake.clone()),
            ("training_run", format!("{}_run", self.snake)),
            ("trainingjob", self.dashed.replace('-', "")),
            ("trainingrun", format!("{}run", self.dashed.replace('-', ""))),
            ("mlop-training", self.package()),
            ("mlop_training", format!("mlop_{}", self.snake)),
            ("operators/training", format!("operators/{}", self.dashed)),
            ("training::", format!("{}::", self.snake)),
            ("operators::TRAINING", format!("operators::{}", self.constant)),
            ("TRAINING", self.constant.clone()),
            (QUEUE.0, "TrainingQueue".to_owned()),
            (QUEUE.1, "trainingqueue".to_owned()),
        ];
        let text = pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        let short_names = [("tjob", &self.short), ("trun", &self.short_run)];
        short_names.iter().fold(text, |text, (from, to)| replaced_words(&text, from, to))
    }

    /// The path of a copied file.
    pub fn path(&self, path: &Path) -> PathBuf {
        PathBuf::from(self.rename(&path.to_string_lossy()))
    }

    /// A template with the names in place of `@kind@`, `@snake@` and `@dashed@`.
    pub fn fill(&self, template: &str) -> String {
        let pairs = [("@kind@", &self.kind), ("@snake@", &self.snake), ("@dashed@", &self.dashed)];
        pairs.iter().fold(template.to_owned(), |text, (from, to)| text.replace(from, to))
    }
}

/// `text` with `to` in place of the word `from`.
fn replaced_words(text: &str, from: &str, to: &str) -> String {
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(from) {
        result.push_str(before);
        let is_word = !is_letter(result.chars().next_back()) && !is_letter(after.chars().next());
        result.push_str(if is_word { to } else { from });
        rest = after;
    }
    result + rest
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn without_vowels(word: &str) -> String {
    let mut letters = word.chars();
    let short: String = letters.next().into_iter().chain(letters.filter(|c| !"aeiou".contains(*c))).collect();
    if short == word { format!("m{word}") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_replaced_as_words() {
        let names = Names::new("demo-stage").unwrap();
        assert_eq!(names.rename("get tjob,trun; `tjob` truncated"), "get dstage,dsrun; `dstage` truncated");
    }

    #[test]
    fn names_follow_from_the_words() {
        let rows = [
            ("demo-stage", "DemoStage", "dstage", "dsrun"),
            ("drift", "Drift", "drft", "drun"),
            ("dns", "Dns", "mdns", "drun"),
        ];
        for (name, kind, short, short_run) in rows {
            let names = Names::new(name).unwrap();
            assert_eq!(
                (names.kind.as_str(), names.short.as_str(), names.short_run.as_str()),
                (kind, short, short_run)
            );
        }
    }

    #[test]
    fn names_that_cannot_be_kinds_are_refused() {
        for wrong in ["Demo", "demo_stage", "-demo", "demo--stage", "4th", "training-job", "model"] {
            assert!(Names::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_training_are_replaced() {
        let names = Names::new("demo-stage").unwrap();
        let text =
            "mlop_training::TrainingJob, TrainingRunSpec of mlop-training: TRAINING in training_run.rs";
        assert_eq!(
            names.rename(text),
            "mlop_demo_stage::DemoStage, DemoStageRunSpec of mlop-demo-stage: DEMO_STAGE in demo_stage_run.rs"
        );
    }
}
