//! Compiles the `.proto` files without protoc, and keeps the descriptor set for reflection.

use std::{env, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 11] = [
    "frikort/v1/errors.proto",
    "frikort/v1/common.proto",
    "frikort/v1/payment_service.proto",
    "frikort/v1/visitation_service.proto",
    "frikort/v1/policy_service.proto",
    "frikort/v1/allowance_service.proto",
    "frikort/v1/audit_service.proto",
    "frikort/v1/access_log_service.proto",
    "frikort/v1/register_service.proto",
    "frikort/v1/overview_service.proto",
    "frikort/v1/verification_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=frikort");
    println!("cargo:rerun-if-changed=google");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().include_file("modules.rs").compile_fds(descriptors)?;
    Ok(())
}
