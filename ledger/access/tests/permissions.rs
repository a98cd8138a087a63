//! The table of methods against the contract, and the whole matrix as a committed text: a new method
//! without an entry fails, and so does an entry that changes unseen.

use std::fmt::Write;

use frikort_access::{Flow, METHODS, Role, Who};
use prost::Message;
use prost_types::FileDescriptorSet;

#[test]
fn every_method_of_the_contract_is_in_the_table_once_and_no_other() {
    let set = FileDescriptorSet::decode(frikort_proto::DESCRIPTOR_SET).unwrap();
    let mut contract = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == "frikort.v1") {
        for service in &file.service {
            contract.extend(service.method.iter().map(|method| {
                let flow = match (method.client_streaming(), method.server_streaming()) {
                    (false, false) => Flow::Once,
                    (false, true) => Flow::Told,
                    (true, _) => Flow::Fed,
                };
                let path = format!("/frikort.v1.{}/{}", service.name(), method.name());
                (path, format!("{flow:?}"))
            }));
        }
    }
    let ours = METHODS.iter().filter(|method| method.path.contains("frikort.v1"));
    let mut table: Vec<(String, String)> =
        ours.map(|method| (method.path.to_owned(), format!("{:?}", method.flow))).collect();
    contract.sort();
    table.sort();
    assert!(contract.len() > 25, "{contract:?}");
    assert_eq!(table, contract);
}

#[test]
fn the_matrix_is_the_committed_one() {
    let mut matrix = format!("{:<52}", "");
    for role in Role::ALL {
        let _ = write!(matrix, " {:<12}", role.name());
    }
    matrix = matrix.trim_end().to_owned() + "\n";
    for method in METHODS {
        let mut line = format!("{:<52}", method.path);
        for role in Role::ALL {
            let may = match method.who {
                Who::Everybody => "anybody",
                Who::Roles(roles) if roles.contains(&role) => "yes",
                Who::Roles(_) => "-",
            };
            let _ = write!(line, " {may:<12}");
        }
        let _ = writeln!(matrix, "{}", line.trim_end());
    }
    let committed = include_str!("permissions.txt");
    assert!(matrix == committed, "tests/permissions.txt should be:\n{matrix}");
}
