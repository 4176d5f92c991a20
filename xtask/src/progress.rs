//! Progress of a long task on standard error. Standard output is for answers.
use std::time::Instant;

use anyhow::Result;

/// The outcome of a step.
pub enum Outcome {
    /// The work was done now.
    Done,
    /// The result existed already.
    Present,
}

/// Numbered steps of one task, each reported with its time.
pub struct Steps {
    next: usize,
    total: usize,
}

impl Steps {
    pub fn new(total: usize) -> Self {
        Self { next: 1, total }
    }

    /// Runs one step and reports it.
    pub fn run(&mut self, what: &str, step: impl FnOnce() -> Result<Outcome>) -> Result<()> {
        let prefix = format!("[{}/{}] {what}", self.next, self.total);
        self.next += 1;
        let start = now();
        let outcome = step()?;
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Outcome::Done => eprintln!("{prefix}: done in {seconds:.1} s"),
            Outcome::Present => eprintln!("{prefix}: there ({seconds:.1} s)"),
        }
        Ok(())
    }
}

/// Names the part that takes long.
pub fn note(text: &str) {
    eprintln!("      {text}");
}

#[allow(clippy::disallowed_methods, reason = "measures for people; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}
