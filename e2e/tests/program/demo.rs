use std::time::Duration;

use e2e::client::{Request, send};
use e2e::program::Program;

/// The `curl` line after a comment, as a request.
fn ready_made(output: &str, comment: &str) -> Request {
    let line = output.lines().skip_while(|line| !line.contains(comment)).nth(1).unwrap();
    let mut words = line.split('\'');
    let (start, url) = (words.next().unwrap(), words.next().unwrap_or_default());
    let url = if url.is_empty() { start.rsplit(' ').next().unwrap() } else { url };
    let target = url.splitn(4, '/').nth(3).unwrap();
    let mut request = Request::get(&format!("/{target}"));
    for header in words.filter(|word| word.contains(": ")) {
        let (name, value) = header.split_once(": ").unwrap();
        request = request.header(name, value);
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_answers_as_it_says() {
    let mut program = Program::start(&["demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).unwrap();
    e2e::wait::until("the demo's own call is answered", || async { Ok(program.output().contains("Ctrl-C")) })
        .await
        .unwrap();
    let output = program.output();
    assert!(output.contains("200 OK"), "{output}");
    assert!(output.contains("\"argocd-username\": \"alice\""), "{output}");
    for (comment, status, expected) in [
        ("for the application guestbook", 200, "\"argocd-user-id\": \"alice\""),
        ("of the application's own cluster", 200, "Bearer only-the-backend-sees-this"),
        ("may not call this one", 401, "Unauthorized extension request"),
        ("nobody is signed in", 400, "Auth cookie not found"),
    ] {
        let answer = send(program.address, ready_made(&output, comment)).await.unwrap();
        assert_eq!(answer.status, status, "{comment}: {}", answer.text());
        assert!(answer.text().contains(expected), "{comment}: {}", answer.text());
    }
    program.wait_for_log("extension_not_allowed").await.unwrap();
    let folder = output.split(':').next().unwrap().to_owned();
    assert!(std::path::Path::new(&folder).is_dir());
    program.terminate().unwrap();
    assert!(program.ended(Duration::from_secs(5)).await.unwrap().success());
    assert!(!std::path::Path::new(&folder).exists(), "{folder} is left behind");
}
