//! Rows of both files: what becomes a call, and what is named as a fault.

use super::{
    super::{payment, visitation},
    *,
};

const PAYMENTS: &str = "action,cpr,frikort_id,employer_cvr,reference,amount,paid_on,work_first,\
                        work_last,hours,expected_revision,reason\n";
const VISITATIONS: &str =
    "cpr,frikort_id,municipality,decision,decided_on,effective_from,reference\n";

async fn read_all(form: &'static Form, text: &[u8]) -> Vec<Entry> {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("rows.csv");
    std::fs::write(&path, text).unwrap();
    let mut rows = read(&path, form, Dialect::of(&path, form.columns).unwrap()).unwrap();
    let mut all = Vec::new();
    while let Some(row) = rows.recv().await {
        all.push(row.unwrap());
    }
    all
}

async fn payments(rows: &str) -> Vec<Entry> {
    read_all(&payment::FORM, format!("{PAYMENTS}{rows}").as_bytes()).await
}

fn faults(entry: &Entry) -> Vec<String> {
    entry.command.as_ref().err().into_iter().flatten().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_report_becomes_a_call() {
    let row =
        "report,260777-8458,81444,11926231,231-1,538.31,2022-01-06,2022-01-05,2022-01-06,3.00,,\n";
    let rows = payments(row).await;
    let Ok(Command::Report(request)) = &rows[0].command else { panic!("no report") };
    let facts = request.facts.as_ref().unwrap();
    assert_eq!((facts.amount_oere, facts.hours_hundredths), (53_831, Some(300)));
    assert_eq!(facts.payment_date, Some(Date { year: 2022, month: 1, day: 6 }));
    assert!(request.ordinary_work && facts.work_period.is_some());
    assert_eq!((rows[0].row.number, rows[0].row.line, &*rows[0].person), (1, 2, "2607778458"));
}

/// Whatever ends lines, and whatever stands between rows.
#[tokio::test]
async fn a_row_is_named_with_the_line_on_which_it_begins() {
    let rows = "\nreport,a,,b,c\n\n\nreport,a,,b,\"c\nd\nreport\"\nreport,a";
    for (end, lines) in [("\n", [3, 6, 9]), ("\r\n", [3, 6, 9]), ("\r", [1, 1, 1])] {
        let text = format!("{PAYMENTS}{rows}").replace('\n', end);
        let read = read_all(&payment::FORM, text.as_bytes()).await;
        let found: Vec<_> = read.iter().map(|entry| entry.row.line).collect();
        assert_eq!(found, lines, "{end:?}");
    }
}

#[tokio::test]
async fn corrections_and_cancellations_name_a_revision() {
    let rows = payments(
        "correct,2607778458,,11926231,231-1,500.00,2022-01-06,,,,1,\n\
         cancel,2607778458,,11926231,231-1,,,,,,2,DUPLICATE\n",
    )
    .await;
    let Ok(Command::Correct(correct)) = &rows[0].command else { panic!("no correction") };
    assert_eq!(correct.expected_revision, 1);
    assert!(correct.facts.as_ref().unwrap().work_period.is_none());
    let Ok(Command::Cancel(cancel)) = &rows[1].command else { panic!("no cancellation") };
    assert_eq!((cancel.expected_revision, cancel.reason), (2, 2));
}

#[tokio::test]
async fn every_fault_of_a_row_is_named_and_no_content() {
    let rows = payments(
        "report,2607778458,,11926231,a,\"5.00,00\",2023-02-29,x,,0.00,,\n\
         cancel,2607778458,,11926231,a,,,,,,one,BECAUSE\n\
         pay,2607778458,,11926231,a,,,,,,,\n\
         report,2607778458\n\
         report,2607778458,,11926231,b,1.00,2023-02-28,,,,,\n",
    )
    .await;
    let columns = |at: usize| -> Vec<String> {
        let of = |fault: &Fault| fault.column.clone();
        rows[at].command.as_ref().err().into_iter().flatten().map(of).collect()
    };
    assert_eq!(columns(0), ["amount", "paid_on", "work_first", "hours"]);
    assert_eq!(columns(1), ["expected_revision", "reason"]);
    assert_eq!(columns(2), ["action"]);
    assert_eq!(faults(&rows[3]), ["has 2 fields; the header has 12"]);
    assert!(rows[4].command.is_ok(), "the rest goes on");
    assert!(rows.iter().flat_map(faults).all(|fault| !fault.contains("2607778458")));
}

#[tokio::test]
async fn a_broken_row_of_a_file_in_utf8_is_one_bad_row() {
    let mut text = PAYMENTS.as_bytes().to_vec();
    text.extend("report,2607778458,,11926231,løn a,1.00,2023-02-28,,,,,\n".as_bytes());
    text.extend(b"report,2607778458,,11926231,l\xf8n b,1.00,2023-02-28,,,,,\n");
    text.extend(b"report,2607778458,,11926231,c,1.00,2023-02-28,,,,,\n");
    let rows = read_all(&payment::FORM, &text).await;
    assert_eq!(faults(&rows[1]), ["is not UTF-8"]);
    assert!(rows[0].command.is_ok() && rows[2].command.is_ok());
}

/// What a payroll's spreadsheet exports: no action, other names, other order, other numbers.
const DANISH: &str = "CVR-nr.;Navn;CPR-nr.;Løn-ID;Beløb;Udbetalt;Arbejde fra;Arbejde til;Timer\r\n\
                      11926231;Å;260777-8458;løn 7;1.538,31;31-01-2022;05-01-2022;06-01-2022;7,50\r\n";

fn assert_is_the_danish_row(rows: &[Entry]) {
    let Ok(Command::Report(request)) = &rows[0].command else { panic!("{:?}", faults(&rows[0])) };
    let facts = request.facts.as_ref().unwrap();
    assert_eq!((facts.amount_oere, facts.hours_hundredths), (153_831, Some(750)));
    assert_eq!(facts.payment_date, Some(Date { year: 2022, month: 1, day: 31 }));
    let work = facts.work_period.unwrap();
    assert_eq!(work.first_day, Some(Date { year: 2022, month: 1, day: 5 }));
    assert_eq!((request.reference.as_str(), request.employer_cvr.as_str()), ("løn 7", "11926231"));
    assert_eq!(&*rows[0].person, "2607778458");
}

#[tokio::test]
async fn a_danish_export_is_read_in_each_encoding() {
    let latin1: Vec<u8> = DANISH.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    for text in [DANISH.as_bytes().to_vec(), format!("\u{feff}{DANISH}").into_bytes(), latin1] {
        assert_is_the_danish_row(&read_all(&payment::FORM, &text).await);
    }
    let tabs = DANISH.replace(';', "\t");
    assert_is_the_danish_row(&read_all(&payment::FORM, tabs.as_bytes()).await);
}

#[test]
fn it_is_said_what_a_file_was_taken_for() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("rows.csv");
    let dialect = |text: &[u8]| {
        std::fs::write(&path, text).unwrap();
        Dialect::of(&path, payment::FORM.columns)
    };
    let ours = dialect(PAYMENTS.as_bytes()).unwrap();
    assert!(ours.is_ours(), "{ours}");
    let latin1: Vec<u8> = DANISH.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let theirs = dialect(&latin1).unwrap();
    assert!(!theirs.is_ours());
    assert_eq!(
        theirs.to_string(),
        "fields separated by `;`, text in windows-1252; taken: CVR-nr. as employer_cvr, \
         CPR-nr. as cpr, Løn-ID as reference, Beløb as amount, Udbetalt as paid_on, \
         Arbejde fra as work_first, Arbejde til as work_last, Timer as hours; \
         not looked at: Navn"
    );
    let twice = dialect(b"cpr,CPR-nr.,employer_cvr,reference,amount,paid_on\n").unwrap_err();
    assert!(twice.to_string().contains("more than one column for cpr"), "{twice}");
}

/// The encoding is told from all of the file, piece by piece, also when a piece ends in the middle
/// of a character.
#[test]
fn the_encoding_is_found_wherever_the_first_such_character_is() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("rows.csv");
    let header = "cpr,employer_cvr,reference,amount,paid_on\n";
    for padding in 65_480..65_500 {
        for (last, name) in [(&b"\xc3\xb8"[..], "UTF-8"), (b"\xf8", "windows-1252")] {
            let mut text = header.as_bytes().to_vec();
            text.resize(padding, b'x');
            text.extend(last);
            std::fs::write(&path, &text).unwrap();
            let dialect = Dialect::of(&path, payment::FORM.columns).unwrap().to_string();
            assert!(dialect.contains(name), "{padding}: {dialect}");
        }
    }
}

#[tokio::test]
async fn a_decision_becomes_a_call() {
    let text = format!(
        "\u{feff}{VISITATIONS}0311665493,12345,751,granted,2022-04-27,2022-04-27,SAG-0\n\
         0311665493,12345,751,deactivated,2022-05-27,2022-05-27,SAG-1\n\
         0311665493,12345,751,reactivated,2022-06-27,2022-06-27,SAG-2\n\
         0311665493,12345,751,given,2022-06-31,,SAG-3\n"
    );
    let rows = read_all(&visitation::FORM, text.as_bytes()).await;
    let Ok(Command::Grant(grant)) = &rows[0].command else { panic!("no grant") };
    assert_eq!(grant.frikort_id, "12345");
    assert_eq!(grant.person.as_ref().unwrap().frikort_id, "");
    assert!(matches!(&rows[1].command, Ok(Command::Deactivate(r)) if r.effective_date.is_some()));
    assert!(matches!(rows[2].command, Ok(Command::Reactivate(_))));
    assert_eq!(rows[3].command.as_ref().err().unwrap().len(), 2);
}

#[tokio::test]
async fn transfers_and_controls_have_columns_of_their_own() {
    let text = "cpr,frikort_id,municipality,decision,decided_on,effective_from,reference,\
                to_municipality,dispensation,criteria\n\
                0311665493,,751,transferred,2022-07-27,,SAG-4,101,,\n\
                0311665493,,101,controlled,2023-07-27,,SAG-5,,true,AGE RESIDENCE\n\
                0311665493,,101,controlled,2023-07-27,,SAG-6,,perhaps,\n\
                0311665493,,101,deactivated,2023-07-27,,SAG-7,,,BAD\n";
    let rows = read_all(&visitation::FORM, text.as_bytes()).await;
    let Ok(Command::Transfer(transfer)) = &rows[0].command else { panic!("no transfer") };
    assert_eq!(transfer.to_municipality_code, "101");
    assert!(
        matches!(&rows[1].command, Ok(Command::Control(r)) if r.dispensation && r.criteria == [5, 4])
    );
    assert_eq!(faults(&rows[2]), ["column dispensation: must be true or false"]);
    assert!(faults(&rows[3])[0].starts_with("column criteria: must be of SOCIAL_PROBLEMS"));
}

#[tokio::test]
async fn rejections_reissues_and_reversals_have_columns_of_their_own() {
    let text = "cpr,frikort_id,municipality,decision,decided_on,effective_from,reference,\
                ansøgt,reversed_reference,reversed_municipality\n\
                0311665493,,751,rejected,2022-07-27,,SAG-4,2022-07-01,,\n\
                0311665493,54321,751,reissued,2022-07-27,,SAG-5,,,\n\
                0311665493,12345,751,reversed,2022-07-27,,SAG-6,,SAG-2,101\n\
                0311665493,12345,751,granted,2022-07-27,2022-07-27,SAG-7,2022-07-01,,\n";
    let rows = read_all(&visitation::FORM, text.as_bytes()).await;
    let Ok(Command::Reject(rejection)) = &rows[0].command else { panic!("no rejection") };
    assert_eq!(rejection.application_date.map(|day| (day.month, day.day)), Some((7, 1)));
    let Ok(Command::Reissue(reissue)) = &rows[1].command else { panic!("no reissue") };
    let person = reissue.person.as_ref().unwrap();
    assert_eq!((reissue.frikort_id.as_str(), person.frikort_id.as_str()), ("54321", ""));
    let Ok(Command::Reverse(reversal)) = &rows[2].command else { panic!("no reversal") };
    let reversed = (&*reversal.reversed_reference, &*reversal.reversed_municipality_code);
    assert_eq!(reversed, ("SAG-2", "101"));
    assert_eq!(reversal.person.as_ref().unwrap().frikort_id, "12345");
    assert!(
        matches!(&rows[3].command, Ok(Command::Grant(r)) if r.application_date == rejection.application_date)
    );
}

#[tokio::test]
async fn a_missing_column_is_named_before_anything_is_sent() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("rows.csv");
    std::fs::write(&path, "action,cpr\n").unwrap();
    let error = Dialect::of(&path, payment::FORM.columns).unwrap_err().to_string();
    assert!(error.contains("has no column employer_cvr"), "{error}");
}
