//! Names for columns and objects, and the parts that columns may play.

use super::{Inferred, Table, column::DISTINCT_MAX};
use mlop_api::dataset::ColumnType;
use regex::Regex;
use std::sync::LazyLock;

/// Longest name of an object.
const NAME_MAX: usize = 40;

/// The parts that columns play in a chain.
#[derive(Clone, Debug)]
pub(super) struct Roles<'a> {
    /// Since when a row is true.
    pub time: Option<&'a Inferred>,
    /// The key of a row, which no other row has.
    pub unique: Option<&'a Inferred>,
    /// The entity of a row.
    pub entity: Option<&'a Inferred>,
    /// The target of a model.
    pub target: Option<&'a Inferred>,
    /// The numbers that it learns from.
    pub numbers: Vec<&'a Inferred>,
}

impl<'a> Roles<'a> {
    pub(super) fn of(table: &'a Table) -> Self {
        static KEY: LazyLock<Option<Regex>> =
            LazyLock::new(|| Regex::new("(?i)(^|_)(id|key|uuid|code|user|customer)$").ok());
        let columns = || table.columns.iter();
        let whole = || columns().filter(|it| !it.column.nullable);
        let time = whole().find(|it| it.column.kind == ColumnType::Timestamp);
        let time = time.or_else(|| whole().find(|it| it.column.kind == ColumnType::Date));
        let is_key = |it: &&Inferred| {
            let can_be = matches!(it.column.kind, ColumnType::Int64 | ColumnType::String);
            can_be && KEY.as_ref().is_some_and(|key| key.is_match(&it.column.name))
        };
        let rows = usize::try_from(table.rows).unwrap_or(usize::MAX);
        let repeats = |it: &&Inferred| {
            let limit = DISTINCT_MAX.min(rows / 2 + 1);
            it.column.kind == ColumnType::String && (2..limit).contains(&it.distinct)
        };
        // What every row has to itself has no past, and teaches nothing.
        let unique = whole().find(|it| is_key(it) && it.is_unique(table));
        let entity = whole().find(|it| is_key(it) && !it.is_unique(table)).or_else(|| whole().find(repeats));
        let is_one =
            |one: Option<&Inferred>, it: &Inferred| one.is_some_and(|one| one.column.name == it.column.name);
        let is_teaching = |it: &&Inferred| it.is_number() && !is_one(entity, it) && !is_one(unique, it);
        let mut numbers: Vec<_> = columns().filter(is_teaching).collect();
        let target = numbers.iter().rposition(|it| it.distinct > 1).map(|index| numbers.remove(index));
        Self { time, unique, entity, target, numbers }
    }
}

/// A name for the column with this header, or at this place.
pub(super) fn column_name(header: Option<&str>, place: usize, is_taken: impl Fn(&str) -> bool) -> String {
    let mut name = String::new();
    for char in header.unwrap_or_default().chars() {
        match char {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '_' => name.push(char),
            _ if !name.ends_with('_') => name.push('_'),
            _ => {}
        }
    }
    let name = name.trim_matches('_');
    let name = match name.chars().next() {
        None => format!("column_{place}"),
        Some('0'..='9') => format!("_{name}"),
        // A header that is a name already is kept as it is.
        Some(_) if header.is_some_and(|header| header.trim_matches('_') == name) => {
            header.unwrap_or_default().to_owned()
        }
        Some(_) => name.to_ascii_lowercase(),
    };
    let name: String = name.chars().take(100).collect();
    if is_taken(&name) { format!("{name}_{place}") } else { name }
}

/// A name for objects from the name of a file.
pub(super) fn object_name(file: &str) -> String {
    let file = file.rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = file.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let name: String =
        stem.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
    let name = name.trim_start_matches(|char: char| !char.is_ascii_lowercase());
    let name: String = name.chars().take(NAME_MAX).collect();
    let name = name.trim_end_matches('-');
    if name.is_empty() { "records".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::inspect;

    #[test]
    fn columns_play_the_parts_that_their_values_allow() {
        let rows = [
            ("at,user_id,a,b\n2026-01-01 10:00,1,1,2\n2026-01-02 10:00,1,3,4\n", "at user_id b a"),
            ("day,at,id\n2026-01-01,2026-01-01 10:00,1\n2026-01-02,2026-01-02 10:00,1\n", "at id -"),
            // A key of the rows is neither what they are about nor a number to learn from.
            ("at,sale_id,user_id,a,b\n2026-01-01,7,1,1,2\n2026-01-02,8,1,3,4\n", "at user_id b a"),
            ("at,sale_id,a,b\n2026-01-01,7,1,2\n2026-01-02,8,3,4\n", "at - b a"),
            (
                "day,city,v,flag\n2026-01-01,x,1,true\n2026-01-02,x,2,false\n2026-01-03,y,3,true\n2026-01-04,y,4,false\n",
                "day city flag v",
            ),
            // One value tells nothing.
            ("city,v,same\nx,1,5\nx,2,5\n", "- - v same"),
            // Missing and unique values are no keys.
            ("at,user_id,v\n2026-01-01,,1\n2026-01-02,2,2\n", "at - v user_id"),
            ("name,v\na,1\nb,2\nc,3\n", "- - v"),
        ];
        for (text, want) in rows {
            let table = inspect("x.csv", text.as_bytes()).unwrap();
            let Roles { time, unique: _, entity, target, numbers } = Roles::of(&table);
            let name =
                |column: Option<&Inferred>| column.map_or("-", |it| it.column.name.as_str()).to_owned();
            let mut found = vec![name(time), name(entity), name(target)];
            found.extend(numbers.into_iter().map(|number| name(Some(number))));
            assert_eq!(found.join(" "), want, "{text}");
        }
    }

    #[test]
    fn headers_become_names() {
        let rows = [
            (Some("visitors"), "visitors"),
            (Some("ArrDelay"), "ArrDelay"),
            (Some("_hidden"), "_hidden"),
            (Some("Unit Price"), "unit_price"),
            (Some("rain (mm)"), "rain_mm"),
            (Some("größe"), "gr_e"),
            (Some("2026"), "_2026"),
            (Some("???"), "column_3"),
            (None, "column_3"),
            (Some("taken"), "taken_3"),
        ];
        for (header, want) in rows {
            let name = column_name(header, 3, |name| name == "taken");
            assert_eq!(name, want, "{header:?}");
        }
    }

    #[test]
    fn files_become_names() {
        let long = format!("{}.csv", "x".repeat(60));
        let rows = [
            ("visits.csv", "visits"),
            ("/data/2026 Sales_Q1.csv.gz", "sales-q1"),
            ("-", "records"),
            ("日本.csv", "records"),
            (long.as_str(), "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        ];
        for (file, want) in rows {
            assert_eq!(object_name(file), want, "{file}");
        }
    }
}
