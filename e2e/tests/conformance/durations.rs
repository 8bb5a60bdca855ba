use serde::Deserialize;

use crate::differences::Differences;

#[derive(Deserialize)]
struct Case {
    text: String,
    nanoseconds: Option<i64>,
}

#[test]
fn conformance_of_durations() {
    let cases: Vec<Case> = e2e::recordings::table("durations.json").unwrap();
    let mut differences = Differences::new("durations");
    for case in &cases {
        let got = crds::duration::parse(&case.text).ok();
        if got != case.nanoseconds {
            differences.differs(&case.text, &format!("want {:?}, got {got:?}", case.nanoseconds));
        }
    }
    differences.finish(cases.len());
}
