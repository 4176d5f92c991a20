//! A trace as text and as a graph.

use super::model::{Origin, Trace};
use crate::output::{Style, brief};
use std::fmt::Write as _;

/// Longest value of a fact in a tree, in characters.
const VALUE_MAX: usize = 160;

/// The tree from the artifact to its sources. What went into several artifacts is told once.
pub fn tree(trace: &Trace, style: Style) -> String {
    let mut tree = Tree { trace, style, text: String::new(), told: Vec::new() };
    tree.add(0, "", "", None);
    tree.text
}

struct Tree<'a> {
    trace: &'a Trace,
    style: Style,
    text: String,
    told: Vec<usize>,
}

impl Tree<'_> {
    fn add(&mut self, index: usize, branch: &str, indent: &str, name: Option<&str>) {
        let Some(node) = self.trace.nodes.get(index) else { return };
        let role = name
            .filter(|name| *name != node.object.name)
            .map(|name| format!(" as {name}"))
            .unwrap_or_default();
        let title = self.style.bold(&node.object.to_string());
        let is_told = self.told.contains(&index);
        let note = if is_told { " (see above)" } else { "" };
        // Writing into a String cannot fail.
        let _ = writeln!(self.text, "{branch}{title}{role}  {}{note}", node.digest);
        if is_told {
            return;
        }
        self.told.push(index);
        let inputs: Vec<_> = self.trace.inputs_of(index).collect();
        let bar = if inputs.is_empty() { " " } else { "│" };
        for (name, value) in lines(node) {
            let name = self.style.dim(&format!("{name}:"));
            let _ = writeln!(self.text, "{indent}{bar}    {name} {}", brief(&value, VALUE_MAX));
        }
        for (position, (input, name)) in inputs.iter().enumerate() {
            let is_last = position + 1 == inputs.len();
            let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.add(*input, &format!("{indent}{branch}"), &format!("{indent}{below}"), Some(name));
        }
    }
}

fn lines(node: &Origin) -> Vec<(&str, String)> {
    let run = node.run.iter().map(|run| ("run", run.to_string()));
    let gap = node.gap.iter().map(|gap| ("unknown", gap.clone()));
    run.chain(gap).chain(node.facts.iter().map(|fact| (fact.name, fact.value.clone()))).collect()
}

/// The graph for Graphviz: `| dot -Tsvg`.
pub fn dot(trace: &Trace) -> String {
    let mut text =
        "digraph trace {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n".to_owned();
    for (index, node) in trace.nodes.iter().enumerate() {
        let lines = label(node).into_iter().map(|line| line.replace('\\', "\\\\").replace('"', "\\\""));
        let label = lines.collect::<Vec<_>>().join("\\n");
        let _ = writeln!(text, "  n{index} [label=\"{label}\"];");
    }
    for edge in &trace.edges {
        let _ = writeln!(text, "  n{} -> n{} [label=\"{}\"];", edge.input, edge.output, edge.name);
    }
    text + "}\n"
}

/// The graph for Mermaid, as Markdown pages show it.
pub fn mermaid(trace: &Trace) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for (index, node) in trace.nodes.iter().enumerate() {
        let label = label(node).join("<br/>").replace('"', "#quot;");
        let _ = writeln!(text, "  n{index}[\"{label}\"]");
    }
    for edge in &trace.edges {
        let _ = writeln!(text, "  n{} -->|{}| n{}", edge.input, edge.name, edge.output);
    }
    text
}

/// The lines of a box.
fn label(node: &Origin) -> Vec<String> {
    let fact =
        |name: &str| node.facts.iter().find(|fact| fact.name == name).map(|fact| brief(&fact.value, 60));
    let mut lines = vec![node.object.to_string(), format!("sha256:{}", node.digest.short(12))];
    lines.extend(node.run.as_ref().map(|run| run.name.clone()));
    lines.extend(["image", "source", "registered", "url"].into_iter().filter_map(fact));
    lines
}
