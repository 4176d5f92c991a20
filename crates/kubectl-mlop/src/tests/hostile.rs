//! Texts from outside that act on a terminal, or imitate lines of this program, in every view.

use super::Case;
use crate::{
    actions, check, dead_letters, diff,
    output::Style,
    rollout,
    status::{Chain, Width, tree},
    trace::{self, Trace},
    versions::{self, Versions},
    why::{self, Explanation, Summary},
};
use mlop_api::text::printable;
use serde_json::{Value, json};

/// Sets the title of a terminal, goes back to the begin of the line, begins another one, and reverses the rest.
const TEXT: &str = "x\u{1b}]0;owned\u{7}\r\nFORGED \u{9b}31m\u{202e}";

/// Fields that hold any text: of users, of their data and programs, and of external systems.
const FREE: [&str; 19] = [
    "message",
    "summary",
    "uri",
    "url",
    "address",
    "reference",
    "modelVersion",
    "version",
    "sql",
    "image",
    "code",
    "command",
    "hyperparameters",
    "prefix",
    "include",
    "notes",
    "metrics",
    "timestamp",
    "entities",
];

/// The recorded chain with the text in every such field, and a run that has failed with it.
fn hostile() -> Case {
    let letter = json!({
        "run": "delay-0123456789ab", "inputDigest": format!("sha256:{}", "ab".repeat(32)), "reason": "UserError",
        "message": "m", "attempts": 3, "at": "2026-11-29T12:29:00.000000Z",
    });
    let mut case = super::rollout::in_first_step()
        .another_run(
            "TrainingRun/delay-541303624bf0",
            "delay-0123456789ab",
            json!({"status": {"attempts": 1}}),
        )
        .with("TrainingJob/delay", json!({"status": {"deadLetters": [letter]}}))
        .fails("Dataset/flights", "SchemaMismatch", "m")
        .with("Model/delay", json!({"spec": {"pin": TEXT}}));
    for object in &mut case.objects {
        for part in ["spec", "status"] {
            poison(&mut object[part], false);
        }
    }
    case
}

fn poison(value: &mut Value, is_free: bool) {
    match value {
        Value::String(text) if is_free => text.push_str(TEXT),
        Value::Array(items) => items.iter_mut().for_each(|item| poison(item, is_free)),
        Value::Object(fields) => {
            for (name, field) in fields {
                poison(field, is_free || FREE.contains(&name.as_str()));
            }
        }
        _ => {}
    }
}

#[test]
fn no_view_passes_on_what_a_terminal_acts_on() {
    let snapshot = hostile().snapshot();
    let now = snapshot.now;
    let mut views = Vec::new();
    let chain = Chain::of(&snapshot, None);
    views.extend([Width::Normal, Width::Wide].map(|width| tree(&chain, width, Style::PLAIN)));
    views.push(why::summary_text(&Summary::of(&snapshot), &snapshot, Style::PLAIN));
    views.extend(rollout::of(&snapshot, "mdep/delay").map(|rollout| rollout::text(&rollout, now)));
    views.push(dead_letters::table(&dead_letters::of(&snapshot), now));
    for object in &snapshot.objects {
        views.push(why::text(&Explanation::of(&snapshot, object), now, Style::PLAIN));
        views.push(versions::table(&Versions::of(&snapshot, object), Style::PLAIN));
        if let Ok(trace) = Trace::of(&snapshot, object) {
            views.extend([trace::tree(&trace, Style::PLAIN), trace::dot(&trace), trace::mermaid(&trace)]);
        }
    }
    let run = |name: &str| snapshot.run(name).unwrap();
    let runs = diff::Diff::of(&snapshot, run("delay-541303624bf0"), run("delay-0b622fe92bb8")).unwrap();
    views.push(diff::text(&runs, Style::PLAIN));
    views.extend(
        actions::unpin(&snapshot, "model/delay").unwrap().says.iter().map(|line| crate::output::clean(line)),
    );
    // YAML has no C1 controls, so a file with them is refused.
    let text = TEXT.replace('\u{9b}', "");
    let manifest = json!({"apiVersion": "mlop.dev/v1alpha1", "kind": text, "metadata": {"name": text}});
    let findings = check::findings(&check::documents("a.yaml", &manifest.to_string()).unwrap());
    views.extend(findings.iter().map(ToString::to_string));

    assert!(
        views.iter().filter(|view| view.contains("FORGED")).count() > 10,
        "the texts are not shown at all"
    );
    for view in views {
        assert_eq!(printable(&view), view);
        let forged: Vec<_> = view.lines().filter(|line| line.starts_with("FORGED")).collect();
        assert!(forged.is_empty(), "{view}");
    }
}

#[test]
fn check_refuses_a_file_that_grows_when_it_is_read() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = level - 1;
        bomb += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{below}"); 10].join(", "));
    }
    let deep = "[".repeat(100_000);
    for text in [bomb.as_str(), &deep] {
        assert!(check::documents("bomb.yaml", text).is_err());
    }
}
