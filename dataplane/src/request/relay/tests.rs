use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::relay;

#[tokio::test]
async fn all_bytes_pass_in_both_directions_however_little_fits() {
    // Much smaller than what is read at one time.
    let ((mut caller, mut near), (mut far, mut backend)) = (duplex(100), duplex(7));
    let relayed = tokio::spawn(async move { relay(&mut near, &mut far).await });
    let said: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let spoken = said.clone();
    let echo = tokio::spawn(async move {
        let mut bytes = [0; 64];
        loop {
            match backend.read(&mut bytes).await.expect("reading") {
                0 => return,
                n => backend.write_all(&bytes[..n]).await.expect("echoing"),
            }
        }
    });
    let (mut reader, mut writer) = tokio::io::split(&mut caller);
    let mut heard = Vec::new();
    let speak = async {
        writer.write_all(&spoken).await.expect("writing");
        writer.shutdown().await.expect("ending");
    };
    let hear = async { reader.read_to_end(&mut heard).await.expect("hearing") };
    tokio::join!(speak, hear);
    assert!(heard == said);
    echo.await.expect("the backend");
    relayed.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn one_side_may_go_on_after_the_other_has_ended() {
    let ((mut caller, mut near), (mut far, mut backend)) = (duplex(64), duplex(64));
    let relayed = tokio::spawn(async move { relay(&mut near, &mut far).await });
    caller.shutdown().await.expect("ending");
    let mut rest = Vec::new();
    assert_eq!(backend.read_to_end(&mut rest).await.expect("the end"), 0);
    backend.write_all(b"still here").await.expect("writing");
    drop(backend);
    caller.read_to_end(&mut rest).await.expect("hearing");
    assert_eq!(rest, b"still here");
    relayed.await.expect("no panic").expect("no error");
}
