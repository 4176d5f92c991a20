//! A chain as a tree of text.

use super::model::{Chain, Node, RunInProgress};
use crate::{
    age,
    output::{Cell, Style, Table, brief, clean},
    snapshot::ObjectId,
    state::State,
};
use mlop_api::progress::Progress;

/// How much a tree shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Normal,
    /// Also digests, runs, addresses, and every connection.
    Wide,
}

const HEADER: [&str; 5] = ["NAME", "STATE", "REASON", "REVISION", "PUBLISHED"];
const WIDE: [&str; 2] = ["DIGEST", "RUN"];
/// The longest cell comes last.
const LAST: [&str; 1] = ["SUMMARY"];
/// Characters by which the place of one message in another is found.
const COMPARED: usize = 40;
/// Digits of a short digest.
const DIGITS: usize = 12;

/// Metrics of a run that a line shows.
const METRICS_MAX: usize = 3;

/// The tree of a chain.
pub fn tree(chain: &Chain, width: Width, style: Style) -> String {
    let wide: &[&str] = if width == Width::Wide { &WIDE } else { &[] };
    let header = [HEADER.as_slice(), wide, &LAST].concat();
    let mut tree = Tree { chain, width, style, table: Table::with_header(&header) };
    for root in chain.below(None) {
        tree.add(root, "", "");
    }
    tree.add_connections();
    tree.table.render()
}

struct Tree<'a> {
    chain: &'a Chain,
    width: Width,
    style: Style,
    table: Table,
}

/// What the code of a run has reported: `, step 120/1000, epoch 3, loss 0.41, 13m left`.
fn progress(progress: &Progress) -> String {
    let steps = progress.steps.as_ref().map(|steps| format!("step {}", clean(steps)));
    let epoch = progress.epoch.map(|epoch| format!("epoch {epoch}"));
    let metrics = progress.metrics.iter().take(METRICS_MAX);
    let metrics = metrics.map(|metric| format!("{} {}", clean(&metric.name), clean(&metric.value)));
    let eta = progress.eta.map(|eta| format!("{eta} left"));
    steps.into_iter().chain(epoch).chain(metrics).chain(eta).map(|part| format!(", {part}")).collect()
}

impl Tree<'_> {
    /// Adds `node` after `branch`, and its children after `indent`.
    fn add(&mut self, node: &Node, branch: &str, indent: &str) {
        let name = format!("{branch}{}", node.id);
        let cells = self.cells(node, name);
        self.table.row(cells);
        let children: Vec<&Node> = self.chain.below(Some(&node.id)).collect();
        let bar = if children.is_empty() { " " } else { "│" };
        for line in self.lines(node) {
            self.table.text(format!("{indent}{bar}  {line}"));
        }
        for (index, child) in children.iter().enumerate() {
            let is_last = index + 1 == children.len();
            let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            self.add(child, &format!("{indent}{branch}"), &format!("{indent}{below}"));
        }
    }

    fn cells(&self, node: &Node, name: String) -> Vec<Cell> {
        let state = format!("{} {}", node.state.mark(), node.state.word());
        let in_use = node.in_use.as_ref();
        let published = in_use.map(|it| format!("{} ago", age::since(self.chain.now, it.published_at)));
        let mut cells = vec![
            name.into(),
            Cell::painted(state.clone(), self.style.state(node.state, &state)),
            node.reason.clone().into(),
            in_use.map_or_else(|| "-".to_owned(), |it| it.revision.to_string()).into(),
            published.unwrap_or_else(|| "-".to_owned()).into(),
        ];
        if self.width == Width::Wide {
            cells.push(in_use.map_or("-", |it| it.digest.short(DIGITS)).into());
            cells.push(in_use.map_or("-", |it| it.run.as_str()).into());
        }
        cells.push(node.summary.clone().unwrap_or_default().into());
        cells
    }

    /// What there is to say about a node below its row.
    fn lines(&self, node: &Node) -> Vec<String> {
        let mut lines = Vec::new();
        let others: Vec<_> = node
            .inputs
            .iter()
            .filter(|input| Some(*input) != node.parent.as_ref())
            .map(ToString::to_string)
            .collect();
        if !others.is_empty() && node.parent.is_some() {
            lines.push(self.style.dim(&format!("also reads {}", others.join(", "))));
        }
        lines.extend(self.message(node));
        lines.extend(
            node.url
                .as_ref()
                .filter(|_| self.width == Width::Wide)
                .map(|url| format!("serves at {}", clean(url))),
        );
        if let Some(run) = &node.run {
            let since =
                run.since.map(|at| format!(" for {}", age::since(self.chain.now, at))).unwrap_or_default();
            // The object's own message often ends with that of its run.
            let is_told = |text: &&String| node.message.as_ref().is_some_and(|told| repeats(told, text));
            let message = run.message.as_ref().filter(|text| !is_told(text));
            let message = message.map(|text| format!(": {}", brief(text, 200))).unwrap_or_default();
            let checkpoint = run.checkpoint.map(|n| format!(", checkpoint {n}")).unwrap_or_default();
            let progress = run.progress.as_ref().map(progress).unwrap_or_default();
            let RunInProgress { id, attempt, .. } = run;
            lines.push(format!("run {}{since}, attempt {attempt}{progress}{checkpoint}{message}", id.name));
        }
        if node.suspended {
            lines.push("suspended by spec.suspend: nothing new starts".to_owned());
        }
        if let Some(pin) = &node.pin {
            lines.push(format!("pinned to {} by spec.pin: newer inputs are not followed", clean(pin)));
        }
        lines
    }

    /// The message of the status. One that repeats another object's is replaced by a pointer to it.
    fn message(&self, node: &Node) -> Option<String> {
        let pointer = node.foreign_cause().map(|cause| {
            let id = ObjectId::new(&cause.kind, &cause.name);
            let is_shown = self.shown().any(|shown| shown.id == id);
            let text = if is_shown { String::new() } else { format!(": {}", brief(&cause.message, 200)) };
            self.style.state(node.state, &format!("because of {id}: {}{text}", cause.reason))
        });
        let own = || {
            let message = brief(node.message.as_ref()?, 240);
            let repeats_run =
                node.run.as_ref().is_some_and(|run| message == format!("{} is running", run.id.name));
            let painted =
                if node.state.is_problem() { self.style.state(node.state, &message) } else { message };
            (!repeats_run).then_some(painted)
        };
        pointer.or_else(own)
    }

    /// The nodes that have a row of their own.
    fn shown(&self) -> impl Iterator<Item = &Node> {
        let connections = self.chain.connections.iter().filter(move |node| self.has_row(node));
        self.chain.nodes.iter().chain(connections)
    }

    /// Whether a connection has a row: all of them only in a wide tree.
    fn has_row(&self, connection: &Node) -> bool {
        self.width == Width::Wide || connection.state != State::Ready
    }

    fn add_connections(&mut self) {
        let (rows, ready): (Vec<&Node>, Vec<&Node>) =
            self.chain.connections.iter().partition(|node| self.has_row(node));
        if !rows.is_empty() {
            self.table.text(String::new());
        }
        for node in rows {
            self.add(node, "", "");
        }
        if !ready.is_empty() {
            let names: Vec<_> = ready.iter().map(|node| node.id.to_string()).collect();
            self.table.text(String::new());
            self.table.text(self.style.dim(&format!("ready: {}", names.join(", "))));
        }
    }
}

/// Whether `told` has `text`, be it cut at the end of one of them.
fn repeats(told: &str, text: &str) -> bool {
    let [told, text] = [told, text].map(|it| it.trim_end_matches(['…', '.']));
    let start: String = text.chars().take(COMPARED).collect();
    let rest = told.find(&start).and_then(|at| told.get(at..));
    rest.is_some_and(|rest| rest.starts_with(text) || text.starts_with(rest))
}
