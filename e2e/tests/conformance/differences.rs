use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Collects what differs in one table and compares it with what is listed.
pub(crate) struct Differences {
    table: &'static str,
    listed: BTreeMap<String, BTreeSet<String>>,
    found: BTreeSet<String>,
    report: Vec<String>,
}

#[derive(Deserialize)]
struct Reason {
    reason: String,
    cases: Vec<String>,
}

impl Differences {
    pub(crate) fn new(table: &'static str) -> Self {
        let path = e2e::recordings::directory().join("differences.json");
        let text = std::fs::read_to_string(path).unwrap_or_else(|_| "{}".into());
        let mut all: BTreeMap<String, Vec<Reason>> = serde_json::from_str(&text).unwrap();
        let listed = all.remove(table).unwrap_or_default();
        let listed = listed.into_iter().map(|r| (r.reason, r.cases.into_iter().collect())).collect();
        Self { table, listed, found: BTreeSet::new(), report: Vec::new() }
    }

    pub(crate) fn differs(&mut self, case: &str, what: &str) {
        if !self.listed.values().any(|cases| cases.contains(case)) {
            self.report.push(format!("{case}: {what}"));
        }
        self.found.insert(case.to_owned());
    }

    pub(crate) fn finish(mut self, checked: usize) {
        println!("{}: {checked} decisions, {} of them in cases that differ on purpose", self.table, self.found.len());
        for case in self.listed.values().flatten().filter(|case| !self.found.contains(*case)) {
            self.report.push(format!("{case}: is listed as a difference and is none"));
        }
        assert!(self.report.is_empty(), "{}:\n{}", self.table, self.report.join("\n"));
    }
}
