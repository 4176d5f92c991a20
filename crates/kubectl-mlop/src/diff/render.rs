//! Differences as text.

use super::{Diff, Difference, Upstream};
use crate::output::{Style, Table, clean, with_short_digests};

/// The differences for a terminal. Long texts are compared line by line.
pub fn text(diff: &Diff, style: Style) -> String {
    let mut text = format!("a: {}\nb: {}\n", diff.a, diff.b);
    if diff.is_empty() {
        return text + "no differences\n";
    }
    for (title, list) in [
        ("content", &diff.content),
        ("inputs", &diff.inputs),
        ("metrics", &diff.metrics),
        ("output", &diff.output),
    ] {
        add_list(&mut text, &format!("\n{}\n", style.bold(title)), list);
    }
    for upstream in &diff.upstream {
        add_upstream(&mut text, upstream, style);
    }
    text
}

/// The difference between the runs that made an input. Their digests are among the inputs of the compared versions.
fn add_upstream(text: &mut String, upstream: &Upstream, style: Style) {
    let Upstream { object, a, b, content, inputs, output } = upstream;
    let run = |run: &Option<String>| run.clone().unwrap_or_else(|| "(a run that is gone)".to_owned());
    text.push_str(&format!("\n{} {} -> {}\n", style.bold(&object.to_string()), run(a), run(b)));
    if a.is_none() || b.is_none() {
        text.push_str("  cannot be compared: a run is no longer kept as an object (spec.historyLimit)\n");
    }
    let (result, _): (Vec<_>, Vec<_>) = output.iter().cloned().partition(|it| it.name != "digest");
    for list in [content, inputs, &result] {
        add_list(text, "", list);
    }
}

/// Differences in a table below `title`. Long texts come last.
fn add_list(text: &mut String, title: &str, list: &[Difference]) {
    let (long, short): (Vec<_>, Vec<_>) = list.iter().partition(|difference| is_long(difference));
    if list.is_empty() {
        return;
    }
    text.push_str(title);
    let mut table = Table::default();
    for difference in short {
        let shown = |value: &Option<String>| value.as_ref().map_or_else(|| "-".to_owned(), |it| clean(it));
        let change = difference.change.as_ref().map(|change| format!("({change})")).unwrap_or_default();
        let values = format!("{} -> {}", shown(&difference.a), shown(&difference.b));
        let values = with_short_digests(&values);
        table.row(vec![format!("  {}", difference.name).into(), values.into_owned().into(), change.into()]);
    }
    text.push_str(&table.render());
    for difference in long {
        text.push_str(&format!("  {}\n", clean(&difference.name)));
        text.push_str(&lines(difference));
    }
}

fn is_long(difference: &Difference) -> bool {
    [&difference.a, &difference.b].into_iter().flatten().any(|value| value.contains('\n'))
}

/// The lines that only one of two texts has.
fn lines(difference: &Difference) -> String {
    let of = |value: &Option<String>| {
        value.as_deref().unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (a, b) = (of(&difference.a), of(&difference.b));
    let only = |these: &[String], others: &[String], mark: &str| {
        let lines = these.iter().filter(|line| !others.contains(line));
        lines.map(|line| format!("    {mark} {}\n", clean(line))).collect::<String>()
    };
    only(&a, &b, "-") + &only(&b, &a, "+")
}
