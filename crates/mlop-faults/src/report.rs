//! A table of the outcomes of many plans.

use crate::plan::{Plan, Point};
use std::collections::{BTreeMap, BTreeSet};

/// Plans and failures by fault and by the kind of its point.
#[derive(Default)]
pub struct Table {
    cells: BTreeMap<(String, String), (usize, usize)>,
}

impl<'a> FromIterator<(&'a Plan, bool)> for Table {
    /// From plans, each with whether it failed.
    fn from_iter<T: IntoIterator<Item = (&'a Plan, bool)>>(judged: T) -> Self {
        let mut table = Self::default();
        for (plan, failed) in judged {
            let (fault, kind) = match plan.faults.as_slice() {
                [injection] => (injection.fault.to_string(), kind_of(&injection.at)),
                [] => ("none".to_owned(), "users".to_owned()),
                faults => (format!("{} faults", faults.len()), "any".to_owned()),
            };
            let cell = table.cells.entry((fault, kind)).or_default();
            cell.0 += 1;
            cell.1 += usize::from(failed);
        }
        table
    }
}

fn kind_of(point: &Point) -> String {
    match point {
        Point::Write(write) => write.kind.clone(),
        Point::Notification(notification) => notification.kind.clone(),
        Point::Work(_) => "outside".to_owned(),
        Point::Millisecond(_) => "time".to_owned(),
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let faults: BTreeSet<_> = self.cells.keys().map(|(fault, _)| fault).collect();
        let kinds: BTreeSet<_> = self.cells.keys().map(|(_, kind)| kind).collect();
        writeln!(f, "plans by fault and kind; failures after a slash")?;
        write!(f, "{:<20}", "")?;
        for kind in &kinds {
            write!(f, " {:>w$}", kind, w = kind.len().max(6))?;
        }
        writeln!(f, " {:>7}", "all")?;
        let mut total = (0, 0);
        for fault in faults {
            write!(f, "{fault:<20}")?;
            let mut sum = (0, 0);
            for kind in &kinds {
                let cell = self.cells.get(&(fault.clone(), (*kind).clone())).copied().unwrap_or_default();
                sum = (sum.0 + cell.0, sum.1 + cell.1);
                write!(f, " {:>w$}", show(cell), w = kind.len().max(6))?;
            }
            total = (total.0 + sum.0, total.1 + sum.1);
            writeln!(f, " {:>7}", show(sum))?;
        }
        write!(f, "{} plans, {} failures", total.0, total.1)
    }
}

fn show((plans, failures): (usize, usize)) -> String {
    match (plans, failures) {
        (0, _) => String::new(),
        (_, 0) => plans.to_string(),
        _ => format!("{plans}/{failures}"),
    }
}
