use super::*;

fn one(text: &str) -> Value {
    documents(text).unwrap().remove(0).into_json()
}

#[test]
fn scalars_have_their_type_unless_they_are_quoted() {
    let json =
        one("a: 1\nb: '1'\nc: true\nd: null\ne: x\nf: 1.5\ng: |\n  t\nh: !!str 5\ni: !!binary aGk=\nj: 2024-01-01");
    let expected = serde_json::json!({"a": 1, "b": "1", "c": true, "d": null, "e": "x", "f": 1.5, "g": "t\n", "h": "5", "i": "hi", "j": "2024-01-01"});
    assert_eq!(json, expected);
}

#[test]
fn merges_and_aliases_are_resolved() {
    let json = one("base: &b {x: 1, y: 2}\na: {<<: *b, y: 3}\nlist: [*b]");
    assert_eq!(json["a"], serde_json::json!({"y": 3, "x": 1}));
    assert_eq!(json["list"][0]["x"], 1);
}

#[test]
fn several_documents_and_empty_ones() {
    assert_eq!(documents("a: 1\n---\n---\nb: 2\n").unwrap().len(), 3);
    assert_eq!(documents("").unwrap().len(), 0);
    assert_eq!(documents("# only a comment\n").unwrap().len(), 0);
}

#[test]
fn a_few_lines_cannot_grow_into_gigabytes() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let previous = format!("*a{}", i - 1);
        text.push_str(&format!("a{i}: &a{i} [{}]\n", [previous.as_str(); 10].join(", ")));
    }
    assert!(documents(&text).unwrap_err().message.contains("too large"));
    // Nor can many documents of them.
    let document = "---\nx: &x [1, 2, 3, 4, 5, 6, 7, 8, 9]\ny: [*x, *x, *x, *x, *x, *x, *x, *x, *x]\n";
    assert!(documents(&document.repeat(2_000)).unwrap_err().message.contains("too large"));
}

#[test]
fn nothing_comes_after_an_error() {
    let lines = |text: &str| each_document(text).map(|document| document.map_err(|e| e.line)).collect::<Vec<_>>();
    let found = lines("a: 1\n---\nb: [\n---\nc: 1\n");
    assert!(matches!(&found[..], [Ok(_), Err(_)]), "{found:?}");
    assert!(matches!(lines("a: 1\n---\nb: \u{7}\n")[..], [Err(3)]));
}

#[test]
fn deep_nesting_is_refused() {
    assert!(documents(&"[".repeat(10_000)).is_err());
    assert!(documents(&"{a: ".repeat(10_000)).is_err());
}

#[test]
fn errors_name_the_line() {
    assert_eq!(documents("a: 1\na: 2").unwrap_err().line, 2);
    assert_eq!(documents("a: 1\nb: \u{7}").unwrap_err().line, 2);
    assert!(documents("a: &x [*x]").is_err());
    assert!(documents("a: *nope").is_err());
    assert!(documents("[a]: b").is_err());
}
