//! Counts of a step.

/// The outcome of a step.
#[derive(Default)]
pub struct Report {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
    /// The last lines of each failure.
    pub output: Vec<String>,
}

/// One check that passed.
pub const ONE: Report = Report { passed: 1, failed: 0, skipped: 0, output: Vec::new() };

impl Report {
    pub fn and(mut self, other: Self) -> Self {
        self.output.extend(other.output);
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
            output: self.output,
        }
    }
}
