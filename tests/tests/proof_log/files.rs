//! The static files, read by plain HTTP GET and checked as any reader of c2sp.org/tlog-tiles does.

use frikort_proof::{Checkpoint, Edge, VerifierKey, leaf_hash};
use frikort_tests::{database::Database, process::get};

use super::{checkpoint, filled};

pub(crate) fn entries(bundle: &[u8]) -> Vec<&[u8]> {
    let (mut entries, mut rest) = (Vec::new(), bundle);
    while let [high, low, following @ ..] = rest {
        let (entry, after) = following.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        entries.push(entry);
        rest = after;
    }
    entries
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_can_be_read_as_static_files() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let (service, mut ledger, last) = filled(&database, dir.path(), 600).await;
    checkpoint(&mut ledger, last).await;
    let read = |path: &str| get(service.address(), &format!("/log/partition/0/{path}")).unwrap();

    let text = |path: &str| String::from_utf8(read(path).1).unwrap();
    let keys: Vec<VerifierKey> = text("keys").lines().map(|key| key.parse().unwrap()).collect();
    let signed = Checkpoint::verify(&text("checkpoint"), &keys).unwrap();
    assert!(signed.size >= u64::try_from(last).unwrap());
    let (full, rest) = (signed.size / 256, signed.size % 256);
    assert!(full == 2 && rest > 1, "the test wants full tiles and a part of one");

    let names = [("000".to_owned(), 256), ("001".to_owned(), 256), (format!("002.p/{rest}"), rest)];
    let (mut edge, mut above) = (Edge::default(), Vec::new());
    for (name, width) in &names {
        let (status, bundle) = read(&format!("tile/entries/{name}"));
        let records = entries(&bundle);
        assert_eq!((status, records.len() as u64), (200, *width), "{name}");
        let leaves: Vec<_> = records.iter().map(|record| leaf_hash(record)).collect();
        assert_eq!(read(&format!("tile/0/{name}")), (200, leaves.concat()), "{name}");
        above.extend(leaves.into_iter().flat_map(|leaf| edge.push(leaf)).map(|tile| tile.root()));
    }
    assert_eq!((edge.size(), edge.root()), (signed.size, signed.root));
    assert_eq!(read("tile/1/000.p/2"), (200, above.concat()));
    assert_eq!(read("tile/1/000.p/1"), (200, above[0].to_vec()), "a smaller tree's");

    let more = rest + 1;
    for absent in [
        format!("tile/0/002.p/{more}"),
        format!("tile/entries/002.p/{more}"),
        "tile/0/002".to_owned(),
        "tile/0/003.p/1".to_owned(),
        "tile/1/000.p/3".to_owned(),
        "tile/2/000.p/1".to_owned(),
        "tile/8/000".to_owned(),
        "tile/00/000".to_owned(),
        "tile/0/0".to_owned(),
        "tile/0/x000/000".to_owned(),
    ] {
        assert_eq!(read(&absent).0, 404, "{absent}");
    }
    assert_eq!(get(service.address(), "/log/partition/1/checkpoint").unwrap().0, 404);
}
