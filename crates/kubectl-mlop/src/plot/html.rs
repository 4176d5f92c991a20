//! Curves as a page that needs nothing else: one picture in SVG for each metric.

use super::{Curve, Plot, short};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
/// Room for the labels.
const MARGIN: f64 = 60.0;

/// The page.
pub fn html(plot: &Plot) -> String {
    let run = escaped(&plot.run);
    let pictures: Vec<_> = plot.curves.iter().map(picture).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{run}</title></head>\n\
         <body style=\"font-family: sans-serif\">\n<h1>{run}</h1>\n{}\n</body>\n</html>\n",
        pictures.join("\n")
    )
}

fn picture(curve: &Curve) -> String {
    let range = curve.range();
    let place = |point: &(u64, f64)| {
        let (x, y) = range.place(*point);
        (MARGIN + x * WIDTH, MARGIN / 2.0 + (1.0 - y) * HEIGHT)
    };
    let points: Vec<_> = curve.points.iter().map(place).collect();
    let line: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let dots: String = curve
        .points
        .iter()
        .zip(&points)
        .map(|((step, value), (x, y))| {
            format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"><title>step {step}: {}</title></circle>",
                short(*value)
            )
        })
        .collect();
    let (left, right, top, bottom) = (MARGIN, MARGIN + WIDTH, MARGIN / 2.0, MARGIN / 2.0 + HEIGHT);
    let label = |x: f64, y: f64, anchor: &str, text: &str| {
        format!("<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\" font-size=\"12\">{text}</text>")
    };
    let labels = [
        label(left - 6.0, top + 4.0, "end", &short(range.values.1)),
        label(left - 6.0, bottom, "end", &short(range.values.0)),
        label(left, bottom + 18.0, "start", &range.steps.0.to_string()),
        label(right, bottom + 18.0, "end", &range.steps.1.to_string()),
    ];
    format!(
        "<h2>{}</h2>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{:.0}\" height=\"{:.0}\" role=\"img\">\n\
         <path d=\"M{left},{top}V{bottom}H{right}\" fill=\"none\" stroke=\"#888\"/>\n\
         <polyline points=\"{}\" fill=\"none\" stroke=\"#1764ab\" stroke-width=\"2\"/>\n\
         <g fill=\"#1764ab\">{dots}</g>\n{}\n</svg>",
        escaped(&curve.metric),
        WIDTH + 2.0 * MARGIN,
        HEIGHT + MARGIN,
        line.join(" "),
        labels.concat(),
    )
}

fn escaped(text: &str) -> String {
    let escape = |char: char| match char {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}
