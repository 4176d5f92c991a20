//! The objects of a chain as commented YAML.

use super::{Inferred, Table, bucket::REGION, guess::Roles};
use mlop_api::{dataset::ColumnType, text::printable};
use serde_json::Value;
use std::borrow::Cow;

/// Columns that a FeatureView makes features of.
const FEATURES_MAX: usize = 3;

/// Address of the store of files that are not in a bucket yet.
const ENDPOINT: &str = "http://minio.storage.svc:9000";

const CONNECTIONS: &str = include_str!("connections.yaml");
const ONLINE: &str = include_str!("online.yaml");
const SERVING: &str = include_str!("serving.yaml");
const TRAIN: &str = include_str!("train.py");
const REGRESSION: &str = include_str!("regression.py");
const CLASSIFICATION: &str = include_str!("classification.py");

/// The pipeline for a file.
pub fn yaml(table: &Table) -> String {
    let roles = Roles::of(table);
    let view = View::of(table, &roles);
    let has_features = !roles.numbers.is_empty() || view.is_some();
    let training =
        roles.target.filter(|_| has_features).map(|target| training(table, &roles, view.as_ref(), target));
    let mut text = head(table);
    text.push_str(&connections(table));
    text.push_str(&dataset(table, &roles));
    match &view {
        Some(view) => text.push_str(&filled(ONLINE, &[("NAME", &table.name), ("TABLE", &table_name(table)), ("SQL", &view.sql), ("ENTITY", &scalar(&view.entity)), ("TIME", &scalar(&view.time))])),
        None => text.push_str("---\n# No FeatureView: it needs a column that says what a row is about, such as user_id, and one with its time, both without\n# missing values. See `kubectl explain featureview.spec`.\n"),
    }
    match training {
        Some(training) => {
            text.push_str(&training);
            text.push_str(&filled(SERVING, &[("NAME", &table.name)]));
        }
        None => text.push_str("---\n# No TrainingJob: it needs a column of numbers to predict, and another to learn from. See `kubectl explain trainingjob.spec`.\n"),
    }
    text
}

fn head(table: &Table) -> String {
    let Table { file, name, .. } = table;
    let name_of_file = file.rsplit('/').next().unwrap_or(file);
    let upload = match table.source {
        Some(_) => String::new(),
        None => {
            format!("#   upload {name_of_file} to the bucket of the ObjectStore `raw`, below {name}/\n")
        }
    };
    format!(
        "# A chain for {file}, written by `kubectl mlop init`. Everything is a guess from the values: read it, and change it.\n\
         #\n\
         #   kubectl mlop check FILE                  mistakes, before it is applied\n\
         {upload}\
         #   kubectl apply -f FILE\n\
         #   kubectl mlop status --watch\n\
         #\n\
         # The images are those of the demo. Put in your own: docs/guides/bring-your-own-image.md.\n"
    )
}

/// The buckets. Where the file is in one, pods read it there, too.
fn connections(table: &Table) -> String {
    let (endpoint, region, bucket) = match &table.source {
        Some(source) => (source.endpoint.as_str(), source.region.as_str(), source.bucket.as_str()),
        None => (ENDPOINT, REGION, "raw"),
    };
    let region = if region == REGION { String::new() } else { format!("region: {}, ", quoted(region)) };
    let values = [
        ("NAME", &table.name),
        ("ENDPOINT", &quoted(endpoint)),
        ("REGION", &region),
        ("BUCKET", &scalar(bucket)),
    ];
    let text = filled(CONNECTIONS, &values);
    match table.source {
        Some(_) => text.replacen(
            "---\n",
            "---\n# The endpoint is the one that was read from here. Pods must reach it, too.\n",
            1,
        ),
        None => text,
    }
}

fn dataset(table: &Table, roles: &Roles<'_>) -> String {
    let Table { name, file, rows, .. } = table;
    let is_compressed = file.ends_with(".gz");
    let prefix = table.source.as_ref().map_or_else(|| format!("{name}/"), |source| source.prefix.clone());
    let prefix = if table.source.is_some() { quoted(&prefix) } else { prefix };
    let mut text = format!(
        "---\n# {rows} rows were seen. Every row is checked: one that does not fit is rejected, and too many of them fail the version.\n\
         apiVersion: mlop.dev/v1alpha1\nkind: Dataset\nmetadata: {{name: {name}}}\nspec:\n  source:\n    \
         objects: {{store: raw, prefix: {prefix}, include: [\"*.csv{}\"]}}\n    format: {{csv: {}}}\n",
        if is_compressed { ".gz" } else { "" },
        format(table)
    );
    for note in &table.notes {
        text.push_str(&format!("  # {}\n", printable(note)));
    }
    text.push_str("  columns:                                 # what is not named here is dropped; min, max, enum and pattern narrow values\n");
    for column in &table.columns {
        text.push_str(&line(column));
    }
    let unique = roles.unique.or(roles.entity).or(table.columns.first());
    let unique = unique.map_or_else(String::new, |it| format!("  # unique: [{}]", scalar(&it.column.name)));
    text.push_str(&format!("{unique:<42} # a row that repeats these values is rejected\n"));
    text.push_str(
        "  quarantine: {maxRatio: \"0\"}              # share of rows that may be rejected\n  \
         store: mlop\n  refresh: {interval: 1h}                  # how often the bucket is looked at\n",
    );
    text
}

/// The fields of the dialect that differ from their default.
fn format(table: &Table) -> String {
    let mut fields = Vec::new();
    if table.dialect.delimiter != b',' {
        fields.push(format!("delimiter: {}", quoted(&char::from(table.dialect.delimiter).to_string())));
    }
    if !table.dialect.has_header {
        fields.push("header: absent".to_owned());
    }
    if table.dialect.trim {
        fields.push("trim: true".to_owned());
    }
    if !table.is_utf8 {
        fields.push("encoding: windows-1252".to_owned());
    }
    if table.is_decimal_comma {
        fields.push("decimalSeparator: \",\"".to_owned());
    }
    if !table.null_tokens.is_empty() {
        let tokens =
            ["\"\"".to_owned()].into_iter().chain(table.null_tokens.iter().map(|token| quoted(token)));
        fields.push(format!("nullTokens: [{}]", tokens.collect::<Vec<_>>().join(", ")));
    }
    format!("{{{}}}", fields.join(", "))
}

fn line(inferred: &Inferred) -> String {
    let Inferred { column, missing, question, .. } = inferred;
    let mut fields = vec![format!("name: {}", scalar(&column.name))];
    fields.extend(column.header.as_ref().map(|header| format!("header: {}", quoted(header))));
    fields.push(format!("type: {}", type_name(column.kind)));
    if column.nullable {
        fields.push("nullable: true".to_owned());
    }
    let lists = [
        ("formats", &column.formats),
        ("trueValues", &column.true_values),
        ("falseValues", &column.false_values),
    ];
    for (field, values) in lists.into_iter().filter(|(_, values)| !values.is_empty()) {
        let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
        fields.push(format!("{field}: [{}]", values.join(", ")));
    }
    let missing = (*missing > 0).then(|| format!("{missing} missing"));
    let remarks: Vec<String> = missing.into_iter().chain(question.clone()).collect();
    let remark = if remarks.is_empty() { String::new() } else { format!("  # {}", remarks.join("; ")) };
    format!("  - {{{}}}{remark}\n", fields.join(", "))
}

/// Features of the past of each entity.
struct View {
    entity: String,
    time: String,
    sql: String,
    features: Vec<String>,
}

impl View {
    fn of(table: &Table, roles: &Roles<'_>) -> Option<Self> {
        let (entity, time) = (roles.entity?, roles.time?);
        let (entity, name) = (entity.column.name.clone(), time.column.name.clone());
        let ident = |name: &str| format!("\"{name}\"");
        let mut features = Vec::new();
        let mut sql = format!("SELECT DISTINCT {}, {},\n", ident(&entity), ident(&name));
        for number in roles.target.into_iter().chain(roles.numbers.iter().copied()).take(FEATURES_MAX) {
            let column = ident(&number.column.name);
            let value = match number.column.kind {
                ColumnType::Bool => format!("CASE WHEN {column} THEN 1.0 WHEN NOT {column} THEN 0.0 END"),
                _ => column,
            };
            let feature = format!("{}_avg_30d", number.column.name);
            sql.push_str(&format!("  avg({value}) OVER past AS {},\n", ident(&feature)));
            features.push(feature);
        }
        features.push("rows_30d".to_owned());
        let order = match time.column.kind {
            ColumnType::Date => format!("CAST({} AS TIMESTAMP)", ident(&name)),
            _ => ident(&name),
        };
        sql.push_str(&format!(
            "  count(*) OVER past AS rows_30d\nFROM {}\nWINDOW past AS (PARTITION BY {} ORDER BY {order}\n  \
             RANGE BETWEEN INTERVAL '30' DAY PRECEDING AND INTERVAL '1' DAY PRECEDING)",
            ident(&table_name(table)),
            ident(&entity)
        ));
        Some(Self { entity, time: name, sql: indented(&sql, 4), features })
    }
}

fn training(table: &Table, roles: &Roles<'_>, view: Option<&View>, target: &Inferred) -> String {
    let is_bool = target.column.kind == ColumnType::Bool;
    let text = |value: &str| Value::from(value).to_string();
    let list = |names: Vec<String>| Value::from(names).to_string();
    let time = roles.time.map(|time| time.column.name.as_str());
    let mut code = filled(
        TRAIN,
        &[
            ("MODEL", &(if is_bool { "LogisticRegression" } else { "Ridge" }).to_owned()),
            (
                "METRICS",
                &(if is_bool { "roc_auc_score" } else { "mean_absolute_error, r2_score" }).to_owned(),
            ),
            ("TABLE", &text(&table_name(table))),
            ("TIME", &time.map_or_else(|| "None".to_owned(), text)),
            ("ENTITY", &view.map_or_else(|| "None".to_owned(), |view| text(&view.entity))),
            ("TARGET", &text(&target.column.name)),
            ("NUMBERS", &list(roles.numbers.iter().map(|it| it.column.name.clone()).collect())),
            ("FEATURES", &list(view.map(|view| view.features.clone()).unwrap_or_default())),
        ],
    );
    code.push_str(if is_bool { CLASSIFICATION } else { REGRESSION });
    let features = match view {
        Some(_) => format!("  - {{name: features, from: {{kind: FeatureView, name: {}}}}}\n", table.name),
        None => String::new(),
    };
    format!(
        "---\n# Predicts {} from the other numbers{}.\napiVersion: mlop.dev/v1alpha1\nkind: TrainingJob\nmetadata: {{name: {name}}}\nspec:\n  \
         inputs:\n  - {{name: {}, from: {{kind: Dataset, name: {name}}}}}\n{features}  image: mlop.local/trainer:dev\n  \
         command: [python, train.py]\n  hyperparameters: {}\n  seed: 42\n  resources: {{cpu: 250m, memory: 1Gi}}\n  \
         store: mlop\n  code:\n    train.py: |\n{}\n",
        target.column.name,
        if view.is_some() { " of the row, and from the past of its entity" } else { "" },
        table_name(table),
        if is_bool { "{c: \"1.0\"}" } else { "{alpha: \"1.0\"}" },
        indented(code.trim_end(), 6),
        name = table.name,
    )
}

/// Name of the Dataset where it is a table of SQL, or a directory.
fn table_name(table: &Table) -> String {
    table.name.replace('-', "_")
}

/// The name of a type in a spec.
fn type_name(kind: ColumnType) -> String {
    let name = serde_json::to_value(kind).ok();
    name.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// `text` with each `{{NAME}}` replaced.
fn filled(text: &str, values: &[(&str, &String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
}

fn indented(text: &str, width: usize) -> String {
    let line = |line: &str| if line.is_empty() { String::new() } else { format!("{:width$}{line}", "") };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A name as YAML. Some words are booleans or null to YAML tools.
fn scalar(name: &str) -> String {
    let is_word = matches!(
        name.to_ascii_lowercase().as_str(),
        "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null" | "_"
    );
    if is_word { quoted(name) } else { name.to_owned() }
}

/// A text in quotes. JSON is YAML but for characters that YAML refuses.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for char in Value::from(text).to_string().chars() {
        match printable(char.encode_utf8(&mut [0; 4])) {
            Cow::Borrowed(_) => quoted.push(char),
            Cow::Owned(_) => quoted.push_str(&format!("\\U{:08x}", u32::from(char))),
        }
    }
    quoted
}
