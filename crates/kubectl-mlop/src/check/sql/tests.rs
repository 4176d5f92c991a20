//! SQL that the worker accepts has no findings, and mistakes are named with their places.

use super::*;
use crate::check;
use expect_test::expect_file;
use regex::Regex;
use std::{fs, path::Path};

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn known(tables: &[(&str, &[&str])]) -> Tables {
    let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    tables.iter().map(|(table, names)| ((*table).to_owned(), Some(columns(names)))).collect()
}

/// The tables of the tests of the worker.
fn tables() -> Tables {
    let flights = ["origin", "dest", "time_hour", "dep_delay"];
    known(&[
        ("t", &["id", "at", "v", "x", "tag", "Fare"]),
        ("flights", &flights),
        ("my-flights", &flights),
        ("airports", &["code", "tz"]),
    ])
}

/// What is said about `sql` over `tables`.
fn said(sql: &str, tables: &Tables) -> Vec<String> {
    match parsed(sql) {
        Ok(Some(query)) => flaws(&query, tables).into_iter().map(|(_, message)| message).collect(),
        Ok(None) => Vec::new(),
        Err(message) => vec![message],
    }
}

/// The SQL in a source of the worker's tests. That in the rows `(sql, words)` is refused there.
fn accepted(source: &str) -> Vec<String> {
    let literal = Regex::new(r#"(\(\s*)?"((?:SELECT|WITH)\b(?:[^"\\]|\\.|\\\n)*)""#).unwrap();
    let continued = Regex::new(r"\\\n\s*").unwrap();
    let found = literal.captures_iter(source).filter(|it| it.get(1).is_none());
    let texts = found.map(|it| continued.replace_all(&it[2], "").replace("\\\"", "\""));
    texts.filter(|sql| !sql.contains('{')).collect()
}

#[test]
fn sql_of_the_workers_tests_has_no_findings() {
    let mut checked = 0;
    for name in ["sql.rs", "snapshot.rs"] {
        let path = repository().join("crates/mlop-features/tests").join(name);
        for sql in accepted(&fs::read_to_string(path).unwrap()) {
            assert_eq!(said(&sql, &tables()), Vec::<String>::new(), "{sql}");
            checked += 1;
        }
    }
    assert!(checked >= 15, "{checked}");
}

#[test]
fn views_of_the_repository_have_no_findings() {
    let page = fs::read_to_string(repository().join("docs/kinds/featureview.md")).unwrap();
    let example =
        page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap().to_owned();
    let mut texts = vec![example];
    for directory in ["e2e/pipelines", "e2e/tests/pipelines", "crates/mlop-api/tests/accepted"] {
        let files = fs::read_dir(repository().join(directory)).unwrap();
        let paths = files.map(|file| file.unwrap().path());
        let yaml = paths.filter(|path| path.extension().is_some_and(|it| it == "yaml"));
        texts.extend(yaml.map(|path| fs::read_to_string(path).unwrap()));
    }
    let mut views = 0;
    for text in texts {
        let documents = check::documents("f.yaml", &text).unwrap();
        views += documents.iter().filter(|it| it.kind() == "FeatureView").count();
        assert_eq!(findings(&documents), []);
    }
    assert!(views >= 3, "{views}");
}

#[test]
fn names_of_every_scope_are_known() {
    for sql in [
        "SELECT ID, At, \"Fare\" FROM T",
        "SELECT id, at FROM t;",
        "SELECT a.id, at FROM t AS a JOIN t b USING (id) ORDER BY a.id",
        "SELECT * EXCLUDE (tag) FROM t",
        "WITH w AS (SELECT id AS key, max(at) AS newest FROM t GROUP BY 1) SELECT w.key, newest FROM w",
        "WITH t AS (SELECT id AS key FROM t) SELECT t.key FROM t",
        "WITH w(a, b) AS (SELECT id, at FROM t) SELECT w.a, b FROM w",
        "SELECT s.n, n FROM (SELECT count(*) AS n FROM t) s",
        "SELECT \"count(*)\" FROM (SELECT count(*) FROM t)",
        "SELECT d.a, b FROM (VALUES (1, 2)) AS d(a, b)",
        "SELECT column1 FROM (VALUES (1, 2))",
        "SELECT value FROM generate_series(1, 3)",
        "SELECT p FROM t, unnest(make_array(v)) AS u(p)",
        "SELECT c.a FROM t AS c(a, b, d, e, f, g)",
        "SELECT named_struct('a', v).a AS a FROM t",
        "SELECT s.a AS b FROM (SELECT named_struct('a', v) AS s FROM t)",
        "SELECT make_array(v)[1] AS first, t.v FROM t",
        "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM airports a WHERE a.code = t.tag)",
        "SELECT extract(year FROM at) AS y, date_part('day', at) AS d, at AT TIME ZONE 'UTC' AS z FROM t",
        "SELECT id, sum(x) FILTER (WHERE v > 1) AS s, percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS p FROM t GROUP BY id",
        "SELECT first_value(x) IGNORE NULLS OVER w AS f FROM t WINDOW w AS (PARTITION BY id ORDER BY at)",
        "SELECT DISTINCT ON (id) id, at FROM t ORDER BY id, at DESC",
        "SELECT id, row_number() OVER (ORDER BY at) AS n FROM t QUALIFY n = 1",
        "SELECT x::INT AS i, trim(BOTH 'x' FROM tag) AS g, position('a' IN tag) AS p, INTERVAL '1' DAY AS d FROM t",
        "SELECT id FROM public.t",
        "SELECT v AS n FROM t GROUP BY n HAVING n > 1 ORDER BY n",
        "SELECT id, at FROM t UNION ALL SELECT id, at FROM t",
        "SELECT current_date AS d, id FROM t",
        "SELECT l.id, r.n FROM t l CROSS JOIN LATERAL (SELECT l.v + 1 AS n) r",
    ] {
        assert_eq!(said(sql, &tables()), Vec::<String>::new(), "{sql}");
    }
}

#[test]
fn mistakes_are_named_with_their_places() {
    for (sql, want) in [
        ("SELECT id, nope\nFROM t", "line 1, column 12: no column nope; there are"),
        ("SELECT id,\n  t.ta FROM t", "line 2, column 5: no column ta; did you mean tag?"),
        ("SELECT a.nope FROM t a", "line 1, column 10: no column nope"),
        ("SELECT fare FROM t", "the column Fare has capitals and needs double quotes: \"Fare\""),
        ("SELECT \"ID\" FROM t", "there is no column ID; did you mean id?"),
        ("SELECT id FROM flihgts", "line 1, column 16: no input flihgts; did you mean flights?"),
        ("SELECT id FROM t WHERE", "Expected: an expression, found: EOF"),
        ("SELECT 'a FROM t", "Unterminated string literal at line 1, column 8"),
        ("SELECT 1; SELECT 2", "must be one SELECT"),
        ("DROP TABLE t", "must be one SELECT"),
        ("", "must be one SELECT"),
        (
            "SELECT id, avg(arr_delay) OVER w AS d FROM t WINDOW w AS (ORDER BY at)",
            "column 16: no column arr_delay",
        ),
    ] {
        let said = said(sql, &tables());
        assert!(said.len() == 1 && said[0].contains(want), "{sql}: {said:?}");
    }
}

#[test]
fn nothing_is_said_about_columns_that_are_not_known() {
    let mut tables = tables();
    tables.insert("view".to_owned(), None);
    assert_eq!(said("SELECT view.a, b FROM view", &tables), Vec::<String>::new());
    assert_eq!(
        said("SELECT v.a, t.b FROM view v, t", &tables),
        ["line 1, column 15: no column b; there are id, at, v, x, tag, Fare"]
    );
}

#[test]
fn expression_of_many_terms_is_checked() {
    let terms = vec!["v"; 8_000].join("+");
    let view = format!(
        "apiVersion: mlop.dev/v1alpha1\nkind: FeatureView\nmetadata: {{name: a}}\nspec:\n  sql: SELECT {terms} AS s FROM t\n  \
         entities: [id]\n  timestamp: at"
    );
    let found = findings(&check::documents("f.yaml", &view).unwrap());
    let found: Vec<_> = found.iter().map(|finding| finding.field.as_str()).collect();
    assert_eq!(found, ["spec.sql", "spec.entities[0]", "spec.timestamp"]);
}

#[test]
fn views_are_checked_against_the_objects_of_their_files() {
    let documents = check::documents("f.yaml", include_str!("../../tests/cases/views.yaml")).unwrap();
    let found: String = findings(&documents).iter().map(|finding| format!("{finding}\n")).collect();
    expect_file!["../../tests/golden/check-sql.txt"].assert_eq(&found);
}
