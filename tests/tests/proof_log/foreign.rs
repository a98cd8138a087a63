//! The log as an implementation reads it that is not ours: `tlog_tiles` and `signed_note`, which are
//! ports of Go's sumdb. What they authenticate, they authenticate from our static files alone.

use std::net::SocketAddr;

use frikort_proof::Receipt;
use frikort_proto::v1::GetReceiptRequest;
use frikort_tests::{chance::Chance, client::Ledger, database::Database, process::get};
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{
    Checkpoint, Error, Hash, Tile, TileHashReader, TileReader, check_record, check_tree,
    prove_record, prove_tree, record_hash,
};

use super::{checkpoint, files::entries, filled};

/// Tiles as they are served.
struct Served(SocketAddr);

impl Served {
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        let (status, body) = get(self.0, &format!("/log/partition/0/{path}")).unwrap();
        (status == 200).then_some(body)
    }

    fn text(&self, path: &str) -> String {
        String::from_utf8(self.read(path).unwrap()).unwrap()
    }

    /// The checkpoint, after its signature.
    fn checkpoint(&self) -> Checkpoint {
        let note = Note::from_bytes(self.text("checkpoint").as_bytes()).unwrap();
        let keys = self.text("keys");
        let verifier = StandardVerifier::new(keys.lines().next().unwrap()).unwrap();
        note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
        Checkpoint::from_bytes(note.text()).unwrap()
    }

    /// The record at an index, from its bundle.
    fn record(&self, index: u64, size: u64) -> Vec<u8> {
        let number = index / 256;
        let width = (size - number * 256).min(256);
        let part = if width < 256 { format!(".p/{width}") } else { String::new() };
        let bundle = self.read(&format!("tile/entries/{number:03}{part}")).unwrap();
        entries(&bundle)[usize::try_from(index % 256).unwrap()].to_vec()
    }
}

impl TileReader for Served {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        // The height stands in Go's paths, and not in those of c2sp.org/tlog-tiles.
        let path = |tile: &Tile| tile.path().replacen("tile/8/", "tile/", 1);
        tiles.iter().map(|tile| self.read(&path(tile)).ok_or(Error::InvalidTile)).collect()
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn another_implementation_authenticates_tiles_records_proofs_and_receipts() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::create(1).await.unwrap();
    let (service, mut ledger, last) = filled(&database, dir.path(), 300).await;
    checkpoint(&mut ledger, last).await;
    let served = Served(service.address());
    let earlier = served.checkpoint();

    let person = frikort_tests::client::new_cpr();
    ledger.grant(&person).await.unwrap();
    let mut last = 0;
    for number in 0..300 {
        let request = frikort_tests::client::report(&person, &format!("more-{number}"), 1_000);
        let answer = ledger.payments.report_payment(request).await.unwrap().into_inner();
        last = answer.position.unwrap().position;
    }
    checkpoint(&mut ledger, last).await;
    let later = served.checkpoint();
    let (size, root) = (later.size(), *later.hash());
    assert!(size > earlier.size() && size > 512, "the test wants two full tiles");
    assert_eq!(later.origin(), "local/frikort/partition/0");

    // Whatever the reader gives has been authenticated against the signed root.
    let reader = TileHashReader::new(size, root, &served);
    let proof = prove_tree(size, earlier.size(), &reader).unwrap();
    check_tree(&proof, size, root, earlier.size(), *earlier.hash()).unwrap();
    let mut chance = Chance::printed();
    let some = (0..20).map(|_| chance.below(size));
    for index in [0, 255, 256, 511, 512, size - 1].into_iter().chain(some) {
        let proof = prove_record(size, index, &reader).unwrap();
        let leaf = record_hash(&served.record(index, size));
        check_record(&proof, size, root, index, leaf).unwrap();
        let other = record_hash(b"another record");
        check_record(&proof, size, root, index, other).expect_err("another record");

        let receipt = receipt(&mut ledger, index).await;
        let path = receipt.proof.iter().map(|hash| Hash(*hash)).collect();
        check_record(&path, size, root, index, record_hash(&receipt.record)).unwrap();
    }
}

async fn receipt(ledger: &mut Ledger, index: u64) -> Receipt {
    let position = i64::try_from(index).unwrap() + 1;
    let answer = ledger.audits.get_receipt(GetReceiptRequest { partition: 0, position }).await;
    answer.unwrap().into_inner().receipt.parse().unwrap()
}
