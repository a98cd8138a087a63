//! The program `frikort`; everything is in the library.

fn main() -> std::process::ExitCode {
    frikort::cli::main()
}
