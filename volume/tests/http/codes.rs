//! The table of error codes in the documents against the codes there are.

use std::collections::BTreeMap;

use dulse_shared::wire::Code;

/// Name and status of each row of the table.
fn documented() -> BTreeMap<String, u16> {
    let text = include_str!("../../../docs/compatibility.md");
    let table = text.split("## Error codes").nth(1).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let name = cells.next().unwrap().trim_end_matches('`').to_owned();
        (name, cells.next().unwrap().parse().unwrap())
    });
    rows.collect()
}

/// Every code: serde lists them when it meets one that it does not know.
fn existing() -> BTreeMap<String, u16> {
    let error = serde_json::from_str::<Code>("\"\"").unwrap_err().to_string();
    let names = error.split("expected one of ").nth(1).unwrap();
    let names = names.split('`').skip(1).step_by(2);
    let codes = names.map(|name| {
        let code: Code = serde_json::from_value(name.into()).unwrap();
        (name.to_owned(), code.status())
    });
    codes.collect()
}

#[test]
fn every_code_is_documented_with_its_status() {
    assert!(existing().len() > 20);
    assert_eq!(documented(), existing());
}
