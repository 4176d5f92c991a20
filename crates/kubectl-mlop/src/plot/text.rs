//! Curves for a terminal.

use super::{Curve, Plot, short};

const COLUMNS: usize = 64;
const ROWS: usize = 12;

/// Each curve as a chart of text.
pub fn text(plot: &Plot) -> String {
    let charts: Vec<_> = plot.curves.iter().map(chart).collect();
    let steps = plot.progress.as_ref().and_then(|progress| progress.steps.clone());
    let title = match steps {
        Some(steps) => format!("run {}, step {steps}", plot.run),
        None => format!("run {}", plot.run),
    };
    format!("{title}\n\n{}", charts.join("\n"))
}

fn chart(curve: &Curve) -> String {
    let range = curve.range();
    let mut cells = vec![vec![' '; COLUMNS]; ROWS];
    let places: Vec<_> = curve.points.iter().map(|point| range.place(*point)).collect();
    for column in 0..COLUMNS {
        let Some(height) = height(&places, at(column, COLUMNS)) else { continue };
        let row = ROWS - 1 - nearest(height, ROWS);
        if let Some(cell) = cells.get_mut(row).and_then(|row| row.get_mut(column)) {
            *cell = '•';
        }
    }
    let (low, high) = range.values;
    let labels = [short(high), short(low)];
    let width = labels.iter().map(String::len).max().unwrap_or_default();
    let last = curve.points.last().map(|(_, value)| short(*value)).unwrap_or_default();
    let mut chart = format!("{}: {last}\n", curve.metric);
    for (row, cells) in cells.iter().enumerate() {
        let label = match row {
            0 => labels[0].as_str(),
            _ if row == ROWS - 1 => labels[1].as_str(),
            _ => "",
        };
        let cells: String = cells.iter().collect();
        chart.push_str(format!("{label:>width$} │{cells}").trim_end());
        chart.push('\n');
    }
    let (first, last) = (range.steps.0.to_string(), range.steps.1.to_string());
    let gap = COLUMNS.saturating_sub(first.len());
    chart.push_str(&format!(
        "{:>width$} └{}\n{:>width$}  {first}{last:>gap$}\n",
        "",
        "─".repeat(COLUMNS),
        ""
    ));
    chart
}

/// The middle of a column in [0, 1].
#[expect(clippy::cast_precision_loss, reason = "a place on a screen")]
fn at(column: usize, columns: usize) -> f64 {
    column as f64 / (columns - 1) as f64
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place on a screen"
)]
fn nearest(height: f64, rows: usize) -> usize {
    ((height * (rows - 1) as f64).round() as usize).min(rows - 1)
}

/// The height of the curve at `x`: between two points, on the line that connects them.
fn height(places: &[(f64, f64)], x: f64) -> Option<f64> {
    let before = places.iter().rfind(|(at, _)| *at <= x);
    let after = places.iter().find(|(at, _)| *at >= x);
    match (before, after) {
        (Some((left, low)), Some((right, high))) if right > left => {
            Some(low + (high - low) * (x - left) / (right - left))
        }
        (Some((_, height)), Some(_)) => Some(*height),
        // The only point is in the middle.
        _ if places.len() == 1 && (x - 0.5).abs() < 0.01 => places.first().map(|(_, height)| *height),
        _ => None,
    }
}
