//! Every parser on its corpus, and for some seconds on what chance makes of it. A longer look is
//! libFuzzer's (`tests/fuzz`); what it finds is kept in the corpus, and so runs here.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::{
    fs,
    panic::catch_unwind,
    path::Path,
    time::{Duration, Instant},
};

use frikort_tests::{
    chance::Chance,
    fuzz::{TARGETS, Target},
};

/// A target ends at the first of these.
const LONGEST: Duration = Duration::from_secs(2);
const MOST_INPUTS: u32 = 50_000;

/// An input does not grow beyond this.
const MOST_BYTES: usize = 4096;

/// Texts at which parsers turn.
const INTERESTING: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\"",
    b"'",
    b"\\",
    b"-",
    b"+",
    b",",
    b".",
    b";",
    b"=",
    b" ",
    b"\t",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc3\xb8",
    b"\xef\xbb\xbf",
    b"\xe2\x80\x94 ",
    b"0",
    b"9",
    b"00",
    b"-1",
    b"2147483647",
    b"9223372036854775807",
    b"18446744073709551615",
    b"0101605001",
    b"010160-5001",
    b"9999-12-31T23:59:59.999999Z",
    b"0000-01-01",
    b"9999-12-31",
    b"null",
    b"{}",
    b"\\u0041",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\x08",
];

#[test]
fn every_parser_holds_what_it_promises_whatever_it_is_given() {
    let mut chance = Chance::printed();
    let found: Vec<String> =
        TARGETS.iter().filter_map(|target| run(target, chance.fork()).err()).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The first input of which a target does not hold.
#[expect(clippy::print_stdout, reason = "how much was tried is worth seeing")]
fn run((name, holds): &Target, mut chance: Chance) -> Result<(), String> {
    let corpus = corpus(name);
    for (file, data) in &corpus {
        check(name, *holds, data, file)?;
    }
    let (begun, mut inputs) = (Instant::now(), 0);
    while inputs < MOST_INPUTS && begun.elapsed() < LONGEST {
        check(name, *holds, &made(&mut chance, &corpus), "made by chance")?;
        inputs += 1;
    }
    println!("{name}: {} files, {inputs} inputs made of them", corpus.len());
    Ok(())
}

/// A corpus that no target has would never run, and a target that libFuzzer does not know neither.
#[test]
fn each_target_has_a_corpus_and_a_program_and_there_is_no_other() {
    let mut targets: Vec<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    targets.sort_unstable();
    let programs: Vec<String> = targets.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&fuzz().join("corpus")), targets);
    assert_eq!(names(&fuzz().join("fuzz_targets")), programs);
    for target in targets {
        let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("\nname = \"{target}\"\n")), "{target} in Cargo.toml");
    }
}

fn check(name: &str, holds: fn(&[u8]), data: &[u8], origin: &str) -> Result<(), String> {
    catch_unwind(|| holds(data)).map_err(|_| {
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        let shown = data.escape_ascii();
        format!("{name} does not hold of this input ({origin}), which is `{shown}`:\n{hex}")
    })
}

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz"))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// The files of a target's corpus, with their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = fuzz().join("corpus").join(target);
    let files = names(&dir).into_iter();
    files.map(|name| (name.clone(), fs::read(dir.join(&name)).unwrap())).collect()
}

/// Some file of the corpus, changed here and there.
fn made(chance: &mut Chance, corpus: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut data = corpus[below(chance, corpus.len())].1.clone();
    for _ in 0..=below(chance, 4) {
        change(chance, &mut data, corpus);
    }
    data.truncate(MOST_BYTES);
    data
}

fn change(chance: &mut Chance, data: &mut Vec<u8>, corpus: &[(String, Vec<u8>)]) {
    let at = below(chance, data.len() + 1);
    let to = (at + 1 + below(chance, 16)).min(data.len()).max(at);
    match below(chance, 7) {
        0 => data.truncate(at),
        1 => drop(data.drain(at..to)),
        2 => {
            let text = INTERESTING[below(chance, INTERESTING.len())];
            data.splice(at..at, text.iter().copied());
        }
        3 => {
            let text = INTERESTING[below(chance, INTERESTING.len())];
            data.splice(at..to, text.iter().copied());
        }
        4 => {
            let other = &corpus[below(chance, corpus.len())].1;
            let from = below(chance, other.len() + 1);
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
        5 => {
            if let Some(byte) = data.get_mut(at) {
                *byte ^= 1 << below(chance, 8);
            }
        }
        _ => {
            // A digit, since most of what is read is digits.
            if let Some(byte) = data[at..].iter_mut().find(|byte| byte.is_ascii_digit()) {
                *byte = b"0123456789"[below(chance, 10)];
            }
        }
    }
}

fn below(chance: &mut Chance, bound: usize) -> usize {
    usize::try_from(chance.below(bound as u64)).unwrap()
}
